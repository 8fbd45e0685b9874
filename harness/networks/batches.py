"""The order and grouping of rows of unlike length: batches that waste no padding and repeat from seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch


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
