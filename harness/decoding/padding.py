"""How prompts and their continuations lie in one row: padding on the left, masks, positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def pad_left(
    prompts: Sequence[Sequence[int]], pad: int, device: str | torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids ``[batch, longest]`` padded on the left, and the boolean mask of real tokens."""
    longest = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), longest), dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.as_tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt) :] = True
    return ids.to(device), mask.to(device)


def causal(mask: torch.Tensor) -> torch.Tensor:
    """The causal mask ``[batch, P, P]`` of left-padded prompts ``[batch, P]``; padding sees itself only."""
    length = mask.shape[1]
    lower = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    own = torch.eye(length, dtype=torch.bool, device=mask.device)
    return (lower & mask[:, None, :]) | own


def pick(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows ``[batch, chosen, n]`` of ``[batch, beams, n]`` at `places` ``[batch, chosen]``."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))


def open_places(closed: torch.Tensor) -> torch.Tensor:
    """Places ``[batch, most]`` of the beams that are not `closed` ``[batch, beams]``, in order.

    Rows with fewer are filled with closed ones.
    """
    most = int((~closed).sum(1).max())
    return closed.to(torch.uint8).argsort(dim=1, stable=True)[:, :most].sort(dim=1).values


def feed(lineage: torch.Tensor, fed: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The beams at places `fed` ``[batch, n]`` take one more token each.

    Args:
        lineage: ``[batch, beams, tokens fed so far]``, which of them are a beam's own.
        mask: ``[batch, P]``, the places of the prompt that are seen.

    Returns:
        The lineage with the new tokens, and their mask ``[batch, n, P + tokens fed]``.
    """
    batch, beams, _ = lineage.shape
    own = torch.zeros(batch, beams, fed.shape[1], dtype=torch.bool, device=lineage.device)
    lineage = torch.cat([lineage, own.scatter_(1, fed[:, None], True)], dim=2)
    seen = lineage if fed.shape[1] == beams else pick(lineage, fed)
    return lineage, torch.cat([mask[:, None].expand(-1, fed.shape[1], -1), seen], dim=2)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position ids ``[batch, P]`` of left-padded prompts: real tokens count from 0."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)
