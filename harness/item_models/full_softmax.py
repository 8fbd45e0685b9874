"""Cross-entropy over a whole catalogue, its scores turned into their gradient where they stand.

The usual way keeps four tables of a batch times the catalogue: scores, log-probabilities, and a gradient of each. Here
a few rows at a time are scored, exponentiated in place and multiplied out at once, so that no such table is ever whole
and what is written is read again while it is near. The loss and its gradients are the usual ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

PIECE = 2**20
"""Scores that are held at once: 4 MiB in float32, which stays in the caches and is not given back to the system."""
LEAST_ROWS = 16
"""Rows of a piece at least: fewer leave the products to memory."""


def full_softmax(
    states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, bias: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    """The mean cross-entropy of ``states @ weight.T + bias`` (a scalar), as ``torch.nn.functional.cross_entropy``.

    Args:
        states: ``[batch, d]``, float32 or float64.
        weight: ``[n_items, d]``, of the same type.
        targets: item ids ``[batch]``.
        bias: ``[n_items]``.
        smoothing: label smoothing ε: the target has 1 − ε + ε/n of the weight, every other item ε/n.
    """
    loss: torch.Tensor = _FullSoftmax.apply(states, weight, targets, bias, smoothing)
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, bias: torch.Tensor | None,
        smoothing: float,
    ) -> torch.Tensor:  # fmt: skip
        (batch, _), n = states.shape, len(weight)
        of_states, of_weight, _, of_bias, _ = ctx.needs_input_grad
        with torch.autocast(states.device.type, enabled=False):
            rows = max(LEAST_ROWS, PIECE // n)
            held = states.new_empty(min(rows, batch) * n)
            together = weight.sum(0) if smoothing else None  # the mean score needs no further look at the scores
            grad_states = torch.empty_like(states) if of_states else None
            grad_weight = torch.zeros_like(weight) if of_weight else None
            grad_bias = torch.zeros_like(bias) if bias is not None and of_bias else None
            total = states.new_zeros(())
            for start in range(0, batch, rows):
                some, wanted = states[start : start + rows], targets[start : start + rows]
                scores = held[: len(some) * n].view(len(some), n)
                if bias is None:
                    torch.mm(some, weight.T, out=scores)
                else:
                    torch.addmm(bias, some, weight.T, out=scores)
                of_target = scores.gather(1, wanted[:, None]).squeeze(1)
                most = scores.amax(1, keepdim=True)
                sums = scores.sub_(most).exp_().sum(1)
                total += (sums.log() + most.squeeze(1) - (1 - smoothing) * of_target).sum()
                if together is not None:
                    mean = some @ together / n if bias is None else (some @ together + bias.sum()) / n
                    total -= smoothing * mean.sum()
                share = 1 / (sums * batch)  # exponentials times this are the gradient but for the target's part
                if grad_states is not None:
                    torch.mm(scores, weight, out=grad_states[start : start + rows]).mul_(share[:, None])
                if grad_weight is not None:
                    grad_weight.addmm_(scores.T, some * share[:, None])
                if grad_bias is not None:
                    grad_bias.addmv_(scores.T, share)
            wanted_part, other_part = (1 - smoothing) / batch, smoothing / (n * batch)
            if grad_states is not None:
                grad_states.sub_(weight[targets], alpha=wanted_part)
                if together is not None:
                    grad_states.sub_(together, alpha=other_part)
            if grad_weight is not None:
                grad_weight.index_add_(0, targets, states, alpha=-wanted_part)
                if smoothing:
                    grad_weight.sub_(states.sum(0), alpha=other_part)
            if grad_bias is not None:
                grad_bias.index_add_(0, targets, torch.ones_like(states[:, 0]), alpha=-wanted_part)
                grad_bias.sub_(other_part * batch)
        ctx.found = grad_states, grad_weight, grad_bias
        return total / batch

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_states, grad_weight, grad_bias = (None if found is None else found * grad for found in ctx.found)
        return grad_states, grad_weight, None, grad_bias, None
