"""Uncertainty of means over test samples, which are not independent: a user has several, and a seed moves them all.

It knows arrays of per-sample values, nothing of rankings. The value of seed s on sample i of user u is taken as
mean + seed effect + user effect + rest. A mean over S seeds has the variance

    V = V_users + V_seeds / S

V_users is the cluster-robust one: residuals, averaged over seeds, are summed within each user (Liang and Zeger 1986).
V_seeds is the variance between the seeds' means, less what users' own noise alone gives them. Student's t stands for
what few seeds leave unknown: the critical values of users and of seeds are weighed by their shares of V (Cochran 1964),
the seeds' share being all that their means vary; the seeds of two sides have one freedom together (Satterthwaite 1946).
:mod:`tests.core.simulated` holds intervals and tests to what they promise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

ROUNDING = 1e-12  # per-sample values are rational numbers far apart, or equal
LEVEL = 0.95
ALPHA = 0.05
SMALLEST = -230.0
"""The logarithm of the least p that is told from nothing."""
Scope = Literal["users and seeds", "users", "users, one seed", "rows only"]


def changes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Second minus first; what differs by rounding alone (means over seeds) is a tie."""
    change = second - first
    change[np.abs(change) < ROUNDING] = 0.0
    return change


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values ``[m]`` (Holm 1979): the family's error stays below any level."""
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted


@dataclass(frozen=True)
class Clusters:
    """Which samples belong together.

    Attributes:
        of_sample: ``[n]`` the user of each sample, as numbers 0 … U − 1; None: each sample stands for itself.
        n: how many samples there are.
    """

    of_sample: np.ndarray | None
    n: int

    @classmethod
    def of(cls, users: np.ndarray | None, n: int) -> Clusters:
        """From any integers that tell users apart ``[n]``."""
        if users is None:
            return cls(None, n)
        return cls(np.unique(users, return_inverse=True)[1].reshape(-1), n)

    @cached_property
    def count(self) -> int:
        """How many users there are."""
        return self.n if self.of_sample is None else int(self.of_sample.max(initial=-1)) + 1

    @cached_property
    def _grouped(self) -> tuple[np.ndarray | None, np.ndarray]:
        assert self.of_sample is not None
        inside = bool((np.diff(self.of_sample) >= 0).all())
        order = None if inside else np.argsort(self.of_sample, kind="stable")
        ordered = self.of_sample if order is None else self.of_sample[order]
        return order, np.flatnonzero(np.r_[True, np.diff(ordered) > 0])

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums within each user: ``[…, n]`` → ``[…, U]``."""
        if self.of_sample is None:
            return values
        if not self.n:
            return np.zeros((*values.shape[:-1], 0))
        order, starts = self._grouped
        return np.add.reduceat(values if order is None else values[..., order], starts, axis=-1)


@dataclass(frozen=True)
class Runs:
    """The per-sample values of one system: of its runs, a seed each, on the same samples.

    Attributes:
        values: ``{metric: [S, n]}``.
        users: ``[n]`` the user of each sample, a number; None where it is not known.
        deterministic: whether every seed gives the same, so that one run is all there is to know.
    """

    values: Mapping[str, np.ndarray]
    users: np.ndarray | None = None
    deterministic: bool = False

    @property
    def seeds(self) -> int:
        """How many runs there are."""
        return len(next(iter(self.values.values())))

    @property
    def n(self) -> int:
        """How many samples there are."""
        return int(next(iter(self.values.values())).shape[1])

    @cached_property
    def clusters(self) -> Clusters:
        """The users of the samples."""
        return Clusters.of(self.users, self.n)

    @property
    def scope(self) -> Scope:
        """What its intervals account for."""
        if self.users is None:
            return "rows only"
        if self.seeds > 1 and not self.deterministic:
            return "users and seeds"
        return "users" if self.deterministic else "users, one seed"

    def of(self, names: Sequence[str]) -> Runs:
        """The same, of those metrics."""
        return Runs({name: self.values[name] for name in names}, self.users, self.deterministic)

    def take(self, rows: np.ndarray) -> Runs:
        """The same, of those samples."""
        users = None if self.users is None else self.users[rows]
        return Runs({name: values[:, rows] for name, values in self.values.items()}, users, self.deterministic)


@dataclass(frozen=True)
class _Parts:
    """What runs say of the mean of one metric.

    Attributes:
        by_user: ``[U]`` residuals, averaged over seeds and summed within users.
        between: the variance of the seeds' means.
        within: of that, what users' noise that no seed shares gives alone.
        seeds: how many seeds `between` is of; 1: it is not known, or nothing.
    """

    mean: float
    by_user: np.ndarray
    between: float
    within: float
    seeds: int

    @classmethod
    def of(cls, values: np.ndarray, clusters: Clusters, deterministic: bool) -> _Parts:
        means = values.mean(axis=1)
        sums = clusters.sums(values - means[:, None])  # [S, U]
        by_user = sums.mean(axis=0)
        seeds = 1 if deterministic else len(values)
        if seeds == 1:
            return cls(float(means.mean()), by_user, 0.0, 0.0, 1)
        apart = ((sums - by_user) ** 2).sum() / (seeds - 1)
        within = _per_user(clusters.count, len(values[0])) * apart
        return cls(float(means.mean()), by_user, float(means.var(ddof=1)), float(within), seeds)

    @property
    def of_seeds(self) -> float:
        """The part of the mean's variance that is the seeds'."""
        return max(0.0, self.between - self.within) / self.seeds

    @property
    def spread(self) -> float:
        """The square of all that the seeds' means vary, over its degrees of freedom."""
        return (self.between / self.seeds) ** 2 / (self.seeds - 1) if self.seeds > 1 else 0.0


