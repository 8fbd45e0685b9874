"""The stage ``rerank``: two stages as industry has them (Covington et al., RecSys 2016), without a tokenizer.

Its parts (counts, titles, a network …) propose candidates, and boosted trees order these by what the parts and the
history say of each. Trees must not see scores of a part that was fitted on the very purchase to be told: train's users
are divided into folds, every part is fitted once without each fold, and a fold's rows are scored by the parts that have
not seen its users. At the end the parts are fitted on all of train. Valid stops the trees, and is fitted by nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from harness import files
from harness.checks.schemas import Schema
from harness.components import Context, ItemScorer, Part
from harness.data.dataset import Histories, Samples
from harness.errors import BenchError, NoTexts
from harness.evaluation.crossfit import crossed
from harness.settings import setting

from . import ordering
from .candidates import Catalogue, Proposers
from .ordering import Table, Trees, TreeSettings

FITTED = "fitted.json"
"""What a fitted part leaves, so that a killed stage does not fit it again."""
FOLDS = "folds"
"""The folder of what is fitted without a fold; it goes when the trees are there."""
MOST = 10_000
"""Candidates of a history that LightGBM takes."""
LEAST_ROWS = 20
"""Train rows with their target among the candidates that trees need at least."""


@dataclass(frozen=True)
class Settings(TreeSettings):
    """Settings of candidates, folds and trees."""

    candidates: Annotated[int, Ge(1)] = setting(60, "items that each part proposes, and their sum")
    folds: Annotated[int, Ge(2)] = setting(3, "parts of train's users, each scored by what the others taught")
    rows: Annotated[int, Ge(0)] = setting(
        12000, "train samples that the trees learn from, and valid samples that stop them, drawn once; 0: all"
    )


class Fitted(Schema):
    """``fitted.json``."""

    facts: dict[str, Any]


class RerankTrainer:
    """Stage trainer ``rerank``."""

    Settings = Settings
    distributed = False
    small = {"candidates": 10, "folds": 2, "trees": 20, "least": 5}

    def __init__(self, settings: Settings):
        self.settings = settings
        ordering.check_engine(settings.engine)

    def check(self, context: Context) -> None:
        """The parts must fit the data; one that needs texts is left out where there are none."""
        users = context.dataset.n_users
        if users < self.settings.folds:
            raise BenchError(
                f"rerank.folds = {self.settings.folds}, and train has {users} users; set rerank.folds={max(2, users)}"
                if users > 1 else "rerank fits its parts without some of train's users, and train has one; take hybrid"
            )  # fmt: skip
        if not len(context.valid):
            raise BenchError("rerank stops its trees on valid, and valid has no sample; take hybrid")
        parts = self._parts(context, say=True)
        if FOLDS in parts:
            raise BenchError(f"rerank.parts.{FOLDS}: that is the folder of the folds; call the part otherwise")
        asked = self.settings.candidates
        most = min((len(parts) + 1) * asked, len(context.items))
        if most > MOST and self.settings.engine == "lightgbm":
            raise BenchError(f"rerank.candidates = {asked}: up to {most:,} a history, and LightGBM takes {MOST:,}")
        within = context.over(np.arange(len(context.train)))  # as a fold will be: no part may know more of train
        for part in parts.values():
            part.anew(context).check(within)

    def fit(self, context: Context) -> dict[str, Any]:
        """Fit the parts, fold by fold and on all of train; then the trees."""
        settings, parts = self.settings, self._parts(context)
        others = {key: part.anew(context) for key, part in parts.items()}
        halves = crossed(context.dataset, settings.folds, settings.rows, context.seed)
        tables = []
        with context.progress.bar(settings.folds + 1, "rerank", "fold") as bar:
            for number, (left, rows) in enumerate(halves):
                within = context.on(left, f"{FOLDS}/{number}")
                if len(rows):
                    proposers, _ = self._fitted(within, others)
                    tables.append(_table(proposers, context.train.take(rows).of_strangers(), targets_only=True))
                bar.update()
            proposers, facts = self._fitted(context, parts)
            bar.update()
        train = _joined(tables)
        if len(train.sizes) < LEAST_ROWS:
            raise BenchError(
                f"rerank: of {train.rows:,} train rows {len(train.sizes)} have their target among the candidates, and "
                f"trees need {LEAST_ROWS}; raise rerank.candidates or rerank.rows"
            )
        valid = _table(proposers, context.valid.drawn(settings.rows, context.seed))
        trees, gains = ordering.fit(train, valid, settings, context.seed, proposers.names)
        ordering.save(trees, context.directory)
        shutil.rmtree(context.directory / FOLDS, ignore_errors=True)
        left_out = sorted(set(context.parts) - set(parts))
        best = sorted(gains.items(), key=lambda named: -named[1])
        return {
            "rows": train.rows,
            "rows with their target among the candidates": len(train.sizes),
            "trees": trees.count,
            **({"parts left out for want of texts": ", ".join(left_out)} if left_out else {}),
            "importance": {name: round(gain, 4) for name, gain in best},
            "parts": facts,
        }

    def load(self, context: Context) -> Reranked:
        """The parts, and the trees over them."""
        fitted = [key for key in context.parts if (context.directory / key / FITTED).exists()]
        models = {key: context.parts[key].load(context) for key in fitted}
        catalogue = Catalogue.of(context.items, context.train)
        proposers = Proposers(models, catalogue, self.settings.candidates)
        return Reranked(proposers, ordering.load(context.directory, len(proposers.names)))

    def _parts(self, context: Context, say: bool = False) -> dict[str, Part]:
        """The parts that can be fitted on this data."""
        found: dict[str, Part] = {}
        for key in context.parts:
            try:
                context.parts[key].check(context)
            except NoTexts as error:
                if context.strict:
                    raise
                if say:
                    context.progress.say(f"rerank: part {key} is left out: {error.message}")
                continue
            found[key] = context.parts[key]
        if not found:
            raise BenchError("rerank has no part that proposes candidates; name some, parts: {chain: skip-markov}")
        return found

    def _fitted(self, context: Context, parts: Mapping[str, Part]) -> tuple[Proposers, dict[str, Any]]:
        """The parts, fitted on the context's train, and what they say of it; those that are there from before stay."""
        models: dict[str, ItemScorer] = {}
        told: dict[str, Any] = {}
        for key, part in parts.items():
            mark = context.within(key).directory / FITTED
            if not mark.exists():
                files.write_text(mark, json.dumps({"facts": part.fit(context)}, default=str))
            told[key] = files.read_json(mark, schema=Fitted)["facts"]
            models[key] = part.load(context)
            if not hasattr(models[key], "score"):
                raise BenchError(f"rerank.parts.{key} scores no items; name a method that does, such as skip-markov")
        return Proposers(models, Catalogue.of(context.items, context.train), self.settings.candidates), told


