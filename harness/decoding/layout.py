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


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position ids ``[batch, P]`` of left-padded prompts: real tokens count from 0."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)
