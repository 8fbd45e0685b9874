"""Free text by beam search: nothing holds the beams to a catalogue, and each ends where the model ends it.

The layout is that of :mod:`harness.decoding.beam`: prompts are computed once, beams are positions of their user's row.
A beam that has ended is not fed and keeps its score; a user whose beams have all ended leaves the batch.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.decoding.beam import DEAD, top
from harness.decoding.engine import split
from harness.decoding.padding import feed, open_places, pick

LEAVE = 0.25
"""Share of a batch's users that must be done before their rows are taken out, which copies the cache."""


@torch.inference_mode()
def write(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, beams: int, longest: int, end: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `beams` most probable continuations found for each prompt, best first.

    Scores are sums of log-probabilities, not divided by length. A beam that is not over after `longest` tokens is cut.

    Args:
        ids, mask: prompts ``[batch, P]``, left-padded.
        beams: at most as many as the vocabulary has tokens.
        longest: tokens a continuation may have, its end included.
        end: the token that ends one.

    Returns:
        Token ids ``[batch, beams, longest]``, filled up with `end`, and scores ``[batch, beams]`` (float32).
    """
    batch, device = len(ids), ids.device
    lm = split(model, ids.shape[1] + longest)
    cache, mask, first = lm.prefill(ids, mask)
    done = torch.full((batch, beams, longest), end, dtype=torch.long, device=device)
    final = torch.full((batch, beams), DEAD, device=device)
    users = torch.arange(batch, device=device)  # of the rows that are left
    lengths = mask.sum(1, keepdim=True)
    states = first[:, None]  # [rows, fed, d]
    fed = torch.zeros(batch, 1, dtype=torch.long, device=device)
    tokens = torch.empty(batch, 1, 0, dtype=torch.long, device=device)
    scores = torch.zeros(batch, 1, device=device)
    ended = torch.zeros(batch, 1, dtype=torch.bool, device=device)
    lineage = mask.new_empty(batch, 1, 0)
    for step in range(longest):
        logits = lm.logits(states).float()
        size = logits.shape[-1]
        total = torch.full((len(users), tokens.shape[1], size), DEAD, device=device)
        total.scatter_(1, fed[..., None].expand_as(logits), scores.gather(1, fed)[..., None] + logits.log_softmax(-1))
        total = torch.where(ended[..., None], DEAD, total)  # also of fillers, which were fed
        total[..., end] = torch.where(ended, scores, total[..., end])
        scores, flat = top(total.flatten(1), beams)
        parent, token = flat // size, flat % size
        tokens = torch.cat([pick(tokens, parent), token[..., None]], dim=2)
        ended = ended.gather(1, parent) | (token == end)
        lineage = pick(lineage, parent)
        left = ~ended.all(1)
        if not left.any() or step == longest - 1:
            break
        if (~left).float().mean() >= LEAVE:
            gone = users[~left]
            done[gone, :, : step + 1], final[gone] = tokens[~left], scores[~left]
            cache.batch_select_indices(left.nonzero().squeeze(1))
            users, mask, lengths = users[left], mask[left], lengths[left]
            tokens, scores, ended, lineage = tokens[left], scores[left], ended[left], lineage[left]
        fed = open_places(ended)
        lineage, attention = feed(lineage, fed, mask)
        place = (lengths + step).expand(-1, fed.shape[1])
        states = lm.states(tokens[..., -1].gather(1, fed), attention, place, cache)
    done[users, :, : tokens.shape[2]], final[users] = tokens, scores
    return done, final
