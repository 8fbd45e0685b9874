"""Users' purchases in order of time, and which split each is a target of."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import numpy as np

from harness.data.dataset import places_of_ids
from harness.errors import BenchError
from harness.preparation.asked import Preparation, moment

FIRST, TRAIN, VALID, TEST = range(4)
"""What a purchase is: the first of its user (a target of nothing), or a target of a split."""


def order(users: np.ndarray, items: np.ndarray, names: list[str], times: np.ndarray, made: Preparation) -> np.ndarray:
    """The order ``[n]`` by user, time, and the rule for equal times.

    Args:
        users, items: ``[n]`` numbers, in the order of the file.
        names: of the items, as the source calls them.
    """
    n = len(users)
    if made.ties == "file":
        tie = np.arange(n)
    elif made.ties == "item":
        tie = places_of_ids(names)[items]
    else:
        tie = np.random.default_rng(made.seed).permutation(n)
    return np.lexsort((np.arange(n), tie, times, users))


def roles(users: np.ndarray, times: np.ndarray, made: Preparation, left_out: Counter[str]) -> np.ndarray:
    """What each purchase is ``[n]``, of purchases in order (:func:`order`).

    Raises:
        BenchError: a split would be empty.
    """
    starts = np.r_[True, users[1:] != users[:-1]] if len(users) else np.zeros(0, bool)
    sizes = np.diff(np.r_[np.flatnonzero(starts), len(users)])
    role = np.full(len(users), TRAIN, dtype=np.int8)
    role[starts] = FIRST
    targets = np.flatnonzero(~starts)
    if made.split == "leave-one-out":
        last = np.cumsum(sizes) - 1
        role[last[sizes >= 3]] = TEST
        role[last[sizes >= 3] - 1] = VALID
    elif made.split == "time":
        chronological = targets[np.argsort(times[targets], kind="stable")]
        n = len(targets)
        test, valid = _count(made.test, n), _count(made.valid, n)
        if made.valid < 1 and made.test < 1:  # as published: cut at int(0.8 n) and int(0.9 n)
            second = int((1 - Decimal(str(made.test))) * n)
            first = int((1 - Decimal(str(made.test)) - Decimal(str(made.valid))) * n)
        else:
            first, second = n - test - valid, n - test
        role[chronological[max(first, 0) : second]] = VALID
        role[chronological[max(second, 0) :]] = TEST
    else:
        bounds = [moment(getattr(made, name), name) for name in ("valid_from", "test_from")]
        assert bounds[0] is not None
        assert bounds[1] is not None
        if bounds[0] >= bounds[1]:
            raise BenchError(
                f"prepare.valid_from = {made.valid_from} is not before prepare.test_from = {made.test_from}"
            )
        role[targets] = TRAIN + np.searchsorted(np.asarray(bounds), times[targets], side="right").astype(np.int8)
    lonely = int((sizes == 1).sum())
    if lonely:
        left_out["users without a sample: fewer than 2 items"] += lonely
    if made.split == "leave-one-out":
        for size, what in ((2, "users without a valid and test sample: fewer than 3 items"),
                           (3, "users without a train sample: fewer than 4 items")):  # fmt: skip
            if number := int((sizes == size).sum()):
                left_out[what] += number
    for split, name in ((TRAIN, "train"), (VALID, "valid"), (TEST, "test")):
        if not (role == split).any():
            raise BenchError(
                f"the {name} split would be empty: {len(sizes):,} users with {len(users):,} purchases are left "
                f"(split {made.split}); loosen the filters or choose another split"
            )
    return role


def _count(share: float, n: int) -> int:
    return int(share) if share >= 1 else int(Decimal(str(share)) * n)
