"""``rank``: the top k of a model that scores every item. History items are not removed: repeats are real targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.data.dataset import Histories, Items
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.decoding.items import rank_items
from harness.errors import BenchError
from harness.progress import Progress
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """Settings of the ranking."""

    k: int = setting(50, "candidates returned; where items share SIDs, as many more as k distinct SIDs take")
    batch: int = setting(512, "users scored at once; bounds memory at batch × items")


class RankDecoder:
    """Ranks the whole catalogue by an :class:`harness.components.ItemScorer`."""

    Settings = Settings
    small = {"k": 20}
    probe_settings = {"k": 10}  # the first ten and the ties of the tenth are the same for any k

    def __init__(self, settings: Settings):
        self.settings = settings
        self._n_items = 0

    def check(self, items: Items, semantic_ids: SemanticIds | None) -> None:
        """Candidates must fit the catalogue."""
        self._n_items = len(items)
        if not 1 <= self.settings.k <= len(items):
            most = len(items)
            raise BenchError(f"decoder.k = {self.settings.k}, but the catalogue has {most} items; set decoder.k={most}")

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best items of each history; equal scores in the order of item ids."""
        n_items = len(semantic_ids.of_item) if semantic_ids is not None else self._n_items
        return rank_items(model, histories, n_items, self.settings.k, semantic_ids, progress, self.settings.batch)
