"""Residual and product quantisers: codes level by level, or of parallel parts of a rotated vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from harness.quantising.clusters import Clusters, k_means, means, nearest

Cluster = Callable[[np.ndarray, int], Clusters]
"""``cluster(vectors, level)``."""
TINY = 1e-12
ROUNDS, TURNS = 20, 50
"""In which items that collide are coded again, and Sinkhorn's in each (MiniOneRec)."""


@dataclass(frozen=True)
class Quantised:
    """Codes, and what they stand for.

    Attributes:
        codes: ``[n, levels]`` int32.
        books: the codebook of each level ``[k, d]``.
        left: ``[n, d]`` what the codes leave of each vector.
    """

    codes: np.ndarray
    books: list[np.ndarray] = field(default_factory=list)
    left: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


def residual(vectors: np.ndarray, levels: Iterable[int], cluster: Cluster, normalise: bool = False) -> Quantised:
    """Each level clusters what the centres of the levels before it leave over (Chen, Guan and Wang 2010).

    Args:
        vectors: ``[n, d]``.
        levels: 0, 1, …, for a progress bar to count.
        normalise: whether what is left is brought to length 1 before each level (GRID's RK-means).
    """
    left = vectors.astype(np.float32)
    codes, books = [], []
    for level in levels:
        left = unit(left) if normalise else left
        found = cluster(left, level)
        codes.append(found.codes)
        books.append(found.centres)
        left = left - found.centres[found.codes]
    return Quantised(np.stack(codes, axis=1).astype(np.int32), books, left)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, TINY), dtype=np.float32)


def product(
    vectors: np.ndarray, parts: int, codes: int, seed: int, rounds: Iterable[int], iterations: int = 25
) -> Quantised:
    """Optimised product quantisation, non-parametric (Ge, He, Ke and Sun, CVPR 2013).

    The vector is rotated so that `parts` pieces of equal width lose least when each is quantised by itself; rotation
    and codebooks are found in turn, each round the rotation by Procrustes. Zeros fill the last piece up.

    Args:
        rounds: 0, 1, …, for a progress bar to count.
    """
    width = -(-vectors.shape[1] // parts)
    rows = np.zeros((len(vectors), width * parts), dtype=np.float32)
    rows[:, : vectors.shape[1]] = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    turn = _spread(directions[:, ::-1], parts)
    books: list[np.ndarray] = []

    def pieces() -> list[np.ndarray]:
        turned = (rows @ turn).astype(np.float32)
        return [turned[:, width * p : width * (p + 1)] for p in range(parts)]

    def rebuilt(codes: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([book[own] for book, own in zip(books, codes, strict=True)], axis=1)

    for _ in rounds:
        if not books:
            made = [k_means(piece, codes, seed + p, iterations, "sklearn") for p, piece in enumerate(pieces())]
        else:
            made = [_steps(piece, book) for piece, book in zip(pieces(), books, strict=True)]
        books = [one.centres for one in made]
        left, _, right = np.linalg.svd(rows.T.astype(np.float64) @ rebuilt([one.codes for one in made]))
        turn = left @ right
    last = pieces()
    found = [nearest(piece, book) for piece, book in zip(last, books, strict=True)]
    lost = np.concatenate(last, axis=1) - rebuilt(found)
    return Quantised(np.stack(found, axis=1).astype(np.int32), books, lost)


def _spread(directions: np.ndarray, parts: int) -> np.ndarray:
    """Principal directions dealt out to the parts, so that each has about as much variance."""
    d = directions.shape[1]
    order = [column for part in range(parts) for column in range(part, d, parts)]
    return np.ascontiguousarray(directions[:, order])


def _steps(piece: np.ndarray, book: np.ndarray) -> Clusters:
    """A few of Lloyd's steps from a codebook."""
    for _ in range(3):
        codes = nearest(piece, book)
        far = ((piece - book[codes]) ** 2).sum(axis=1)
        book = means(piece, codes, len(book), far).astype(np.float32)
    return Clusters(nearest(piece, book), book)


def books_of(codes: np.ndarray, vectors: np.ndarray) -> Quantised:
    """The codebooks that given codes imply: each level's mean of what the levels before it leave over.

    For codes of residual k-means these are its centres. A level that a SID does not have leaves its vector as it is.
    """
    left = vectors.astype(np.float32).copy()
    books = []
    for level in range(codes.shape[1]):
        own = codes[:, level]
        there = own >= 0
        book = np.zeros((int(own.max(initial=0)) + 1, vectors.shape[1]), dtype=np.float32)
        if there.any():
            rows = left[there]
            book = means(rows, own[there], len(book), np.zeros(len(rows))).astype(np.float32)
            left[there] -= book[own[there]]
        books.append(book)
    return Quantised(codes, books, left)


def sinkhorn(cost: np.ndarray, epsilon: float, rounds: int) -> np.ndarray:
    """Codes that are about equally used: entropic optimal transport (Cuturi 2013), each row's heaviest column.

    Args:
        cost: ``[n, k]`` distances, brought to −1 … 1 first.
        epsilon: of the entropy, after that; below 0.003 float64 does not hold the far ones.

    Returns:
        ``[n]`` int32.
    """
    n, k = cost.shape
    reach = max(float(cost.max() - cost.min()) / 2, TINY)
    nearest_first = (cost - cost.min(axis=1, keepdims=True)) / reach  # 0 … 2: exp stays within float64
    kernel = np.exp(-nearest_first / epsilon)
    columns = np.full(k, 1.0 / k)
    for _ in range(rounds):
        rows = 1.0 / (n * np.maximum(kernel @ columns, np.finfo(float).tiny))
        columns = 1.0 / (k * np.maximum(kernel.T @ rows, np.finfo(float).tiny))
    return np.asarray((kernel * columns).argmax(axis=1), dtype=np.int32)


def colliding(codes: np.ndarray) -> np.ndarray:
    """The items that share all codes with another ``[m]``."""
    _, group, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return np.flatnonzero(sizes[group.reshape(-1)] > 1)


def coded_again(codes: np.ndarray, far: Callable[[np.ndarray], np.ndarray], epsilon: float) -> np.ndarray:
    """Items that collide are coded again at the last level by optimal transport, until nothing is gained (MiniOneRec).

    Args:
        codes: ``[n, levels]``.
        far: of some items ``[m]`` the distance to each code of the last level ``[m, k]``.
        epsilon: Sinkhorn's.
    """
    for _ in range(ROUNDS):
        rows = colliding(codes)
        if not len(rows):
            break
        again = codes.copy()
        again[rows, -1] = sinkhorn(far(rows), epsilon, TURNS)
        if len(colliding(again)) >= len(rows):
            break
        codes = again
    return codes