def _per_user(users: int, n: int) -> float:
    """What a sum of squares over users is multiplied with to be the variance of a mean over n samples."""
    return users / (users - 1) / n**2 if users > 1 else float("nan")


@dataclass(frozen=True)
class Interval:
    """A mean and what is known of it.

    Attributes:
        low: lower bound of the 95 % interval; NaN where a single user says nothing of others.
        high: its upper bound.
        p: two-sided, of the mean being 0.
        error: the standard error, the root of V.
        design: the design effect of users: their variance over that of as many independent samples (Kish 1965).
    """

    mean: float
    low: float
    high: float
    p: float
    error: float
    design: float


def _interval(mean: float, by_user: np.ndarray, n: int, sides: Sequence[_Parts], independent: float) -> Interval:
    """Put a mean's variances together.

    Users and seeds each have a t of their own freedom, weighed by their variances (Cochran 1964): it holds what it
    promises also where nearly all of the variance is that of three seeds. Two sides' seeds have one freedom together
    (Satterthwaite 1946).

    Args:
        by_user: ``[U]`` sums of residuals.
        sides: whose seeds add to the variance.
        independent: the variance that n independent samples would give.
    """
    users = len(by_user)
    squares = float((by_user**2).sum())
    of_users = _per_user(users, n) * squares
    of_seeds = sum(side.of_seeds for side in sides)
    variance = of_users + of_seeds
    design = of_users / independent if independent > 0 else 1.0
    if np.isnan(variance):
        return Interval(mean, np.nan, np.nan, np.nan, np.nan, np.nan)
    if variance <= 0:  # no sample differs from another
        return Interval(mean, mean, mean, 1.0 if mean == 0 else 0.0, 0.0, 1.0)
    # few users that carry the variance count as few (Carter, Schnepel and Steigerwald 2017)
    effective = min(users - 1.0, squares**2 / float((by_user**4).sum())) if squares > 0 else users - 1.0
    error = float(np.sqrt(variance))
    spread = sum(side.spread for side in sides)
    told = sum(side.between / side.seeds for side in sides)
    together = told**2 / spread if spread > 0 else 1.0
    share = min(1.0, told / variance) if of_seeds > 0 else 0.0  # what only the few seeds tell: all that they vary
    terms = ((1 - share, max(1.0, effective)), (share, together))
    reach = _critical(terms, 1 - LEVEL) * error
    return Interval(mean, mean - reach, mean + reach, _p(terms, abs(mean) / error), error, float(design))


def _critical(terms: Sequence[tuple[float, float]], alpha: float) -> float:
    """The two-sided critical value at a level: those of `terms` (share of the variance, freedom), weighed."""
    from scipy.special import stdtrit

    return float(sum(share * -stdtrit(freedom, alpha / 2) for share, freedom in terms if share > 0))


def _p(terms: Sequence[tuple[float, float]], t: float) -> float:
    """The level whose critical value is `t`: two-sided p."""
    from scipy.optimize import brentq

    if t <= 0:
        return 1.0
    if _critical(terms, float(np.exp(SMALLEST))) <= t:
        return float(np.exp(SMALLEST))
    return float(np.exp(brentq(lambda log: _critical(terms, np.exp(log)) - t, SMALLEST, 0.0)))


def intervals(runs: Runs, top: float = 1.0) -> dict[str, Interval]:
    """The 95 % interval of each metric's mean over seeds and samples, within 0 … `top`."""
    found = {}
    for name, values in runs.values.items():
        parts = _Parts.of(values, runs.clusters, runs.deterministic)
        independent = float(values.mean(axis=0).var()) / runs.n if runs.n else 0.0
        one = _interval(parts.mean, parts.by_user, runs.n, [parts], independent)
        low, high = (float(np.clip(bound, 0.0, top)) for bound in (one.low, one.high))
        found[name] = Interval(one.mean, low, high, one.p, one.error, one.design)
    return found


