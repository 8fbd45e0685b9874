"""A model and a memory at decoding: both propose SIDs, and both score the union.

The memory scores the catalogue at once; the model searches it and scores what the memory proposes, so
a user costs beams, not items. How the two are put together is the caller's; :func:`mixed` is kNN-LM's
p(SID) = (1 − λ) · p_model(SID) + λ · p_memory(SID), over whole SIDs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from harness.decoding.beam import DEAD, Beams, Closed, beam_search, top
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.trie import Trie


class Candidates(NamedTuple):
    """The union of what a model and a memory propose.

    Attributes:
        leaves: ``[batch, candidates]`` leaf nodes of the trie; what both propose stands once, its second place dead.
        model: their log-probabilities by the model, -inf where dead.
        memory: their scores by the memory, -inf where dead.
    """

    leaves: torch.Tensor
    model: torch.Tensor
    memory: torch.Tensor


@torch.inference_mode()
def propose(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, memory: torch.Tensor, n: int, renormalise: bool,
    temperature: float = 1.0, closed: Closed | None = None,
) -> Candidates:  # fmt: skip
    """The `n` best leaves of each side, scored by both.

    Args:
        ids, mask: prompts ``[batch, P]``, left-padded.
        memory: scores of all SIDs ``[batch, n_sids]``, by row of the SID table.
        renormalise, temperature, closed: see :func:`harness.decoding.beam.search`.
    """
    beams = beam_search(model, ids, mask, trie, n, renormalise, temperature, closed=closed)
    if closed is not None:
        memory = memory.masked_fill(closed.sids, DEAD)
    node_of = torch.empty_like(trie.leaves)
    node_of[trie.leaves] = torch.arange(len(trie), device=ids.device)
    recall, rows = top(memory, min(n, len(trie)))
    recalled = node_of[rows]
    tokens = trie.tokens(recalled)
    scores, _ = completion_log_probs(
        model, ids, mask, tokens, temperature, trie if renormalise else None, trie.filler(tokens)
    )  # [batch, n, levels]
    searched = torch.where(beams.leaves >= 0, node_of[beams.leaves.clamp(min=0)], -1)
    twice = (recalled[:, :, None] == searched[:, None, :]).any(2)
    leaves = torch.cat([searched, torch.where(twice | torch.isneginf(recall), -1, recalled)], dim=1)
    dead = leaves < 0
    by_memory = memory.gather(1, trie.leaves[leaves.clamp(min=0)]).masked_fill(dead, DEAD)
    by_model = torch.cat([beams.scores, scores.sum(2).float()], dim=1).masked_fill(dead, DEAD)
    return Candidates(leaves.clamp(min=0), by_model, by_memory)


def mixed(candidates: Candidates, weight: float) -> torch.Tensor:
    """Log-probabilities of the mixture ``[batch, candidates]``; `weight` is the memory's, 0 to 1.

    The memory's scores must be log-probabilities too.
    """
    model, memory = candidates.model, candidates.memory
    if weight <= 0:
        return model
    if weight >= 1:
        return memory
    return torch.logaddexp(model + math.log1p(-weight), memory + math.log(weight))


def best_of(candidates: Candidates, scores: torch.Tensor, trie: Trie, beams: int) -> Beams:
    """The best `beams` candidates by scores ``[batch, candidates]``, -inf where dead."""
    best, place = top(scores, beams)
    nodes = candidates.leaves.gather(1, place)
    leaves = torch.where(torch.isneginf(best), -1, trie.leaves[nodes])
    return Beams(leaves, trie.tokens(nodes), best)
