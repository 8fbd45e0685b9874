"""Lists of unequal length, one after another in one array, and who of a catalogue stands in none."""

from __future__ import annotations

import numpy as np


def taken(starts: np.ndarray, values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some of the lists, in that order: where each begins ``[m + 1]``, and their values.

    Args:
        starts: ``[n + 1]`` where each list begins in `values`.
        rows: numbers of lists, or booleans.
    """
    rows = np.arange(len(starts) - 1)[rows]
    sizes = np.diff(starts)[rows]
    begin = np.r_[0, np.cumsum(sizes)]
    inside = np.arange(begin[-1]) - np.repeat(begin[:-1], sizes)
    return begin, values[np.repeat(starts[rows], sizes) + inside]


def others(kept: np.ndarray, catalogue: int) -> np.ndarray:
    """Who of a catalogue is not among ids ``[n, k]`` (-1 is nobody): booleans ``[n, catalogue]``."""
    open_ = np.ones((len(kept), catalogue + 1), dtype=bool)
    np.put_along_axis(open_, np.where(kept < 0, catalogue, kept), False, axis=1)
    return open_[:, :catalogue]
