"""From rankings of SIDs to rankings of items, by a model that tells the items of one SID apart."""

from __future__ import annotations

import numpy as np

from harness.data.semantic_ids import SemanticIds
from harness.data.ties import Tied


def best_items(
    sids: np.ndarray,
    scores: np.ndarray,
    shares: np.ndarray,
    semantic_ids: SemanticIds,
    k: int,
    closed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, Tied]:
    """The best k items of the SIDs that were found; an item scores as its SID and its own share.

    Where not all SIDs were found, an item of one that was not may score more than the last.

    Args:
        sids: ``[n, found]`` rows of the SID table, best first, -1 for none.
        scores: ``[n, found]`` theirs.
        shares: ``[n, n_items]`` what each item adds to its SID's score: the (weighed) logarithm of its share of it.
        closed: ``[n, n_items]`` items that may not be recommended, as booleans; None: all may be.

    Returns:
        Ids ``[n, k]`` (-1 and -inf for none), scores, and who was cut of the last group of equal scores.
    """
    of_sid = np.full((len(sids), len(semantic_ids.distinct) + 1), -np.inf)  # the last: what is no SID
    np.put_along_axis(of_sid, np.where(sids < 0, -1, sids), np.where(sids < 0, -np.inf, scores), axis=1)
    totals = of_sid[:, semantic_ids.of_item] + shares
    if closed is not None:
        totals = np.where(closed, -np.inf, totals)
    totals = totals.astype(np.float32)
    order = np.argsort(-totals, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(totals, order, axis=1)
    ids = np.where(np.isneginf(best), -1, order).astype(np.int32)
    if ids.shape[1] < k:
        ids = np.pad(ids, ((0, 0), (0, k - ids.shape[1])), constant_values=-1)
        best = np.pad(best, ((0, 0), (0, k - best.shape[1])), constant_values=-np.inf)
    return ids, best, Tied.of(totals, ids)
