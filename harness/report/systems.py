"""What a report's columns are: a stage of a recorded run, or of several seeds of one recipe.

It knows records; it writes nothing.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.record import Record


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
        found = [record.metrics(protocol, self.stage).get(metric) for record in self.recipe.records]
        return [value for value in found if value is not None]

    def metric(self, protocol: str, metric: str) -> float | None:
        """A metric, the mean over seeds."""
        values = self.values(protocol, metric)
        return statistics.fmean(values) if values else None

    def interval(self, protocol: str, metric: str) -> tuple[float, float] | None:
        """The 95 % interval over test samples, its bounds averaged over seeds."""
        found = [record.interval(protocol, metric, self.stage) for record in self.recipe.records]
        bounds = [pair for pair in found if pair]
        return (statistics.fmean(b[0] for b in bounds), statistics.fmean(b[1] for b in bounds)) if bounds else None

    def samples(self, protocol: str, only: Collection[str] = ()) -> dict[str, np.ndarray]:
        """``{metric: [n]}`` each sample's values, averaged over seeds; empty where a run lacks them."""
        ranks = [record.ranks(protocol, self.stage) for record in self.recipe.records]
        values = [found.values(only) for found in ranks if found is not None]
        if not values or len(values) < len(ranks):
            return {}
        if len(values) == 1:
            return values[0]
        return {name: np.mean([seed[name] for seed in values], axis=0) for name in values[0]}

    @cached_property
    def levels(self) -> dict[str, Any]:
        """The per-level analysis, averaged over seeds; empty without SIDs."""
        found = [record.stages[self.stage].get("levels") for record in self.recipe.records]
        return _mean([levels for levels in found if levels]) if all(found) else {}

    @cached_property
    def segments(self) -> dict[str, Any]:
        """Metrics by segment, averaged over seeds."""
        found = [record.stages[self.stage].get("segments") for record in self.recipe.records]
        return _mean([segments for segments in found if segments]) if all(found) else {}

    @property
    def invalid(self) -> int | None:
        """CC, of all seeds together."""
        found = [record.stages[self.stage].get("invalid") for record in self.recipe.records]
        return sum(value for value in found if value is not None) if any(v is not None for v in found) else None


def recipes(records: Sequence[Record]) -> list[Recipe]:
    """The recipes among records, in their order; two of one label are told apart by their settings' hash."""
    counted = Counter(record.label for record in records)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        variant = record.variant if counted[record.label] > 1 else ""
        groups.setdefault((record.label, variant), []).append(record)
    labels = [label for label, _ in groups]
    return [
        Recipe(
            label if labels.count(label) == 1 else f"{label} {variant}",
            tuple(sorted({record.seed: record for record in found}.values(), key=lambda r: r.seed)),
        )
        for (label, variant), found in groups.items()
    ]


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
        return {key: _mean([other[key] for other in found if key in other]) for key in found[0]}
    return None if any(value is None for value in found) else statistics.fmean(found)
