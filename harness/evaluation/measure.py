"""Measuring: rankings of a split's samples → the entries of a record. It trains nothing and reads no files."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.dataset import Dataset, Items, Samples
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.evaluation.statistics import Interval, of_one_run
from harness.evaluation.target_ranks import Protocol, TargetRanks

if TYPE_CHECKING:
    from harness.plugins import Plugins

BAYES = "Bayes-optimal"
MEASURED = "measured"
"""The key of the measuring's version in a stage's entry; without it, 1."""
FIRST_MEASURED = "first measured"
"""The key of the version that it was first measured at, where it was measured again since: near to when it was made."""
VERSION = 3
"""3: equal scores share their expected rank, intervals are of users.
2: segments count a user's first purchase too, intervals are free of the order of samples, and a candidate outside
the catalogue takes its rank under the item protocol as well."""


@dataclass(frozen=True)
class Evaluated:
    """What a metric sees: rankings, the samples that they are of, and what is known of items and train.

    Attributes:
        samples: the samples, targets included, in the order of the rankings.
        train: the train samples, for what counts purchases or knows users.
        semantic_ids: those of the run, or None.
    """

    rankings: Rankings
    samples: Samples
    items: Items
    train: Samples
    semantic_ids: SemanticIds | None = None

    @property
    def targets(self) -> np.ndarray:
        """``[n]`` item ids."""
        return self.samples.targets

    @cached_property
    def ranks(self) -> Mapping[str, TargetRanks]:
        """Where the targets stand, by protocol; ``sid`` only where there are semantic IDs."""
        return TargetRanks.of_each(self.rankings, self.targets, self.semantic_ids, self.samples.histories.bought)

    @cached_property
    def intervals(self) -> Mapping[str, Mapping[str, Interval]]:
        """95 % intervals of this run, by protocol and metric; none where all samples are one user's."""
        users = self.samples.user_numbers
        each = {protocol: of_one_run(ranks.values(), users) for protocol, ranks in self.ranks.items()}
        return {protocol: found for protocol, found in each.items() if found}

    @classmethod
    def test(cls, rankings: Rankings, dataset: Dataset, semantic_ids: SemanticIds | None) -> Evaluated:
        """Rankings of a dataset's test samples."""
        return cls(rankings, dataset.test, dataset.items, dataset.train, semantic_ids)


def measure(plugins: Plugins, evaluated: Evaluated) -> dict[str, Any]:
    """Every registered metric.

    Raises:
        BenchError: a metric fails, or gives what no record can hold: its plugin is named.
    """
    entry: dict[str, Any] = {}
    for name in plugins.registry("metric"):
        value = value_of(plugins, name, evaluated)
        if value is not None:
            entry[name] = value
    return entry | {MEASURED: VERSION}


def value_of(plugins: Plugins, name: str, evaluated: Evaluated) -> Any:
    """One metric's value, as plain numbers.

    Raises:
        BenchError: see :func:`measure`.
    """
    function, plugin = plugins.get("metric", name), plugins.owner("metric", name)
    assert plugin is not None
    check_signature(plugins, name)
    try:
        value = function(evaluated)
    except BenchError:
        raise
    except Exception as error:
        if plugin.built_in:
            raise
        raise BenchError(f"metric {name} of plugin {plugin.name} fails: {type(error).__name__}: {error}") from error
    return value if plugin.built_in else plain(value, f"metric {name} of plugin {plugin.name}")


def check_signature(plugins: Plugins, name: str) -> None:
    """Refuse a metric of the older hooks, which got rankings, targets or dataset, and semantic IDs apart.

    Raises:
        BenchError: it takes more than one value.
    """
    function, plugin = plugins.get("metric", name), plugins.owner("metric", name)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(needed) != 1 and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise BenchError(
            f"metric {name} of plugin {plugin.name if plugin else '?'} takes {len(needed)} values; a metric takes one, "
            f"evaluated, which has rankings, targets, samples, items, train and semantic_ids: write "
            f"def {getattr(function, '__name__', name)}(evaluated)"
        )


def plain(value: Any, where: str) -> Any:
    """A metric's value as what JSON holds: NumPy numbers and arrays become plain ones.

    Raises:
        BenchError: something in it is no number, text, list or dict of those, or no finite number.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise BenchError(f"{where} gives a dict whose keys are no text: {list(value)[:3]!r:.80}")
        return {key: plain(part, f"{where}, {key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part, where) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        raise BenchError(f"{where} is {value}; give a finite number, or None where there is nothing to say")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise BenchError(f"{where} gives {type(value).__name__}; give numbers, texts, or lists and dicts of them")


def bayes_optimal(dataset: Dataset, semantic_ids: SemanticIds | None) -> dict[str, Any]:
    """``{"item": …, "sid": …}`` of the generator's own ranking; ``sid`` only for the shipped SIDs."""
    assert dataset.oracle is not None
    shipped = dataset.given
    own = semantic_ids is not None and shipped is not None and semantic_ids.fingerprint == shipped.fingerprint
    if dataset.test.histories.bought is not None:  # the generator knows nothing of a protocol that leaves items out
        return {}
    result: dict[str, Any] = {}
    kinds: tuple[Protocol, ...] = ("item", "sid") if own else ("item",)
    for kind in kinds:
        rankings = dataset.oracle.rankings(dataset.test.histories, kind, 50)
        result[kind] = TargetRanks.of(rankings, dataset.test.targets, shipped, kind).means()
    return result
