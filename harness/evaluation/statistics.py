"""Uncertainty of means over test samples. It knows arrays of per-sample values, nothing of rankings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
FLIPS = 10_000
FEW = 100
ROUNDING = 1e-12  # per-sample values are rational numbers far apart, or equal
CHUNK = 2**24  # numbers of a resampling matrix held at once


def bootstrap(values: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Percentile bootstrap intervals ``[m, 2]`` of the means of per-sample values ``[n, m]``.

    Samples are drawn with replacement, all columns together (Efron 1979); the same seed gives the same
    intervals, whatever the order of the samples. Samples with equal values are one kind: how often each kind is drawn
    is multinomial, and few kinds (the ranks of a target) are drawn in a fraction of the time.
    """
    n, columns = values.shape
    if not n:
        return np.full((columns, 2), np.nan)
    rng = np.random.default_rng(seed)
    kinds, sizes = np.unique(values, axis=0, return_counts=True)
    if len(kinds) * 8 < n:
        means = rng.multinomial(n, sizes / n, size=resamples) @ kinds / n
    else:
        values = np.repeat(kinds, sizes, axis=0)  # sorted
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


def changes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Second minus first ``[n, …]``; what differs by rounding alone (means over seeds) is a tie."""
    change = second - first
    change[np.abs(change) < ROUNDING] = 0.0
    return change


def randomisation(differences: np.ndarray, flips: int = FLIPS, seed: int = 0) -> np.ndarray:
    """Two-sided p-values ``[m]`` of paired differences ``[n, m]``: Fisher's randomisation test.

    Under the null hypothesis each sample's two values could as well be exchanged, so the signs of its
    differences are drawn, one sign a sample for all columns. p is (1 + draws at least as extreme) / (1 + draws)
    (Smucker, Allan and Carterette, CIKM 2007); no difference at all gives 1.
    """
    moved = differences[(differences != 0).any(axis=1)]
    if not len(moved):
        return np.ones(differences.shape[1])
    rng = np.random.default_rng(seed)
    moved = moved.astype(np.float32)
    total = moved.sum(axis=0)
    slack = 1e-5 * np.abs(moved).sum(axis=0)  # sums in another order differ in their last digits
    extreme = np.zeros(differences.shape[1], dtype=int)
    step = max(1, CHUNK // len(moved))
    for start in range(0, flips, step):
        size = min(step, flips - start)
        bits = np.frombuffer(rng.bytes(size * -(-len(moved) // 8)), dtype=np.uint8).reshape(size, -1)
        kept = np.unpackbits(bits, axis=1, count=len(moved)).astype(np.float32) @ moved  # those with a plus
        extreme += (np.abs(2 * kept - total) >= np.abs(total) - slack).sum(axis=0)
    return (1 + extreme) / (1 + flips)


def significance(differences: np.ndarray) -> np.ndarray:
    """p-values ``[m]`` of the same test by its normal limit: the sum of differences over the root of their squares.

    For many samples it agrees with the draws and costs nothing, so that a leaderboard of any size is marked; in a
    column where fewer than :data:`FEW` samples differ, the signs are drawn.
    """
    from scipy.special import erfc

    squares = np.sqrt(np.einsum("nm,nm->m", differences, differences))
    sums = np.abs(differences.sum(axis=0))
    p = erfc(np.divide(sums, squares, out=np.zeros_like(sums), where=squares > 0) / np.sqrt(2))
    for column in np.flatnonzero((differences != 0).sum(axis=0) < FEW):
        p[column] = randomisation(differences[:, column : column + 1])[0]
    return p


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values ``[m]`` (Holm 1979): the family's error stays below any level."""
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted


@dataclass(frozen=True)
class Paired:
    """A paired comparison of one metric: second minus first.

    Attributes:
        first: the first's mean.
        second: the second's mean.
        difference: second − first.
        low: lower bound of the difference's 95 % interval.
        high: its upper bound.
        p: of the randomisation test.
        corrected: p after Holm's correction over the metrics compared together.
        wins: samples on which the second is better.
        losses: samples on which the first is.
        ties: all others.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    wins: int
    losses: int
    ties: int


def paired(
    first: dict[str, np.ndarray], second: dict[str, np.ndarray], resamples: int = FLIPS, seed: int = 0
) -> dict[str, Paired]:
    """Compare two systems' per-sample values ``{metric: [n]}`` on the same samples, metrics corrected together."""
    names = [name for name in first if name in second]
    a, b = (np.column_stack([values[name] for name in names]) for values in (first, second))
    change = changes(a, b)
    bounds = bootstrap(change, resamples=resamples, seed=seed)
    p = randomisation(change, resamples, seed)
    corrected = holm(p)
    return {
        name: Paired(
            first=float(a[:, i].mean()),
            second=float(b[:, i].mean()),
            difference=float(change[:, i].mean()),
            low=float(bounds[i, 0]),
            high=float(bounds[i, 1]),
            p=float(p[i]),
            corrected=float(corrected[i]),
            wins=int((change[:, i] > 0).sum()),
            losses=int((change[:, i] < 0).sum()),
            ties=int((change[:, i] == 0).sum()),
        )
        for i, name in enumerate(names)
    }
