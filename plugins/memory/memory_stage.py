"""The stage ``minionerec-memory``: counts and titles beside the language model, weighed on valid.

The model is the stage before's, unchanged. Item-scoring methods are fitted on train, and two ways put
them together with it, both decoded by ``mixture``:

- ``blend``: a conditional logit over a few features of a candidate (the model's log-probability, each
  memory's score, whether it was bought before, popularity), its weights fitted on valid;
- ``mixture``: kNN-LM's interpolation of probabilities, weight and temperature from a grid on valid.

Both are fitted on valid, so a valid metric of the result would flatter it: what is recorded, and chosen by, is the
cross-validated one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt, Le

from harness import files
from harness.checks.schemas import Finite, Schema, Share
from harness.components import Context, ItemScorer
from harness.data.dataset import Histories, Samples
from harness.data.semantic_ids import SemanticIds
from harness.decoding.generator import Generator, trie_of
from harness.decoding.mixture import Candidates, mixed
from harness.decoding.search import MixtureSettings, proposals
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.evaluation.folds import FOLDS, folds, out_of_sample
from harness.evaluation.target_ranks import TargetRanks, sizes_left
from harness.evaluation.validation import OUT, PROBED
from harness.settings import setting

from .built_on import generator_before, scorer_of, sid_log_probs
from .logit import conditional_logit

FOUND = "memory.json"


class FoundBlend(Schema):
    """``memory.json`` of a blend."""

    coefficients: list[Finite]


class FoundMixture(Schema):
    """``memory.json`` of a mixture."""

    weight: Share
    temperature: Annotated[float, Gt(0), Le(1e6)]


LEAST = -20.0
"""The least log-probability of the model that a blend tells apart."""


DEFAULT_PARTS = ("hybrid", "skip-markov", "tfidf")
BLENDED = ("combine is blend", lambda s: s.combine == "blend")
MIXED = ("combine is mixture", lambda s: s.combine == "mixture")


@dataclass(frozen=True)
class Settings:
    """What is remembered, and how it is weighed."""

    combine: Literal["blend", "mixture"] = setting("blend", "a logit over features, or kNN-LM's interpolation")
    memory: str = setting("hybrid", "which of the stage's parts proposes candidates; the others' scores are features")
    model: bool = setting(
        True, "whether a blend sees the language model's log-probability; false is the ablation", BLENDED
    )
    ridge: float = setting(1e-3, "penalty of a blend's squared weights", BLENDED)
    weights: list[float] = setting(
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        "weights of the memory that a mixture tries, 0 to 1",
        MIXED,
    )
    temperatures: list[float] = setting(
        [0.05, 0.1, 0.15, 0.2, 0.3, 0.5],
        "temperatures of the memory's softmax that a mixture tries",
        MIXED,
    )
    candidates: int = setting(100, "SIDs that model and memory propose each while fitting")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept")
    select: Literal["NDCG@10", "HR@10"] = setting("NDCG@10", "valid metric that picks a mixture", MIXED)


@dataclass(frozen=True)
class Mixture:
    """Probabilities interpolated with a memory's, `weight` its share."""

    generator: Generator
    memory: ItemScorer
    weight: float
    temperature: float

    def recall(self, histories: Histories) -> np.ndarray:
        """The memory's log-probabilities of SIDs ``[n, n_sids]``."""
        return sid_log_probs(self.memory.score(histories), self.generator.semantic_ids, self.temperature)

    def scores(self, found: Candidates, histories: Histories, trie: Trie) -> torch.Tensor:
        """Log-probabilities of the mixture."""
        return mixed(found, self.weight)


