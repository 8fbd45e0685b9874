"""Ranking the whole catalogue by a model that scores every item: the core of ``rank``, and of probes of item models."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    starts = range(0, len(histories), batch)
    parts: dict[int, Part] = {}
    most = _enough(k, semantic_ids)
    wide = min(most, k + k // 2)  # mostly enough; where it is not, what was ranked before is ranked again
    with progress.bar(len(histories), "rank", "user") as bar:
        while left := [start for start in starts if start not in parts or parts[start].ids.shape[1] < wide]:
            for start in left:
                part = histories.take(np.arange(start, min(start + batch, len(histories))))
                parts[start] = _ranked(model, part, n_items, wide)
                bar.update(len(part))
                if wide < most and _needed(parts[start].ids, k, semantic_ids) > wide:
                    wide = min(most, 2 * wide)
                    break
    found = [parts[start] for start in starts]
    width = max(_needed(part.ids, k, semantic_ids) for part in found)
    tied = Tied.joined([part.tied.narrowed(part.ids, part.scores, width, part.catalogue) for part in found])
    ids = np.concatenate([part.ids[:, :width] for part in found])
    scores = np.concatenate([part.scores[:, :width] for part in found])
    return Rankings("item", ids.astype(np.int32), scores, tied=tied)


CELLS = 2**19
"""Scores that are ranked at once."""


class Part(NamedTuple):
    """The best items of histories: ids and scores ``[n, k]``, who is tied with the last, and how many there are."""

    ids: np.ndarray
    scores: np.ndarray
    tied: Tied
    catalogue: int


def _ranked(model: Any, histories: Histories, n_items: int, k: int) -> Part:
    scores = checked_scores(model.score(histories), len(histories), n_items)
    scores = scores.astype(np.float64 if exact(scores) else np.float32, copy=False)
    if histories.bought is not None:
        scores = np.where(histories.bought.items_mask(scores.shape[1]), -np.inf, scores)
    parts: list[tuple[np.ndarray, np.ndarray, Tied]] = []
    step = max(1, CELLS // scores.shape[1])  # what is made of a piece stays in the cache
    for piece in (scores[start : start + step] for start in range(0, len(scores), step)):
        ids, best = top_items(piece, k)
        ids = np.where(np.isneginf(best), -1, ids) if histories.bought is not None else ids
        parts.append((ids, best, Tied.of(piece, ids)))
    ids, best = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    return Part(ids, best, Tied.joined([tied for _, _, tied in parts]), scores.shape[1])


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


BLOCK = 16
"""Items whose best score is taken together, to find a bound that few items reach."""
FEW = 8
"""Candidates that are sorted, as a multiple of those asked for."""


def top_items(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores ``[n, k]`` of the best items, equal scores in the order of item ids; float64 stays float64.

    The k-th best of the blocks' best scores is reached by k items at least, and mostly by few more: those alone are
    sorted. Rows where many reach it (ties) are parted at their k-th best score, in linear time.
    """
    n, width = scores.shape
    k = min(k, width)
    ids, best = np.zeros((n, k), dtype=np.int64), np.zeros((n, k), dtype=scores.dtype)
    blocks = width // BLOCK
    many = np.ones(n, dtype=bool)
    if 2 * blocks > 3 * k and n:
        peaks = scores[:, : blocks * BLOCK].reshape(n, BLOCK, blocks).max(axis=1)  # a block: each so-many-th item
        near = scores >= np.partition(peaks, blocks - k, axis=1)[:, blocks - k, None]
        count = np.count_nonzero(near, axis=1)
        many = (count > FEW * k) | np.isnan(peaks).any(axis=1) | np.isnan(scores[:, blocks * BLOCK :]).any(axis=1)
        rows = np.flatnonzero(~many)
        if len(rows):
            ids[rows], best[rows] = _sorted(scores, near if len(rows) == n else near[rows], rows, count[rows], k)
    rows = np.flatnonzero(many)
    if len(rows):
        ids[rows], best[rows] = _parted(scores if len(rows) == n else scores[rows], k)
    return ids, best


def _sorted(scores: np.ndarray, near: np.ndarray, rows: np.ndarray, count: np.ndarray, k: int) -> Any:
    """The best of candidates ``[len(rows), width]`` (booleans), `count` in each of those rows of the scores."""
    found = np.flatnonzero(near) % near.shape[1]
    inside = np.arange(count.max()) < count[:, None]
    ids = np.zeros(inside.shape, dtype=np.int64)
    ids[inside] = found
    values = np.where(inside, scores[rows[:, None], ids], -np.inf).astype(scores.dtype)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]  # what fills a row up stands behind its candidates
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1)


def _parted(scores: np.ndarray, k: int) -> Any:
    width = scores.shape[1]
    least = np.partition(scores, width - k, axis=1)[:, width - k, None]
    above, level = scores > least, scores == least
    level &= np.cumsum(level, axis=1, dtype=np.int32) <= k - above.sum(axis=1, keepdims=True)
    above |= level
    if not (above.sum(axis=1) == k).all():  # NaN goes first, where the check of rankings finds it
        order = np.argsort(np.where(np.isnan(scores), -np.inf, -scores), axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(scores, order, axis=1)
    ids = (np.flatnonzero(above) % width).reshape(len(scores), k)
    values = np.take_along_axis(scores, ids, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1)
