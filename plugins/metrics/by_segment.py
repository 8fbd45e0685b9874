"""Metrics by segment: short histories, rare targets, repeats, new users, shared SIDs."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.components import Evaluated
from harness.evaluation.segments import segmentations

SHOWN = ("HR@1", "HR@10", "NDCG@10")


def segments(evaluated: Evaluated) -> dict[str, Any]:
    """``{segmentation: {segment: {"n": …, protocol: {metric: …}}}}``; empty segments are left out."""
    divided: dict[str, Any] = {}
    values = {protocol: ranks.values() for protocol, ranks in evaluated.ranks.items()}
    n_items = len(evaluated.items)
    for division in segmentations(evaluated.samples, evaluated.train, n_items, evaluated.semantic_ids):
        parts: dict[str, Any] = {}
        for number, label in enumerate(division.labels):
            rows = np.flatnonzero(division.of_sample == number)
            if len(rows):
                parts[label] = {"n": len(rows)} | {
                    protocol: {name: float(metrics[name][rows].mean()) for name in SHOWN if name in metrics}
                    for protocol, metrics in values.items()
                }
        divided[division.name] = parts
    return divided
