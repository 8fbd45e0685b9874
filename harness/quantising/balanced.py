"""Balanced clusters: sizes within one of each other, by an optimal assignment.

The assignment is a transport problem with few sinks: n rows, k clusters, ⌊n/k⌋ or ⌈n/k⌉ rows each. Prices of the
clusters bring the assignment to the nearest close to balance; rows are then moved along shortest paths between
clusters until it is balanced (successive shortest paths; Ahuja, Magnanti and Orlin 1993, ch. 9), which keeps it
optimal.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from harness.quantising.clusters import Clusters, k_means, means, squared_distances

STEPS = 60
"""Rounds of prices before paths are looked for."""
TINY = 1e-12


def balanced_k_means(vectors: np.ndarray, k: int, seed: int, iterations: int = 12, tolerance: float = 1e-4) -> Clusters:
    """k-means in which every assignment is balanced and optimal (Bradley, Bennett and Demiriz 2000).

    Args:
        vectors: ``[n, d]``.
        k: clusters; n where there are fewer rows.
        iterations: Lloyd's steps, at most; it ends where the mean distance falls by less than `tolerance`.
    """
    k = min(k, len(vectors))
    centres = k_means(vectors, k, seed, 20, "sklearn").centres
    if len(centres) < k:  # fewer distinct rows than clusters
        centres = np.concatenate([centres, vectors[: k - len(centres)].astype(np.float32)])
    prices, before = np.zeros(k), np.inf
    codes = np.zeros(len(vectors), dtype=np.int64)
    for _ in range(max(1, iterations)):
        cost = squared_distances(vectors, centres)
        codes, prices = balanced_assignment(cost, prices)
        now = float(cost[np.arange(len(codes)), codes].mean())
        centres = means(vectors, codes, k, np.zeros(len(vectors))).astype(np.float32)
        if before - now <= tolerance * max(before, TINY):
            break
        before = now
    return Clusters(codes.astype(np.int32), centres)


def balanced_assignment(cost: np.ndarray, prices: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest assignment of rows to clusters with sizes within one of each other.

    Args:
        cost: ``[n, k]``, n ≥ k.
        prices: ``[k]`` of an assignment like it, to start from.

    Returns:
        The cluster of each row ``[n]``, and prices ``[k]`` under which it is each row's cheapest.
    """
    n, k = cost.shape
    prices = _prices(cost, np.zeros(k) if prices is None else prices)
    flow = _Flow.of(cost, prices)
    wanted = np.full(k, n // k)
    wanted[np.argsort(-flow.sizes, kind="stable")[: n % k]] += 1  # for now; which are larger is settled at the end
    while (flow.sizes > wanted).any():
        start = int((flow.sizes - wanted).argmax())
        flow.move(start, flow.sizes < wanted)
    while n % k and flow.swap(n // k):
        pass
    return flow.codes, flow.prices


def _prices(cost: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Prices that make clusters about equally wanted: subgradient steps that shrink."""
    n, k = cost.shape
    mean = n / k
    two = np.partition(cost, 1, axis=1)[:, :2] if k > 1 else np.zeros((n, 2))
    scale = float(np.mean(two[:, 1] - two[:, 0])) or float(cost.mean()) or 1.0
    best, least = prices, np.inf
    for step in range(STEPS):
        sizes = np.bincount((cost + prices).argmin(axis=1), minlength=k)
        excess = float(np.abs(sizes - mean).sum())
        if excess < least:
            best, least = prices, excess
        if excess <= k / 2:
            break
        prices = prices + scale * np.clip((sizes - mean) / mean, -1, 2) / (1 + 0.2 * step)
    return best


@dataclass
class _Flow:
    """An assignment that is each row's cheapest under prices, and the graph of moves between clusters.

    Attributes:
        gain: ``[k, k]`` the least extra cost of moving some row of cluster p to q.
        row: ``[k, k]`` which row that is.
    """

    cost: np.ndarray
    prices: np.ndarray
    codes: np.ndarray
    sizes: np.ndarray
    gain: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, cost: np.ndarray, prices: np.ndarray) -> _Flow:
        k = cost.shape[1]
        codes = (cost + prices).argmin(axis=1)
        flow = cls(
            cost, prices.astype(np.float64).copy(), codes, np.bincount(codes, minlength=k),
            np.full((k, k), np.inf), np.zeros((k, k), dtype=np.int64),
        )  # fmt: skip
        for cluster in range(k):
            flow._look(cluster)
        return flow

    def _look(self, cluster: int) -> None:
        """What moving a row out of a cluster costs."""
        rows = np.flatnonzero(self.codes == cluster)
        if not len(rows):
            self.gain[cluster] = np.inf
            return
        extra = self.cost[rows] - self.cost[rows, cluster, None]
        best = extra.argmin(axis=0)
        self.gain[cluster], self.row[cluster] = extra[best, np.arange(len(best))], rows[best]
        self.gain[cluster, cluster] = np.inf

    def _paths(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Shortest reduced distances from a cluster to all ``[k]``, and the cluster before each (Dijkstra)."""
        k = len(self.prices)
        reduced = np.maximum(self.gain + self.prices - self.prices[:, None], 0.0)
        distance, before, open_ = np.full(k, np.inf), np.full(k, -1), np.ones(k, dtype=bool)
        distance[start] = 0.0
        for _ in range(k):
            at = int(np.where(open_, distance, np.inf).argmin())
            if not np.isfinite(distance[at]) or not open_[at]:
                break
            open_[at] = False
            through = distance[at] + reduced[at]
            nearer = open_ & (through < distance)
            distance[nearer], before[nearer] = through[nearer], at
        return distance, before

    def move(self, start: int, ends: np.ndarray) -> None:
        """Move one row from `start`, along the cheapest path, to one of the clusters `ends` ``[k]`` (booleans)."""
        distance, before = self._paths(start)
        self._reprice(distance)
        true = np.where(ends, self.prices[start] - self.prices, np.inf)  # the path's cost, now that it is tight
        self._augment(int(true.argmin()), before)

    def _reprice(self, distance: np.ndarray) -> None:
        known = np.isfinite(distance)
        self.prices = self.prices - np.where(known, distance, distance[known].max())

    def _augment(self, end: int, before: np.ndarray) -> None:
        """Move a row over each step of the path that ends there."""
        path = [end]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        moved = [(p, q, int(self.row[p, q])) for q, p in itertools.pairwise(path)]
        for p, q, row in moved:
            self.codes[row] = q
            self.sizes[p] -= 1
            self.sizes[q] += 1
        for cluster in path:
            self._look(cluster)

    def swap(self, low: int) -> bool:
        """Let another cluster be a larger one where that is cheaper; whether there was such."""
        large, small = self.sizes > low, self.sizes <= low
        for start in np.flatnonzero(large):
            if not (self.prices[start] - self.prices[small]).min() < -TINY:
                continue  # a lower bound of every path's cost
            distance, before = self._paths(int(start))
            true = np.where(small, distance + self.prices[start] - self.prices, np.inf)
            if true.min() < -1e-9 * (1 + abs(float(self.cost.mean()))):
                self._reprice(distance)
                self._augment(int(true.argmin()), before)
                return True
        return False
