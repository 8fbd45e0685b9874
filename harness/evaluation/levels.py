"""Chains of SID levels: how much of the first level's accuracy each further one keeps."""

from __future__ import annotations

from itertools import pairwise


def drop_off(top_1: dict[str, float]) -> dict[str, float | None]:
    """Retention along the cumulative chain of top-1 accuracies ``{"L1": …, "L1+L2": …}``; None after 0."""
    chains = list(top_1)
    result: dict[str, float | None] = {f"{chains[0]} accuracy": top_1[chains[0]]}
    for before, after in pairwise(chains):
        result[f"{before} → {after} retention"] = top_1[after] / top_1[before] if top_1[before] else None
    return result
