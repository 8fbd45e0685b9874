"""Balanced clusters against the Hungarian method, and clusters in mini-batches against all rows at once."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from harness.quantising import clusters
from harness.quantising.balanced import balanced_assignment
from tests.benchmarks.timing import paired, row


def balanced_row(n=3_072, k=48):
    cost = np.random.default_rng(0).random((n, k))
    copies = np.repeat(cost, -(-n // k), axis=1)  # n is a multiple of k: every cluster has as many places
    fast, usual = paired(lambda: balanced_assignment(cost), lambda: linear_sum_assignment(copies))
    codes, _ = balanced_assignment(cost)
    ours, theirs = cost[np.arange(n), codes].sum(), copies[linear_sum_assignment(copies)].sum()
    same = "the same cost" if np.isclose(ours, theirs) and len(set(np.bincount(codes))) == 1 else "ANOTHER COST"
    what = f"balanced assignment, {n:,} items, {k} clusters / Hungarian method of SciPy"
    return row(what, fast, usual, "s", usual / fast, same)


def batches_row(n=100_000, d=64, k=256):
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(2_000, d))[rng.integers(2_000, size=n)] + rng.normal(size=(n, d)) * 0.5).astype("f4")
    kept, found = clusters.AT_ONCE, {}

    def cluster(at_once):
        clusters.AT_ONCE = at_once
        made = clusters.k_means(vectors, k, 0)
        found[at_once] = float(((vectors - made.centres[made.codes]) ** 2).sum(axis=1).mean())

    try:
        fast, usual = paired(lambda: cluster(0), lambda: cluster(n), rounds=1)
    finally:
        clusters.AT_ONCE = kept
    same = f"mean squared distance {found[0] / found[n] - 1:+.1%}"
    return row(
        f"k-means, {n:,} × {d}, {k} clusters, in mini-batches / all at once", fast, usual, "s", usual / fast, same
    )
