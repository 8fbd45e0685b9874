"""How a mass over a trie's leaves is shared among the children of each node.

A node's leaves lie side by side in the trie's order, so its mass is a difference of a running sum: what scores whole
SIDs or titles says by it something of each next token, inside the constrained softmax.
"""

from __future__ import annotations

import torch

from harness.decoding.trie import Level, Trie

LEAST = 1e-20
"""Added to each mass before its logarithm (D3's code)."""


class Shares:
    """Of some prompts, a distribution over the leaves each."""

    def __init__(self, trie: Trie, masses: torch.Tensor):
        """`masses` are of the rows that the trie was built from ``[batch, n_sids]``, float64, none below 0."""
        self.trie = trie
        self.sums = torch.nn.functional.pad(masses[:, trie.leaves].cumsum(1), (1, 0))  # [batch, n_sids + 1]

    def log(self, step: int, nodes: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        """The logarithm of each child's share of its node's mass, as `entries`, float32.

        Args:
            step: the level that is decoded.
            nodes: ``[batch, n]`` of the level above.
            entries: ``[batch, n, width]`` children, as :meth:`Level.entry` names them.
        """
        child = self._mass(self.trie.levels[step], entries)
        parent = self.sums[:, -1:] if step == 0 else self._mass(self.trie.levels[step - 1], nodes)
        return ((child + LEAST).log() - (parent + LEAST).log()[..., None]).float()

    def _mass(self, level: Level, entries: torch.Tensor) -> torch.Tensor:
        return level.under(self.sums, entries).clamp(min=0)
