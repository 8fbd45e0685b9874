"""The stage ``minionerec-counts``: what counts and titles say of the next token, inside constrained decoding.

Item scorers (its parts) and copying are put together by a conditional logit over items (:mod:`.item_logit`), whose
weights are learnt from train rows, each scored by parts that have not seen its user. The logit's probability of an item
is summed over the items of each subtree of the semantic IDs, so that it says something of each next token: the step to
a child of a node scores

    w₀ · log p_LM(child) + w₁ · log(the logit's mass under the child / its mass under the node) + the head's, by w₂.

The head is a dense one on the language model's state (:mod:`.dense_head`), its masses as the logit's. The steps add up
to w₀ · log p_LM(SID) + w₁ · log p_logit(SID) + w₂ · log p_head(SID), a product of experts over whole SIDs. Logit and
head also tell the items of one SID apart, so that items are ranked. The product is not normalised again at each node:
that would make a step from a node of few children cheap whatever all say of it (label bias, Lafferty et al. 2001).

With w₀ = 0 and no head the model is the logit, and with the logit's weight on one part alone it ranks as that part: it
contains them. The weights are learnt on train rows that neither the language model nor the parts have seen; then the
parts are fitted on all of train. The same beams decode it, and ``exact`` is their oracle.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge

from harness import files
from harness.checks.schemas import Finite, Schema
from harness.components import Context, ItemScorer, Part
from harness.data.dataset import Samples
from harness.decoding.generator import trie_of
from harness.decoding.search import MixtureSettings, proposals
from harness.errors import BenchError
from harness.evaluation.crossfit import crossed
from harness.language.holdout import left_before, of_held_out
from harness.settings import setting

from . import dense_head
from .built_on import LEAST, generator_before, scorer_of
from .counting import Counting
from .item_logit import ItemLogit, choices, fitted
from .logit import conditional_logit

FOUND = "counts.json"
WITHIN = "held-in"
"""The folder of the parts that have not seen the held-out rows; it goes when the weights are there."""
FOLDS = "folds"
EXPERTS = ("language model", "logit", "head")


class FoundCounts(Schema):
    """``counts.json``: the weights of the logit's features, and of the language model and the logit."""

    parts: list[str]
    logit: dict[str, Finite]
    language_model_weight: Finite
    logit_weight: Finite
    head_weight: Finite = 0.0


@dataclass(frozen=True)
class Settings:
    """What the weights are learnt from."""

    folds: Annotated[int, Ge(2)] = setting(3, "parts of train's users, each scored by what the others taught")
    rows: Annotated[int, Ge(0)] = setting(6000, "train samples that the logit's weights are learnt from; 0: all")
    candidates: Annotated[int, Ge(1)] = setting(
        100, "best items of each part that a sample's softmax is over, and SIDs that model and logit propose each"
    )
    drawn: Annotated[int, Ge(1)] = setting(200, "items at random that stand for all others in it")
    ridge: Annotated[float, Ge(0)] = setting(1e-3, "penalty of the squared weights of standardised features")
    model: bool = setting(True, "whether the language model has a weight; false is the ablation: the parts alone")
    head: bool = setting(
        False, "a dense head on the model's states, a third expert beside both", ("model is true", lambda s: s.model)
    )
    items: bool = setting(False, "rank items, which logit and head tell apart on one SID; false: SIDs")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept")


