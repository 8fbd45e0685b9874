"""Hyperparameter search on valid: a study of trials, resumable, every trial in MLflow (Optuna).

A space is a mapping from settings, written as for ``--set``, to what they may be: a list of choices, or
``{low: …, high: …, log: true, step: …}``. No trial sees a test sample: the dataset is handed over without.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness import files
from harness.data import categories
from harness.data.earlier import under
from harness.errors import BenchError
from harness.plugins import Plugins
from harness.recipes import tuned
from harness.runs import code, identity, locks
from harness.runs import study as studies
from harness.runs.config import resolve
from harness.runs.provenance import provenance
from harness.runs.trials import METRIC, Search, entry_of, lock_of, over, revive, told

RECORD = "search.json"
WAITING = 1.0
"""Seconds between two looks at the trials that others are at."""


def check_space(space: Any, where: str) -> dict[str, Any]:
    """A search space, checked.

    Raises:
        BenchError: it is empty, or an entry is neither choices nor a range.
    """
    from harness.checks import outlines, schemas  # pydantic

    if not space:
        raise BenchError(
            f"{where} gives no search space; write one, e.g. 'sasrec.dropout: {{low: 0.1, high: 0.6}}', "
            "and give it with --space FILE"
        )
    checked: dict[str, Any] = schemas.check(outlines.Space, space, where, "mend the space")
    return checked


def prepared(
    plugins: Plugins, method: str, category: str, seed: int, overrides: Sequence[str], space: dict[str, Any],
    data_dir: str | None, runs: Path, device: str, mlflow: bool, folder: str = "tuning",
) -> Search:  # fmt: skip
    """The search of a method on a category; settings that were found on this data before stay fixed."""
    recipe = plugins.get("method", method)
    config = resolve(recipe, category, seed, overrides, plugins)
    dataset = under(categories.read(plugins, category, data_dir, config.dataset), config.protocol)
    fixed = (*tuned(method, category, dataset.fingerprint), *overrides)
    return Search(
        recipe, category, seed, fixed, space, dataset, plugins, runs / category / method / folder, device, mlflow
    )


def run(
    search: Search, trials: int | None, prune: bool = True,
    report: Callable[[dict[str, Any]], None] = lambda _: None, seconds: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Search until `trials` trials are done (those of earlier calls count) and return the record.

    The recipe's own settings are the first trial. Several processes may work on one search at once.

    Args:
        trials: None: as many as `seconds` of trials take, at least one.
        seconds: of all trials together, those of earlier calls too; a trial that has begun is ended.
        prune: stop a trial whose valid curve is below the median of those before it.
        report: called with each finished trial as in the record.

    Raises:
        BenchError: Optuna is not installed, or the search in the directory is damaged, or has another space or data.
    """
    optuna = studies.optuna()
    files.make_folder(search.directory)
    with studies.readable(search.directory / studies.FILE):
        return _search(optuna, search, trials, prune, report, seconds)


def begun(search: Search, prune: bool = True) -> None:
    """Make the study, or see that the one that is there is of the same search; see :func:`run` for what it raises."""
    optuna = studies.optuna()
    files.make_folder(search.directory)
    with (
        studies.readable(search.directory / studies.FILE),
        locks.held(search.directory / studies.LOCK, str(search.directory), math.inf),
    ):
        _study(optuna, search, prune)


class Watched:
    """Reports trials that other processes finish, each once."""

    def __init__(self, search: Search, report: Callable[[dict[str, Any]], None]):
        self.search, self.report = search, report
        self.path = search.directory / studies.FILE
        with studies.readable(self.path):
            self.study = studies.opened(studies.optuna(), self.path, search.recipe["name"], search.seed, False)
            self.known = {trial.number for trial in self._finished()}

    def _finished(self) -> list[Any]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def __call__(self) -> None:
        """Look once."""
        with studies.readable(self.path):
            finished = self._finished()
        for trial in finished:
            if trial.number not in self.known:
                self.known.add(trial.number)
                self.report(entry_of(trial, self.search.metric))


def _search(
    optuna: Any,
    search: Search,
    trials: int | None,
    prune: bool,
    report: Callable[[dict[str, Any]], None],
    seconds: float | None,
) -> dict[str, Any]:
    with locks.held(
        search.directory / studies.LOCK, str(search.directory), math.inf
    ):  # one makes the study, others find it
        study = _study(optuna, search, prune)
        revive(optuna, study, search)

    def at_work() -> int:
        """Trials that a process is at, this one's none."""
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        return sum(locks.is_held(lock_of(search, trial.number)) for trial in running)

    def spent() -> bool:
        """Whether the budget is used up."""
        if trials is not None and over(study) >= trials:
            return True
        if seconds is None or not over(study):
            return False
        return sum(t.user_attrs.get("seconds") or 0.0 for t in study.get_trials(deepcopy=False)) >= seconds

    def claimed(holds: contextlib.ExitStack) -> Any:
        """The next trial, held; None where the budget is used up, or will be by what others are at."""
        with locks.held(search.directory / studies.LOCK, str(search.directory), math.inf):
            if spent() or (trials is not None and over(study) + at_work() >= trials):
                return None
            revive(optuna, study, search, killed=True)
            study.sampler = studies.sampler(optuna, search.seed, len(study.get_trials(deepcopy=False)))
            trial = study.ask()
            holds.enter_context(locks.held(lock_of(search, trial.number), f"trial {trial.number}"))
            return trial

    while not spent():
        with contextlib.ExitStack() as holds:
            trial = claimed(holds)
            if trial is not None:
                settings = {key: _suggest(trial, key, entry) for key, entry in search.space.items()}
                ended = told(optuna, study, search, trial, settings)
        if trial is None:
            time.sleep(WAITING)  # another process may be cut short at the last one
            continue
        report(entry_of(ended, search.metric))
        write_record(search, study)
    record = write_record(search, study)
    if not record:
        raise BenchError(f"no trial of the search in {search.directory} was completed; look at its settings and space")
    return record


