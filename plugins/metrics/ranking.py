"""HR, NDCG and MRR under both protocols, and the count of invalid predictions.

SID protocol: a hit is equality of the SID, so items on one SID are hit together. Item protocol
(collision-corrected): a beam stands for its items in a random order, and the metric is the
expectation over that order; for rankings by item both are plain ranks.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from harness.rankings import Rankings, repeated
from harness.semantic_ids import SemanticIds
from harness.statistics import bootstrap

CUTOFFS = (1, 3, 5, 10, 20, 50)
Protocol = Literal["sid", "item"]


def sid_protocol(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> dict[str, float] | None:
    """HR@K, NDCG@K and MRR where equality of SIDs is a hit; None where there are no SIDs.

    A ranking by item is mapped to SIDs, and later occurrences of one SID are dropped.
    """
    return None if semantic_ids is None else _means(per_sample(rankings, targets, semantic_ids, "sid"))


def item_protocol(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> dict[str, float]:
    """HR@K, NDCG@K and MRR of the target item itself.

    With P items on the beams before the target's SID and G items on it, the item stands at each of
    the ranks P+1 … P+G with probability 1/G: ItemHit@K = min(G, max(0, K − P)) / G.
    """
    return _means(per_sample(rankings, targets, semantic_ids, "item"))


def per_sample(
    rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None, protocol: Protocol
) -> dict[str, np.ndarray]:
    """Each metric's value for each sample ``[n]``; the metrics are their means."""
    if protocol == "sid":
        assert semantic_ids is not None
        ids = distinct_sids(rankings, semantic_ids)
        ranks = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        place = _place(ids == semantic_ids.of_item[targets][:, None], ranks)
        return _values(place, np.ones(len(targets)), ids.shape[1])
    if rankings.kind == "item":
        ranks = np.broadcast_to(np.arange(rankings.ids.shape[1]), rankings.ids.shape)
        return _values(_place(rankings.ids == targets[:, None], ranks), np.ones(len(targets)), rankings.ids.shape[1])
    assert semantic_ids is not None
    sizes = np.where(rankings.ids < 0, 0, semantic_ids.group_sizes[rankings.ids])
    before = np.cumsum(sizes, axis=1) - sizes
    own = semantic_ids.of_item[targets]
    place = _place(rankings.ids == own[:, None], before)
    return _values(place, semantic_ids.group_sizes[own].astype(float), rankings.ids.shape[1])


def intervals(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> dict[str, Any]:
    """95 % bootstrap intervals ``{protocol: {metric: [low, high]}}`` over the samples."""
    found: dict[str, Any] = {}
    for protocol in ("sid", "item"):
        if protocol == "item" or semantic_ids is not None:
            values = per_sample(rankings, targets, semantic_ids, protocol)
            bounds = bootstrap(np.column_stack(list(values.values())))
            found[protocol] = dict(zip(values, bounds.tolist(), strict=True))
    return found


def distinct_sids(rankings: Rankings, semantic_ids: SemanticIds) -> np.ndarray:
    """SID indices ``[n, k]``, best first, each once a row; -1 fills the end, and is also what is no SID."""
    if rankings.kind == "sid":
        return rankings.ids
    ids = np.where(rankings.ids < 0, -1, semantic_ids.of_item[rankings.ids])
    again = repeated(ids) & (ids >= 0)
    front = np.argsort(again, axis=1, kind="stable")
    return np.take_along_axis(np.where(again, -1, ids), front, axis=1)


def invalid(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> int:
    """CC: predictions (not rows) that are nothing in the catalogue."""
    return int((rankings.ids < 0).sum())


def _place(hit: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The rank (from 0) of the first hit of each row ``[n]``, infinity where there is none."""
    first = hit.argmax(axis=1)
    rows = np.arange(len(hit))
    return np.where(hit.any(axis=1), ranks[rows, first].astype(float), np.inf)


def _values(place: np.ndarray, group: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """Per sample, for a target that stands, uniformly, at ranks `place` + 0 … `group` − 1 (of `most` ranks)."""
    most, reach = min(most, max(CUTOFFS)), max(CUTOFFS) + 1
    discounts = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(reach) + 2.0))]  # up to a rank
    reciprocal = np.r_[0.0, np.cumsum(1 / (np.arange(most) + 1.0))]
    result: dict[str, np.ndarray] = {}
    start = np.minimum(place, reach).astype(int)
    cutoffs = [k for k in CUTOFFS if k <= most]
    for k in cutoffs:
        result[f"HR@{k}"] = np.clip(k - place, 0, group) / group
    for k in cutoffs:
        inside = np.clip(k - place, 0, group)
        gain = discounts[np.minimum(start + inside.astype(int), reach)] - discounts[start]
        result[f"NDCG@{k}"] = np.where(inside > 0, gain, 0) / group
    begin = np.minimum(place, most).astype(int)
    inside = np.clip(most - place, 0, group).astype(int)
    result["MRR"] = (reciprocal[begin + inside] - reciprocal[begin]) / group
    return result


def _means(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in values.items()}