@dataclass(frozen=True)
class Blend:
    """A conditional logit over features of candidates.

    Attributes:
        counts: ``[n_sids, 2]`` how often a SID is a train target, and stands in a train history.
        coefficients: the weight of each feature.
    """

    generator: Generator
    memory: ItemScorer
    parts: dict[str, ItemScorer]
    counts: np.ndarray
    coefficients: np.ndarray

    def recall(self, histories: Histories) -> np.ndarray:
        """The memory's scores of SIDs ``[n, n_sids]``."""
        return self.generator.semantic_ids.best_item(self.memory.score(histories))

    def scores(self, found: Candidates, histories: Histories, trie: Trie) -> torch.Tensor:
        """The logit of each candidate."""
        values = torch.from_numpy(self.features(found, histories, trie) @ self.coefficients)
        return values.to(found.model.device).masked_fill(torch.isneginf(found.memory), float("-inf"))

    def features(self, found: Candidates, histories: Histories, trie: Trie) -> np.ndarray:
        """``[n, candidates, features]`` float64; see :attr:`names`."""
        sids = self.generator.semantic_ids
        leaves = trie.leaves[found.leaves].cpu().numpy()
        columns = [np.clip(found.model.cpu().numpy().astype(np.float64), LEAST, None)]
        for part in self.parts.values():
            score = sids.best_item(part.score(histories)).astype(np.float64)
            share = np.take_along_axis(score / np.maximum(score.max(axis=1, keepdims=True), 1e-12), leaves, 1)
            columns += [share, np.log(1e-3 + share.clip(min=0))]
        bought = np.where(histories.items >= 0, sids.of_item[histories.items], -1)
        columns.append(leaves == sids.of_item[histories.last(1)][:, None])
        columns.append((leaves[:, :, None] == bought[:, None, :]).any(axis=2))
        columns += [np.log1p(self.counts[:, 0])[leaves], np.log1p(self.counts[:, 1])[leaves]]
        return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=2)

    @property
    def names(self) -> list[str]:
        """What the features are."""
        parts = [f"{part}: {form}" for part in self.parts for form in ("share of the row's best", "its logarithm")]
        own = ["is the last item", "was bought before", "log(1 + times a target)", "log(1 + times in a history)"]
        return ["model's log-probability", *parts, *own]


