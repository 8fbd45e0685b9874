"""Analyses that need to know the samples: metrics by segment, and the rank of every target."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.rankings import Rankings
from harness.ranks import TargetRanks
from harness.segments import segmentations
from harness.semantic_ids import SemanticIds

SHOWN = ("HR@1", "HR@10", "NDCG@10")


def ranks(rankings: Rankings, dataset: Dataset, semantic_ids: SemanticIds | None) -> dict[str, Any]:
    """``{protocol: encoded}`` :class:`~harness.ranks.TargetRanks`, samples in canonical order.

    Paired comparisons of recorded runs, and anyone who doubts a metric, need nothing else.
    """
    found = TargetRanks.of_each(rankings, dataset.test.targets, semantic_ids)
    return {protocol: ranks.take(dataset.test.order).encode() for protocol, ranks in found.items()}


def segments(rankings: Rankings, dataset: Dataset, semantic_ids: SemanticIds | None) -> dict[str, Any]:
    """``{segmentation: {segment: {"n": …, protocol: {metric: …}}}}``; empty segments are left out."""
    found: dict[str, Any] = {}
    each = TargetRanks.of_each(rankings, dataset.test.targets, semantic_ids)
    values = {protocol: ranks.values() for protocol, ranks in each.items()}
    for division in segmentations(dataset.test, dataset.train, len(dataset.items), semantic_ids):
        parts: dict[str, Any] = {}
        for number, label in enumerate(division.labels):
            rows = np.flatnonzero(division.of_sample == number)
            if len(rows):
                parts[label] = {"n": len(rows)} | {
                    protocol: {name: float(metrics[name][rows].mean()) for name in SHOWN if name in metrics}
                    for protocol, metrics in values.items()
                }
        found[division.name] = parts
    return found
