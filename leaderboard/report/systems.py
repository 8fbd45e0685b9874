"""What a report's columns are: a stage of a recorded run, or of several seeds of one recipe.

It knows records; it writes nothing.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.data import versions
from harness.errors import BenchError
from harness.evaluation.measure import MEASURED
from harness.evaluation.segments import BOUGHT
from harness.evaluation.statistics import Interval, Runs
from harness.evaluation.statistics import intervals as statistics_of

from ..record import Record

TARGETS_ALONE = "times the target is a train target"
"""What records of before version 2 of the measuring count under the name of purchases."""


@dataclass(frozen=True)
class Recipe:
    """The runs of one recipe, which differ by seed only, in order of seed.

    Attributes:
        name: its name in the report.
        records: one a seed.
    """

    name: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """The run of the first seed, for what all share."""
        return self.records[0]

    @cached_property
    def deterministic(self) -> bool:
        """Whether it says that every seed gives the same, and its runs do not say otherwise."""
        said = all(record.deterministic for record in self.records)
        return said and len({record.result for record in self.records}) == 1

    @property
    def contradicted(self) -> bool:
        """Whether it says that every seed gives the same, and its seeds differ."""
        return all(record.deterministic for record in self.records) and not self.deterministic

    @property
    def stages(self) -> list[str]:
        """The stages that every run has."""
        return [stage for stage in self.first.stages if all(stage in record.stages for record in self.records)]


@dataclass(frozen=True)
class System:
    """A stage of a recipe; its numbers are means over the recipe's seeds.

    Attributes:
        name: its name in tables.
        recipe: the runs.
        stage: the stage's name.
    """

    name: str
    recipe: Recipe
    stage: str

    @property
    def is_last(self) -> bool:
        """Whether it is its recipe's last stage."""
        return self.stage == self.recipe.stages[-1]

    def values(self, protocol: str, metric: str) -> list[float]:
        """A metric of each seed."""
        each = [record.metrics(protocol, self.stage).get(metric) for record in self.recipe.records]
        return [value for value in each if value is not None]

    def metric(self, protocol: str, metric: str) -> float | None:
        """A metric, the mean over seeds."""
        values = self.values(protocol, metric)
        return statistics.fmean(values) if values else None

    @cached_property
    def _known(self) -> dict[tuple[str, tuple[str, ...]], Runs | None]:
        return {}

    def runs(self, protocol: str, only: Collection[str] = ()) -> Runs | None:
        """Each run's value of each sample, and the samples' users; None where a run lacks them.

        Args:
            only: these metrics.
        """
        key = (protocol, tuple(only))
        if key not in self._known:
            self._known[key] = self._runs(protocol, only)
        return self._known[key]

    def _runs(self, protocol: str, only: Collection[str]) -> Runs | None:
        records = self.recipe.records
        ranks = [record.ranks(protocol, self.stage) for record in records]
        values = [one.values(only) for one in ranks if one is not None]
        if not values or len(values) < len(ranks) or len({len(one) for one in ranks if one is not None}) > 1:
            return None
        known = [record.users for record in records]
        users = next((one for one in known if one is not None), None)  # of the same data they are the same
        named = [name for name in values[0] if all(name in one for one in values)]
        stacked = {name: np.stack([one[name] for one in values]) for name in named}
        return Runs(stacked, users, self.recipe.deterministic) if stacked else None

    def interval(self, protocol: str, metric: str) -> Interval | None:
        """A metric's 95 % interval over users and seeds, as far as the records tell them apart."""
        runs = self.runs(protocol, (metric,))
        found = statistics_of(runs)[metric] if runs is not None and metric in runs.values else None
        return None if found is None or np.isnan(found.low) else found  # one user says nothing of others

    @property
    def scope(self) -> str:
        """What its intervals account for."""
        runs = self.runs("item", ("HR@10",)) or self.runs("sid", ("HR@10",))
        return runs.scope if runs is not None else ""

    def samples(self, protocol: str, only: Collection[str] = ()) -> dict[str, np.ndarray]:
        """``{metric: [n]}`` each sample's values, averaged over seeds; empty where a run lacks them."""
        runs = self.runs(protocol, only)
        return {name: values.mean(axis=0) for name, values in runs.values.items()} if runs is not None else {}

    @cached_property
    def levels(self) -> dict[str, Any]:
        """The per-level analysis, averaged over seeds; empty without SIDs."""
        each = [record.stages[self.stage].get("levels") for record in self.recipe.records]
        return _mean([levels for levels in each if levels]) if all(each) else {}

    @cached_property
    def segments(self) -> dict[str, Any]:
        """Metrics by segment, averaged over seeds."""
        stages = [record.stages[self.stage] for record in self.recipe.records]
        each = [stage.get("segments") for stage in stages]
        if not all(each):
            return {}
        old = [stage.get(MEASURED, 1) < 2 for stage in stages]
        named = [
            {TARGETS_ALONE if key == BOUGHT and before else key: part for key, part in parts.items()}
            for parts, before in zip(each, old, strict=True)
            if parts
        ]
        return _mean(named)

    @cached_property
    def beyond(self) -> dict[str, float]:
        """What its lists are like beyond accuracy, averaged over seeds; empty where a run was not measured for it."""
        each = [record.stages[self.stage].get("beyond accuracy") or {} for record in self.recipe.records]
        return {name: _mean([one[name] for one in each]) for name in each[0] if all(name in one for one in each)}

    @property
    def invalid(self) -> int | None:
        """CC, of all seeds together."""
        each = [record.stages[self.stage].get("invalid") for record in self.recipe.records]
        return sum(value for value in each if value is not None) if any(v is not None for v in each) else None


