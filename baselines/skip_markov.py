"""``skip-markov``: a Markov chain that also counts pairs further apart, and a share of them backward.

Skip-grams of purchases: c[i, j] = Σ over pairs i before j at gap g of gap_decay^(g − 1).
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.sparse import csr_matrix

from harness.data.dataset import Samples
from harness.settings import setting

from .markov import Settings as MarkovSettings
from .shared.item_to_item import Natural, Share, VoteTrainer, smoothed_shares, transitions


@dataclass(frozen=True)
class Settings(MarkovSettings):
    """Settings of the chain with skips."""

    decay: Share = setting(0.6, "weight of an item of the history, by each step back from the last")
    window: Natural = setting(5, "pairs up to this many purchases apart count")
    gap_decay: Share = setting(0.7, "weight of a pair, by each purchase between")
    backward: Share = setting(0.25, "weight of a pair read from the later item to the earlier")


class SkipMarkovTrainer(VoteTrainer):
    """Counts pairs."""

    Settings = Settings

    def weights(self, train: Samples, n_items: int) -> csr_matrix:
        """P(next | item) over the pairs, smoothed."""
        s = self.settings
        window = min(s.window, int(train.histories.lengths.max(initial=1)))
        return smoothed_shares(transitions(train, n_items, window, s.gap_decay, s.backward), s.smoothing)
