"""Runs a method on the generated category through the pipeline, for tests."""

from dataclasses import dataclass
from typing import Any

from harness.data import categories
from harness.progress import Progress
from harness.runs import pipeline
from harness.runs.config import resolve
from harness.runs.run_directory import RunDirectory
from harness.runs.tracking import Tracker


@dataclass
class Finished:
    dataset: Any
    item: dict[str, float]
    sid: dict[str, float] | None
    optimal: float
    """The Bayes-optimal HR@10, item protocol."""
    result: dict[str, Any]


def run(plugins, method, folder, settings=(), category="Synthetic", data_dir=None, seed=0):
    config = resolve(plugins.get("method", method), category, seed, settings, plugins)
    data = categories.read(plugins, category, data_dir, config.dataset)
    this = pipeline.Run(
        config,
        data,
        plugins,
        RunDirectory(folder / f"{method}-{seed}"),
        Progress(quiet=True),
        "cpu",
        Tracker(folder, False),
        False,
    )
    result = pipeline.execute(this)
    last = list(result["stages"].values())[-1]
    optimal = result.get("Bayes-optimal", {}).get("item", {}).get("HR@10", float("nan"))
    return Finished(data, last["item"], last.get("sid"), optimal, result)