def recipes(records: Sequence[Record]) -> list[Recipe]:
    """The recipes among records, in their order: what shares a label and differs by seed only.

    Two of one label are told apart by the hash of settings, data, SIDs and origin. Two runs of one seed that share it
    and yet gave different results (other code, other threads) are two recipes, named by where they stand; a record and
    its copy are one.
    """
    counted = Counter(record.label for record in records)
    groups: dict[tuple[str, str, int], dict[int, Record]] = {}
    for record in records:
        variant = record.variant if counted[record.label] > 1 else ""
        for number in itertools.count():
            known = groups.setdefault((record.label, variant, number), {})
            twin = known.setdefault(record.seed, record)
            if twin is record or twin.result == record.result:
                break
    variants = Counter((label, variant) for label, variant, _ in groups)
    labels = Counter(label for label, _ in variants)
    told_apart = []
    for (label, variant, _), by_seed in groups.items():
        name = label if labels[label] == 1 else f"{label} {variant}"
        ordered = tuple(record for _, record in sorted(by_seed.items()))
        told_apart.append(Recipe(name if variants[label, variant] == 1 else f"{name} ({ordered[0].place})", ordered))
    return told_apart


def same_versions(records: Sequence[Record]) -> None:
    """Records that share a table must stand on one version of data, split and protocol.

    Raises:
        BenchError: they do not, or a version is not known.
    """
    first = records[0]
    for record in records:
        versions.checked(record.ground)
        for reason in versions.differs(record.ground, first.ground).values():
            raise BenchError(
                f"{record.place} stands on another version or setting than {first.place} ({reason}); their numbers do "
                f"not compare ({versions.MEND})"
            )


def systems(found: Sequence[Recipe]) -> list[System]:
    """Every stage of every recipe; with one recipe a stage is named by itself."""
    return [
        System(
            stage.upper() if len(found) == 1 else recipe.name if len(recipe.stages) == 1 else f"{recipe.name} {stage}",
            recipe,
            stage,
        )
        for recipe in found
        for stage in recipe.stages
    ]


def _mean(found: list[Any]) -> Any:
    """Nested dicts of numbers, averaged; None where one is None."""
    if isinstance(found[0], dict):
        keys = dict.fromkeys(key for other in found for key in other)
        return {key: _mean([other[key] for other in found if key in other]) for key in keys}
    return None if any(value is None for value in found) else statistics.fmean(found)
