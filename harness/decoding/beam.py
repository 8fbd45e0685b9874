"""Constrained beam search in the sequence dimension: prompts computed once, caches never copied.

A beam is a position of its user's row, not a row of the batch. Step t feeds the beams' tokens as
``[batch, beams]`` positions that all stand at ``len(prompt) + t``, each seeing the prompt, its own
ancestors and itself. Scores are log-probabilities over the whole vocabulary, masked to the trie and
not renormalised (the reference's convention); ties go to the better beam, then the lower token id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from harness.decoding.shared_prompt import prefill
from harness.decoding.trie import Trie

DEAD = float("-inf")


@dataclass(frozen=True)
class Beams:
    """Finished beams, best first.

    Attributes:
        leaves: ``[batch, beams]`` rows of the SID table, -1 where there are fewer SIDs than beams.
        tokens: ``[batch, beams, levels]`` token ids.
        scores: ``[batch, beams]`` float32 log-probabilities, -inf where there is no leaf.
    """

    leaves: torch.Tensor
    tokens: torch.Tensor
    scores: torch.Tensor


@torch.inference_mode()
def beam_search(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, beams: int, renormalise: bool = False
) -> Beams:
    """The best `beams` leaves of each prompt.

    Args:
        ids, mask: prompts ``[batch, P]``, left-padded.
        renormalise: divide by the probability of the legal tokens at each step.
    """
    batch = len(ids)
    device = ids.device
    cache, mask, logits = prefill(model, ids, mask)
    logits = logits[:, None]  # [batch, alive beams, vocab]
    nodes = torch.zeros(batch, 1, dtype=torch.long, device=device)
    scores = torch.zeros(batch, 1, device=device)
    tokens = torch.empty(batch, 1, 0, dtype=torch.long, device=device)
    lineage = torch.empty(batch, 1, 0, dtype=torch.bool, device=device)  # [batch, beams, tokens fed so far]
    lengths = mask.sum(1, keepdim=True)
    for step, level in enumerate(trie.levels):
        entries, child_tokens, exists = level.children(nodes)  # [batch, alive, width]
        log_probs = child_log_probs(logits, child_tokens, exists, renormalise)
        total = torch.where(exists, scores[..., None] + log_probs, DEAD)
        best, flat = top(total.flatten(1), beams)
        parent = flat // level.width
        scores = best
        nodes = entries.flatten(1).gather(1, flat)
        chosen = child_tokens.flatten(1).gather(1, flat)
        tokens = torch.cat([_pick(tokens, parent), chosen[..., None]], dim=2)
        if step == trie.depth - 1:
            break
        alive = chosen.shape[1]
        own = torch.eye(alive, dtype=torch.bool, device=device).expand(batch, -1, -1)
        lineage = torch.cat([_pick(lineage, parent), own], dim=2)
        attention = torch.cat([mask[:, None, :].expand(-1, alive, -1), lineage], dim=2)[:, None]
        logits = model(
            input_ids=chosen, attention_mask=attention, position_ids=(lengths + step).expand(-1, alive),
            past_key_values=cache, use_cache=True,
        ).logits  # fmt: skip
    dead = torch.isneginf(scores)
    return Beams(torch.where(dead, -1, trie.leaves[nodes]), tokens, scores)


def child_log_probs(
    logits: torch.Tensor, tokens: torch.Tensor, exists: torch.Tensor, renormalise: bool
) -> torch.Tensor:
    """Log-probabilities ``[batch, beams, width]`` of the children, from logits ``[batch, beams, vocab]`` (used up)."""
    values = logits.gather(2, tokens).float()
    if renormalise:
        return values - torch.where(exists, values, DEAD).logsumexp(2, keepdim=True)
    # in place: the logits are the largest tensor of a step, and nobody reads them again
    logits = logits.float()
    peak = logits.amax(2, keepdim=True)
    return values - (logits.sub_(peak).exp_().sum(2, keepdim=True).log() + peak)


def top(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of each row ``[batch, n]``, equal scores in the order of their index.

    ``topk`` alone leaves the order of ties open; only rows whose boundary is tied are sorted whole.
    """
    if scores.shape[1] <= k:
        return scores.sort(dim=1, descending=True, stable=True)
    values, index = scores.topk(k + 1, dim=1)
    tied = (values[:, k - 1] == values[:, k]) & ~torch.isneginf(values[:, k])
    index = index[:, :k].sort(dim=1).values
    values, order = scores.gather(1, index).sort(dim=1, descending=True, stable=True)
    index = index.gather(1, order)
    if tied.any():
        full_values, full_index = scores[tied].sort(dim=1, descending=True, stable=True)
        values[tied], index[tied] = full_values[:, :k], full_index[:, :k]
    return values, index


def _pick(values: torch.Tensor, parent: torch.Tensor) -> torch.Tensor:
    """Rows ``[batch, beams, n]`` of the parents ``[batch, children]``."""
    return values.gather(1, parent[..., None].expand(-1, -1, values.shape[2]))
