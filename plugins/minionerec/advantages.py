"""From rewards to advantages: within a group, and among siblings of the SID tree."""

from __future__ import annotations

import torch

EPSILON = 1e-4


def group_advantages(rewards: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """(r − mean) / (std + 1e-4) within each group ``[prompts, G]``, the standard deviation unbiased.

    A group of equal rewards has exactly 0 throughout, whatever its mean rounds to. With importance weights of the same
    shape mean and standard deviation are weighted, and so is the advantage; a group's weights count by their shares.
    """
    if weights is not None:
        share = weights / weights.sum(1, keepdim=True)
        return expected_advantages(rewards, share)[0] * share * rewards.shape[1]
    centred = rewards - rewards.mean(1, keepdim=True)
    return torch.where(_equal(rewards), 0.0, centred / (rewards.std(1, keepdim=True) + EPSILON))


def expected_advantages(rewards: torch.Tensor, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(r − mean) / (std + 1e-4) of rewards ``[prompts, n]`` under probabilities, and std ``[prompts]``."""
    centred = rewards - (probabilities * rewards).sum(1, keepdim=True)
    spread = (probabilities * centred**2).sum(1, keepdim=True).sqrt()
    return torch.where(_equal(rewards), 0.0, centred / (spread + EPSILON)), spread[:, 0]


def sibling_advantages(rewards: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Sibling-GRPO: how a completion's branch does among the branches beside it, averaged over the levels.

    At each level the completions of a group that share a prefix are split by their next code. A branch's
    score is the mean reward of its completions; its advantage is that score, standardised over the
    distinct branches of the prefix (unbiased, + 1e-4), and 0 where the prefix has a single branch.

    Args:
        rewards: ``[prompts, G]``.
        codes: ``[prompts, G, levels]``.
    """
    levels = codes.shape[2]
    total = torch.zeros_like(rewards)
    for depth in range(levels):
        prefix = (codes[:, :, None, :depth] == codes[:, None, :, :depth]).all(-1)  # [prompts, G, G]
        branch = prefix & (codes[:, :, None, depth] == codes[:, None, :, depth])
        size = branch.sum(2).to(rewards.dtype)
        score = (branch * rewards[:, None]).sum(2) / size
        share = prefix / size[:, None]  # every branch of the prefix counts once
        branches = share.sum(2)
        mean = (share * score[:, None]).sum(2) / branches
        variance = (share * (score[:, None] - mean[:, :, None]) ** 2).sum(2) / (branches - 1).clamp(min=1e-9)
        split = branches > 1.5  # two or more, whatever the rounding
        total += torch.where(split, (score - mean) / (variance.sqrt() + EPSILON), 0.0)
    return torch.where(_equal(rewards), 0.0, total / levels)


def _equal(rewards: torch.Tensor) -> torch.Tensor:
    """Which groups ``[prompts, 1]`` have one reward throughout."""
    return (rewards == rewards[:, :1]).all(1, keepdim=True)
