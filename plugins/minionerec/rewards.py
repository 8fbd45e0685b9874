"""Rewards of a group of completions, as MiniOneRec defines them (arXiv 2510.24431, §3.3 and its code).

A group is the completions of one prompt in the order of their rank. Nothing here looks anything up:
the target comes with the sample.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.errors import unknown

Reward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``reward(codes [batch, G, levels], target [batch, levels])`` → rewards ``[batch, G]``."""


def hits(codes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Which completions are the target, ``[batch, G]`` booleans."""
    return (codes == target[:, None]).all(-1)


def rule(codes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 for the target, 0 for all else."""
    return hits(codes, target).float()


def ranking_only(codes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """In a group with the target, a miss at rank i (from 0) gets −w_i; all else gets 0.

    w_i = (1 / log2(i + 2)) / Σ_j 1 / log2(j + 2): the better ranked a miss, the more it costs.
    """
    hit = hits(codes, target)
    discount = 1 / torch.log2(torch.arange(codes.shape[1], device=codes.device) + 2.0)
    penalty = -(discount / discount.sum())
    return torch.where(hit.any(1, keepdim=True) & ~hit, penalty, 0.0)


def ranking(codes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """``rule`` + ``ranking_only``, the paper's default."""
    return rule(codes, target) + ranking_only(codes, target)


def position(codes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The number of leading levels that match, 0 to n_levels."""
    return (codes == target[:, None]).long().cumprod(-1).sum(-1).float()


REWARDS: dict[str, Reward] = {
    "rule": rule,
    "ranking": ranking,
    "ranking_only": ranking_only,
    "position": position,
}


def weighted(weights: dict[str, float]) -> Reward:
    """The weighted sum of named rewards.

    Raises:
        BenchError: an unknown name, with the nearest ones.
    """
    for name in weights:
        if name not in REWARDS:
            raise unknown("reward", name, REWARDS, "(--set grpo.rewards=…)")

    def total(codes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        parts = [weight * REWARDS[name](codes, target) for name, weight in weights.items()]
        return torch.stack(parts).sum(0)

    return total


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """(r − mean) / (std + 1e-4) within each group ``[batch, G]``, the standard deviation unbiased."""
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + 1e-4)
