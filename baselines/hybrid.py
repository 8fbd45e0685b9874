"""``hybrid``: skip-markov + w · tfidf, each scaled by its row's maximum. Unlearned, seconds.

The counting baseline that every claim of a language model's knowledge is measured against: transitions carry what
was bought after what, titles carry what is alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from harness.components import Context
from harness.data.dataset import Histories
from harness.settings import setting

from .shared.item_to_item import ItemToItem, Share
from .skip_markov import Settings as SkipMarkovSettings
from .skip_markov import SkipMarkovTrainer
from .tfidf import Settings as TfidfSettings
from .tfidf import TfidfTrainer, TitleMatch, needs_titles


@dataclass(frozen=True)
class Settings(SkipMarkovSettings):
    """Settings of ``skip-markov``, and of the titles beside it."""

    title_weight: Annotated[float, Ge(0)] = setting(1.3, "weight of the title match, both scaled to a maximum of 1")
    title_decay: Share = setting(0.4, "decay of the title match by each step back in the history")


class HybridTrainer:
    """Fits both parts."""

    Settings = Settings
    distributed = False

    def __init__(self, settings: Settings):
        self.settings = settings
        self.chain = SkipMarkovTrainer(settings)
        self.match = TfidfTrainer(TfidfSettings(decay=settings.title_decay, reach=settings.reach, popularity=0.0))

    def check(self, context: Context) -> None:
        """There must be titles."""
        needs_titles(context.items, "hybrid")

    def fit(self, context: Context) -> dict[str, Any]:
        """Count transitions and weigh words."""
        return {**self.chain.fit(context.within("chain")), **self.match.fit(context.within("titles"))}

    def load(self, context: Context) -> Hybrid:
        """Both parts."""
        chain, match = self.chain.load(context.within("chain")), self.match.load(context.within("titles"))
        return Hybrid(chain, match, self.settings.title_weight)


class Hybrid:
    """Scores = chain / max(chain) + w · match / max(match), the maxima by row."""

    def __init__(self, chain: ItemToItem, match: TitleMatch, weight: float):
        self.chain, self.match, self.weight = chain, match, weight

    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]``."""
        chain, match = self.chain.score(histories), self.match.score(histories)
        chain /= np.maximum(chain.max(axis=1, keepdims=True), 1e-12)
        match *= self.weight / np.maximum(match.max(axis=1, keepdims=True), 1e-12)
        chain += match
        return chain
