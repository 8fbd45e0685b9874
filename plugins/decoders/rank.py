"""``rank``: the top k of a model that scores every item. History items are not removed: repeats are real targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.components import setting
from harness.data.dataset import Histories, Items
from harness.errors import BenchError
from harness.progress import Progress
from harness.rankings import Rankings
from harness.semantic_ids import SemanticIds


@dataclass(frozen=True)
class Settings:
    """Settings of the ranking."""

    k: int = setting(50, "candidates returned")
    batch: int = setting(512, "users scored at once; bounds memory at batch × items")


class RankDecoder:
    """Ranks the whole catalogue by an :class:`harness.components.ItemScorer`."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, items: Items, semantic_ids: SemanticIds | None) -> None:
        """Candidates must fit the catalogue."""
        if not 1 <= self.settings.k <= len(items):
            most = len(items)
            raise BenchError(f"decoder.k = {self.settings.k}, but the catalogue has {most} items; set decoder.k={most}")

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best items of each history; equal scores in the order of item ids."""
        if not hasattr(model, "score"):
            raise BenchError("decoder rank takes a model that scores items; set decoder=beam for a generative method")
        parts = []
        with progress.bar(len(histories), "rank", "user") as bar:
            for start in range(0, len(histories), self.settings.batch):
                rows = slice(start, start + self.settings.batch)
                scores = model.score(Histories(histories.items[rows], histories.lengths[rows]))
                parts.append(self._top(scores))
                bar.update(len(scores))
        ids, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Rankings("item", ids.astype(np.int32), scores.astype(np.float32))

    def _top(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch

        from harness.decoding.beam import top

        best, order = top(torch.from_numpy(np.ascontiguousarray(scores, dtype=np.float32)), self.settings.k)
        return order[:, : self.settings.k].numpy(), best[:, : self.settings.k].numpy()
