"""Measuring a run: its rankings files → the entries of ``metrics.json``, when it ends or any time after."""

from __future__ import annotations

from typing import Any

from harness.data.dataset import Dataset, Samples
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.evaluation import user_index
from harness.evaluation.measure import BAYES, FIRST_MEASURED, MEASURED, Evaluated, bayes_optimal, measure
from harness.evaluation.target_ranks import TargetRanks
from harness.files import read_json
from harness.plugins import Plugins
from harness.runs import finished
from harness.runs.run_directory import METRICS, RunDirectory
from harness.runs.run_files import Metrics


def stage(
    folder: RunDirectory, name: str, plugins: Plugins, dataset: Dataset, semantic_ids: SemanticIds | None
) -> dict[str, Any]:
    """A stage's whole entry: what is measured of its rankings file, and what the manifest says of its cost.

    Raises:
        BenchError: the rankings file is missing, damaged, or not of this test split.
    """
    rankings = rankings_of(folder, name, dataset.test, semantic_ids)
    metrics = measure(plugins, Evaluated.test(rankings, dataset, semantic_ids))
    metrics["rankings"], metrics["ties"] = rankings.fingerprint, rankings.order
    metrics["train"] = folder.finished(f"{name}/fit")
    metrics["decode"] = dict(folder.finished(f"{name}/decode") or {})
    metrics["valid"] = metrics["decode"].pop("valid", None)
    return metrics


def rankings_of(folder: RunDirectory, name: str, test: Samples, semantic_ids: SemanticIds | None) -> Rankings:
    """The rankings of a stage, each sample its own.

    A file without sample keys (of an older version) counts rows of the test file. It is held to the target ranks that
    were recorded with it, so that a test file re-sorted since is found out.

    Raises:
        BenchError: the file is missing, damaged, or of other samples.
    """
    path = folder.rankings(name)
    rankings = Rankings.read(path, semantic_ids, test, folder.manifest["items"])
    recorded_ranks = _recorded_ranks(folder, name)
    if rankings.keys is None and recorded_ranks and (rankings.ids >= 0).all():
        ranks = TargetRanks.of_each(rankings, test.targets, semantic_ids)
        if any(recorded_ranks[p] != r.take(test.order).encode() for p, r in ranks.items() if p in recorded_ranks):
            raise BenchError(
                f"{path} does not give the target ranks that were recorded with it: it counts rows of the test file, "
                "whose order has changed since; restore that order, or delete the run's folder and run it again"
            )
    return rankings


def _recorded_ranks(folder: RunDirectory, name: str) -> dict[str, Any]:
    return _before(folder).get(name, {}).get("ranks") or {}


def _before(folder: RunDirectory) -> dict[str, Any]:
    """The entries of stages that were measured before; none where the file is missing or damaged."""
    try:
        content: dict[str, Any] = read_json(folder.path / METRICS, schema=Metrics)
    except BenchError:
        return {}
    stages: dict[str, Any] = content["stages"]
    return stages


def again(folder: RunDirectory, plugins: Plugins, data_dir: str | None) -> dict[str, Any]:
    """A finished run's ``metrics.json`` anew from its rankings files, with the metrics registered now.

    Raises:
        BenchError: its rankings are damaged, or the category's data is not what it was.
    """
    dataset, semantic_ids = finished.read_dataset(folder, plugins, data_dir), finished.semantic_ids(folder)
    names, before = finished.stage_names(folder), _before(folder)
    result: dict[str, Any] = {"stages": {name: stage(folder, name, plugins, dataset, semantic_ids) for name in names}}
    result |= of_the_samples(dataset, semantic_ids)
    for name, entry in result["stages"].items():
        old = before.get(name, {})
        made = entry[MEASURED] if folder.manifest.get("ground") else 1  # grounds came with version 3
        first = old.get(FIRST_MEASURED, old.get(MEASURED, 1)) if old else made
        if first != entry[MEASURED]:
            entry[FIRST_MEASURED] = first
        same = all(old.get(key) in (None, entry[key]) for key in ("rankings", "ties"))
        if old.get(MEASURED, 1) > 1 and not same:
            raise BenchError(
                f"{folder.rankings(name)} does not hold the rankings that were measured before; run the method again, "
                f"or delete {folder.path / METRICS} to measure the file as it is"
            )
        if old.get("rankings") == entry["rankings"]:  # what plugins measured that are not loaded now is not lost
            entry |= {key: value for key, value in old.items() if key not in entry}
    return result


def of_the_samples(dataset: Dataset, semantic_ids: SemanticIds | None) -> dict[str, Any]:
    """What stands in ``metrics.json`` beside the stages: users of the samples, and what could be reached at best."""
    beside: dict[str, Any] = {user_index.KEY: user_index.encode(user_index.of(dataset.test))}
    optimal = bayes_optimal(dataset, semantic_ids) if dataset.oracle is not None else {}
    return beside | ({BAYES: optimal} if optimal else {})
