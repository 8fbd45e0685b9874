"""Losses of models that score items from a state: full softmax, and those that sample negatives.

All take states ``[batch, d]``, the target of each and an :class:`Output`; they know neither how a state
came about nor where its batch is from.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from harness.errors import BenchError
from harness.item_models.full_softmax import full_softmax

LossName = Literal["full", "sampled", "bce", "gbce", "bpr-max", "top1-max"]


class Output(nn.Module):
    """Scores of items for a state, by an item embedding shared with the input.

    Args:
        embedding: ``[n_items + 1, d]``, the last row is padding and never scored.
        bias: add a learned bias an item.
        temperature: 0: dot products; else cosines over this temperature (HSTU, arXiv 2402.17152).
    """

    def __init__(self, embedding: nn.Embedding, bias: bool = False, temperature: float = 0.0):
        super().__init__()
        self.embedding, self.temperature = embedding, temperature
        self.n_items = embedding.num_embeddings - 1
        self.bias = nn.Parameter(torch.zeros(self.n_items)) if bias else None

    def forward(self, states: torch.Tensor, items: torch.Tensor | None = None) -> torch.Tensor:
        """Scores ``[batch, n_items]``, or of `items` ``[batch, m]`` only."""
        weight = self.embedding.weight[: self.n_items] if items is None else self.embedding(items)
        if self.temperature:
            states, weight = functional.normalize(states, dim=-1), functional.normalize(weight, dim=-1)
        if items is None:
            scores = states @ weight.T
        else:
            scores = (weight @ states[:, :, None]).squeeze(2)
        if self.temperature:
            scores = scores / self.temperature
        if self.bias is not None:
            scores = scores + (self.bias if items is None else self.bias[items])
        return scores

    def cross_entropy(self, states: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        """The mean cross-entropy of the scores of states ``[batch, d]`` against targets ``[batch]`` (a scalar)."""
        weight = self.embedding.weight
        own = type(self).forward is not Output.forward  # a subclass scores in its own way
        if own or not (states.dtype == weight.dtype in (torch.float32, torch.float64)):
            return functional.cross_entropy(self(states), targets, label_smoothing=smoothing)
        weight = weight[: self.n_items]
        if self.temperature:
            states = functional.normalize(states, dim=-1) / self.temperature
            weight = functional.normalize(weight, dim=-1)
        return full_softmax(states, weight, targets, self.bias, smoothing)


def loss(
    name: LossName, output: Output, states: torch.Tensor, targets: torch.Tensor,
    negatives: int = 256, calibration: float = 0.75, smoothing: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    """The mean loss of a batch (a scalar).

    Args:
        name: ``full``: softmax cross-entropy over the catalogue; ``sampled``: over the target and sampled
            negatives; ``bce``: binary cross-entropy (SASRec, arXiv 1808.09781); ``gbce``: its calibrated
            form (arXiv 2308.07192); ``bpr-max`` and ``top1-max`` (GRU4Rec, arXiv 1706.03847).
        targets: item ids ``[batch]``.
        negatives: uniform negatives of each target, never the target itself.
        calibration: t of gBCE, from 0 (plain BCE) to 1 (unbiased).
        smoothing: label smoothing of ``full``.
    """
    if name == "full":
        return output.cross_entropy(states, targets, smoothing)
    drawn = draw_negatives(targets, negatives, output.n_items)
    scores = output(states, torch.cat([targets[:, None], drawn], dim=1))
    positive, negative = scores[:, :1], scores[:, 1:]  # [batch, 1], [batch, negatives]
    if name == "sampled":
        return functional.cross_entropy(scores, torch.zeros_like(targets))
    if name in ("bce", "gbce"):
        beta = 1.0 if name == "bce" else calibrated(negatives, output.n_items, calibration)
        return gbce(positive, negative, beta)
    if name == "bpr-max":
        return bpr_max(positive, negative)
    if name == "top1-max":
        return top1_max(positive, negative)
    raise BenchError(f"loss {name} is none of full, sampled, bce, gbce, bpr-max, top1-max")


def draw_negatives(targets: torch.Tensor, n: int, n_items: int) -> torch.Tensor:
    """Uniform item ids ``[batch, n]`` that are not the row's target."""
    if n_items < 2:
        raise BenchError("a loss with negatives needs at least two items; use loss: full")
    drawn = torch.randint(n_items - 1, (len(targets), n), device=targets.device)
    return drawn + (drawn >= targets[:, None])


def gbce(positive: torch.Tensor, negative: torch.Tensor, beta: float) -> torch.Tensor:
    """Generalised binary cross-entropy (arXiv 2308.07192, eq. 9): the positive's likelihood to the power β.

    With β = 1 the mean binary cross-entropy over the positive and its negatives.
    """
    total = beta * functional.logsigmoid(positive).sum(1) + functional.logsigmoid(-negative).sum(1)
    return -total.mean() / (negative.shape[1] + 1)


def calibrated(negatives: int, n_items: int, calibration: float) -> float:
    """β of gBCE for a sampling rate α = negatives / (n_items − 1) (arXiv 2308.07192, eq. 10)."""
    alpha = min(1.0, negatives / (n_items - 1))
    return alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)


def bpr_max(positive: torch.Tensor, negative: torch.Tensor, regularisation: float = 1.0) -> torch.Tensor:
    """BPR-max (arXiv 1706.03847, eq. 10): negatives weighted by their softmax, scores of strong ones held down."""
    weight = negative.softmax(1)
    ranked = (weight * torch.sigmoid(positive - negative)).sum(1)
    return (-(ranked + 1e-24).log() + regularisation * (weight * negative**2).sum(1)).mean()


def top1_max(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """TOP1-max (arXiv 1706.03847, eq. 8)."""
    weight = negative.softmax(1)
    return (weight * (torch.sigmoid(negative - positive) + torch.sigmoid(negative**2))).sum(1).mean()