class CountsTrainer:
    """Stage trainer ``minionerec-counts``; its parts are what counts."""

    Settings = Settings
    distributed = False
    small: ClassVar[dict[str, Any]] = {"folds": 2, "rows": 200, "candidates": 20, "drawn": 20}

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, context: Context) -> None:
        """There must be a model before that has left train rows, and parts that fit the data."""
        if context.previous is None:
            raise BenchError(f"stage {context.stage} needs a stage before it that trains a language model")
        if not list(context.parts):
            raise BenchError(f"stage {context.stage} has no parts; name some in its recipe: parts: [skip-markov]")
        held_in = context.over(np.flatnonzero(~self._held_out(context)))  # no part may know more of train
        for key in context.parts:
            context.parts[key].check(context)
            context.parts[key].anew(context).check(held_in)

    def fit(self, context: Context) -> dict[str, Any]:
        """The logit's weights across folds, the experts' on the rows that SFT left, then the parts on all of train."""
        out = self._held_out(context)
        within = context.on(np.flatnonzero(~out), WITHIN)
        unfitted = {key: context.parts[key].anew(context) for key in context.parts}
        with context.progress.bar(self.settings.folds + 3, context.stage, "fit") as bar:
            weights, rows = self._across_folds(within, unfitted, bar.update)
            logit = _logit(within, unfitted, weights)
            bar.update()
            strangers = context.train.take(np.flatnonzero(out)).of_strangers()
            generator, head, of_head = generator_before(context, self.settings.cutoff), None, {}
            if self._headed:
                head, facts = dense_head.fitted(generator, within)
                head.save(context.directory)
                of_head = {"head": facts}
            bar.update()
            model = Counting(generator, logit, (1.0, 1.0, 1.0), head)
            experts, gains = self._experts(context, model, strangers)
            for key in context.parts:
                context.parts[key].fit(context)
            bar.update()
        shutil.rmtree(context.directory / WITHIN, ignore_errors=True)
        named = dict(zip(logit.names, weights.tolist(), strict=True))
        saved = {
            "parts": list(unfitted),
            "logit": named,
            "language_model_weight": experts[0],
            "logit_weight": experts[1],
            "head_weight": experts[2],
        }
        files.write_json(context.directory / FOUND, saved)
        return {
            "rows of the logit": rows,
            "weights of the logit": {name: round(value, 4) for name, value in named.items()},
            "held-out users": len(set(context.train.user_numbers[out].tolist())),
            "held-out rows": len(strangers),
            "weights": dict(zip(EXPERTS, (round(value, 4) for value in experts), strict=True)),
            **of_head,
            **gains,
        }

    def load(self, context: Context) -> Counting:
        """The model before, with its counts inside."""
        path = context.directory / FOUND
        saved = files.read_json(path, schema=FoundCounts)
        parts = {key: context.parts[key] for key in context.parts}
        weights = np.array(list(saved["logit"].values()))
        logit = _of_parts(context, {key: scorer_of(part, context) for key, part in parts.items()}, weights)
        if list(saved["logit"]) != logit.names:
            raise BenchError(
                f"{path} has weights of {', '.join(saved['parts'])}, and the stage's parts are {', '.join(parts)}; run "
                "the method again"
            )
        generator = generator_before(context, self.settings.cutoff)
        head = None
        if self._headed:
            head = dense_head.DenseHead.load(generator, context.directory, len(context.items), context.device)
        weights_of = (saved["language_model_weight"], saved["logit_weight"], saved.get("head_weight", 0.0))
        return Counting(generator, logit, weights_of, head, self.settings.items)

    @property
    def _headed(self) -> bool:
        return self.settings.head and self.settings.model

    def _across_folds(
        self, context: Context, parts: Mapping[str, Part], done: Callable[[], Any]
    ) -> tuple[np.ndarray, int]:
        """The weights of the logit, and how many rows they are from; each is scored by parts that know no such user."""
        settings, found = self.settings, []
        halves = crossed(context.dataset, settings.folds, settings.rows, context.seed)
        for number, (others, rows) in enumerate(halves):
            if len(rows) and len(others):
                logit = _logit(context.on(others, f"{FOLDS}/{number}"), parts, np.zeros(0))
                own = context.train.take(rows).of_strangers()
                found.append(choices(logit, own, settings.candidates, settings.drawn, context.seed))
            done()
        if not found:
            raise BenchError(
                f"stage {context.stage} divides train's users into {settings.folds} folds, and the held-in rows are of "
                f"{context.dataset.n_users}; more users are needed, or take method minionerec-sft"
            )
        return fitted(found, settings.ridge), sum(len(part.wanted) for part in found)

    def _held_out(self, context: Context) -> np.ndarray:
        """Which train samples the stages before have left: what the weights are learnt on."""
        name, share = left_before(context)
        if not share:
            raise BenchError(
                f"stage {context.stage} learns its weights on train rows that the stages before have not seen, and "
                "none leaves any; set --set sft.holdout=0.1"
            )
        spoilt = [
            other for other, one in context.earlier.items() if other != name and getattr(one, "rows", "") != "same"
        ]
        if spoilt:
            raise BenchError(
                f"stage {spoilt[0]} learns from the rows that {name} leaves, so that {context.stage} has none that the "
                f"model has not seen; set --set {spoilt[0]}.rows=same"
            )
        out = of_held_out(context.train, share, context.seed)
        if not out.any() or out.all():
            raise BenchError(f"{name}.holdout = {share:g} leaves no row to learn weights on; raise it")
        return out

    def _experts(
        self, context: Context, model: Counting, rows: Samples
    ) -> tuple[tuple[float, float, float], dict[str, Any]]:
        """The weights under which held-out targets are the likeliest of what both propose, and what is said of it."""
        targets = model.semantic_ids.of_item[rows.targets]
        proposed = MixtureSettings(candidates=self.settings.candidates, beams=1)
        told, wanted, alive = [], [], []
        trie = trie_of(model, context.device)
        with torch.inference_mode():
            for batch, found in proposals(model, rows.histories, trie, proposed, context.device):
                there = ~torch.isneginf(found.memory)
                each = model.told(found, rows.histories.take(batch), trie).masked_fill(~there[..., None], 0.0)
                told.append(each.double().clamp(min=LEAST).cpu().numpy())
                alive.append(there.cpu().numpy())
                wanted.append((trie.leaves[found.leaves].cpu().numpy() == targets[batch, None]) & alive[-1])
        x, y, ok = (np.concatenate(column) for column in (told, wanted, alive))
        if not y.any():
            raise BenchError(
                f"stage {context.stage}: of {len(rows)} held-out rows none has its target among the "
                f"{self.settings.candidates} best of the model or of its parts; raise sft.holdout or counts.candidates"
            )
        if not self.settings.model:
            x[..., 0] = 0.0
        own, other, head = no_less_than_0(x, y, ok, self.settings.ridge)
        return (own, other, head), {"share of held-out targets proposed": round(float(y.any(axis=1).mean()), 4)}


def no_less_than_0(x: np.ndarray, wanted: np.ndarray, there: np.ndarray, ridge: float) -> list[float]:
    """Weights of experts: one that would count against what it says is left out."""
    while (found := conditional_logit(x, wanted, there, ridge)).min() < 0:
        x = np.where(np.arange(x.shape[-1]) == found.argmin(), 0.0, x)
    return [float(value) for value in found]


def _logit(context: Context, parts: Mapping[str, Part], weights: np.ndarray) -> ItemLogit:
    """The logit over parts that are fitted on the context's train."""
    for part in parts.values():
        part.fit(context)
    return _of_parts(context, {key: scorer_of(part, context) for key, part in parts.items()}, weights)


def _of_parts(context: Context, scorers: Mapping[str, ItemScorer], weights: np.ndarray) -> ItemLogit:
    return ItemLogit.of(scorers, context.train, len(context.items), weights)
