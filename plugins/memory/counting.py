"""A language model of semantic IDs with item scorers beside each of its steps: what ``minionerec-counts`` decodes.

The weights, and what is fitted on which rows, are the stage's (:mod:`.counts_stage`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax

from harness.components import ItemScorer
from harness.data.dataset import Histories
from harness.data.semantic_ids import SemanticIds
from harness.decoding.generator import Generator
from harness.decoding.item_scores import group_probabilities
from harness.decoding.mixture import Candidates
from harness.decoding.shares import Shares
from harness.decoding.trie import Trie

from .built_on import LEAST, sid_log_probs


@dataclass(frozen=True)
class Weighed:
    """What a step weighs for some prompts: a :data:`~harness.decoding.beam.Mix` that also tells items of one SID apart.

    Attributes:
        own: the weight of the language model.
        beside: of each expert beside it its weight, its scores of items ``[n, n_items]``, and its probabilities of SIDs
            ``[n, n_sids]``; scored once, for all steps.
        masses: those probabilities as steps ask for them.
    """

    own: float
    beside: list[tuple[float, np.ndarray, np.ndarray]]
    masses: list[Shares]
    of_item: np.ndarray

    @classmethod
    def of(
        cls,
        own: float,
        experts: list[tuple[float, ItemScorer]],
        histories: Histories,
        semantic_ids: SemanticIds,
        trie: Trie,
    ) -> Weighed:
        """Score the histories by each expert."""
        of_item, beside = semantic_ids.of_item, []
        for weight, scorer in experts:
            scores = scorer.score(histories)
            beside.append((weight, scores, group_probabilities(scores, of_item, len(semantic_ids.distinct))))
        masses = [Shares(trie, torch.from_numpy(each).to(trie.leaves.device)) for _, _, each in beside]
        return cls(own, beside, masses, of_item)

    def __call__(self, step: int, nodes: torch.Tensor, entries: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
        """A step's scores."""
        total = self.own * log_probs
        for (weight, _, _), shares in zip(self.beside, self.masses, strict=True):
            total = total + weight * shares.log(step, nodes, entries)
        return total

    def shares(self) -> np.ndarray:
        """What each item adds to its SID's score ``[n, n_items]``: the weighted sum of log p(item | SID)."""
        total = np.zeros(self.beside[0][1].shape)
        for weight, scores, probabilities in self.beside:
            known = log_softmax(np.asarray(scores, dtype=np.float64), axis=1)
            share = known - np.log(np.maximum(probabilities, 1e-300))[:, self.of_item]
            total += weight * share.clip(LEAST, 0.0)
        return total


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

    def mix(self, histories: Histories, trie: Trie) -> Weighed:
        """The weighted sum of all at each step."""
        return Weighed.of(self.weights[0], self._beside, histories, self.semantic_ids, trie)

    @property
    def _beside(self) -> list[tuple[float, ItemScorer]]:
        """What stands beside the language model, each with its weight."""
        return [(self.weights[1], self.logit), *([(self.weights[2], self.head)] if self.head is not None else [])]

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
