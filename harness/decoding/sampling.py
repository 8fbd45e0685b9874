"""Sampling SIDs in the sequence dimension: completions beside each other, the prompt computed once.

Tokens are drawn among those that continue a SID of the catalogue, from the model's probabilities
renormalised over them, so every draw is a legal SID of its own true probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.decoding.beam import DEAD, Beams, Choose, search, top
from harness.decoding.trie import Trie


@dataclass(frozen=True)
class Drawn(Beams):
    """Leaves drawn at random, the most probable first.

    Attributes:
        weights: ``[batch, n]`` importance weights of draws without replacement; see :func:`importance`. None: each draw
            has its own probability, and counts once.
    """

    weights: torch.Tensor | None = None


Source = torch.Generator | Sequence[torch.Generator]
"""Where draws come from: one generator for a batch, or one a row."""


def sample(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, n: int, generator: Source,
    temperature: float = 1.0, distinct: bool = False,
) -> Drawn:  # fmt: skip
    """`n` leaves of each prompt drawn at random, the most probable first.

    Args:
        ids, mask: prompts ``[batch, P]``, left-padded.
        generator: of the model's device, or one a prompt: its draws are then its own, whoever shares its batch.
        distinct: without replacement: no leaf twice in a group, by stochastic beam search (Kool, van Hoof
            & Welling, ICML 2019), which is a beam search over Gumbel-perturbed log-probabilities.
    """
    choose: Choose = _Distinct(n, generator) if distinct else _Independent(n, generator)
    drawn = search(model, ids, mask, trie, choose, True, temperature)
    scores, order = drawn.scores.sort(dim=1, descending=True, stable=True)
    tokens = drawn.tokens.gather(1, order[..., None].expand_as(drawn.tokens))
    weights = None
    if isinstance(choose, _Distinct):
        assert choose.perturbed is not None
        weights = importance(drawn.scores, choose.perturbed, generator).gather(1, order)
    return Drawn(drawn.leaves.gather(1, order), tokens, scores, None, weights)


def importance(scores: torch.Tensor, perturbed: torch.Tensor, generator: Source) -> torch.Tensor:
    """Weights π/q of draws without replacement ``[batch, n]``, by which a sum over them has the expectation under π.

    q is the probability that a leaf's perturbed score exceeds κ, the smallest one drawn: 1 − exp(−exp(log π − κ)). The
    leaf that has it is only there to give κ, and weighs 0 (Kool, van Hoof & Welling, ICML 2019, §4.2).

    Args:
        scores: log-probabilities.
        perturbed: perturbed log-probabilities, conditioned on 0 for their largest; -inf where there is no leaf. The
            largest of free ones is a Gumbel variable, which is drawn here, and the others are moved as it demands.
    """
    whole = torch.isneginf(perturbed).any(1, keepdim=True)  # all leaves are drawn: each has its own probability
    last = perturbed.amin(1, keepdim=True)
    peak = gumbel(last, generator)
    kappa = -torch.log(((-peak).exp() - 1 + (-last).exp()).clamp(min=1e-30))
    weights = scores.exp() / -torch.expm1(-(scores - kappa).exp())
    weights = weights.masked_fill(perturbed == last, 0.0)
    return torch.where(whole, scores.exp(), weights).nan_to_num()


class _Independent:
    """Each completion draws a child of its own node."""

    def __init__(self, n: int, generator: Source):
        self.n, self.generator, self.started = n, generator, False

    def __call__(self, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch = len(total)
        parent = torch.zeros(batch, self.n, dtype=torch.long, device=total.device)
        if self.started:
            parent = torch.arange(self.n, device=total.device).expand(batch, -1)
        self.started = True
        mine = total.gather(1, parent[..., None].expand(-1, -1, total.shape[2]))
        offset = (mine + gumbel(mine, self.generator)).argmax(2)  # the Gumbel-max trick
        return mine.gather(2, offset[..., None]).squeeze(2), parent, offset


class _Distinct:
    """The n children of the largest perturbed scores, each family's maximum being its parent's."""

    def __init__(self, n: int, generator: Source):
        self.n, self.generator = n, generator
        self.perturbed: torch.Tensor | None = None

    def __call__(self, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        width = total.shape[2]
        ceiling = total.new_zeros(total.shape[:2]) if self.perturbed is None else self.perturbed
        noisy = total + gumbel(total, self.generator)
        # condition each family on its maximum being the parent's (Kool et al., appendix B.3)
        peak = noisy.amax(2, keepdim=True)
        gap = ceiling[..., None] - noisy + torch.log1p(-(noisy - peak).exp())
        conditioned = ceiling[..., None] - gap.clamp(min=0) - torch.log1p((-gap.abs()).exp())
        conditioned = conditioned.masked_fill(torch.isneginf(total), DEAD)
        self.perturbed, flat = top(conditioned.flatten(1), self.n)
        return total.flatten(1).gather(1, flat), flat // width, flat % width


def gumbel(like: torch.Tensor, generator: Source) -> torch.Tensor:
    """Standard Gumbel noise of the shape of `like`."""
    if isinstance(generator, torch.Generator):
        uniform = torch.rand(like.shape, generator=generator, device=like.device)
    else:
        uniform = torch.stack([torch.rand(like.shape[1:], generator=g, device=like.device) for g in generator])
    uniform = uniform.clamp(min=1e-20, max=1 - 1e-7)
    return -torch.log(-torch.log(uniform))
