"""The stage ``minionerec-counts``: what counts and titles say of the next token, inside the constrained softmax.

At each node of the trie of semantic IDs a child's score is

    w₀ · log p_LM(child) + Σ over parts of w · log(the part's mass under the child / its mass under the node),

normalised over the children; a part's mass of a SID is the softmax of its items' scores, summed. So the model contains
its parts: with w₀ = 0 and one part's weights at 1 it is that part. The weights are of each level, and are learnt on
train rows that neither the language model nor the parts have seen; then the parts are fitted on all of train.
The same beams decode it, and ``exact`` is their oracle.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt

from harness import files
from harness.checks.schemas import Finite, Schema
from harness.components import Context, ItemScorer, Part
from harness.data.dataset import Histories, Samples
from harness.decoding.beam import Mix
from harness.decoding.engine import split
from harness.decoding.generator import Generator, batches, trie_of
from harness.decoding.item_scores import group_probabilities, share_of_best
from harness.decoding.padding import pad_left
from harness.decoding.shared_prompt import completion_states
from harness.decoding.shares import Shares
from harness.decoding.split import level_log_probs
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.language import models
from harness.language.holdout import of_held_out
from harness.language.prompts import Prompts
from harness.settings import setting

from .logit import conditional_logit

FOUND = "counts.json"
WITHIN = "held-in"
"""The folder of the parts that have not seen the held-out rows; it goes when the weights are there."""
TOKENS = 16384
"""Positions computed at once, for the weights."""


class FoundCounts(Schema):
    """``counts.json``: the weights of each level, the language model's first."""

    parts: list[str]
    weights: list[list[Finite]]


@dataclass(frozen=True)
class Settings:
    """How a part's scores become a distribution, and how the weights are learnt."""

    temperature: Annotated[float, Gt(0)] = setting(
        0.2, "of the softmax over a part's scores, the best of a history scaled to 1"
    )
    ridge: Annotated[float, Ge(0)] = setting(1e-3, "penalty of the squared weights of standardised features")
    model: bool = setting(True, "whether the language model has a weight; false is the ablation: the parts alone")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept")


