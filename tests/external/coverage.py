"""coverage: how much of the catalogue the lists show, and how popular what they show is."""

import numpy as np

from harness import hookimpl


def coverage(evaluated):
    """``coverage@10``: the share of candidates shown to anyone; ``popularity@10``: their mean purchases in train."""
    rankings, sids = evaluated.rankings, evaluated.semantic_ids
    shown = rankings.ids[:, :10][rankings.ids[:, :10] >= 0]
    by_sid = rankings.kind == "sid"
    size = len(sids.distinct) if by_sid else len(evaluated.items)
    targets = sids.of_item[evaluated.train.targets] if by_sid else evaluated.train.targets
    purchases = np.bincount(targets, minlength=size)
    return {"coverage@10": len(np.unique(shown)) / size, "popularity@10": purchases[shown].mean()}


@hookimpl
def bench_metrics():
    return {"coverage": coverage}
