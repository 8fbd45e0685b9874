"""The catalogue's SIDs as a trie in tensors, one step a level.

Children are stored in compressed sparse rows, so that memory grows with the items alone; where it is
small, a table of each node's children stands beside them (a level's ``table``), which saves a step
two gathers. A step costs O(beams × children) either way. It knows token ids, and which row of the
SID table a leaf is; it knows nothing of items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.errors import BenchError

DENSE_BYTES = 64 * 2**20
"""A level whose table of children takes at most this memory gets one."""


@dataclass(frozen=True)
class Level:
    """The children of all nodes of one depth.

    A child is known by its *entry*, which is also its node number one level down.

    Attributes:
        starts: ``[nodes + 1]``: node n's children are entries ``starts[n]`` to ``starts[n + 1]``.
        columns: ``[children]`` places in `vocabulary`, ascending within a node.
        vocabulary: ``[tokens]`` the distinct token ids of this level, ascending.
        alone: ``[children]`` whether a single leaf is under that child: its other tokens are forced.
        width: the most children of one node.
        table: ``[nodes, width]`` the columns of each node's children, or None above the memory limit.
        over: ``[children]`` whether a sequence has ended there: what follows is padding. None: all are of one length.
        first: ``[children + 1]`` where the leaves under each child begin, in the order of leaves.
    """

    starts: torch.Tensor
    columns: torch.Tensor
    vocabulary: torch.Tensor
    alone: torch.Tensor
    width: int
    table: torch.Tensor | None
    over: torch.Tensor | None = None
    first: torch.Tensor | None = None

    @property
    def tokens(self) -> torch.Tensor:
        """Token ids of all children ``[children]``."""
        return self.vocabulary[self.columns]

    def children(self, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Columns of the children of nodes ``[...]`` and which of them exist, both ``[..., width]``."""
        begin = self.starts[nodes][..., None]
        entries = begin + torch.arange(self.width, device=nodes.device)
        exists = entries < self.starts[nodes + 1][..., None]
        if self.table is not None:
            return self.table[nodes], exists
        return self.columns[entries.clamp_(max=len(self.columns) - 1)], exists

    def entry(self, nodes: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """The `offset`-th child of each node; where there is none, some child that is."""
        return (self.starts[nodes] + offset).clamp(max=len(self.columns) - 1)

    def under(self, sums: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        """What stands under children ``[batch, …]``, from running sums over the leaves ``[batch, leaves + 1]``."""
        assert self.first is not None
        begin, end = (sums.gather(1, self.first[entries + more].flatten(1)).view(entries.shape) for more in (0, 1))
        return end - begin

    def child(self, nodes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The child of each node ``[...]`` along a token id ``[...]``, -1 where the catalogue has none."""
        columns, exists = self.children(nodes)
        match = exists & (self.vocabulary[columns] == tokens[..., None])
        offset = match.long().argmax(-1)
        return torch.where(match.any(-1), self.entry(nodes, offset), -1)


class Trie:
    """All SIDs (or titles) of a catalogue, as sequences of token ids."""

    def __init__(
        self, sequences: np.ndarray, device: str | torch.device = "cpu", dense_bytes: int = DENSE_BYTES,
        end: int | None = None,
    ):  # fmt: skip
        """Build from token ids ``[n_sids, n_levels]``, distinct rows in any order.

        Args:
            dense_bytes: the largest table of children that a level may have beside its sparse rows.
            end: the token that ends a sequence and, repeated, fills it up; None: all are of one length.

        Raises:
            BenchError: the table is empty, or two rows are equal.
        """
        if sequences.ndim != 2 or not sequences.size:
            raise BenchError("the catalogue has no SIDs; nothing can be decoded")
        self.end = end
        order = np.lexsort(sequences.T[::-1])
        rows = sequences[order]
        self.levels: list[Level] = []
        node_of = np.zeros(len(rows), dtype=np.int64)  # each row's node at the current depth
        n_nodes = 1
        for level in range(rows.shape[1]):
            new = np.r_[True, (np.diff(node_of) != 0) | (np.diff(rows[:, level]) != 0)]
            first = np.flatnonzero(new)
            counts = np.bincount(node_of[first], minlength=n_nodes)
            vocabulary, columns = np.unique(rows[first, level], return_inverse=True)
            alone = np.diff(np.r_[first, len(rows)]) == 1
            made = _level(counts, columns, vocabulary, alone, device, dense_bytes)
            made = replace(made, first=torch.from_numpy(np.r_[first, len(rows)]).to(device))
            if end is not None:
                made = replace(made, over=torch.from_numpy(rows[first, level] == end).to(device))
            self.levels.append(made)
            node_of = np.cumsum(new) - 1
            n_nodes = len(first)
        if n_nodes != len(rows):
            raise BenchError("two SIDs of the catalogue have the same tokens")
        self.leaves = torch.from_numpy(order.astype(np.int64)).to(device)
        """``[n_sids]``: the row of `sequences` that each leaf node is."""

    @property
    def depth(self) -> int:
        """The number of levels."""
        return len(self.levels)

    def filler(self, sequences: torch.Tensor) -> torch.Tensor:
        """Which tokens of sequences ``[..., levels]`` stand behind the end of theirs: they say nothing."""
        return filler(sequences, self.end)

    @property
    def bytes(self) -> int:
        """Memory of all its tensors."""
        tensors = [self.leaves]
        for level in self.levels:
            tensors += [level.starts, level.columns, level.vocabulary, level.alone]
            tensors += [level.table] if level.table is not None else []
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def __len__(self) -> int:
        return len(self.leaves)

    def tokens(self, leaves: torch.Tensor) -> torch.Tensor:
        """Token ids ``[..., levels]`` on the way to leaf nodes ``[...]``."""
        columns, nodes = [], leaves
        for level in reversed(self.levels):
            columns.append(level.vocabulary[level.columns[nodes]])
            nodes = torch.searchsorted(level.starts, nodes.contiguous(), right=True) - 1
        return torch.stack(columns[::-1], dim=-1)


def filler(sequences: torch.Tensor, end: int | None) -> torch.Tensor:
    """Which tokens of sequences ``[..., levels]`` only fill them up behind the token of their `end`."""
    if end is None:
        return torch.zeros_like(sequences, dtype=torch.bool)
    ends = sequences == end
    return ends & (ends.cumsum(-1) > 1)


def _level(
    counts: np.ndarray, columns: np.ndarray, vocabulary: np.ndarray, alone: np.ndarray,
    device: str | torch.device, dense_bytes: int,
) -> Level:  # fmt: skip
    starts = np.r_[0, np.cumsum(counts)]
    width = int(counts.max())
    table = None
    if len(counts) * width * 8 <= dense_bytes:
        entries = (starts[:-1, None] + np.arange(width)).clip(max=len(columns) - 1)
        table = torch.from_numpy(columns.astype(np.int64)[entries]).to(device)
    return Level(
        torch.from_numpy(starts.astype(np.int64)).to(device),
        torch.from_numpy(columns.astype(np.int64)).to(device),
        torch.from_numpy(vocabulary.astype(np.int64)).to(device),
        torch.from_numpy(alone).to(device),
        width,
        table,
    )
