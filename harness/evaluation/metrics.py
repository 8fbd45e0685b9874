"""The core's own metrics: the two protocols and the ranks of targets, on which every comparison stands."""

from __future__ import annotations

from typing import Any

from harness.evaluation.measure import Evaluated


def sid_protocol(evaluated: Evaluated) -> dict[str, float] | None:
    """HR@K, NDCG@K and MRR where equality of SIDs is a hit; None where there are no SIDs."""
    return evaluated.ranks["sid"].means() if "sid" in evaluated.ranks else None


def item_protocol(evaluated: Evaluated) -> dict[str, float]:
    """HR@K, NDCG@K and MRR of the target item itself, items on one SID in expectation."""
    return evaluated.ranks["item"].means()


def ranks(evaluated: Evaluated) -> dict[str, Any]:
    """``{protocol: encoded}`` :class:`~harness.evaluation.target_ranks.TargetRanks`, samples in canonical order.

    Paired comparisons of recorded runs, and anyone who doubts a metric, need nothing else.
    """
    order = evaluated.samples.order
    return {protocol: ranks.take(order).encode() for protocol, ranks in evaluated.ranks.items()}
