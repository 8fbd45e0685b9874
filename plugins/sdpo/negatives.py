"""Negatives of S-DPO: SIDs that are not the target's, by chance, by popularity, or the SFT model's own best guesses."""

from __future__ import annotations

from typing import Literal

import numpy as np

Kind = Literal["uniform", "popularity", "hard"]


def drawn(targets: np.ndarray, n: int, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distinct negatives ``[samples, n]`` of targets ``[samples]``, drawn by `weights` ``[n_sids]``.

    Gumbel keys make a draw without replacement a sort (Vieira 2014): the n largest of log w + Gumbel noise, the
    target's own left out.
    """
    chosen = np.empty((len(targets), n), dtype=np.int64)
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
    step = max(1, 2**24 // len(weights))
    for start in range(0, len(targets), step):
        part = targets[start : start + step]
        keys = logs - np.log(-np.log(rng.random((len(part), len(weights)))))
        keys[np.arange(len(part)), part] = -np.inf
        best = np.argpartition(-keys, n - 1, axis=1)[:, :n]
        order = np.argsort(-np.take_along_axis(keys, best, axis=1), axis=1, kind="stable")
        chosen[start : start + step] = np.take_along_axis(best, order, axis=1)
    return chosen


def hard(targets: np.ndarray, guesses: np.ndarray, n: int) -> np.ndarray:
    """The first n of each sample's guesses ``[samples, more than n]``, best first, that are not its target."""
    other = guesses != targets[:, None]
    front = np.argsort(~other, axis=1, kind="stable")[:, :n]
    return np.take_along_axis(guesses, front, axis=1)