def write_record(search: Search, study: Any) -> dict[str, Any]:
    """The search as plain values, also written to ``search.json``, and the best as ``tuned.yaml``.

    Empty, and nothing is written, before a trial is complete.
    """
    entries = [entry_of(t, search.metric) for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    complete = [e for e in entries if e["state"] == "complete"]
    if not complete:
        return {}
    best = max(complete, key=lambda e: (search.value(e["valid"]), -e["number"]))
    record = {
        "method": search.recipe["name"],
        "category": search.category,
        "caption": search.dataset.caption,
        "data": search.dataset.fingerprint,
        "metric": f"valid {search.metric}",
        "seed": search.seed,
        "fixed": list(search.overrides),
        "space": search.space,
        "best": best,
        "trials": entries,
        "date": time.strftime("%F"),
        **provenance(search.device),
    }
    files.write_json(search.directory / RECORD, record)
    tuned = search.config(best["settings"]).as_dict()
    kept = {k: v for k, v in tuned.items() if k not in ("category", "seed", "tuned") and v not in (None, "", {})}
    kept["settings_from"] = "search"
    kept["searched"] = {"trials": len(complete), "category": search.category, "data": search.dataset.fingerprint}
    files.write_text(search.directory / "tuned.yaml", yaml.safe_dump(kept, sort_keys=False))
    return record


def _study(optuna: Any, search: Search, prune: bool) -> Any:
    path = search.directory / studies.FILE
    study = studies.opened(optuna, path, search.recipe["name"], search.seed, prune)
    own = {
        "space": search.space, "data": search.dataset.fingerprint, "fixed": list(search.overrides),
        "seed": search.seed, "recipe": _recipe(search), "metric": search.metric,
    }  # fmt: skip
    made_by = _code(search)
    known_code, known = studies.noted(study, "code", path), studies.noted(study, "identity", path)
    if known is not None and "seed" not in known:  # a search of an older version: what is recorded of it
        record = search.directory / RECORD
        earlier = files.read_json(record, "move the folder away", dict[str, Any]) if record.exists() else {}
        known = known | {"seed": earlier.get("seed", search.seed), "recipe": own["recipe"], "metric": METRIC}
    if known is None:
        study.set_user_attr("identity", own)
        study.set_user_attr("code", made_by)
        study.enqueue_trial(_defaults(search))
    elif known != own:
        differs = next(k for k in own if known.get(k) != own[k])
        what = {
            "fixed": "--set", "seed": f"seed ({known.get('seed')})",
            "recipe": "recipe (a setting's value or default, or a local file, is not what it was)",
        }.get(differs, differs)  # fmt: skip
        raise BenchError(
            f"{search.directory} holds a search with another {what}; go on with the same one, or move the folder away"
        )
    elif known_code is None:  # a search of an older version, which noted none
        study.set_user_attr("code", made_by)
    elif edited := code.changed(known_code, made_by):
        raise BenchError(
            f"{search.directory} holds a search by other code ({', '.join(edited[:3])} changed since), whose trials do "
            "not compare with new ones; move the folder away"
        )
    return study


def _recipe(search: Search) -> str:
    """A hash of all that a trial's settings stand on: the recipe under the fixed settings, and its local files."""
    config = search.config({})
    return config.hash(files=identity.files(config))


def _code(search: Search) -> dict[str, str]:
    """The code that trials are made by: ``{module: hash}``."""
    codes = code.of_run(search.config({}), search.dataset.layout, search.plugins)
    return {name: digest for component in codes.values() for name, digest in component.modules.items()}


def _defaults(search: Search) -> dict[str, Any]:
    """The recipe's own values of the space's settings, where the space holds them."""
    config = search.config({}).as_dict()
    sections = {stage["name"]: stage for stage in config["stages"]} | {k: config[k] for k in config if k != "stages"}
    values = {}
    for key, entry in search.space.items():
        place: Any = sections
        for part in key.split("."):
            if not isinstance(place, dict) or part not in place:
                raise BenchError(f"the search space names {key}, which is no setting of {config['name']}")
            place = place[part]
        if isinstance(entry, dict) and (not isinstance(place, (int, float)) or isinstance(place, bool)):
            raise BenchError(f"the search space has a range for {key}, which is {place!r:.40}; give a list of choices")
        inside = place in entry if isinstance(entry, list) else entry["low"] <= place <= entry["high"]
        if inside:
            values[key] = place
    return values


def _suggest(trial: Any, key: str, entry: Any) -> Any:
    if isinstance(entry, list):
        return trial.suggest_categorical(key, entry)
    whole = all(isinstance(entry[k], int) for k in ("low", "high"))
    if whole:
        return trial.suggest_int(
            key, entry["low"], entry["high"], step=int(entry.get("step", 1)), log=bool(entry.get("log"))
        )
    return trial.suggest_float(key, entry["low"], entry["high"], step=entry.get("step"), log=bool(entry.get("log")))
