"""The same budget for every method of a suite: a search each, one after another, and one table of them.

A search goes on where it was, and what one row fails at is noted and passed over. It knows suites and searches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.checks.names import slug
from harness.data import categories
from harness.errors import BenchError
from harness.plugins import Plugins
from harness.runs import trials, tuning
from harness.runs.suite import Entry, Suite


@dataclass(frozen=True)
class Budget:
    """What each row may spend on its settings.

    Attributes:
        trials: that are over (complete, pruned or refused); None: as many as the seconds take.
        seconds: of trials; a trial that has begun is ended.
    """

    trials: int | None = None
    seconds: float | None = None

    @property
    def shown(self) -> str:
        """As a table says it."""
        return f"{self.trials} trials" if self.trials is not None else f"{(self.seconds or 0) / 60:g} minutes"


@dataclass(frozen=True)
class Tuned:
    """How the search of a row went.

    Attributes:
        record: ``search.json``; empty where there is nothing to search, or it failed.
        problem: why there is no record.
    """

    entry: Entry
    record: dict[str, Any]
    problem: str = ""

    def count(self, state: str) -> int:
        """Trials that ended so."""
        return sum(trial["state"] == state for trial in self.record.get("trials", ()))

    @property
    def seconds(self) -> float:
        """Of all trials."""
        return float(sum(trial.get("seconds") or 0.0 for trial in self.record.get("trials", ())))

    def value(self, trial: dict[str, Any] | None) -> float | None:
        """What a trial was compared by."""
        if not trial or not trial.get("valid") or trial["state"] != "complete":
            return None
        metric = str(self.record["metric"]).removeprefix("valid ")
        value = trial["valid"].get(metric, trial["valid"].get(trials.METRIC))
        return None if value is None else float(value)

    @property
    def default(self) -> float | None:
        """The valid metric of the recipe's own settings, which are the first trial (again, where it was killed)."""
        trials = self.record.get("trials", ())
        first = next((trial["settings"] for trial in trials if trial["number"] == 0), None)
        known = (self.value(trial) for trial in trials if trial["settings"] == first)
        return next((value for value in known if value is not None), None)

    @property
    def best(self) -> float | None:
        """The best valid metric."""
        return self.value(self.record.get("best"))


def rows(suite: Suite) -> list[Entry]:
    """The rows that are searched: each method and set of overrides once."""
    once: dict[tuple[str, tuple[str, ...]], Entry] = {}
    for entry in suite.entries:
        once.setdefault((entry.method, entry.overrides), entry)
    return list(once.values())


def tune(
    suite: Suite, category: str, budget: Budget, seed: int, plugins: Plugins, data_dir: str | None, runs: Path,
    device: str, mlflow: bool, prune: bool, say: Callable[[str], None],
) -> list[Tuned]:  # fmt: skip
    """Search the settings of every row within the budget.

    Raises:
        BenchError: the category cannot be read.
    """
    categories.read(plugins, category, data_dir, {})
    found: list[Tuned] = []
    chosen = rows(suite)
    for number, entry in enumerate(chosen, start=1):
        title = f"[{number}/{len(chosen)}] {entry.label}"
        try:
            search = _search(entry, category, seed, plugins, data_dir, runs, device, mlflow)
            if search is None:
                found.append(Tuned(entry, {}, "nothing to search: its recipe has no space, or its row sets all of it"))
            else:
                record = tuning.run(search, budget.trials, prune, _reporter(title, search, say), budget.seconds)
                found.append(Tuned(entry, record))
        except BenchError as error:
            found.append(Tuned(entry, {}, error.format_message()))
        except Exception as error:  # out of memory, a plugin's own: the rows after it have their budget too
            found.append(Tuned(entry, {}, " ".join(f"{type(error).__name__}: {error}".split())[:300]))
        last = found[-1]
        said = last.problem
        if not said:
            said = f"{last.count('complete')} complete" + (f", best {last.best:.4f}" if last.best is not None else "")
        say(f"{title}: {said}")
    return found


def _search(
    entry: Entry, category: str, seed: int, plugins: Plugins, data_dir: str | None, runs: Path, device: str,
    mlflow: bool,
) -> tuning.Search | None:  # fmt: skip
    recipe = plugins.get("method", entry.method)
    if not recipe.get("search"):
        return None
    space = tuning.check_space(recipe["search"], f"method {entry.method}")
    fixed = {override.partition("=")[0].strip() for override in entry.overrides}
    space = {key: ranges for key, ranges in space.items() if key not in fixed}
    if not space:
        return None
    folder = "tuning" if entry.label == entry.method else f"tuning-{slug(entry.label)}"
    return tuning.prepared(
        plugins, entry.method, category, seed, entry.overrides, space, data_dir, runs, device, mlflow, folder
    )


def _reporter(title: str, search: tuning.Search, say: Callable[[str], None]) -> Callable[[dict[str, Any]], None]:
    def report(trial: dict[str, Any]) -> None:
        value = f"{search.value(trial['valid']):.4f}" if trial["valid"] else "—"
        say(f"{title}: trial {trial['number']} {trial['state']} {value} ({trial['seconds']} s)")

    return report


def kept(suite: Suite, category: str, found: list[Tuned], budget: Budget, runs: Path) -> Path:
    """Write what was found beside the suite's logs; rows of an earlier call that this one left out stay."""
    path = runs / category / "suites" / suite.name / "tuning.json"
    try:
        before = files.read_json(path)
    except BenchError:  # none yet, or damaged: it is written anew
        before = None
    same = isinstance(before, dict) and before.get("budget") == budget.shown
    rows = before.get("rows") if same else None
    files.write_json(
        path,
        {
            "suite": suite.name,
            "category": category,
            "budget": budget.shown,
            "rows": (rows if isinstance(rows, dict) else {})
            | {
                row.entry.label: row.record or {"problem": row.problem}
                for row in found
                if row.record or not isinstance(rows, dict) or row.entry.label not in rows
            },
        },
    )
    return path
