"""The order and grouping of rows of unlike length: batches that waste no padding and repeat from seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

NOBODY = -1
"""The number of no row."""


class LengthBuckets(torch.utils.data.Sampler):
    """A shuffle that puts rows of like length into one batch; a function of seed and epoch alone.

    So a resumed epoch has the order of the interrupted one.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, bucket: int = 32):
        self.lengths, self.batch, self.seed, self.bucket = np.asarray(lengths), batch, seed, bucket
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        size = self.batch * self.bucket
        groups: list[np.ndarray] = []
        for start in range(0, len(order), size):
            part = order[start : start + size]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            groups.extend(part[i : i + self.batch] for i in range(0, len(part), self.batch))
        full = [g for g in groups if len(g) == self.batch]
        rest = [g for g in groups if len(g) < self.batch]
        for i in rng.permutation(len(full)):
            yield from full[i].tolist()
        for group in rest:
            yield from group.tolist()


class Shares(torch.utils.data.Sampler):
    """One process's rows of another sampler's order, every so-many-th of each batch of all; :data:`NOBODY` for none."""

    def __init__(self, whole: Any, batch: int, rank: int, size: int, followers: Sequence[Any] = ()):
        """`batch` rows of each process; `followers` hear of each epoch too: rows that are drawn anew in it."""
        self.whole, self.batch, self.rank, self.size = whole, batch * size, rank, size
        self.followers = followers

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop at the start of each epoch."""
        for one in (self.whole, *self.followers):
            one.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.whole), self.batch)
        return whole * (self.batch // self.size) + (max(1, len(range(self.rank, rest, self.size))) if rest else 0)

    def __iter__(self) -> Iterator[int]:
        order = list(self.whole)
        for start in range(0, len(order), self.batch):
            yield from order[start : start + self.batch][self.rank :: self.size] or [NOBODY]
