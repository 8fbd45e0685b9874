"""Training rows: token ids with the labels that are learned, and how a batch of them is padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from harness.networks.batches import NOBODY

IGNORED = -100
"""The label of a token without loss."""


@dataclass(frozen=True)
class Row:
    """One training sequence: token ids and, position by position, the label or :data:`IGNORED`.

    Attributes:
        cut: whether its beginning did not fit.
    """

    tokens: list[int]
    labels: list[int]
    cut: bool = False


class Rows(torch.utils.data.Dataset):
    """Training sequences as a torch dataset, some of which may be drawn anew each epoch."""

    def __init__(self, rows: Sequence[Row], drawn: Drawn | None = None):
        """`rows` stay what they are; those of `drawn` stand behind them."""
        self.rows, self.drawn, self.epoch = rows, drawn, 0

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.tokens) for row in self.rows] + (self.drawn.lengths if self.drawn else [])

    @property
    def cut(self) -> int:
        """How many rows lost their beginning; of those drawn anew it is not known before they are drawn."""
        return sum(row.cut for row in self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows) + (len(self.drawn.lengths) if self.drawn else 0)

    def __getitem__(self, index: int) -> Row:
        if index == NOBODY:  # a row like any other, of which nothing is learned
            row = self[0]
            return Row(row.tokens, [IGNORED] * len(row.tokens))
        if index < len(self.rows) or self.drawn is None:
            return self.rows[index]
        return self.drawn.row(index - len(self.rows), self.epoch)


class Drawn(Protocol):
    """Rows that differ from epoch to epoch: a function of their number and the epoch, so that a resume repeats them."""

    lengths: list[int]

    def row(self, index: int, epoch: int) -> Row:
        """Row `index` in that epoch, of the same length in each."""
        ...


def collate(rows: Sequence[Row], pad: int) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``labels`` ``[batch, longest]``, padded on the right.

    Under a causal mask no real token sees padding to its right, so no attention mask is needed.
    """
    longest = max(len(row.tokens) for row in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.tokens)] = torch.as_tensor(row.tokens)
        labels[i, : len(row.labels)] = torch.as_tensor(row.labels)
    return {"input_ids": ids, "labels": labels}