@dataclass(frozen=True)
class Counting:
    """A generator with item scorers inside its softmax (:class:`harness.decoding.search.Mixing`).

    Attributes:
        weights: ``[levels, 1 + scorers]``, the language model's first.
    """

    generator: Generator
    scorers: Mapping[str, ItemScorer]
    temperature: float
    weights: np.ndarray

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
        """The weighted sum at each step, normalised over the children."""
        said = self.said(histories, trie)

        def weighed(step: int, nodes: torch.Tensor, entries: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
            weights = self.weights[step].tolist()
            total = weights[0] * log_probs
            for weight, part in zip(weights[1:], said, strict=True):
                total = total + weight * part.log(step, nodes, entries)
            starts = trie.levels[step].starts
            width = torch.arange(entries.shape[-1], device=entries.device)
            exists = width < (starts[nodes + 1] - starts[nodes])[..., None]
            return total - total.masked_fill(~exists, float("-inf")).logsumexp(-1, keepdim=True)

        return weighed

    def said(self, histories: Histories, trie: Trie) -> list[Shares]:
        """What each scorer says of the trie's nodes."""
        of_item, n_sids = self.semantic_ids.of_item, len(self.semantic_ids.distinct)
        found = []
        for scorer in self.scorers.values():
            scores = share_of_best(np.asarray(scorer.score(histories), dtype=np.float64))
            masses = group_probabilities(scores, of_item, n_sids, self.temperature)
            found.append(Shares(trie, torch.from_numpy(masses).to(trie.leaves.device)))
        return found


def scorer_of(part: Part, context: Context) -> ItemScorer:
    """A part's model.

    Raises:
        BenchError: it scores no items.
    """
    scorer: ItemScorer = part.load(context)
    if not hasattr(scorer, "score"):
        raise BenchError(
            f"stage {context.stage}: {part.name} makes no model that scores items; use hybrid or skip-markov"
        )
    return scorer


class CountsTrainer:
    """Stage trainer ``minionerec-counts``; its parts are what counts."""

    Settings = Settings
    distributed = False
    small: Mapping[str, Any] = {}

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, context: Context) -> None:
        """There must be a model before that has left train rows, and parts that fit the data."""
        if context.previous is None:
            raise BenchError(f"stage {context.stage} needs a stage before it that trains a language model")
        if not list(context.parts):
            raise BenchError(f"stage {context.stage} has no parts; name some in its recipe: parts: [hybrid]")
        held_in = context.over(np.flatnonzero(~self._held_out(context)))  # no part may know more of train
        for key in context.parts:
            context.parts[key].check(context)
            context.parts[key].anew(context).check(held_in)

    def fit(self, context: Context) -> dict[str, Any]:
        """The weights on the rows that SFT left, then the parts on all of train."""
        settings, sids = self.settings, context.needs_semantic_ids(context.stage)
        out = self._held_out(context)
        within = context.on(np.flatnonzero(~out), WITHIN)
        unfitted = {key: context.parts[key].anew(context) for key in context.parts}
        for part in unfitted.values():
            part.fit(within)
        strangers = context.train.take(np.flatnonzero(out)).of_strangers()
        scorers = {key: scorer_of(part, within) for key, part in unfitted.items()}
        levels = sids.n_levels
        model = Counting(self._generator(context), scorers, settings.temperature, np.zeros((levels, 1 + len(scorers))))
        weights, gains = self._weights(context, model, strangers)
        for key in context.parts:
            context.parts[key].fit(context)
        shutil.rmtree(context.directory / WITHIN, ignore_errors=True)
        files.write_json(context.directory / FOUND, {"parts": list(scorers), "weights": weights.tolist()})
        return {
            "rows": len(strangers),
            "held-out users": len(set(context.train.user_numbers[out].tolist())),
            "weights": {
                name: [round(float(weight), 4) for weight in weights[:, column]]
                for column, name in enumerate(("language model", *scorers))
            },
            "held-out log-likelihood of a SID": {name: round(value, 4) for name, value in gains.items()},
        }

    def load(self, context: Context) -> Counting:
        """The model before, with its counts inside."""
        saved = files.read_json(context.directory / FOUND, schema=FoundCounts)
        if saved["parts"] != list(context.parts) or {len(row) for row in saved["weights"]} != {1 + len(saved["parts"])}:
            raise BenchError(
                f"{context.directory / FOUND} has weights of {', '.join(saved['parts'])}, and the stage's parts are "
                f"{', '.join(context.parts)}; run the method again"
            )
        scorers = {key: scorer_of(context.parts[key], context) for key in context.parts}
        return Counting(self._generator(context), scorers, self.settings.temperature, np.array(saved["weights"]))

    def _held_out(self, context: Context) -> np.ndarray:
        """Which train samples the stages before have left: what the weights are learnt on."""
        left = [(name, one) for name, one in context.earlier.items() if getattr(one, "holdout", 0.0)]
        if not left:
            raise BenchError(
                f"stage {context.stage} learns its weights on train rows that the stages before have not seen, and "
                "none leaves any; set --set sft.holdout=0.1"
            )
        name, settings = left[0]
        spoilt = [
            other for other, one in context.earlier.items() if other != name and getattr(one, "rows", "") != "same"
        ]
        if spoilt:
            raise BenchError(
                f"stage {spoilt[0]} learns from the rows that {name} leaves, so that {context.stage} has none that the "
                f"model has not seen; set --set {spoilt[0]}.rows=same"
            )
        out = of_held_out(context.train, settings.holdout, context.seed)
        if not out.any() or out.all():
            raise BenchError(f"{name}.holdout = {settings.holdout:g} leaves no row to learn weights on; raise it")
        return out

    def _generator(self, context: Context) -> Generator:
        assert context.previous is not None  # as check has made sure
        model, text_tokenizer = models.load_model(context.previous, context.device, context.backbone)
        return Prompts.of(context).generative(model.eval(), text_tokenizer, self.settings.cutoff)

    def _weights(self, context: Context, model: Counting, rows: Samples) -> tuple[np.ndarray, dict[str, float]]:
        """``[levels, 1 + parts]``, and the mean log-likelihood of a held-out target by the model, a part, and all."""
        told = features(model, rows, context.device)
        weights, together = [], 0.0
        alone = np.zeros(1 + len(model.scorers))
        for x, wanted, alive in told:
            alone += _likelihoods(x, wanted, alive)
            if not self.settings.model:
                x = np.concatenate([np.zeros_like(x[..., :1]), x[..., 1:]], axis=2)
            found = conditional_logit(x, wanted, alive, self.settings.ridge)
            together += float(_likelihoods((x @ found)[..., None], wanted, alive)[0])
            weights.append(found)
        names = ("language model", *model.scorers)
        return np.array(weights), {**dict(zip(names, alone.tolist(), strict=True)), "together": together}


