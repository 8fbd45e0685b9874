"""Train in folds of users, so that what scores a sample was fitted without its user."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.data.dataset import Dataset


def crossed(dataset: Dataset, folds: int, rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each fold of train's users: the train rows to fit on, and those of the fold that were drawn to be scored.

    Args:
        rows: how many train rows are drawn in all; 0: all.
    """
    train = dataset.train
    of_row = (np.random.default_rng(seed).permutation(dataset.n_users) % folds)[train.user_numbers]
    drawn = np.zeros(len(train), dtype=bool)
    drawn[np.random.default_rng([seed, 1]).permutation(len(train))[: rows or None]] = True
    for number in range(folds):
        yield np.flatnonzero(of_row != number), np.flatnonzero((of_row == number) & drawn)
