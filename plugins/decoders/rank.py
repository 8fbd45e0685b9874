"""``rank``: the top k of a model that scores every item. History items are not removed: repeats are real targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.components import setting
from harness.data.dataset import Histories, Items
from harness.errors import BenchError
from harness.progress import Progress
from harness.rankings import Rankings, repeated
from harness.semantic_ids import SemanticIds


@dataclass(frozen=True)
class Settings:
    """Settings of the ranking."""

    k: int = setting(50, "candidates returned; where items share SIDs, as many more as k distinct SIDs take")
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
                parts.append(_top(scores, self._enough(semantic_ids)))
                bar.update(len(scores))
        ids, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        width = self._needed(ids, semantic_ids)
        return Rankings("item", ids[:, :width].astype(np.int32), scores[:, :width])

    def _enough(self, semantic_ids: SemanticIds | None) -> int:
        """As many items as k distinct SIDs can take at most: the k largest groups."""
        k = self.settings.k
        if semantic_ids is None:
            return k
        return int(np.sort(semantic_ids.group_sizes)[::-1][:k].sum())

    def _needed(self, ids: np.ndarray, semantic_ids: SemanticIds | None) -> int:
        """The least width, k or more, at which every row has k distinct SIDs (or all there are)."""
        k = self.settings.k
        if semantic_ids is None or ids.shape[1] == k:
            return k
        distinct = (~repeated(semantic_ids.of_item[ids])).cumsum(axis=1)  # [n, width] distinct SIDs so far
        wanted = min(k, len(semantic_ids.distinct))
        return max(k, int((distinct < wanted).sum(axis=1).max()) + 1)


def _top(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores ``[n, k]`` of the best items, equal scores in the order of item ids; float64 stays float64."""
    import torch

    from harness.decoding.beam import top

    exact = scores.dtype.kind in "iu" or scores.dtype.itemsize > 4
    best, order = top(torch.from_numpy(np.ascontiguousarray(scores, np.float64 if exact else np.float32)), k)
    return order[:, :k].numpy(), best[:, :k].numpy()
