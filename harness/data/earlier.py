"""What a user bought before each sample: all of it, not only what the cut history shows.

Under ``protocol.seen: drop`` none of it may be recommended; decoders find it as ``histories.bought``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.data.dataset import Bought, Dataset, Samples
from harness.errors import BenchError


def under(dataset: Dataset, protocol: Mapping[str, Any]) -> Dataset:
    """The dataset as a protocol's settings have it: under ``seen: drop`` histories say what was bought before."""
    drop = protocol.get("seen") == "drop" and dataset.test.histories.bought is None
    return without_bought(dataset) if drop else dataset


def without_bought(dataset: Dataset) -> Dataset:
    """The dataset with valid and test histories that say what was bought before, for decoders to leave out."""
    known: dict[str, set[int]] = {}
    _add(known, dataset.train)
    valid = with_bought(dataset.valid, known)
    _add(known, dataset.valid)
    return replace(dataset, valid=valid, test=with_bought(dataset.test, known))


def _add(known: dict[str, set[int]], samples: Samples) -> None:
    """Add all items of samples, histories and targets, to those of their users."""
    for user, history, target in samples.each():
        known.setdefault(user, set()).update(history, (target,))


def with_bought(samples: Samples, known: Mapping[str, set[int]]) -> Samples:
    """Samples of a split, each with what its user bought in the splits before, in its own history, and between them."""
    rows_of: dict[str, list[int]] = {}
    for row, user in enumerate(samples.users.tolist()):
        rows_of.setdefault(user, []).append(row)
    histories = [tuple(history) for history in samples.histories.lists()]
    targets = samples.targets.tolist()
    found: list[set[int]] = [set()] * len(samples)
    for user, rows in rows_of.items():
        bought = set(known.get(user, ()))
        for row in _in_time(user, rows, histories, targets, samples):
            bought |= set(histories[row])
            found[row] = set(bought)
            bought.add(targets[row])
    each = [np.array(sorted(items), dtype=np.int32) for items in found]
    starts = np.r_[0, np.cumsum([len(items) for items in each])].astype(np.int64)
    items = np.concatenate(each) if each else np.zeros(0, np.int32)
    return replace(samples, histories=replace(samples.histories, bought=Bought(starts, items)))


def _in_time(
    user: str, rows: list[int], histories: list[tuple[int, ...]], targets: list[int], samples: Samples
) -> list[int]:
    """The samples of one user, oldest first.

    Each sample's history is that of the one before it, its target added, and cut: where that says one order alone, the
    order is free of the file's. Where it does not (short windows, purchases that recur), the file's order is taken.

    Raises:
        BenchError: it says none, and the file's order is not known.
    """
    if len(rows) == 1:
        return rows
    longest = int(samples.histories.lengths.max())
    after: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        after.setdefault((*histories[row], targets[row])[-longest:], []).append(row)
    before = {row: [other for other in after.get(histories[row], []) if other != row] for row in rows}
    first = [row for row in rows if not before[row]]
    if len(first) == 1 and all(len(others) <= 1 for others in before.values()):
        chain = _chain(first[0], before)
        if len(chain) == len(rows):
            return chain
    if samples.rows is None:
        raise BenchError(
            f"protocol.seen=drop: in which order user {user!r:.60} bought does not follow from the histories, and the "
            "reader does not say; let it give the samples of a user in order of time, with their rows"
        )
    place = samples.rows
    return sorted(rows, key=lambda row: int(place[row]))


def _chain(first: int, before: dict[int, list[int]]) -> list[int]:
    following = {others[0]: row for row, others in before.items() if others}
    chain, row = [first], following.get(first)
    while row is not None and row not in chain:
        chain.append(row)
        row = following.get(row)
    return chain
