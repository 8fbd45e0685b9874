"""The slow, right path: one row a beam, through the model's own cache, for models that cannot read a tree.

Recurrent layers carry one row's state on, ALiBi counts the places of a cache, windows crop it: all of that is right
for plain rows. So prompts are computed in groups of one length, without padding, and a beam's tokens are fed to a copy
of its prompt's cache one by one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from harness.decoding.prefill import Body, Prefill


@dataclass
class _Group:
    """Prompts of one length: their rows of the batch ``[n]``, and the model's cache behind them."""

    rows: torch.Tensor
    cache: Any


@dataclass
class RowCache:
    """What steps need of a batch.

    Attributes:
        groups: the prompts, by length.
        width: the columns of the prompts' mask.
        fed: ``[batch, tokens fed so far]``, whatever beam they are of.
    """

    groups: list[_Group]
    width: int
    fed: torch.Tensor

    def crop(self, length: int) -> None:
        """Take the last ``-length`` fed tokens out again."""
        self.fed = self.fed[:, :length]

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep those rows of the batch ``[kept]``, in that order."""
        groups = []
        for group in self.groups:
            new = torch.isin(indices, group.rows).nonzero()[:, 0]
            if len(new):
                old = (group.rows[None] == indices[new, None]).long().argmax(1)
                groups.append(_Group(new, selected(group.cache, old, len(group.rows))))
        self.groups, self.fed = groups, self.fed[indices]


def prefill(lm: Body, ids: torch.Tensor, mask: torch.Tensor) -> Prefill:
    """Compute prompts ``[batch, P]``, left-padded, as plain rows."""
    lengths = mask.sum(1)
    groups, states = [], None
    for length in torch.unique(lengths).tolist():
        rows = (lengths == length).nonzero()[:, 0]
        after, cache = lm.forward(ids[rows, ids.shape[1] - length :])
        if states is None:
            states = after.new_zeros(len(ids), after.shape[2])
        states[rows] = after[:, -1]
        groups.append(_Group(rows, cache))
    assert states is not None  # a batch has a prompt
    return Prefill(RowCache(groups, ids.shape[1], ids[:, :0]), mask, states)


def step(lm: Body, ids: torch.Tensor, attention: torch.Tensor, cache: RowCache) -> torch.Tensor:
    """States ``[batch, q, d]`` of tokens ``[batch, q]``, each after those that its mask ``[batch, q, keys]`` shows."""
    cache.fed = torch.cat([cache.fed, ids], dim=1)
    lineage = attention[:, :, cache.width :]
    depth = lineage.sum(2)  # [batch, q] tokens of each beam, its own included
    states = None
    for group in cache.groups:
        for length in torch.unique(depth[group.rows]).tolist():
            place, beam = (depth[group.rows] == length).nonzero(as_tuple=True)
            row = group.rows[place]
            own = lineage[row, beam].nonzero()[:, 1].view(-1, length)  # ascending: the beam's path
            tokens = cache.fed[row].gather(1, own)
            behind = selected(group.cache, place, len(group.rows))
            for number in range(length):
                after, behind = lm.forward(tokens[:, number : number + 1], behind)
            if states is None:
                states = after.new_zeros(*ids.shape, after.shape[2])
            states[row, beam] = after[:, -1]
    assert states is not None  # there is a token
    return states


def plain_states(
    lm: Body, ids: torch.Tensor, mask: torch.Tensor, completions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`harness.decoding.shared_prompt.completion_states`, each completion a row of its own, with gradients."""
    batch, group, length = completions.shape
    lengths = mask.sum(1)
    longest = int(lengths.max()) + length - 1
    rows = ids.new_zeros(batch, group, longest)
    for number, n in enumerate(lengths.tolist()):  # padding stands to the right, where no token sees it
        rows[number, :, :n] = ids[number, ids.shape[1] - n :]
        rows[number, :, n : n + length - 1] = completions[number, :, :-1]
    found = lm.states(rows.flatten(0, 1)).unflatten(0, (batch, group))
    places = (lengths[:, None] - 1 + torch.arange(length, device=ids.device))[:, None, :, None]  # [batch, 1, T, 1]
    states = found.gather(2, places.expand(-1, group, -1, found.shape[3]))
    return states[:, 0, 0], states[:, :, 1:]


def selected(cache: Any, rows: torch.Tensor, size: int) -> Any:
    """A copy of a model's cache of `size` rows with the given ones, in that order; the cache stays as it is."""
    if isinstance(cache, torch.Tensor):
        return cache[rows] if cache.dim() and cache.shape[0] == size else cache.clone()
    if isinstance(cache, dict):
        return {name: selected(value, rows, size) for name, value in cache.items()}
    if isinstance(cache, (list, tuple)):
        return type(cache)(selected(value, rows, size) for value in cache)
    if hasattr(cache, "__dict__"):
        copied = copy.copy(cache)
        copied.__dict__ = {name: selected(value, rows, size) for name, value in vars(cache).items()}
        return copied
    return cache