class MemoryTrainer:
    """Stage trainer ``minionerec-memory``; its parts propose candidates, or are a blend's features."""

    Settings = Settings
    distributed = False
    small = {"candidates": 20}

    @staticmethod
    def upgrade(values: dict[str, Any]) -> dict[str, Any]:
        """Settings of older recipes and runs: what proposes stood beside the parts, and both had defaults."""
        parts = values.get("parts") or DEFAULT_PARTS
        named = parts if isinstance(parts, dict) else {key: key for key in parts}
        memory = values.get("memory", "hybrid")
        return values | {"parts": named if memory in named else {memory: memory} | named}

    def __init__(self, settings: Settings):
        self.settings = settings
        if not settings.weights or any(not 0 <= weight <= 1 for weight in settings.weights):
            raise BenchError(f"memory.weights = {settings.weights}: give weights from 0 to 1")
        if not settings.temperatures or any(temperature <= 0 for temperature in settings.temperatures):
            raise BenchError(f"memory.temperatures = {settings.temperatures}: give temperatures above 0")

    def check(self, context: Context) -> None:
        """There must be a model before, and the memories must fit the data."""
        if context.previous is None:
            raise BenchError("stage memory needs a stage before it that trains a language model")
        for key in self._memories(context):
            context.parts[key].check(context)

    def fit(self, context: Context) -> dict[str, Any]:
        """Fit the memories on train, then weigh them on valid."""
        for key in self._memories(context):
            context.parts[key].fit(context)
        fitted = self._fit_blend(context) if self.settings.combine == "blend" else self._fit_mixture(context)
        files.write_json(context.directory / FOUND, fitted)
        plain = {name: value for name, value in fitted.items() if isinstance(value, (int, float, str))}
        return plain | {OUT: fitted[OUT]}

    def load(self, context: Context) -> Blend | Mixture:
        """The model before, with its memory."""
        path = context.directory / FOUND
        if self.settings.combine == "mixture":
            saved = files.read_json(path, schema=FoundMixture)
            return self._mixture(context, saved["weight"], saved["temperature"])
        coefficients = files.read_json(path, schema=FoundBlend)["coefficients"]
        blend = self._blend(context, np.array(coefficients))
        if len(coefficients) != len(blend.names):
            raise BenchError(
                f"{path} has {len(coefficients)} coefficients for {len(blend.names)} features; run the method again"
            )
        return blend

    def _memories(self, context: Context) -> list[str]:
        """The keys of the parts that are used: what proposes, and a blend's features."""
        return [self.settings.memory, *(self._features(context) if self.settings.combine == "blend" else [])]

    def _features(self, context: Context) -> list[str]:
        """The keys of the parts whose scores are features."""
        return [key for key in context.parts if key != self.settings.memory]

    def _fit_blend(self, context: Context) -> dict[str, Any]:
        settings = self.settings
        blend = self._blend(context, np.zeros(0))
        trie = _trie(blend, context)
        features, wanted, alive, sids = [], [], [], []
        order: list[np.ndarray] = []
        for rows, candidates, target in self._proposals(context, blend, trie):
            features.append(blend.features(candidates, context.valid.take(rows).histories, trie))
            alive.append(~torch.isneginf(candidates.memory).cpu().numpy())
            wanted.append(target)
            sids.append(trie.leaves[candidates.leaves].cpu().numpy())
            order.append(rows)
        back = np.argsort(np.concatenate(order))
        x, y, ok, leaves = (np.concatenate(part)[back] for part in (features, wanted, alive, sids))
        if not settings.model:
            x[:, :, 0] = 0.0
        whole = conditional_logit(x, y, ok, settings.ridge)
        fold = folds(context.valid, context.seed)
        scores = np.full(ok.shape, -np.inf)
        for number in range(FOLDS):
            train, test = fold != number, fold == number
            if test.any() and (y & ok)[train].any():
                coefficients = conditional_logit(x[train], y[train], ok[train], settings.ridge)
                scores[test] = np.where(ok[test], x[test] @ coefficients, -np.inf)
        each = self._values(context, scores[None], y & ok, leaves)
        valid = out_of_sample(each, fold, "NDCG@10", "sid")  # one option: nothing to choose
        return {
            "combine": "blend",
            OUT: valid,
            "cross-validated valid NDCG@10": valid["NDCG@10"],
            "cross-validated valid HR@10": valid["HR@10"],
            "share of targets proposed": float((y & ok).any(axis=1).mean()),
            "coefficients": whole.tolist(),
            "features": blend.names,
            "scale": (x[ok].std(axis=0)).tolist(),
        }

    @staticmethod
    def _values(
        context: Context, scores: np.ndarray, wanted: np.ndarray, leaves: np.ndarray
    ) -> dict[str, dict[str, np.ndarray]]:
        """``{protocol: {metric: [options, n]}}`` of candidates scored in several ways ``[options, n, candidates]``."""
        sids = context.needs_semantic_ids("memory")
        bought = context.valid.histories.bought
        sizes = sizes_left(leaves, sids, bought)
        by_item = wanted if bought is None else wanted & ~bought.has(context.valid.targets)[:, None]
        by_protocol: dict[str, dict[str, list[np.ndarray]]] = {"sid": {}, "item": {}}
        for option in scores:
            ranks = {"sid": ranks_of(option, wanted), "item": ranks_of(option, by_item, sizes)}
            for protocol, (before, group) in ranks.items():
                values = TargetRanks(before, group, max(50, scores.shape[2])).values(PROBED)
                for name in PROBED:
                    by_protocol[protocol].setdefault(name, []).append(values[name])
        return {protocol: {n: np.stack(v) for n, v in metrics.items()} for protocol, metrics in by_protocol.items()}

    def _fit_mixture(self, context: Context) -> dict[str, Any]:
        settings, sids = self.settings, context.needs_semantic_ids("memory")
        model = self._mixture(context, 0.5, settings.temperatures[0])
        trie = _trie(model, context)
        options = [(temperature, weight) for temperature in settings.temperatures for weight in settings.weights]
        parts: list[list[np.ndarray]] = [[] for _ in options]
        wanted, known, order = [], [], []
        for rows, candidates, target in self._proposals(context, model, trie):
            leaves, dead = trie.leaves[candidates.leaves], torch.isneginf(candidates.memory)
            scores = model.memory.score(context.valid.take(rows).histories)
            recalled = {
                temperature: torch.from_numpy(sid_log_probs(scores, sids, temperature)).to(leaves.device)
                for temperature in settings.temperatures
            }
            for number, (temperature, weight) in enumerate(options):
                memory = recalled[temperature].gather(1, leaves).masked_fill(dead, float("-inf"))
                parts[number].append(mixed(candidates._replace(memory=memory), weight).cpu().numpy())
            wanted.append(target)
            known.append(leaves.cpu().numpy())
            order.append(rows)
        back = np.argsort(np.concatenate(order))
        scored = np.stack([np.concatenate(part)[back] for part in parts])
        each = self._values(context, scored, np.concatenate(wanted)[back], np.concatenate(known)[back])
        values = each["sid"][settings.select].mean(axis=1)
        best = int(values.argmax())
        valid = out_of_sample(each, folds(context.valid, context.seed), settings.select, "sid")
        grid = values.reshape(len(settings.temperatures), len(settings.weights)).tolist()
        return {
            "combine": "mixture",
            "weight": options[best][1],
            "temperature": options[best][0],
            OUT: valid,
            f"best valid {settings.select}": float(values[best]),
            f"cross-validated valid {settings.select}": valid[settings.select],
            "grid": {"temperatures": settings.temperatures, "weights": settings.weights, "values": grid},
        }

    def _proposals(self, context: Context, model: Blend | Mixture, trie: Trie) -> Any:
        """``(rows of valid, candidates, which one is the target)``, batch by batch."""
        targets = model.generator.semantic_ids.of_item[context.valid.targets]
        decoder = MixtureSettings(candidates=self.settings.candidates)
        for rows, candidates in proposals(model, context.valid.histories, trie, decoder, context.device):
            alive = ~torch.isneginf(candidates.memory).cpu().numpy()
            yield rows, candidates, (trie.leaves[candidates.leaves].cpu().numpy() == targets[rows, None]) & alive

    def _mixture(self, context: Context, weight: float, temperature: float) -> Mixture:
        return Mixture(
            generator_before(context, self.settings.cutoff),
            scorer_of(context.parts[self.settings.memory], context),
            weight,
            temperature,
        )

    def _blend(self, context: Context, coefficients: np.ndarray) -> Blend:
        parts = {key: scorer_of(context.parts[key], context) for key in self._features(context)}
        sids = context.needs_semantic_ids("memory")
        memory = scorer_of(context.parts[self.settings.memory], context)
        return Blend(
            generator_before(context, self.settings.cutoff), memory, parts, _counts(context.train, sids), coefficients
        )


