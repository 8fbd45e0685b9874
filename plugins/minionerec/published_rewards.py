"""Rewards of a group of completions, as MiniOneRec defines them (arXiv 2510.24431, §3.3 and its code).

A group is the completions of one prompt in the order of their rank; see :mod:`harness.language.rewards`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.components import Context
from harness.errors import BenchError
from harness.language.rewards import Groups
from harness.settings import setting


def rule(groups: Groups) -> torch.Tensor:
    """1 for the target, 0 for all else."""
    return groups.hits.float()


def ranking_only(groups: Groups) -> torch.Tensor:
    """In a group with the target, a miss at rank i (from 0) gets −w_i; all else gets 0.

    w_i = (1 / log2(i + 2)) / Σ_j 1 / log2(j + 2): the better ranked a miss, the more it costs. Its other
    name is *ndcg rule*.
    """
    hit = groups.hits
    discount = 1 / torch.log2(torch.arange(hit.shape[1], device=hit.device) + 2.0)
    penalty = -(discount / discount.sum())
    return torch.where(hit.any(1, keepdim=True) & ~hit, penalty, 0.0)


def ranking(groups: Groups) -> torch.Tensor:
    """``rule`` + ``ranking_only``, the paper's default."""
    return rule(groups) + ranking_only(groups)


def position(groups: Groups) -> torch.Tensor:
    """The number of leading levels that match, 0 to those that the target has."""
    wanted = groups.target_codes[:, None]
    return ((groups.codes == wanted) & (wanted >= 0)).long().cumprod(-1).sum(-1).float()


@dataclass(frozen=True)
class SemanticSettings:
    """What item texts are compared by."""

    embedder: str = setting("tfidf", "tfidf, minilm (extra: text) or hf:PATH")
    dimensions: int = setting(256, "dimensions kept of the tfidf embedding")


class Semantic:
    """Cosine of the completion's and the target's text; a shared SID counts with its best item."""

    Settings = SemanticSettings

    def __init__(self, settings: SemanticSettings):
        self.settings = settings
        self._vectors = torch.empty(0)

    def prepare(self, context: Context) -> None:
        """Embed the catalogue."""
        from harness.data.texts import embed, item_texts

        texts = item_texts(context.items)
        if not any(texts):
            raise BenchError("reward semantic needs item texts and this category has none; use ranking")
        vectors = embed(texts, self.settings.embedder, self.settings.dimensions, context.seed, "semantic.embedder")
        self._vectors = torch.from_numpy(np.asarray(vectors, dtype=np.float32))

    def __call__(self, groups: Groups) -> torch.Tensor:
        """Cosines ``[prompts, G]``, -1 to 1."""
        alike = self._vectors[torch.tensor(groups.items)] @ self._vectors.T  # [prompts, items]
        return best_of_sid(alike, groups)


@dataclass(frozen=True)
class CfSettings:
    """Which run's scores are the reward."""

    run: str = setting("", "directory of a finished run of an item-id method on the same data, e.g. sasrec")


class Cf:
    """A collaborative model's score of the completion after the sample's history.

    A shared SID counts with its best item. Scores are standardised over the catalogue, so that weights
    mean the same whatever the model. A prompt without purchases (title → SID) gets 0 throughout.
    """

    Settings = CfSettings

    def __init__(self, settings: CfSettings):
        if not settings.run:
            raise BenchError("reward cf needs a run: --set 'grpo.rewards={cf: {run: runs/…/sasrec/seed42-…}}'")
        self.settings = settings
        self._scorer: Any = None

    def prepare(self, context: Context) -> None:
        """Load the run's model."""
        self._scorer = context.parts.recorded(self.settings.run, context)
        if not hasattr(self._scorer, "score"):
            raise BenchError(f"reward cf: {self.settings.run} is a run of a method that scores no items; use sasrec")

    def __call__(self, groups: Groups) -> torch.Tensor:
        """Standardised scores ``[prompts, G]``."""
        from harness.data.dataset import Histories

        rewards = torch.zeros(groups.completions.shape)
        rows = [row for row, history in enumerate(groups.histories) if history]
        if rows:
            scores = self._scorer.score(Histories.of([groups.histories[row] for row in rows]))
            standard = torch.from_numpy(np.asarray(scores, dtype=np.float32))
            standard = (standard - standard.mean(1, keepdim=True)) / standard.std(1, keepdim=True).clamp(min=1e-6)
            whole = torch.zeros(len(groups), standard.shape[1])
            whole[rows] = standard
            rewards = best_of_sid(whole, groups)
        return rewards


def best_of_sid(scores: torch.Tensor, groups: Groups) -> torch.Tensor:
    """Scores of items ``[prompts, n_items]`` → of each completion ``[prompts, G]``: its best item's."""
    best = torch.from_numpy(groups.semantic_ids.best_item(scores.numpy()))
    return best.gather(1, groups.completions.cpu())
