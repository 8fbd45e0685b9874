"""Measuring: rankings files → the entries of ``metrics.json``, when a run ends or any time after.

It trains nothing and decodes nothing.
"""

from __future__ import annotations

from typing import Any

from harness import recorded
from harness.data.dataset import Dataset, Samples
from harness.errors import BenchError
from harness.plugins import Plugins
from harness.rankings import Rankings
from harness.ranks import TargetRanks
from harness.semantic_ids import SemanticIds
from harness.store import METRICS, Store, read_json

BAYES = "Bayes-optimal"
MEASURED = "measured"
"""The key of the measuring's version in a stage's entry; without it, 1."""
VERSION = 2
"""2: segments count a user's first purchase too, intervals are free of the order of samples, and a candidate outside
the catalogue takes its rank under the item protocol as well."""


def measure(plugins: Plugins, rankings: Rankings, dataset: Dataset, semantic_ids: SemanticIds | None) -> dict[str, Any]:
    """Every registered metric and analysis of rankings of the test samples."""
    values = {
        name: plugins.get("metric", name)(rankings, dataset.test.targets, semantic_ids)
        for name in plugins.registry("metric")
    }
    values |= {
        name: plugins.get("analysis", name)(rankings, dataset, semantic_ids) for name in plugins.registry("analysis")
    }
    return {name: value for name, value in values.items() if value is not None} | {MEASURED: VERSION}


def stage(
    keep: Store, name: str, plugins: Plugins, dataset: Dataset, semantic_ids: SemanticIds | None
) -> dict[str, Any]:
    """A stage's whole entry: what is measured of its rankings file, and what the manifest says of its cost.

    Raises:
        BenchError: the rankings file is missing, damaged, or not of this test split.
    """
    rankings = rankings_of(keep, name, dataset.test, semantic_ids)
    metrics = measure(plugins, rankings, dataset, semantic_ids)
    metrics["rankings"] = rankings.fingerprint
    metrics["train"] = keep.finished(f"{name}/fit")
    metrics["decode"] = dict(keep.finished(f"{name}/decode") or {})
    metrics["valid"] = metrics["decode"].pop("valid", None)
    return metrics


def rankings_of(keep: Store, name: str, test: Samples, semantic_ids: SemanticIds | None) -> Rankings:
    """The rankings of a stage, each sample its own.

    A file without sample keys (of an older version) counts rows of the test file. It is held to the target ranks that
    were recorded with it, so that a test file re-sorted since is found out.

    Raises:
        BenchError: the file is missing, damaged, or of other samples.
    """
    path = keep.rankings(name)
    found = Rankings.read(path, semantic_ids, test)
    recorded_ranks = _recorded_ranks(keep, name)
    if found.keys is None and recorded_ranks and (found.ids >= 0).all():
        ranks = TargetRanks.of_each(found, test.targets, semantic_ids)
        if any(recorded_ranks[p] != r.take(test.order).encode() for p, r in ranks.items() if p in recorded_ranks):
            raise BenchError(
                f"{path} does not give the target ranks that were recorded with it: it counts rows of the test file, "
                "whose order has changed since; restore that order, or delete the run's folder and run it again"
            )
    return found


def _recorded_ranks(keep: Store, name: str) -> dict[str, Any]:
    path = keep.directory / METRICS
    stages = read_json(path).get("stages", {}) if path.exists() else {}
    return stages.get(name, {}).get("ranks") or {}


def again(keep: Store, plugins: Plugins, data_dir: str | None) -> dict[str, Any]:
    """A finished run's ``metrics.json`` anew from its rankings files, with the metrics registered now.

    Raises:
        BenchError: its rankings are damaged, or the category's data is not what it was.
    """
    dataset, semantic_ids = recorded.read_dataset(keep, plugins, data_dir), recorded.semantic_ids(keep)
    result: dict[str, Any] = {
        "stages": {name: stage(keep, name, plugins, dataset, semantic_ids) for name in recorded.stage_names(keep)}
    }
    if dataset.oracle is not None:
        result[BAYES] = bayes_optimal(plugins, dataset, semantic_ids)
    return result


def bayes_optimal(plugins: Plugins, dataset: Dataset, semantic_ids: SemanticIds | None) -> dict[str, Any]:
    """``{"item": …, "sid": …}`` of the generator's own ranking; ``sid`` only for the shipped SIDs."""
    assert dataset.oracle is not None
    shipped = dataset.given
    own = semantic_ids is not None and shipped is not None and semantic_ids.fingerprint == shipped.fingerprint
    result = {}
    for kind in ("item", *(("sid",) if own else ())):
        rankings = dataset.oracle.rankings(dataset.test.histories, kind, 50)
        result[kind] = plugins.get("metric", kind)(rankings, dataset.test.targets, shipped)
    return result
