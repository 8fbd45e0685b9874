"""The catalogue's SIDs as a trie in tensors (compressed sparse rows), one step a level.

A step costs O(beams × children): it gathers each beam's slice of sorted children. It knows token
ids, and which row of the SID table a leaf is; it knows nothing of items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from harness.errors import BenchError


@dataclass(frozen=True)
class Level:
    """The children of all nodes of one depth.

    Attributes:
        starts: ``[nodes + 1]``: node n's children are entries ``starts[n]`` to ``starts[n + 1]``.
        tokens: ``[children]`` token ids, ascending within a node; an entry is the child's node number.
        width: the most children of one node.
    """

    starts: torch.Tensor
    tokens: torch.Tensor
    width: int

    def children(self, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Children of nodes ``[...]``: node numbers, token ids and which exist, each ``[..., width]``."""
        begin, end = self.starts[nodes], self.starts[nodes + 1]
        entries = begin[..., None] + torch.arange(self.width, device=nodes.device)
        exists = entries < end[..., None]
        entries = entries.clamp(max=len(self.tokens) - 1)
        return entries, self.tokens[entries], exists


class Trie:
    """All SIDs of a catalogue, as sequences of token ids of one length."""

    def __init__(self, sequences: np.ndarray, device: str | torch.device = "cpu"):
        """Build from token ids ``[n_sids, n_levels]``, distinct rows in any order.

        Raises:
            BenchError: the table is empty, or two rows are equal.
        """
        if sequences.ndim != 2 or not sequences.size:
            raise BenchError("the catalogue has no SIDs; nothing can be decoded")
        order = np.lexsort(sequences.T[::-1])
        table = sequences[order]
        self.levels: list[Level] = []
        node_of = np.zeros(len(table), dtype=np.int64)  # each row's node at the current depth
        n_nodes = 1
        for level in range(table.shape[1]):
            new = np.r_[True, (np.diff(node_of) != 0) | (np.diff(table[:, level]) != 0)]
            first = np.flatnonzero(new)
            counts = np.bincount(node_of[first], minlength=n_nodes)
            starts = torch.from_numpy(np.r_[0, np.cumsum(counts)]).to(device)
            tokens = torch.from_numpy(table[first, level].astype(np.int64)).to(device)
            self.levels.append(Level(starts, tokens, int(counts.max())))
            node_of = np.cumsum(new) - 1
            n_nodes = len(first)
        if n_nodes != len(table):
            raise BenchError("two SIDs of the catalogue have the same tokens")
        self.leaves = torch.from_numpy(order.astype(np.int64)).to(device)
        """``[n_sids]``: the row of `sequences` that each leaf node is."""

    @property
    def depth(self) -> int:
        """The number of levels."""
        return len(self.levels)

    def __len__(self) -> int:
        return len(self.leaves)
