"""The loss of SFT: cross-entropy at the answer's tokens, SIDs over the vocabulary or over the catalogue.

Over the catalogue a SID token competes with the tokens that continue a SID and with no others, so the
sum over a SID's levels is the log-probability of its item among all items: an item-level softmax, and
the probability that a renormalised beam search ranks by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional

from harness.decoding.split import SplitModel
from harness.decoding.trie import Trie
from harness.language.training_rows import IGNORED


class AnswerLoss:
    """Summed loss of a batch of rows.

    Args:
        trie: the catalogue's SIDs; None where no answer is one.
        softmax: ``vocabulary`` or ``catalogue``, for SID tokens; text is always over the vocabulary.
        level_weights: of each SID level, from the first; empty: 1 each.
        smoothing: label smoothing, over the tokens of the softmax.
    """

    def __init__(self, trie: Trie | None, softmax: str, level_weights: Sequence[float] = (), smoothing: float = 0.0):
        self.trie, self.softmax, self.smoothing = trie, softmax, smoothing
        self.weights = list(level_weights) or [1.0] * (trie.depth if trie else 0)

    def __call__(
        self, lm: SplitModel, states: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor, train: bool
    ) -> torch.Tensor:
        """Loss summed over labelled tokens.

        Args:
            states: ``[batch, T, d]``, those at a place predict the next one.
            ids, labels: ``[batch, T]``.
            train: whether labels are smoothed.
        """
        smoothing = self.smoothing if train else 0.0
        labelled = labels != IGNORED
        labelled[:, 0] = False
        total = states.sum() * 0.0
        if not labelled.any():  # the head too is part of the graph: other processes wait for its gradient
            total = total + lm.logits(states[:, :1]).sum() * 0.0
        text = labelled.clone()
        if self.trie and (self.softmax == "catalogue" or any(weight != 1 for weight in self.weights)):
            for level, own in enumerate(self._places(ids)):
                here = labelled & own
                text &= ~here
                rows, places = here.nonzero(as_tuple=True)
                if len(rows):
                    total = total + self.weights[level] * self._sid(lm, states, ids, level, rows, places, smoothing)
        if text.any():
            logits = lm.logits(states[:, :-1][text[:, 1:]]).float()
            targets = labels[:, 1:][text[:, 1:]]
            total = total + functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
        return total

    def _places(self, ids: torch.Tensor) -> Iterator[torch.Tensor]:
        """Level by level, where its tokens stand ``[batch, T]``; the end of a SID is of the level that it ends at."""
        assert self.trie is not None
        before = torch.zeros_like(ids, dtype=torch.bool)
        for level in self.trie.levels:
            here = torch.isin(ids, level.vocabulary)
            if self.trie.end is not None:
                here &= (ids != self.trie.end) | before.roll(1, dims=1)
                before = here & (ids != self.trie.end)
            yield here

    def _sid(
        self, lm: SplitModel, states: torch.Tensor, ids: torch.Tensor, level: int, rows: torch.Tensor,
        places: torch.Tensor, smoothing: float,
    ) -> torch.Tensor:  # fmt: skip
        """The loss of SID tokens of one level at those rows and places."""
        before = states[rows, places - 1]
        if self.softmax == "vocabulary":
            logits = lm.logits(before).float()
            return functional.cross_entropy(logits, ids[rows, places], reduction="sum", label_smoothing=smoothing)
        assert self.trie is not None  # asked for SIDs alone
        nodes = torch.zeros_like(rows)
        for depth in range(level):
            nodes = self.trie.levels[depth].child(nodes, ids[rows, places - level + depth])
        here = self.trie.levels[level]
        columns, exists = here.children(nodes)
        logits = lm.logits(before, here.vocabulary).float().gather(1, columns).masked_fill(~exists, float("-inf"))
        log_probs = logits.log_softmax(1)
        offset = here.child(nodes, ids[rows, places]) - here.starts[nodes]
        loss = -log_probs.gather(1, offset[:, None]).sum()
        if smoothing:
            even = -(log_probs.masked_fill(~exists, 0.0).sum(1) / exists.sum(1)).sum()
            loss = (1 - smoothing) * loss + smoothing * even
        return loss