@dataclass(frozen=True)
class Reranked:
    """An :class:`~harness.components.ItemScorer`: candidates by the trees, the rest below by the parts' sum."""

    proposers: Proposers
    trees: Trees

    def score(self, histories: Histories) -> np.ndarray:
        """``[n, n_items]`` float64."""
        parts = []
        for _, found in self.proposers.of_each(histories):
            ordered, rest = self.trees.scores(found.features), found.rest.astype(np.float64)
            least = np.full((len(rest), 1), np.inf)
            np.minimum.at(least[:, 0], found.rows, ordered)
            scores = rest - rest.max(axis=1, keepdims=True) + least - 1  # below all candidates
            scores[found.rows, found.items] = ordered
            parts.append(scores)
        return np.concatenate(parts)


def _table(proposers: Proposers, samples: Samples, targets_only: bool = False) -> Table:
    """The candidates of samples; with `targets_only` those of rows whose target is among them."""
    features, target, sizes = [], [], []
    for rows, found in proposers.of_each(samples.histories):
        wanted = samples.targets[rows]
        own = found.items == wanted[found.rows]
        kept = np.ones(len(wanted), dtype=bool)
        if targets_only:
            kept = np.bincount(found.rows[own], minlength=len(wanted)) > 0
        chosen = kept[found.rows]
        features.append(found.features[chosen])
        target.append(own[chosen])
        sizes.append(np.bincount(found.rows, minlength=len(wanted))[kept])
    return Table(np.concatenate(features), np.concatenate(target), np.concatenate(sizes), len(samples))


def _joined(tables: list[Table]) -> Table:
    parts = [np.concatenate([getattr(table, key) for table in tables]) for key in ("features", "target", "sizes")]
    return Table(*parts, sum(table.rows for table in tables))
