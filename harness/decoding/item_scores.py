"""Item scores on one scale, and as a distribution over what is decoded."""

from __future__ import annotations

import numpy as np


def group_probabilities(scores: np.ndarray, group: np.ndarray, n_groups: int, temperature: float = 1.0) -> np.ndarray:
    """Item scores ``[n, n_items]`` → probabilities of what is decoded ``[n, n_groups]`` (float64): items', summed.

    Args:
        group: ``[n_items]`` each item's SID or title; items with -1 cannot be decoded, and the others share their mass.
        temperature: divides the scores.
    """
    odds = np.exp((scores - scores.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
    sums = np.zeros((n_groups, len(scores)))
    known = group >= 0
    np.add.at(sums, group[known], odds.T[known])
    return np.ascontiguousarray(sums.T / np.maximum(sums.sum(axis=0)[:, None], 1e-300))


def share_of_best(scores: np.ndarray) -> np.ndarray:
    """Scores ``[n, n_items]`` on one scale, the best of a row at 1: over it, or in a row below 0 by a softmax."""
    best = scores.max(axis=1, keepdims=True)
    found: np.ndarray = scores / np.maximum(best, 1e-12)
    below = scores.min(axis=1) < 0
    if below.any():
        found[below] = np.exp(scores[below] - best[below])
    return found
