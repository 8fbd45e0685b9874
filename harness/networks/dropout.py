"""Dropout that is cheap on a CPU: a byte a number in place of a draw a number.

torch draws each decision from its sequential generator, which takes longer than the layers of a small
model. Here one 63-bit draw gives seven bytes, each compared with a threshold. The generator is torch's
own, so ``torch.manual_seed`` repeats it; on other devices torch's dropout is used.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def dropout(values: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """`values` with a share `rate` set to 0 (rounded to 1/256) and the rest scaled to the same mean."""
    if not training or not rate:
        return values
    if values.device.type != "cpu":
        return functional.dropout(values, rate, training)
    return values * mask(values.shape, rate).to(values.dtype)


def mask(shape: torch.Size, rate: float) -> torch.Tensor:
    """Float32 mask: 0 for a share `rate` of the places, the rest 1 / (1 − rate)."""
    dropped = min(255, max(1, round(rate * 256)))
    n = shape.numel()
    draws = torch.empty((n + 6) // 7, dtype=torch.int64).random_()  # 63 random bits: the eighth byte has but seven
    kept = draws.view(torch.uint8).view(-1, 8)[:, :7].reshape(-1)[:n] >= dropped
    return kept.view(shape).to(torch.float32).mul_(256 / (256 - dropped))


class Dropout(nn.Module):
    """:func:`dropout` as a module."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return dropout(values, self.rate, self.training)


def replace_dropout(model: nn.Module) -> None:
    """Put :class:`Dropout` in the place of every ``nn.Dropout`` of a model."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, Dropout(child.p))
