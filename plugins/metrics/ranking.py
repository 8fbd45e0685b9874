"""HR, NDCG and MRR under both protocols, their intervals, and the count of invalid predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.rankings import Rankings
from harness.ranks import TargetRanks
from harness.semantic_ids import SemanticIds
from harness.statistics import bootstrap


def sid_protocol(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> dict[str, float] | None:
    """HR@K, NDCG@K and MRR where equality of SIDs is a hit; None where there are no SIDs."""
    return None if semantic_ids is None else TargetRanks.of(rankings, targets, semantic_ids, "sid").means()


def item_protocol(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> dict[str, float]:
    """HR@K, NDCG@K and MRR of the target item itself, items on one SID in expectation."""
    return TargetRanks.of(rankings, targets, semantic_ids, "item").means()


def intervals(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> dict[str, Any]:
    """95 % bootstrap intervals ``{protocol: {metric: [low, high]}}`` over the samples."""
    found: dict[str, Any] = {}
    for protocol, ranks in TargetRanks.of_each(rankings, targets, semantic_ids).items():
        values = ranks.values()
        bounds = bootstrap(np.column_stack(list(values.values())))
        found[protocol] = dict(zip(values, bounds.tolist(), strict=True))
    return found


def invalid(rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None) -> int:
    """CC: predictions (not rows) that are nothing in the catalogue."""
    return int((rankings.ids < 0).sum())
