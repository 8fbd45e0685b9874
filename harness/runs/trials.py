"""A search and one trial of it: trained, pruned or refused, held by its process, and told to the study."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.data.dataset import Dataset
from harness.errors import BenchError, NotFinite
from harness.evaluation.validation import BY_ITEM
from harness.plugins import Plugins
from harness.progress import Progress
from harness.runs import locks, pipeline
from harness.runs.config import RunConfig, resolve
from harness.runs.run_directory import RunDirectory
from harness.runs.tracking import Tracker

METRIC = "NDCG@10"


@dataclass
class Search:
    """A search: a method's recipe on one category, over a space."""

    recipe: dict[str, Any]
    category: str
    seed: int
    overrides: tuple[str, ...]
    space: dict[str, Any]
    dataset: Dataset
    plugins: Plugins
    directory: Path
    device: str
    mlflow: bool

    @property
    def metric(self) -> str:
        """The valid metric that trials are compared by: by item where they may have other semantic IDs."""
        return f"{METRIC} {BY_ITEM}" if any(key.partition(".")[0] == "tokenizer" for key in self.space) else METRIC

    def value(self, valid: dict[str, float]) -> float:
        """What a trial is compared by; without semantic IDs a probe's plain numbers are by item."""
        return valid[self.metric] if self.metric in valid else valid[METRIC]

    def config(self, settings: dict[str, Any]) -> RunConfig:
        """The run of a trial."""
        written = [
            f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}" for key, value in settings.items()
        ]
        return resolve(self.recipe, self.category, self.seed, [*self.overrides, *written], self.plugins, strict=False)


class Refused(Exception):
    """A trial's settings do not work: it is failed, and the search goes on."""


def over(study: Any) -> int:
    """Trials that count: complete, pruned, or failed at their settings and not by an interrupt."""
    known = study.get_trials(deepcopy=False)
    return sum(trial.state.name in ("COMPLETE", "PRUNED") or "error" in trial.user_attrs for trial in known)


def told(optuna: Any, study: Any, search: Search, trial: Any, settings: dict[str, Any]) -> Any:
    """Do a trial and tell the study how it ended; returns the trial as it stands there."""
    states = optuna.trial.TrialState
    try:
        value = run_trial(optuna, search, trial, settings)
    except optuna.TrialPruned:
        return study.tell(trial, state=states.PRUNED)
    except Refused:
        return study.tell(trial, state=states.FAIL)
    except BaseException:
        study.tell(trial, state=states.FAIL)
        raise
    return study.tell(trial, value)


class _TrialTracker(Tracker):
    """MLflow, and the valid curve of the last stage to the study."""

    trial: Any
    pruned: type[Exception]
    last_stage: str
    metric = METRIC
    current = ""

    @contextlib.contextmanager
    def stage(self, name: str) -> Any:
        """Remember which stage logs."""
        self.current = name
        with super().stage(name):
            yield

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log; stop the trial where it is below the median."""
        super().log(numbers, step)
        value = numbers.get(f"eval_{self.metric}", numbers.get(f"eval_{METRIC}"))
        if value is not None and self.current == self.last_stage:
            self.trial.report(value, step)
            if self.trial.should_prune():
                raise self.pruned


def run_trial(optuna: Any, search: Search, trial: Any, settings: dict[str, Any]) -> float:
    """Train a trial's settings; returns what it is compared by.

    Raises:
        Refused: the method refuses them, or they diverge.
    """
    config = search.config(settings)
    folder = RunDirectory(search.directory / "trials" / config.hash())
    tracker = _TrialTracker(search.directory.parents[2], search.mlflow, " tuning")
    tracker.trial, tracker.pruned, tracker.last_stage = trial, optuna.TrialPruned, config.stages[-1].name
    tracker.metric = search.metric
    trial.set_user_attr("settings", settings)
    started = time.monotonic()
    ended = True
    holds = contextlib.ExitStack()
    try:
        # of several processes at one and the same settings one trains, and cleans up
        holds.enter_context(locks.held(search.directory / f".{folder.path.name}.lock", str(folder.path), math.inf))
        started = time.monotonic()
        valid = pipeline.train(
            pipeline.Run(config, search.dataset, search.plugins, folder, Progress(quiet=True), search.device, tracker)
        )
        trial.set_user_attr("valid", valid)
        for stage in config.stages:
            facts = folder.finished(f"{stage.name}/fit") or {}
            trial.set_user_attr(stage.name, {k: v for k, v in facts.items() if not isinstance(v, str)})
        return search.value(valid)
    except BenchError as error:
        if not isinstance(error, NotFinite) and not over(trial.study):
            raise  # nothing has worked yet: it may be anything, and counts for nothing
        trial.set_user_attr("error", error.format_message())  # settings that the method refuses, or that diverge
        raise Refused from error
    except KeyboardInterrupt:
        ended = False  # tried again, from its checkpoint
        raise
    finally:
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
        if ended:
            shutil.rmtree(folder.path, ignore_errors=True)  # the record is the study; weights are not kept
        holds.close()


def lock_of(search: Search, number: int) -> Path:
    """What a process holds while it is at a trial: a killed one lets go of it."""
    return search.directory / f".trial-{number}.lock"


def revive(optuna: Any, study: Any, search: Search, killed: bool = False) -> None:
    """Trials that an interrupt or a kill cut short are closed, and their settings tried again, once each.

    Args:
        killed: only those whose process was killed, as others are at work.
    """
    states = optuna.trial.TrialState
    tried_again = list(study.user_attrs.get("tried again", []))
    wanted = (states.RUNNING,) if killed else (states.RUNNING, states.FAIL)
    for trial in study.get_trials(deepcopy=False, states=wanted):
        if trial.state == states.RUNNING:
            if locks.is_held(lock_of(search, trial.number)):
                continue  # another process is at it
            study.tell(trial.number, state=states.FAIL)
        if trial.number not in tried_again and "error" not in trial.user_attrs:
            tried_again.append(trial.number)
            study.set_user_attr("tried again", tried_again)
            study.enqueue_trial({**trial.system_attrs.get("fixed_params", {}), **trial.params})


def entry_of(trial: Any, metric: str) -> dict[str, Any]:
    """A trial as the record has it."""
    attributes = dict(trial.user_attrs)
    failed = trial.state.name == "FAIL"
    curve = [] if failed else [trial.intermediate_values[k] for k in sorted(trial.intermediate_values)]
    return {
        "number": trial.number,
        "state": "failed" if failed else trial.state.name.lower(),
        "settings": attributes.pop("settings", trial.params),
        "valid": attributes.pop("valid", {metric: max(curve)} if curve else None),
        "seconds": attributes.pop("seconds", None),
        **attributes,
    }