def ranks_of(scores: np.ndarray, wanted: np.ndarray, sizes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """How many candidates stand before the wanted one of each row (inf where it is none of them), and its group.

    Equal scores share the ranks that they stand on (:class:`harness.evaluation.target_ranks.TargetRanks`).

    Args:
        scores, wanted: ``[n, candidates]``.
        sizes: what each candidate counts for, e.g. the items on its SID; None: 1.
    """
    target = np.take_along_axis(scores, wanted.argmax(axis=1)[:, None], axis=1)
    weights, found = (1 if sizes is None else sizes), wanted.any(axis=1)
    before = np.where(found, ((scores > target) * weights).sum(axis=1).astype(float), np.inf)
    return before, np.where(found, ((scores == target) * weights).sum(axis=1), 1).astype(np.int64)


def _counts(train: Samples, semantic_ids: SemanticIds) -> np.ndarray:
    """How often each SID is a train target, and stands in a train history ``[n_sids, 2]``."""
    n = len(semantic_ids.distinct)
    bought = train.histories.items[train.histories.items >= 0]
    columns = [np.bincount(semantic_ids.of_item[items], minlength=n) for items in (train.targets, bought)]
    return np.column_stack(columns)


def _trie(model: Blend | Mixture, context: Context) -> Trie:
    return trie_of(model.generator, context.device)
