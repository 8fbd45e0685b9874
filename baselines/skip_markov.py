"""``skip-markov``: a Markov chain that also counts pairs further apart, and a share of them backward.

Skip-grams of purchases: c[i, j] = Σ over pairs i before j at gap g of gap_decay^(g − 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from baselines.item_to_item import ItemToItem, Natural, Share, popularity_shares, smoothed_shares, transitions
from baselines.markov import Settings as MarkovSettings
from harness.components import Context, setting
from harness.data.dataset import Samples


@dataclass(frozen=True)
class Settings(MarkovSettings):
    """Settings of the chain with skips."""

    decay: Share = setting(0.6, "weight of an item of the history, by each step back from the last")
    window: Natural = setting(5, "pairs up to this many purchases apart count")
    gap_decay: Share = setting(0.7, "weight of a pair, by each purchase between")
    backward: Share = setting(0.25, "weight of a pair read from the later item to the earlier")


class SkipMarkovTrainer:
    """Counts pairs."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def fit(self, context: Context) -> dict[str, Any]:
        """Count, and keep the shares."""
        n = len(context.items)
        model = ItemToItem(shares(context.train, n, self.settings), popularity_shares(context.train, n), self.settings)
        return {"rows": len(context.train), **model.save(context.directory)}

    def load(self, context: Context) -> ItemToItem:
        """The counted model."""
        return ItemToItem.load(context.directory, self.settings)


def shares(train: Samples, n_items: int, settings: Settings) -> csr_matrix:
    """P(next | item) of the chain ``[n_items, n_items]``."""
    reachable = min(settings.window, int(np.max(train.histories.lengths, initial=1)))
    counts = transitions(train, n_items, reachable, settings.gap_decay, settings.backward)
    return smoothed_shares(counts, settings.smoothing)
