"""The loss of S-DPO: a softmax over one preferred answer and its negatives."""

from __future__ import annotations

import torch
from torch.nn import functional


def sdpo_loss(log_probs: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """Loss of each sample ``[batch]`` (arXiv 2406.09215, eq. 8).

    With r = log π(y|x) − log π_ref(y|x), −log σ(−log Σ_l exp(β(r_l − r_w))) over the negatives l is the cross-entropy
    of softmax(β·r) at the preferred answer w: that form does not overflow. With one negative it is DPO's loss.

    Args:
        log_probs: ``[batch, 1 + negatives]`` of whole answers under the policy, the preferred one first.
        reference: the same under the reference model.
    """
    rewards = beta * (log_probs - reference)
    return functional.cross_entropy(
        rewards, torch.zeros(len(rewards), dtype=torch.long, device=rewards.device), reduction="none"
    )
