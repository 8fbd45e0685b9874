"""The shared-prompt layout: a prompt is computed once, its continuations stand beside each other.

Continuations are positions of one row, not rows of a batch: a 4-D mask lets each see the prompt, its
own earlier tokens and itself, and position ids repeat. Used by beam search, exact scoring and the
losses of RL. It knows token ids only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Prefill(NamedTuple):
    """Prompts computed once.

    Attributes:
        cache: what the model's next call takes as ``past_key_values``.
        mask: ``[batch, P]``, the cache's places that a continuation sees.
        logits: ``[batch, vocab]``, they predict the first token.
    """

    cache: Any
    mask: torch.Tensor
    logits: torch.Tensor


def prefill(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> Prefill:
    """Compute prompts ``[batch, P]`` once, by the model's own ``prefill`` where it has one."""
    if hasattr(model, "prefill"):
        own: Prefill = model.prefill(ids, mask)
        return own
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    out = model(
        input_ids=ids, attention_mask=causal(mask)[:, None], position_ids=positions(mask),
        past_key_values=cache, use_cache=True, logits_to_keep=1,
    )  # fmt: skip
    return Prefill(out.past_key_values, mask, out.logits[:, -1])


def completion_logits(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, completions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that predict each token of a group of completions, the prompt computed once, with gradients.

    Args:
        ids, mask: prompts ``[batch, P]``, left-padded.
        completions: token ids ``[batch, G, T]``.

    Returns:
        The logits after the prompt ``[batch, vocab]`` (they predict every first token), and those
        after each completion's tokens but the last ``[batch, G, T - 1, vocab]``.
    """
    batch, prompt = ids.shape
    group, length = completions.shape[1:]
    fed = length - 1  # the last token predicts nothing that is asked for
    tokens = completions[:, :, :fed].reshape(batch, group * fed)
    see_prompt = mask[:, None, :].expand(batch, group * fed, prompt)
    member = torch.arange(group, device=ids.device).repeat_interleave(fed)
    step = torch.arange(fed, device=ids.device).repeat(group)
    own = (member[:, None] == member[None, :]) & (step[None, :] <= step[:, None])  # [G·fed, G·fed]
    rows = torch.cat([see_prompt, own.expand(batch, -1, -1)], dim=2)
    upper = torch.cat([causal(mask), mask.new_zeros(batch, prompt, group * fed)], dim=2)
    attention = torch.cat([upper, rows], dim=1)[:, None]  # [batch, 1, P + G·fed, P + G·fed]
    place = torch.cat([positions(mask), mask.sum(1, keepdim=True) + step], dim=1)
    keep = torch.arange(prompt - 1, prompt + group * fed, device=ids.device)
    logits = model(
        input_ids=torch.cat([ids, tokens], dim=1), attention_mask=attention, position_ids=place,
        use_cache=False, logits_to_keep=keep,
    ).logits  # fmt: skip
    return logits[:, 0], logits[:, 1:].reshape(batch, group, fed, -1)


def completion_log_probs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, completions: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each completion token, both ``[batch, G, T]``; see :func:`completion_logits`."""
    first, rest = completion_logits(model, ids, mask, completions)
    first, rest = (first / temperature).log_softmax(-1), (rest / temperature).log_softmax(-1)
    chosen = first.gather(1, completions[:, :, 0])[..., None]  # [batch, G, 1]
    later = rest.gather(3, completions[:, :, 1:, None]).squeeze(3)  # [batch, G, T - 1]
    with torch.no_grad():
        start = -(first.exp() * first).sum(-1)[:, None, None].expand(-1, completions.shape[1], 1)
        entropy = torch.cat([start, -(rest.exp() * rest).sum(-1)], dim=2)
    return torch.cat([chosen, later], dim=2), entropy
