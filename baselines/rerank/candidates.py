"""Candidates of several scorers, and what is told of each: the features that trees order them by."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.components import ItemScorer
from harness.data.dataset import Histories, Items, Samples
from harness.data.texts import title_vectors
from harness.decoding.item_scores import share_of_best

BATCH = 128
"""Histories scored at once."""
SUM = "parts together"
"""The sum of the scorers' shares, which proposes candidates too."""


@dataclass(frozen=True)
class Catalogue:
    """What is known of items apart from scores.

    Attributes:
        bought: ``[n_items]`` log(1 + times a target) among a million train samples.
        titles: TF-IDF of title words ``[n_items, words]``, sparse; None: no item has a title.
    """

    bought: np.ndarray
    titles: Any

    @classmethod
    def of(cls, items: Items, train: Samples) -> Catalogue:
        """From the items, and the purchases of train or of a part of it."""
        counts = np.bincount(train.targets, minlength=len(items))
        titled = any(title.strip() for title in items.titles)
        return cls(np.log1p(counts * 1e6 / max(1, len(train))), title_vectors(items) if titled else None)


@dataclass(frozen=True)
class Candidates:
    """Candidates of some histories, one history after another, by item id within one.

    Attributes:
        rows: ``[n]`` whose candidate each is.
        items: ``[n]`` item ids.
        features: ``[n, features]`` float32.
        rest: ``[histories, n_items]`` float32, from 0: what orders the items that are no candidates.
    """

    rows: np.ndarray
    items: np.ndarray
    features: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True)
class Proposers:
    """Fitted item scorers by name, and the catalogue that they were fitted on.

    Attributes:
        most: candidates of each scorer, and of their sum.
    """

    scorers: Mapping[str, ItemScorer]
    catalogue: Catalogue
    most: int

    def candidates(self, histories: Histories) -> Candidates:
        """Candidates and their features, which depend on each history alone; nothing that may not be recommended."""
        scores = {name: np.asarray(scorer.score(histories), np.float32) for name, scorer in self.scorers.items()}
        shares = {name: share_of_best(score) for name, score in scores.items()}
        together = np.sum(list(shares.values()), axis=0, dtype=np.float32)
        n, n_items = together.shape
        chosen = np.zeros((n, n_items), dtype=bool)
        barred = histories.bought.items_mask(n_items) if histories.bought is not None else None
        most = min(self.most, n_items)
        for proposed in (*scores.values(), together):
            left = proposed if barred is None else np.where(barred, -np.inf, proposed)
            np.put_along_axis(chosen, _best(left, most), True, axis=1)
        rows, items = np.nonzero(chosen if barred is None else chosen & ~barred)
        columns: list[np.ndarray] = []
        for name in (*scores, SUM):
            own = scores.get(name, together)[rows, items]
            columns += [own, together[rows, items] if name == SUM else shares[name][rows, items], _place(own, rows)]
        told = [*columns, *self._of_history(histories, rows, items)]
        features = np.stack([np.asarray(column, dtype=np.float32) for column in told], axis=1)
        return Candidates(rows, items, features, together)

    def of_each(self, histories: Histories) -> Iterator[tuple[slice, Candidates]]:
        """The candidates of histories, some at a time: which they are of."""
        for start in range(0, len(histories), BATCH):
            rows = np.arange(start, min(start + BATCH, len(histories)))
            yield slice(start, start + len(rows)), self.candidates(histories.take(rows))

    @property
    def names(self) -> list[str]:
        """What the features are."""
        scored = [f"{name}: {what}" for name in (*self.scorers, SUM) for what in ("score", "share of best", "place")]
        own = ["times in the history", "steps back of its last purchase", "log purchases in train", "history length",
               "different items in the history"]  # fmt: skip
        titles = ["title: cosine to the last", "title: best cosine", "title: mean cosine"]
        return [*scored, *own, *(titles if self.catalogue.titles is not None else [])]

    def _of_history(self, histories: Histories, rows: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
        """The features that no scorer gives, each ``[n]``."""
        longest = histories.items.shape[1]
        back = np.stack([histories.last(step) for step in range(1, longest + 1)], axis=1)  # the last one first
        same = back[rows] == items[:, None]
        steps = np.where(same.any(axis=1), same.argmax(axis=1) + 1, longest + 1)
        ordered = np.sort(histories.items, axis=1)
        different = ((np.diff(ordered, axis=1) != 0) & (ordered[:, 1:] >= 0)).sum(axis=1) + (ordered[:, 0] >= 0)
        told = [same.sum(axis=1), steps, self.catalogue.bought[items], histories.lengths[rows], different[rows]]
        titles = self.catalogue.titles
        if titles is None:
            return told
        cosines = np.zeros((len(items), longest), dtype=np.float32)
        bounds = np.searchsorted(rows, np.arange(len(histories) + 1))
        for row, (start, end) in enumerate(itertools.pairwise(bounds)):
            own = back[row, : histories.lengths[row]]
            cosines[start:end, : len(own)] = (titles[items[start:end]] @ titles[own].T).toarray()
        return [*told, cosines[:, 0], cosines.max(axis=1), cosines.sum(axis=1) / histories.lengths[rows]]


def _best(scores: np.ndarray, most: int) -> np.ndarray:
    """The places of the `most` best of each row ``[n, most]``, in any order; of equal ones those of lower id."""
    if most == scores.shape[1]:
        return np.broadcast_to(np.arange(most), scores.shape)
    edge = -np.partition(-scores, most - 1, axis=1)[:, most - 1 : most]
    above, equal = scores > edge, scores == edge
    taken = above | (equal & (equal.cumsum(axis=1) <= most - above.sum(axis=1, keepdims=True)))
    return np.nonzero(taken)[1].reshape(len(scores), most)


def _place(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The place of each score among those of its row ``[n]``, from 0; equal ones share the first."""
    order = np.lexsort((-scores, rows))
    starts = np.flatnonzero(np.r_[True, np.diff(rows[order]) != 0])
    first = np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    new = np.r_[True, (np.diff(scores[order]) != 0) | (np.diff(rows[order]) != 0)]
    place = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0)) - first
    found = np.empty(len(order), dtype=np.int64)
    found[order] = place
    return found
