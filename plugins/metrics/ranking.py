"""HR, NDCG and MRR under both protocols, and the count of invalid predictions.

SID protocol: a hit is equality of the SID, so items on one SID are hit together. Item protocol
(collision-corrected): a beam stands for its items in a random order, and the metric is the
expectation over that order; for rankings by item both are plain ranks.
"""

from __future__ import annotations

import numpy as np

from harness.rankings import Rankings
from harness.semantic_ids import SemanticIds

CUTOFFS = (1, 3, 5, 10, 20, 50)


def sid_protocol(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> dict[str, float] | None:
    """HR@K, NDCG@K and MRR where equality of SIDs is a hit; None where there are no SIDs.

    A ranking by item is mapped to SIDs, and later occurrences of one SID are dropped.
    """
    if semantic_ids is None:
        return None
    ids = rankings.ids
    if rankings.kind == "item":
        ids = np.where(ids < 0, -1, semantic_ids.of_item[ids])
        ranks = _distinct_ranks(ids)
    else:
        ranks = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    place = _place(ids == semantic_ids.of_item[targets][:, None], ranks)
    return _metrics(place, np.ones(len(targets)), ids.shape[1])


def item_protocol(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> dict[str, float]:
    """HR@K, NDCG@K and MRR of the target item itself.

    With P items on the beams before the target's SID and G items on it, the item stands at each of
    the ranks P+1 … P+G with probability 1/G: ItemHit@K = min(G, max(0, K − P)) / G.
    """
    if rankings.kind == "item":
        ranks = np.broadcast_to(np.arange(rankings.ids.shape[1]), rankings.ids.shape)
        return _metrics(_place(rankings.ids == targets[:, None], ranks), np.ones(len(targets)), rankings.ids.shape[1])
    assert semantic_ids is not None
    sizes = np.where(rankings.ids < 0, 0, semantic_ids.group_sizes[rankings.ids])
    before = np.cumsum(sizes, axis=1) - sizes
    own = semantic_ids.of_item[targets]
    place = _place(rankings.ids == own[:, None], before)
    return _metrics(place, semantic_ids.group_sizes[own].astype(float), rankings.ids.shape[1])


def invalid(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> int:
    """CC: predictions (not rows) that are nothing in the catalogue."""
    return int((rankings.ids < 0).sum())


def _place(hit: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The rank (from 0) of the first hit of each row ``[n]``, infinity where there is none."""
    first = hit.argmax(axis=1)
    rows = np.arange(len(hit))
    return np.where(hit.any(axis=1), ranks[rows, first].astype(float), np.inf)


def _distinct_ranks(ids: np.ndarray) -> np.ndarray:
    """The rank of each entry when later occurrences of an id are dropped ``[n, k]``."""
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    first = np.ones_like(ordered, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    new = np.empty_like(first)
    np.put_along_axis(new, order, first, axis=1)
    return np.cumsum(new, axis=1) - 1


def _metrics(place: np.ndarray, group: np.ndarray, most: int) -> dict[str, float]:
    """Means over samples whose target stands, uniformly, at ranks `place` + 0 … `group` − 1."""
    reach = max(CUTOFFS) + 1
    discounts = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(reach) + 2.0))]  # up to a rank
    reciprocal = np.r_[0.0, np.cumsum(1 / (np.arange(most) + 1.0))]
    result: dict[str, float] = {}
    start = np.minimum(place, reach).astype(int)
    cutoffs = [k for k in CUTOFFS if k <= most]
    for k in cutoffs:
        inside = np.clip(k - place, 0, group)
        result[f"HR@{k}"] = float((inside / group).mean())
    for k in cutoffs:
        inside = np.clip(k - place, 0, group)
        gain = discounts[np.minimum(start + inside.astype(int), reach)] - discounts[start]
        result[f"NDCG@{k}"] = float((np.where(inside > 0, gain, 0) / group).mean())
    begin = np.minimum(place, most).astype(int)
    inside = np.clip(most - place, 0, group).astype(int)
    result["MRR"] = float(((reciprocal[begin + inside] - reciprocal[begin]) / group).mean())
    return result
