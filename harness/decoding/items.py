"""Ranking the whole catalogue by a model that scores every item: the core of ``rank``, and of probes of item models."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.dataset import Histories
from harness.data.rankings import Rankings, repeated
from harness.data.semantic_ids import SemanticIds
from harness.data.ties import Tied
from harness.errors import BenchError, ContractError
from harness.progress import Progress


def rank_items(
    model: Any, histories: Histories, n_items: int, k: int, semantic_ids: SemanticIds | None, progress: Progress,
    batch: int = 512,
) -> Rankings:  # fmt: skip
    """The best items of each history; equal scores in the order of item ids, and who was cut of the last of them.

    Args:
        n_items: how many items there are, and so how wide the scores must be; 0: not known.
        k: candidates of each; where items share SIDs, as many more as k distinct SIDs take.
        batch: users scored at once.

    Raises:
        BenchError: the model scores no items.
        ContractError: its scores are not ``[n, n_items]`` numbers.
    """
    if not hasattr(model, "score"):
        raise BenchError("decoder rank takes a model that scores items; set decoder=beam for a generative method")
    parts: list[tuple[np.ndarray, np.ndarray, Tied]] = []
    with progress.bar(len(histories), "rank", "user") as bar:
        for start in range(0, len(histories), batch):
            part = histories.take(np.arange(start, min(start + batch, len(histories))))
            scores = checked_scores(model.score(part), len(part), n_items)
            scores = scores.astype(np.float64 if exact(scores) else np.float32, copy=False)
            if part.bought is not None:
                scores = np.where(part.bought.items_mask(scores.shape[1]), -np.inf, scores)
            ids, best = top_items(scores, _enough(k, semantic_ids))
            ids = np.where(np.isneginf(best), -1, ids) if part.bought is not None else ids
            parts.append((ids, best, Tied.of(scores, ids)))
            bar.update(len(scores))
    width = max(_needed(ids, k, semantic_ids) for ids, _, _ in parts)
    catalogue = scores.shape[1]
    tied = Tied.joined([tied.narrowed(ids, best, width, catalogue) for ids, best, tied in parts])
    ids = np.concatenate([ids[:, :width] for ids, _, _ in parts])
    best = np.concatenate([best[:, :width] for _, best, _ in parts])
    return Rankings("item", ids.astype(np.int32), best, tied=tied)


def checked_scores(scores: Any, n: int, n_items: int) -> np.ndarray:
    """A model's scores, held to their contract.

    Raises:
        ContractError: they are no array of numbers, or not as wide as the catalogue.
    """
    if hasattr(scores, "detach"):
        raise ContractError("score gave a torch tensor; give a NumPy array: scores.float().cpu().numpy()")
    if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "iuf":
        what = f"an array of {scores.dtype}" if isinstance(scores, np.ndarray) else type(scores).__name__
        raise ContractError(f"score gave {what}; give a NumPy array of numbers [histories, items]")
    if scores.shape != (n, n_items or scores.shape[-1]):
        raise ContractError(
            f"score gave {list(scores.shape)} for {n} histories and {n_items:,} items; give [{n}, {n_items}]"
        )
    return scores


def exact(scores: np.ndarray) -> bool:
    """Whether scores are more than float32 can hold."""
    return scores.dtype.kind in "iu" or scores.dtype.itemsize > 4


def _enough(k: int, semantic_ids: SemanticIds | None) -> int:
    """As many items as k distinct SIDs can take at most: the k largest groups."""
    if semantic_ids is None:
        return k
    return int(np.sort(semantic_ids.group_sizes)[::-1][:k].sum())


def _needed(ids: np.ndarray, k: int, semantic_ids: SemanticIds | None) -> int:
    """The least width, k or more, at which every row has k distinct SIDs (or all there are)."""
    if semantic_ids is None or ids.shape[1] == k:
        return k
    distinct = (~repeated(semantic_ids.of_item[ids])).cumsum(axis=1)  # [n, width] distinct SIDs so far
    wanted = min(k, len(semantic_ids.distinct))
    return max(k, int((distinct < wanted).sum(axis=1).max()) + 1)


def top_items(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores ``[n, k]`` of the best items, equal scores in the order of item ids; float64 stays float64."""
    import torch

    from harness.decoding.beam import top

    best, order = top(torch.from_numpy(np.ascontiguousarray(scores)), k)
    return order[:, :k].numpy(), best[:, :k].numpy()
