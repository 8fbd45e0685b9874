"""k-means: scikit-learn's, FAISS's where it is asked for or installed, and mini-batches for a large catalogue."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.errors import BenchError

Engine = Literal["auto", "sklearn", "faiss"]
AT_ONCE = 200_000
"""Rows from which on centres come from mini-batches."""
BATCH = 2**14
PIECE = 2**24
"""Distances that are computed at once."""


@dataclass(frozen=True)
class Clusters:
    """A clustering.

    Attributes:
        codes: ``[n]`` int32, the cluster of each row.
        centres: ``[k, d]`` float32.
    """

    codes: np.ndarray
    centres: np.ndarray


def k_means(vectors: np.ndarray, k: int, seed: int, iterations: int = 100, engine: Engine = "auto") -> Clusters:
    """Lloyd's algorithm from k-means++ centres (Arthur and Vassilvitskii 2007).

    Args:
        vectors: ``[n, d]`` float32.
        k: clusters; as many as there are distinct rows where those are fewer.
        engine: ``auto`` takes FAISS where it is installed. Both start from the same centres, and give the same codes
            but for rows that are as near to two centres to the precision of float32.

    Raises:
        BenchError: FAISS is asked for and not installed.
    """
    k = min(k, distinct(vectors))
    if len(vectors) > AT_ONCE:
        return _in_batches(vectors, k, seed, iterations)
    if uses_faiss(engine):
        return _faiss(vectors, k, seed, iterations)
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rows that differ in their last bits alone
        found = KMeans(k, n_init=1, max_iter=iterations, random_state=seed % 2**32).fit(vectors)
    return Clusters(found.labels_.astype(np.int32), found.cluster_centers_.astype(np.float32))


def uses_faiss(engine: Engine) -> bool:
    """Whether an engine is FAISS here.

    Raises:
        BenchError: FAISS is asked for and not installed.
    """
    there = importlib.util.find_spec("faiss") is not None
    if engine == "faiss" and not there:
        raise BenchError("tokenizer.engine = faiss needs the extra: pip install 'genrec-bench[faiss]'")
    return there and engine != "sklearn"


def _faiss(vectors: np.ndarray, k: int, seed: int, iterations: int) -> Clusters:
    """Lloyd's steps with FAISS's search, from scikit-learn's first centres, until no row moves."""
    import faiss
    from sklearn.cluster import kmeans_plusplus

    mean = vectors.mean(axis=0)
    rows = np.ascontiguousarray(vectors - mean, dtype=np.float32)
    centres, _ = kmeans_plusplus(rows, k, random_state=seed % 2**32)
    codes = np.full(len(rows), -1)
    for _ in range(iterations):
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(np.ascontiguousarray(centres, dtype=np.float32))
        distances, found = index.search(rows, 1)
        before, codes = codes, found[:, 0]
        if np.array_equal(before, codes):
            break
        centres = means(rows, codes, k, distances[:, 0])
    return Clusters(codes.astype(np.int32), (centres + mean).astype(np.float32))


def means(rows: np.ndarray, codes: np.ndarray, k: int, far: np.ndarray) -> np.ndarray:
    """The mean of each cluster's rows ``[k, d]``; an empty cluster takes one of the rows that are farthest (`far`)."""
    sums = np.zeros((k, rows.shape[1]), dtype=np.float64)
    np.add.at(sums, codes, rows)
    counts = np.bincount(codes, minlength=k)
    empty = np.flatnonzero(counts == 0)
    sums[empty] = rows[np.argsort(-far, kind="stable")[: len(empty)]]
    return sums / np.maximum(counts, 1)[:, None]


def _in_batches(vectors: np.ndarray, k: int, seed: int, iterations: int) -> Clusters:
    from sklearn.cluster import MiniBatchKMeans

    found = MiniBatchKMeans(
        k, n_init=1, max_iter=max(1, iterations // 10), batch_size=BATCH, random_state=seed % 2**32,
        compute_labels=False, init_size=max(3 * k, 2**15),
    ).fit(vectors)  # fmt: skip
    centres = found.cluster_centers_.astype(np.float32)
    return Clusters(nearest(vectors, centres), centres)


def nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre of each row ``[n]`` int32."""
    codes = np.empty(len(vectors), dtype=np.int32)
    step = max(1, PIECE // len(centres))
    half = (centres.astype(np.float32) ** 2).sum(axis=1) / 2
    for start in range(0, len(vectors), step):
        piece = vectors[start : start + step]
        codes[start : start + step] = (half - piece @ centres.T).argmin(axis=1)
    return codes


def squared_distances(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """``[n, k]`` float64, never below 0."""
    rows, centres = vectors.astype(np.float64), centres.astype(np.float64)
    found = (rows**2).sum(axis=1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(found, 0.0))


def distinct(vectors: np.ndarray) -> int:
    """How many different rows there are."""
    rows = np.ascontiguousarray(vectors + 0.0)  # -0 is 0
    return len(np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))))
