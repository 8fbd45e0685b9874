"""coverage: how much of the catalogue the lists show, and how popular what they show is."""

import numpy as np

from harness import hookimpl


def coverage(rankings, dataset, semantic_ids):
    """``coverage@10``: the share of candidates shown to anyone; ``popularity@10``: their mean purchases in train."""
    shown = rankings.ids[:, :10][rankings.ids[:, :10] >= 0]
    by_sid = rankings.kind == "sid"
    size = len(semantic_ids.distinct) if by_sid else len(dataset.items)
    targets = semantic_ids.of_item[dataset.train.targets] if by_sid else dataset.train.targets
    purchases = np.bincount(targets, minlength=size)
    return {"coverage@10": len(np.unique(shown)) / size, "popularity@10": float(purchases[shown].mean())}


@hookimpl
def bench_analyses():
    return {"coverage": coverage}
