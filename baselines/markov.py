"""``markov``: what followed the history's items in train, decayed, then popularity.

The first-order part of FPMC (Rendle et al., WWW 2010), unlearned: P(next | item) is counted between
the last item of each train history and its target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from scipy.sparse import csr_matrix

from harness.data.dataset import Samples
from harness.settings import setting

from .shared.item_to_item import VoteSettings, VoteTrainer, smoothed_shares, transitions


@dataclass(frozen=True)
class Settings(VoteSettings):
    """Settings of the chain; ``reach: 1`` is a plain first-order chain."""

    smoothing: Annotated[float, Ge(0)] = setting(10.0, "added to an item's count before its followers' shares")


class MarkovTrainer(VoteTrainer):
    """Counts transitions."""

    Settings = Settings

    def weights(self, train: Samples, n_items: int) -> csr_matrix:
        """P(next | item), smoothed."""
        return smoothed_shares(transitions(train, n_items), self.settings.smoothing)
