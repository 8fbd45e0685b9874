"""Every leaf of the trie scored: exact decoding, the oracle of beam search, and exact expectations in training.

The trie's inner nodes are fed once a prompt under a tree-attention mask, depth by depth and in
chunks; so the top k is the true one, and what beam search lost (the *beam regret*) can be measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from harness.decoding.beam import DEAD, Beams, Closed, Mix, cut_of, top
from harness.decoding.engine import split
from harness.decoding.prefill import Split
from harness.decoding.split import level_log_probs
from harness.decoding.trie import Level, Trie


@torch.inference_mode()
def exact_search(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, k: int, chunk: int = 512, renormalise: bool = False,
    temperature: float = 1.0, closed: Closed | None = None, mix: Mix | None = None,
) -> Beams:  # fmt: skip
    """The true best k leaves of each prompt ``[batch, P]``; `chunk` nodes are fed at a time (memory).

    `temperature` divides logits; `closed` leaves are none of them; `mix` as in :func:`~harness.decoding.beam.search`.
    A node where a sequence has ended, and with `renormalise` one above a single leaf, is not fed: what follows is
    certain.
    """
    scores = leaf_log_probs(model, ids, mask, trie, chunk, renormalise, temperature, mix)
    if closed is not None:
        scores = scores.masked_fill(closed.leaves, DEAD)
    best, nodes = top(scores, min(k, len(trie)))
    leaves = torch.where(torch.isneginf(best), -1, trie.leaves[nodes])
    tied = (scores == best[:, -1:]) & ~torch.isneginf(scores)
    cut = None
    if bool((tied.sum(1) > (best == best[:, -1:]).sum(1)).any()):
        rows, ends = tied.nonzero(as_tuple=True)
        cut = cut_of(trie.leaves[ends], rows, leaves, len(trie))
    return Beams(leaves, trie.tokens(nodes), best, cut)


def leaf_log_probs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, chunk: int = 512, renormalise: bool = False,
    temperature: float = 1.0, mix: Mix | None = None,
) -> torch.Tensor:  # fmt: skip
    """Log-probability of every leaf node ``[batch, leaves]``, with gradients where they are on.

    The arguments are those of :func:`exact_search`.
    """
    batch, device = len(ids), ids.device
    lm = split(model, ids.shape[1] + trie.depth)
    cache, mask, states = lm.prefill(ids, mask)
    lengths = mask.sum(1, keepdim=True)
    scores = torch.zeros(batch, 1, device=device)  # [batch, nodes of this depth]
    fed = torch.zeros(1, dtype=torch.long, device=device)  # the nodes that were fed
    path = torch.zeros(1, 0, dtype=torch.long, device=device)  # [nodes, depth] cache places of the fed ancestors
    kept = 0  # tokens in the cache beyond the prompt
    pending = iter([(0, states[:, None])])  # states of fed nodes from a start, chunk by chunk
    for step, level in enumerate(trie.levels):
        parent = torch.repeat_interleave(torch.arange(len(level.starts) - 1, device=device), level.starts.diff())
        children = scores[:, parent]
        for start, part in pending:
            nodes = fed[start : start + part.shape[1]]
            columns, exists = level.children(nodes)
            wide = columns.expand(batch, -1, -1)
            log_probs = level_log_probs(lm, part, level.vocabulary, wide, exists, renormalise, temperature)
            entries = level.starts[nodes, None] + torch.arange(level.width, device=device)
            if mix is not None:
                known = entries.clamp(max=len(level.columns) - 1).expand(batch, -1, -1)
                log_probs = mix(step, nodes.expand(batch, -1), known, log_probs)
            children[:, entries[exists]] += log_probs[:, exists]
        scores = children
        if step == trie.depth - 1:
            break
        fed = (~_settled(level, renormalise)).nonzero()[:, 0]
        places = torch.zeros(len(level.columns), dtype=torch.long, device=device)
        places[fed] = kept + torch.arange(len(fed), device=device)
        path = torch.cat([path[parent], places[:, None]], dim=1)
        keep = step < trie.depth - 2  # or nothing deeper looks back at these nodes
        pending = _feed(lm, cache, mask, level.tokens[fed], path[fed], lengths + step, kept, chunk, keep)
        kept += len(fed)
    return scores


leaf_scores = torch.inference_mode()(leaf_log_probs)
"""The same without gradients."""


def branches(trie: Trie, renormalise: bool) -> int:
    """How many nodes are fed a prompt: those below the root after which something is still open."""
    return sum(int((~_settled(level, renormalise)).sum()) for level in trie.levels[:-1])


def _settled(level: Level, renormalise: bool) -> torch.Tensor:
    """``[children]`` whether what follows a child is certain."""
    settled = level.alone if renormalise else torch.zeros_like(level.alone)
    return settled if level.over is None else settled | level.over


def _feed(
    lm: Split, cache: Any, mask: torch.Tensor, tokens: torch.Tensor, path: torch.Tensor, place: torch.Tensor,
    kept: int, chunk: int, keep: bool,
) -> Iterator[tuple[int, torch.Tensor]]:  # fmt: skip
    """States of nodes, chunk by chunk; a generator, so that only one chunk's logits live at a time."""
    batch = len(mask)

    def chunks() -> Iterator[tuple[int, torch.Tensor]]:
        for start in range(0, len(tokens), chunk):
            rows = slice(start, start + chunk)
            n = len(tokens[rows])
            before = kept + (start if keep else 0)
            see = torch.zeros(n, before + n, dtype=torch.bool, device=mask.device)
            ancestors = path[rows, :-1]
            see.scatter_(1, ancestors, torch.ones_like(ancestors, dtype=torch.bool))
            see[torch.arange(n), before + torch.arange(n)] = True
            attention = torch.cat([mask[:, None, :].expand(-1, n, -1), see.expand(batch, -1, -1)], dim=2)
            states = lm.states(tokens[rows].expand(batch, -1), attention, place.expand(-1, n), cache)
            if not keep:
                cache.crop(-n)
            yield start, states

    return chunks() if not keep else iter(list(chunks()))
