"""Segments of a split: which samples have a short history, a rare target, a repeat, a new user, a shared SID.

It knows samples and their train split, nothing of rankings or metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.dataset import Samples
from harness.data.semantic_ids import SemanticIds

LENGTHS = ((1, "1"), (2, "2"), (4, "3–4"), (9, "5–9"), (np.inf, "≥ 10"))
BOUGHT = "target's purchases in train"
PURCHASES = ((0, "0"), (5, "1–5"), (20, "6–20"), (100, "21–100"), (np.inf, "> 100"))


@dataclass(frozen=True)
class Segmentation:
    """One way to divide the samples.

    Attributes:
        name: what is told apart.
        labels: the segments.
        of_sample: ``[n]`` the segment of each sample, an index into `labels`.
    """

    name: str
    labels: tuple[str, ...]
    of_sample: np.ndarray


def segmentations(
    samples: Samples, train: Samples, n_items: int, semantic_ids: SemanticIds | None
) -> list[Segmentation]:
    """History length, target popularity, repeat, user, coldness and (with SIDs) collision of each sample."""
    purchases = bought(train, n_items)
    seen = purchases > 0
    seen[train.histories.items[train.histories.items >= 0]] = True
    repeat = (samples.histories.items == samples.targets[:, None]).any(axis=1)
    known = np.isin(samples.users, np.unique(train.users))
    divisions = [
        _binned("history length (items)", LENGTHS, samples.histories.lengths),
        _binned(BOUGHT, PURCHASES, purchases[samples.targets]),
        _either("target in history", repeat, "repeat", "new"),
        _either("user", known, "in train", "new"),
        _either("target", seen[samples.targets], "seen in train", "cold"),
    ]
    if semantic_ids is not None:
        shared = semantic_ids.group_sizes[semantic_ids.of_item[samples.targets]] > 1
        divisions.append(_either("target's SID", shared, "shared by items", "its own"))
    return divisions


def bought(train: Samples, n_items: int) -> np.ndarray:
    """How often each item was bought in train ``[n_items]``: as a target, and as a user's first purchase.

    A first purchase is no target; it is the one item of a history of length 1. Where histories are cut to one item all
    are of length 1: then it is what stands in one more history of the user than it is a target.
    """
    first = train.histories.items[train.histories.lengths == 1, 0]
    if train.histories.items.shape[1] == 1:
        users = train.user_numbers.astype(np.int64)
        before, counts = np.unique(users * n_items + train.histories.items[:, 0], return_counts=True)
        targets, again = np.unique(users * n_items + train.targets, return_counts=True)
        place = np.minimum(np.searchsorted(targets, before), len(targets) - 1)
        left = counts - np.where(targets[place] == before, again[place], 0)
        first = np.repeat(before % n_items, np.maximum(left, 0))
    return np.bincount(train.targets, minlength=n_items) + np.bincount(first, minlength=n_items)


def _binned(name: str, bins: tuple[tuple[float, str], ...], values: np.ndarray) -> Segmentation:
    return Segmentation(name, tuple(label for _, label in bins), np.searchsorted([top for top, _ in bins], values))


def _either(name: str, condition: np.ndarray, yes: str, no: str) -> Segmentation:
    return Segmentation(name, (yes, no), np.where(condition, 0, 1))
