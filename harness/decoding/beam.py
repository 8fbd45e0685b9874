"""Constrained beam search in the sequence dimension: prompts computed once, caches never copied.

A beam is a position of its user's row, not a row of the batch. Step t feeds the beams' tokens as
``[batch, beams]`` positions that all stand at ``len(prompt) + t``, each seeing the prompt, its own
ancestors and itself. Scores are log-probabilities over the whole vocabulary, masked to the trie and
not renormalised (the reference's convention); ties go to the better beam, then the lower token id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.decoding.engine import split
from harness.decoding.padding import feed, open_places, pick
from harness.decoding.split import level_log_probs
from harness.decoding.trie import Level, Trie

DEAD = float("-inf")


@dataclass(frozen=True)
class Beams:
    """Finished beams, best first.

    Attributes:
        leaves: ``[batch, beams]`` rows of the SID table, -1 where there are fewer SIDs than beams.
        tokens: ``[batch, beams, levels]`` token ids.
        scores: ``[batch, beams]`` float32 log-probabilities, -inf where there is no leaf.
        cut: ``[batch, n_sids]`` rows of the SID table that score as the last beam and are none; None: nobody. Of a beam
            search those that the last step weighed: what earlier steps left behind has no score.
    """

    leaves: torch.Tensor
    tokens: torch.Tensor
    scores: torch.Tensor
    cut: torch.Tensor | None = None


class Closed:
    """Leaves that must not be reached, a row a prompt."""

    def __init__(self, sids: torch.Tensor, trie: Trie):
        """`sids` are rows of the SID table ``[batch, n_sids]``, as booleans."""
        self.sids, self.leaves = sids, sids[:, trie.leaves]
        self.sums = torch.nn.functional.pad(self.leaves.long().cumsum(1), (1, 0))  # [batch, n_sids + 1]

    def nothing_left(self, level: Level, nodes: torch.Tensor) -> torch.Tensor:
        """Which children of nodes ``[batch, n]`` lead to closed leaves alone ``[batch, n, width]``."""
        assert level.first is not None
        entries = level.entry(nodes[..., None], torch.arange(level.width, device=nodes.device))
        return level.under(self.sums, entries) == level.first[entries + 1] - level.first[entries]


Mix = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""What else a step weighs: ``mix(step, nodes [batch, fed], entries [batch, fed, width], log_probs)`` → the step's
scores, both as the entries. A child that is certain must get 0: beams above a single leaf are not asked."""
Choose = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Which children live on: totals ``[batch, beams, width]`` → scores, parents, offsets, each ``[batch, children]``."""


def beam_search(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, beams: int, renormalise: bool = False,
    temperature: float = 1.0, mix: Mix | None = None, closed: Closed | None = None,
) -> Beams:  # fmt: skip
    """The best `beams` leaves of each prompt; see :func:`search`."""

    def best(total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scores, flat = top(total.flatten(1), beams)
        return scores, flat // total.shape[2], flat % total.shape[2]

    return search(model, ids, mask, trie, best, renormalise, temperature, mix, closed)


@torch.inference_mode()
def search(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, choose: Choose, renormalise: bool,
    temperature: float = 1.0, mix: Mix | None = None, closed: Closed | None = None,
) -> Beams:  # fmt: skip
    """Walk the trie level by level with the children that `choose` lets live.

    Args:
        ids, mask: prompts ``[batch, P]``, left-padded.
        renormalise: divide by the probability of the legal tokens at each step. A forced token then costs
            nothing, and a beam above a single leaf needs no further step: it is not computed.
        temperature: divides the logits.
        mix: puts a step's log-probabilities together with something else.
        closed: leaves that may not be reached; a node under which nothing is left is not entered, so that beams are
            spent on others.
    """
    batch, device = len(ids), ids.device
    lm = split(model, ids.shape[1] + trie.depth)
    cache, mask, first = lm.prefill(ids, mask)
    states: torch.Tensor | None = first[:, None]  # [batch, fed beams, d]
    fed = nodes = torch.zeros(batch, 1, dtype=torch.long, device=device)  # places of the fed beams; each beam's node
    scores = torch.zeros(batch, 1, device=device)
    lineage = torch.empty(batch, 1, 0, dtype=torch.bool, device=device)  # [batch, beams, tokens fed so far]
    lengths = mask.sum(1, keepdim=True)
    ended: torch.Tensor | None = None  # [batch, beams] which sequences are over
    for step, level in enumerate(trie.levels):
        alive = nodes.shape[1]
        total = torch.full((batch, alive, level.width), DEAD, device=device)
        if renormalise or level.over is not None:
            total[..., 0] = scores  # of a beam that is not fed: its one child is certain
        if states is not None:
            parents = nodes.gather(1, fed)
            columns, exists = level.children(parents)  # [batch, fed, width]
            log_probs = level_log_probs(lm, states, level.vocabulary, columns, exists, renormalise, temperature)
            if ended is not None:  # a row's filler: what has ended goes on in padding, at no cost
                log_probs = log_probs.masked_fill(ended.gather(1, fed)[..., None], 0.0)
            if mix is not None:
                entries = level.entry(parents[..., None], torch.arange(level.width, device=device))
                log_probs = mix(step, parents, entries, log_probs)
            grown = torch.where(exists, scores.gather(1, fed)[..., None] + log_probs, DEAD)
            total = grown if fed.shape[1] == alive else total.scatter(1, fed[..., None].expand_as(grown), grown)
        if closed is not None:
            total = total.masked_fill(closed.nothing_left(level, nodes), DEAD)
        scores, parent, offset = choose(total)
        weighed, nodes = nodes, level.entry(nodes.gather(1, parent), offset)
        if step == trie.depth - 1:
            break
        fed = _unsettled(level, nodes, scores, renormalise)
        ended = None if level.over is None else level.over[nodes]
        lineage = pick(lineage, parent)
        if not fed.shape[1]:
            states = None
            continue
        lineage, attention = feed(lineage, fed, mask)
        tokens = level.vocabulary[level.columns[nodes.gather(1, fed)]]
        states = lm.states(tokens, attention, (lengths + step).expand(-1, fed.shape[1]), cache)
    leaves = torch.where(torch.isneginf(scores), -1, trie.leaves[nodes])
    tied = (total == scores[:, -1:, None]) & ~torch.isneginf(total)
    cut = None
    if bool((tied.flatten(1).sum(1) > (scores == scores[:, -1:]).sum(1)).any()):
        batch_row, beam, child = tied.nonzero(as_tuple=True)
        ends = trie.leaves[level.entry(weighed[batch_row, beam], child)]
        cut = cut_of(ends, batch_row, leaves, len(trie))
    return Beams(leaves, trie.tokens(nodes), scores, cut)


def cut_of(tied: torch.Tensor, rows: torch.Tensor, leaves: torch.Tensor, n_sids: int) -> torch.Tensor:
    """Which SIDs are tied and are no beam ``[batch, n_sids]``; `tied` are theirs in `rows` of the batch."""
    cut = torch.zeros(len(leaves), n_sids + 1, dtype=torch.bool, device=leaves.device)
    cut[rows, tied] = True
    return cut.scatter(1, torch.where(leaves < 0, n_sids, leaves), False)[:, :n_sids]


def _unsettled(level: Level, nodes: torch.Tensor, scores: torch.Tensor, renormalise: bool) -> torch.Tensor:
    """Places ``[batch, most]`` of the beams to feed, in order; rows with fewer are filled with settled ones.

    Settled is what has ended, what is dead, and with `renormalise` what stands above a single leaf.
    """
    batch, alive = nodes.shape
    if not renormalise and level.over is None:
        return torch.arange(alive, device=nodes.device).expand(batch, -1)
    settled = torch.isneginf(scores)
    if renormalise:
        settled = settled | level.alone[nodes]
    if level.over is not None:
        settled = settled | level.over[nodes]
    return open_places(settled)


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
