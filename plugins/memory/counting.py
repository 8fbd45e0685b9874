"""A language model of semantic IDs with item scorers beside each of its steps: what ``minionerec-counts`` decodes.

The weights, and what is fitted on which rows, are the stage's (:mod:`.counts_stage`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.components import ItemScorer
from harness.data.dataset import Histories
from harness.decoding.beam import Mix
from harness.decoding.generator import Generator
from harness.decoding.item_scores import group_probabilities
from harness.decoding.mixture import Candidates
from harness.decoding.shares import Shares
from harness.decoding.trie import Trie

from .built_on import LEAST, sid_log_probs


@dataclass(frozen=True)
class Counting:
    """A generator with an item scorer beside each of its steps (:class:`harness.decoding.search.Mixing`).

    Attributes:
        logit: utilities of items; their softmax is its distribution.
        weights: of the language model, of the logit and of the head.
        head: scores of items by the language model's state, another distribution of the kind; None: there is none.
        apart: whether items of one SID are told apart, and ranked.
    """

    generator: Generator
    logit: ItemScorer
    weights: tuple[float, float, float]
    head: ItemScorer | None = None
    apart: bool = False

    @property
    def model(self) -> Any:
        """The language model."""
        return self.generator.model

    @property
    def semantic_ids(self) -> Any:
        """What is decoded."""
        return self.generator.semantic_ids

    @property
    def sid_tokens(self) -> np.ndarray:
        """Their tokens ``[n_sids, n_levels]``."""
        return self.generator.sid_tokens

    @property
    def leaves(self) -> Any:
        """Whether these are SIDs or items."""
        return self.generator.leaves

    @property
    def end(self) -> int | None:
        """The token that ends a shorter SID."""
        return getattr(self.generator, "end", None)

    @property
    def pad(self) -> int:
        """What fills prompts."""
        return self.generator.pad

    @property
    def renormalise(self) -> bool:
        """Always over the children: that is what the weights were learnt for."""
        return True

    def encode(self, histories: Histories) -> list[list[int]]:
        """Prompts as token ids."""
        return self.generator.encode(histories)

    def mix(self, histories: Histories, trie: Trie) -> Mix:
        """The weighted sum of both at each step."""
        of_item, n_sids = self.semantic_ids.of_item, len(self.semantic_ids.distinct)
        said = []
        for weight, scorer in self._beside:
            masses = group_probabilities(scorer.score(histories), of_item, n_sids)
            said.append((weight, Shares(trie, torch.from_numpy(masses).to(trie.leaves.device))))

        def weighed(step: int, nodes: torch.Tensor, entries: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
            total = self.weights[0] * log_probs
            for weight, shares in said:
                total = total + weight * shares.log(step, nodes, entries)
            return total

        return weighed

    @property
    def _beside(self) -> list[tuple[float, ItemScorer]]:
        """What stands beside the language model, each with its weight."""
        return [(self.weights[1], self.logit), *([(self.weights[2], self.head)] if self.head is not None else [])]

    def shares(self, histories: Histories) -> np.ndarray:
        """What each item adds to its SID's score ``[n, n_items]``: w₁ · log p_logit(item | SID), and the head's."""
        total = np.zeros((len(histories), len(self.semantic_ids.of_item)))
        for weight, scorer in self._beside:
            scores = np.asarray(scorer.score(histories), dtype=np.float64)
            scores -= scores.max(axis=1, keepdims=True)
            own = np.exp(scores)
            sums = np.zeros((len(self.semantic_ids.distinct), len(scores)))
            np.add.at(sums, self.semantic_ids.of_item, own.T)
            own_share = scores - np.log(np.maximum(sums.T, 1e-300))[:, self.semantic_ids.of_item]
            total += weight * own_share.clip(LEAST, 0.0)
        return total

    def recall(self, histories: Histories) -> np.ndarray:
        """The logit's log-probabilities of SIDs ``[n, n_sids]`` float32."""
        return sid_log_probs(self.logit.score(histories), self.semantic_ids)

    def told(self, found: Candidates, histories: Histories, trie: Trie) -> torch.Tensor:
        """What each expert says of candidates ``[n, candidates, 3]``: log-probabilities of whole SIDs."""
        head = torch.zeros_like(found.model)
        if self.head is not None:
            said = torch.from_numpy(sid_log_probs(self.head.score(histories), self.semantic_ids)).to(head.device)
            head = said.gather(1, trie.leaves[found.leaves])
        return torch.stack([found.model, found.memory, head], dim=-1)

    def scores(self, found: Candidates, histories: Histories, trie: Trie) -> torch.Tensor:
        """What beams that reach those candidates score ``[n, candidates]``."""
        told = self.told(found, histories, trie)
        return (told * torch.tensor(self.weights, dtype=told.dtype, device=told.device)).sum(-1)
