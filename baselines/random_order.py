"""``random``: every history gets the items in an order of chance, the floor under all tables.

The order hangs on the seed and on the history alone, so it is the same in any batch.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from harness.components import Context
from harness.data.dataset import Histories
from harness.files import write_json
from harness.settings import NoSettings


class RandomTrainer:
    """Learns nothing."""

    Settings = NoSettings
    distributed = False

    def __init__(self, settings: Any):
        self.settings = settings

    def fit(self, context: Context) -> dict[str, Any]:
        """Keep the seed."""
        write_json(context.directory / "seed.json", {"seed": context.seed})
        return {"rows": len(context.train)}

    def load(self, context: Context) -> RandomOrder:
        """Scores of chance."""
        return RandomOrder(context.seed, len(context.items))


class RandomOrder:
    """Draws the scores of all items for each history."""

    def __init__(self, seed: int, n_items: int):
        self.seed, self.n_items = seed, n_items

    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]`` float64, uniform on 0 to 1."""
        scores = np.empty((len(histories), self.n_items))
        for row, history in enumerate(histories.lists()):
            digest = hashlib.sha256(f"{self.seed}:{history}".encode()).digest()
            scores[row] = np.random.default_rng(int.from_bytes(digest[:8], "little")).random(self.n_items)
        return scores
