"""Items with like titles: what a language model would know of a catalogue, drawn as answers for training.

A model trained from scratch knows titles only from the text tasks. With the task ``alike`` it learns
what a title match alone would rank, from titles and histories, never from a target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from harness.data.dataset import Items
from harness.data.texts import title_vectors

CELLS = 2**22
"""Similarities held at once; bounds memory."""
LAST = 0.6
"""The probability that a history's last item is taken, else the one before, and so on."""


class TitleNeighbours:
    """For each item the items with the most similar titles, and how likely each is drawn."""

    def __init__(self, items: Items, most: int = 20, temperature: float = 0.1):
        """Find neighbours by the cosine of TF-IDF title words.

        Args:
            most: neighbours kept an item.
            temperature: of the softmax over a neighbour's cosine.
        """
        vectors = title_vectors(items, sublinear=True)
        n, most = len(items), min(most, len(items) - 1)
        chunk = max(1, CELLS // n)
        self.ids = np.zeros((n, most), dtype=np.int32)
        self.cumulated = np.zeros((n, most))
        for start in range(0, n, chunk):
            alike = (vectors[start : start + chunk] @ vectors.T).toarray()
            rows = np.arange(len(alike))
            alike[rows, start + rows] = -1.0  # not itself
            best = np.argsort(-alike, axis=1, kind="stable")[:, :most]
            weight = np.exp(np.take_along_axis(alike, best, 1) / temperature)
            self.ids[start : start + chunk] = best
            self.cumulated[start : start + chunk] = weight.cumsum(1) / weight.sum(1, keepdims=True)
        self.known = np.diff(csr_matrix(vectors).indptr) > 0
        """Which items have a title with a word in it."""

    def draw(self, item: int, rng: np.random.Generator) -> int:
        """An item like that one."""
        place = int(np.searchsorted(self.cumulated[item], rng.random()))
        return int(self.ids[item, min(place, self.ids.shape[1] - 1)])


def recent(history: Sequence[int], rng: np.random.Generator) -> int:
    """An item of the history, the later ones more often."""
    back = min(int(rng.geometric(LAST)), len(history))
    return history[-back]
