"""Uncertainty of means over test samples. It knows arrays of per-sample values, nothing of rankings."""

from __future__ import annotations

import numpy as np

RESAMPLES = 2000
CHUNK = 2**24  # numbers of a resampling matrix held at once


def bootstrap(values: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Percentile bootstrap intervals ``[m, 2]`` of the means of per-sample values ``[n, m]``.

    Samples are drawn with replacement, all columns together (Efron 1979); the same seed gives the same
    intervals.
    """
    n, columns = values.shape
    if not n:
        return np.full((columns, 2), np.nan)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, columns))
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, n, (size, n))
        offsets = np.arange(size)[:, None] * n
        counts = np.bincount((drawn + offsets).ravel(), minlength=size * n).reshape(size, n)
        means[start : start + size] = counts @ values / n
    tail = 100 * (1 - level) / 2
    return np.percentile(means, [tail, 100 - tail], axis=0).T
