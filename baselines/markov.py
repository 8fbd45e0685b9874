"""``markov``: what followed the history's items in train, decayed, then popularity.

The first-order part of FPMC (Rendle et al., WWW 2010), unlearned: P(next | item) is counted between
the last item of each train history and its target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from baselines.item_to_item import ItemToItem, VoteSettings, popularity_shares, smoothed_shares, transitions
from harness.components import Context, setting


@dataclass(frozen=True)
class Settings(VoteSettings):
    """Settings of the chain; ``reach: 1`` is a plain first-order chain."""

    smoothing: Annotated[float, Ge(0)] = setting(10.0, "added to an item's count before its followers' shares")


class MarkovTrainer:
    """Counts transitions."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def fit(self, context: Context) -> dict[str, Any]:
        """Count, and keep the shares."""
        n = len(context.items)
        counts = transitions(context.train, n)
        model = ItemToItem(
            smoothed_shares(counts, self.settings.smoothing), popularity_shares(context.train, n), self.settings
        )
        return {"rows": len(context.train), **model.save(context.directory)}

    def load(self, context: Context) -> ItemToItem:
        """The counted model."""
        return ItemToItem.load(context.directory, self.settings)