@torch.inference_mode()
def features(model: Counting, rows: Samples, device: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What model and parts say along the way to each row's target: a level each.

    Returns:
        ``[rows, width, 1 + parts]`` log-probabilities, float64; which child is the target's ``[rows, width]``; which
        children exist.
    """
    trie = trie_of(model, device)
    lm = split(model.model)
    sid_tokens = torch.from_numpy(np.asarray(model.sid_tokens)).to(device)
    targets = torch.from_numpy(model.semantic_ids.of_item[rows.targets]).to(device)
    prompts = model.encode(rows.histories)
    parts: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in trie.levels]
    order = []
    for batch in batches([len(prompt) for prompt in prompts], TOKENS, trie.depth):
        order.append(batch)
        ids, mask = pad_left([prompts[row] for row in batch], model.pad, device)
        answers = sid_tokens[targets[torch.from_numpy(batch).to(device)]]
        first, later = completion_states(lm, ids, mask, answers[:, None])
        states = torch.cat([first[:, None, None], later], dim=2)[:, 0]  # [batch, levels, d]
        said = model.said(rows.histories.take(batch), trie)
        nodes = torch.zeros(len(batch), 1, dtype=torch.long, device=device)
        for step, level in enumerate(trie.levels):
            columns, exists = level.children(nodes)
            log_probs = level_log_probs(lm, states[:, step : step + 1], level.vocabulary, columns, exists, True)
            if step and trie.levels[step - 1].over is not None:
                log_probs = log_probs.masked_fill(trie.levels[step - 1].over[nodes][..., None], 0.0)
            entries = level.entry(nodes[..., None], torch.arange(level.width, device=device))
            told = torch.stack([log_probs.float(), *(part.log(step, nodes, entries) for part in said)], dim=-1)
            told = torch.where(exists[..., None], told, 0.0)
            child = level.child(nodes, answers[:, step : step + 1])
            wanted = exists & (entries == child[..., None])
            parts[step].append(
                (told[:, 0].double().cpu().numpy(), wanted[:, 0].cpu().numpy(), exists[:, 0].cpu().numpy())
            )
            nodes = child
    back = np.argsort(np.concatenate(order))
    return [tuple(np.concatenate(column)[back] for column in zip(*level, strict=True)) for level in parts]  # type: ignore[misc]


def _likelihoods(x: np.ndarray, wanted: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """The mean log-probability of the wanted child by each feature alone, normalised over the children."""
    values = np.where(alive[..., None], x, -np.inf)
    peak = values.max(axis=1, keepdims=True)
    normal = np.log(np.exp(values - peak).sum(axis=1)) + peak[:, 0]
    return np.asarray((np.where(wanted[..., None], x, 0.0).sum(axis=1) - normal).mean(axis=0))