def of_one_run(values: Mapping[str, np.ndarray], users: np.ndarray | None) -> dict[str, Interval]:
    """The intervals of one run's own numbers: users are drawn anew, the trained model is not.

    Args:
        values: ``{metric: [n]}`` of each sample.
        users: ``[n]`` the user of each, or None.

    Returns:
        Those that there are: one user says nothing of others.
    """
    found = intervals(Runs({name: value[None] for name, value in values.items()}, users, deterministic=True))
    return {name: one for name, one in found.items() if not np.isnan(one.low)}


def recorded(found: Mapping[str, Mapping[str, Interval]]) -> dict[str, Any]:
    """Intervals by protocol and metric in a record's form: ``intervals`` and ``design effects``."""
    return {
        "intervals": {p: {name: [one.low, one.high] for name, one in of.items()} for p, of in found.items()},
        "design effects": {p: {name: round(one.design, 4) for name, one in of.items()} for p, of in found.items()},
    }


@dataclass(frozen=True)
class Paired:
    """A paired comparison of one metric: second minus first.

    Attributes:
        first: the first's mean.
        second: the second's mean.
        difference: second − first.
        low: lower bound of the difference's 95 % interval.
        high: its upper bound.
        p: two-sided, of no difference.
        corrected: p after Holm's correction over the metrics compared together.
        wins: samples on which the second is better, by means over seeds.
        losses: samples on which the first is.
        ties: all others.
        scope: what interval and p account for. With one seed of a method that is not deterministic they speak of these
            runs, not of the methods.
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
    scope: Scope = "users"

    @property
    def significant(self) -> bool:
        """Whether the methods differ beyond chance at 5 %: never by one seed, and never by rows alone."""
        return self.scope in CLAIMS and self.corrected < ALPHA


CLAIMS: tuple[Scope, ...] = ("users and seeds", "users")
"""The scopes that a claim about methods can rest on."""


def scope_of(first: Runs, second: Runs) -> Scope:
    """What a comparison of the two accounts for: no more than the less known of them."""
    order: tuple[Scope, ...] = ("rows only", "users, one seed", "users and seeds", "users")
    return min(first.scope, second.scope, key=order.index)


def paired(first: Runs, second: Runs, together: bool = False) -> dict[str, Paired]:
    """Compare two systems on the same samples, metrics corrected together.

    Users are shared, so their residuals are subtracted before they are squared; seeds are each side's own, and both
    sides' variances are added.

    Args:
        together: seed s of the one belongs to seed s of the other (a stage and the one before it): differences are
            taken within seeds.
    """
    names = [name for name in first.values if name in second.values]
    users = first.users if first.users is not None and second.users is not None else None
    clusters, scope = Clusters.of(users, first.n), scope_of(first, second)
    results = []
    for name in names:
        a, b = first.values[name], second.values[name]
        change = changes(a.mean(axis=0), b.mean(axis=0))
        if together:
            within = changes(a, b)
            sides = [_Parts.of(within, clusters, first.deterministic and second.deterministic)]
            by_user = sides[0].by_user
        else:
            sides = [_Parts.of(a, clusters, first.deterministic), _Parts.of(b, clusters, second.deterministic)]
            by_user = clusters.sums(change - change.mean())
        one = _interval(float(change.mean()), by_user, first.n, sides, float(change.var()) / max(1, first.n))
        if np.isnan(one.p):  # one user says nothing of others: no claim
            one = dataclasses.replace(one, p=1.0)
        results.append((name, float(a.mean()), float(b.mean()), one, change))
    corrected = holm(np.array([one.p for _, _, _, one, _ in results]))
    return {
        name: Paired(
            first=a,
            second=b,
            difference=one.mean,
            low=one.low,
            high=one.high,
            p=one.p,
            corrected=float(p),
            wins=int((change > 0).sum()),
            losses=int((change < 0).sum()),
            ties=int((change == 0).sum()),
            scope=scope,
        )
        for (name, a, b, one, change), p in zip(results, corrected, strict=True)
    }


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of counts: 0 where all are alike, near 1 where one is all.

    G = Σ (2i − n − 1) x_i / (n Σ x), x ascending (Gini 1912, in the form of Fleder and Hosanagar 2009).

    >>> gini(np.array([3, 3, 3])), gini(np.array([0, 0, 0, 8]))
    (0.0, 0.75)
    """
    ordered, n = np.sort(counts.astype(np.float64)), len(counts)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()))
