"""What a user bought before each sample: all of it, not only what the cut history shows.

Under ``protocol.seen: drop`` none of it may be recommended; decoders find it as ``histories.bought``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.data.dataset import Bought, Dataset, Samples


def under(dataset: Dataset, protocol: Mapping[str, Any]) -> Dataset:
    """The dataset as a protocol's settings have it: under ``seen: drop`` histories say what was bought before."""
    drop = protocol.get("seen") == "drop" and dataset.test.histories.bought is None
    return without_bought(dataset) if drop else dataset


def without_bought(dataset: Dataset) -> Dataset:
    """The dataset with valid and test histories that say what was bought before, for decoders to leave out."""
    known: dict[str, set[int]] = {}
    _add(known, dataset.train)
    valid = _with(dataset.valid, known)
    _add(known, dataset.valid)
    return replace(dataset, valid=valid, test=_with(dataset.test, known))


def _add(known: dict[str, set[int]], samples: Samples) -> None:
    """Add all items of samples, histories and targets, to those of their users."""
    rows = zip(samples.users.tolist(), samples.histories.lists(), samples.targets.tolist(), strict=True)
    for user, history, target in rows:
        known.setdefault(user, set()).update(history, (target,))


def _with(samples: Samples, known: dict[str, set[int]]) -> Samples:
    """Samples of a split, each with what its user bought in the splits before, in its own history, and between them."""
    longest = samples.histories.items.shape[1]
    histories = [tuple(history) for history in samples.histories.lists()]
    follow: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    users, targets = samples.users.tolist(), samples.targets.tolist()
    for row, history in enumerate(histories):
        follow.setdefault((users[row], (*history, targets[row])[-longest:]), []).append(row)
    before: dict[int, set[int]] = {}

    def bought(row: int) -> set[int]:
        """Along the samples that lead to this one: each has one purchase more, and its window is one further."""
        trail: list[int] = []
        at: int | None = row
        while at is not None and at not in before and at not in trail:
            trail.append(at)
            earlier = follow.get((users[at], histories[at]), [])
            at = next((one for one in earlier if len(histories[one]) <= len(histories[at])), None)
        found = set(before[at]) if at is not None and at in before else set(known.get(users[row], ()))
        for one in reversed(trail):
            found |= set(histories[one])
            before[one] = set(found)
        return before[row]

    each = [np.array(sorted(bought(row)), dtype=np.int32) for row in range(len(samples))]
    starts = np.r_[0, np.cumsum([len(items) for items in each])].astype(np.int64)
    items = np.concatenate(each) if each else np.zeros(0, np.int32)
    return replace(samples, histories=replace(samples.histories, bought=Bought(starts, items)))
