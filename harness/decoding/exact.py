"""Exact decoding: every leaf of the trie scored, the oracle of beam search.

The trie's inner nodes are fed once a prompt under a tree-attention mask, depth by depth and in
chunks; so the top k is the true one, and what beam search lost (the *beam regret*) can be measured.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.decoding.beam import Beams, child_log_probs, top
from harness.decoding.shared_prompt import prefill
from harness.decoding.trie import Trie


@torch.inference_mode()
def exact_search(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, k: int, chunk: int = 512, renormalise: bool = False
) -> Beams:
    """The true best k leaves of each prompt ``[batch, P]``; `chunk` nodes are fed at a time (memory)."""
    batch = len(ids)
    device = ids.device
    cache, mask, logits = prefill(model, ids, mask)
    lengths = mask.sum(1, keepdim=True)
    scores = torch.zeros(batch, 1, device=device)  # [batch, nodes of this depth]
    n_nodes = 1
    path = torch.zeros(1, 0, dtype=torch.long, device=device)  # [nodes, depth] cache places of the ancestors
    kept = 0  # tokens in the cache beyond the prompt
    pending = [(0, logits[:, None])]  # logits of nodes from a start, chunk by chunk
    for step, level in enumerate(trie.levels):
        children = torch.empty(batch, len(level.tokens), device=device)
        for start, part in pending:
            nodes = torch.arange(start, start + part.shape[1], device=device)
            entries, tokens, exists = level.children(nodes)
            tokens = tokens.expand(batch, -1, -1)
            log_probs = child_log_probs(part, tokens, exists.expand(batch, -1, -1), renormalise)
            total = scores[:, nodes, None] + log_probs
            children[:, entries[exists]] = total[:, exists]
        parent = torch.repeat_interleave(torch.arange(n_nodes, device=device), level.starts.diff())
        scores, n_nodes = children, len(level.tokens)
        if step == trie.depth - 1:
            break
        last_fed = step == trie.depth - 2  # nothing deeper looks back at these nodes
        path = torch.cat([path[parent], (kept + torch.arange(n_nodes, device=device))[:, None]], dim=1)
        pending = _feed(model, cache, mask, level.tokens, path, lengths + step, kept, chunk, keep=not last_fed)
        kept += n_nodes
    best, nodes = top(scores, min(k, n_nodes))
    leaves = trie.leaves[nodes]
    return Beams(leaves, _tokens(trie, nodes), best)


def _feed(
    model: Any, cache: Any, mask: torch.Tensor, tokens: torch.Tensor, path: torch.Tensor, place: torch.Tensor,
    kept: int, chunk: int, keep: bool,
) -> Any:  # fmt: skip
    """Logits of nodes, chunk by chunk; a generator, so that only one chunk's logits live at a time."""
    batch = len(mask)

    def chunks() -> Any:
        for start in range(0, len(tokens), chunk):
            rows = slice(start, start + chunk)
            n = len(tokens[rows])
            before = kept + (start if keep else 0)
            see = torch.zeros(n, before + n, dtype=torch.bool, device=mask.device)
            ancestors = path[rows, :-1]
            see.scatter_(1, ancestors, torch.ones_like(ancestors, dtype=torch.bool))
            see[torch.arange(n), before + torch.arange(n)] = True
            attention = torch.cat([mask[:, None, :].expand(-1, n, -1), see.expand(batch, -1, -1)], dim=2)[:, None]
            logits = model(
                input_ids=tokens[rows].expand(batch, -1), attention_mask=attention,
                position_ids=place.expand(-1, n), past_key_values=cache, use_cache=True,
            ).logits  # fmt: skip
            if not keep:
                cache.crop(-n)
            yield start, logits

    return chunks() if not keep else list(chunks())


def _tokens(trie: Trie, leaves: torch.Tensor) -> torch.Tensor:
    """Token ids ``[..., levels]`` on the way to leaf nodes."""
    columns = []
    nodes = leaves
    for level in reversed(trie.levels):
        columns.append(level.tokens[nodes])
        nodes = torch.searchsorted(level.starts, nodes, right=True) - 1
    return torch.stack(columns[::-1], dim=-1)
