"""A suite: a grid of methods and seeds on one category, each run in its own process, one or several at a time.

What is recorded is skipped, a failure is noted and passed over, and a plan says what is left and about
how long it takes. It knows recipes and run directories; it trains nothing itself.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import files, recipes
from harness.checks import names, outlines, schemas
from harness.data import categories
from harness.data.dataset import Dataset
from harness.errors import BenchError, unknown
from harness.plugins import Plugins
from harness.progress import Progress
from harness.runs import finished, pipeline, run_directory
from harness.runs.config import RunConfig
from harness.runs.continuation import Origin
from harness.runs.edits import Edits
from harness.runs.on_data import resolve_on
from harness.runs.pool import Here, Job, Pool, Watch
from harness.runs.run import Run
from harness.runs.run_directory import RunDirectory
from harness.runs.run_files import BegunManifest
from harness.runs.tracking import Tracker

SAFE = ("-P",)
"""A run's process imports nothing from the folder that the suite is started in."""
HERE = Here()
REFERENCE_ROWS = 28_609
"""Train rows behind a suite file's minutes (Industrial_and_Scientific on 2 CPU cores)."""


@dataclass(frozen=True)
class Entry:
    """A row of a suite: a method, how many of the suite's seeds it takes, and its settings.

    Attributes:
        label: its name in tables.
        minutes: a run's duration on 2 CPU cores with `REFERENCE_ROWS` train rows, for the first plan.
        overrides: settings on top of the recipe, as for ``--set``.
        source: the label of a row before it: stages of its run of the same seed that have the same settings are
            taken over, as with ``--from-run --anew``.
        categories: those that it is of; empty: all.
        seeds_on: ``(category, seeds)`` where another number is taken.
    """

    method: str
    label: str
    seeds: int
    minutes: float
    overrides: tuple[str, ...]
    source: str = ""
    categories: tuple[str, ...] = ()
    seeds_on: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Suite:
    """A suite file, read."""

    name: str
    summary: str
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    common: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """``(category, overrides)`` of all rows there."""


@dataclass
class Planned:
    """One run of a plan."""

    entry: Entry
    seed: int
    directory: Path
    recorded: bool
    seconds: float
    measured: bool
    """Whether `seconds` is from recorded runs of this method (else the suite file's estimate)."""
    problem: str = ""
    source: Path | None = None
    """The run directory that this run goes on from."""

    @property
    def shown(self) -> str:
        """Its row and seed."""
        return f"{self.entry.label} seed {self.seed}"

    @property
    def open(self) -> bool:
        """Whether it is still to do."""
        return not self.recorded and not self.problem


@dataclass
class Outcome:
    """How a plan ended."""

    done: list[Planned] = field(default_factory=list)
    failed: list[tuple[Planned, str]] = field(default_factory=list)


def shipped() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    return {p.stem: p for p in sorted(recipes.shipped("suites").glob("*.yaml"))}


def read(name: str) -> Suite:
    """A shipped suite by name, or a suite file by path.

    Raises:
        BenchError: there is none of that name, or the file's outline is wrong.
    """
    known = shipped()
    path = known.get(name) or Path(name)
    if name not in known and not path.is_file():
        raise unknown("suite", name, known, "(bench suite list lists them; or give a file)")
    read = schemas.parsed(outlines.Suite, files.read_yaml(path), path, "mend the file")
    entries = tuple(
        Entry(
            row.method, row.shown, row.seeds or len(read.seeds), row.minutes, tuple(row.set), row.source,
            tuple(row.categories), tuple(row.seeds_on.items()),
        )
        for row in read.methods
    )  # fmt: skip
    common = tuple((category, tuple(overrides)) for category, overrides in read.common.items())
    return Suite(
        names.checked(read.name or path.stem, "suite", str(path)), read.summary, tuple(read.seeds), entries, common
    )


def select(suite: Suite, only: Sequence[str], seeds: int | None) -> Suite:
    """The suite narrowed to some rows, or to its first seeds.

    Raises:
        BenchError: a row that the suite lacks, or more seeds than it has.
    """
    labels = [e.label for e in suite.entries]
    for label in only:
        if label not in labels:
            raise unknown("row", label, labels, f"of suite {suite.name}")
    if seeds is not None and not 1 <= seeds <= len(suite.seeds):
        raise BenchError(f"--seeds {seeds}: suite {suite.name} has {len(suite.seeds)} seeds")
    count = seeds or len(suite.seeds)
    needed = {e.source for e in suite.entries if e.label in only}
    entries = tuple(e for e in suite.entries if not only or e.label in {*only, *needed})
    entries = tuple(dataclasses.replace(e, seeds=min(e.seeds, count)) for e in entries)
    seeds_on = [tuple((c, min(n, count)) for c, n in e.seeds_on) for e in entries]
    entries = tuple(dataclasses.replace(e, seeds_on=s) for e, s in zip(entries, seeds_on, strict=True))
    return dataclasses.replace(suite, seeds=suite.seeds[:count], entries=entries)


def on_category(suite: Suite, category: str) -> Suite:
    """The suite as it is on a category: its rows there, with their seeds and the category's settings.

    Raises:
        BenchError: no row is of that category.
    """
    common = dict(suite.common).get(category, ())
    entries = tuple(
        dataclasses.replace(
            entry, overrides=(*common, *entry.overrides), seeds=dict(entry.seeds_on).get(category, entry.seeds)
        )
        for entry in suite.entries
        if not entry.categories or category in entry.categories
    )
    if not entries:
        raise BenchError(f"suite {suite.name} has no row of {category}; choose another category")
    labels = {entry.label for entry in entries}
    entries = tuple(e if e.source in labels else dataclasses.replace(e, source="") for e in entries)
    return dataclasses.replace(suite, entries=entries)


def plan(suite: Suite, category: str, data_dir: str | None, runs: Path, plugins: Plugins) -> list[Planned]:
    """Every run of the suite, with what is recorded and what is left.

    A method whose settings do not resolve, or that cannot read the category, is planned with its problem.

    Raises:
        BenchError: the category cannot be read at all.
    """
    # read first of all: a missing category is one error, not one a method
    datasets: dict[str, Dataset] = {repr([]): categories.read(plugins, category, data_dir, {})}

    def read(given: dict[str, Any]) -> Dataset:
        key = repr(sorted(given.items()))
        if key not in datasets:
            datasets[key] = categories.read(plugins, category, data_dir, given)
        return datasets[key]

    planned: list[Planned] = []
    for entry in suite.entries:
        known: dict[int, float | None] = {}
        for seed in suite.seeds[: entry.seeds]:
            try:
                recipe = plugins.get("method", entry.method)
                resolved, dataset = resolve_on(recipe, category, seed, entry.overrides, plugins, read, entry.method)
                source = next((p.directory for p in planned if (p.entry.label, p.seed) == (entry.source, seed)), None)
                directory = pipeline.directory(
                    runs, resolved, dataset, Origin(source, anew=True) if source else None, plugins
                )
                recorded = _recorded(directory, resolved, dataset, plugins)
                rows = len(dataset.train)
                if rows not in known:
                    known[rows] = _measured(runs, entry.method, category, rows)
                seconds = known[rows]
                guess = entry.minutes * 60 * rows / REFERENCE_ROWS
                about = guess if seconds is None else seconds
                measured = seconds is not None
                planned.append(Planned(entry, seed, directory, recorded, about, measured, source=source))
            except BenchError as error:
                planned.append(Planned(entry, seed, Path(), False, 0.0, False, error.format_message()))
    return planned


def _recorded(directory: Path, config: RunConfig, dataset: Dataset, plugins: Plugins) -> bool:
    """Whether a run is finished, and by the code that is here now: what other code made is redone."""
    folder = RunDirectory(directory)
    if folder.finished("run") is None:
        return False
    run = Run(config, dataset, plugins, folder, Progress(quiet=True), "cpu", Tracker(directory, enabled=False))
    return not Edits(run=run).stale


def _measured(runs: Path, method: str, category: str, rows: int) -> float | None:
    """Median seconds of recorded runs of a method; those of other categories scaled by train rows."""
    durations: dict[bool, list[float]] = {True: [], False: []}
    for path in runs.glob(f"*/{method}/*/{run_directory.MANIFEST}"):
        try:
            manifest = files.read_json(path, schema=BegunManifest)
        except BenchError:
            continue  # damaged: the plan or the table says so; here it is one estimate less
        done = manifest.get("done", {})
        if "run" in done and manifest["rows"]["train"]:
            seconds = sum(float(facts.get("seconds", 0)) for facts in done.values())
            durations[path.parts[-4] == category].append(seconds * rows / manifest["rows"]["train"])
    own = durations[True] or durations[False]
    return statistics.median(own) + 6.0 if own else None  # a process takes some seconds to start


def execute(
    planned: list[Planned], arguments: Sequence[str], logs: Path, say: Callable[[str], None],
    watch: Watch = lambda running, queued: None, where: Pool = HERE,
) -> Outcome:  # fmt: skip
    """Do what is left of a plan, each run in a process of its own.

    Args:
        arguments: of ``bench run``, the same for all (category, data directory, runs directory, device …).
        logs: folder for each run's output.
        say: a line of progress.
        watch: called every second with the jobs that run and those that are queued; a job's key is its run's number.
        where: the pool, one run at a time on this machine unless another is given.
    """
    outcome = Outcome()
    titles = [f"[{number}/{len(planned)}] {run.shown}" for number, run in enumerate(planned, start=1)]
    for run, title in zip(planned, titles, strict=True):
        if run.problem:
            outcome.failed.append((run, run.problem))
            say(f"{title}: {run.problem}")
        elif run.recorded:
            outcome.done.append(run)
            say(f"{title}: recorded")

    def ended(job: Job, problem: str) -> None:
        run, title = planned[job.key], titles[job.key]
        if problem:
            run.problem = problem
            outcome.failed.append((run, problem))
            say(f"{title}: failed after {duration(job.seconds)}: {problem}")
            return
        run.recorded = True
        outcome.done.append(run)
        left = sum(other.seconds for other in planned if other.open) / where.workers
        about = f"; left: about {duration(left)}" if left else ""
        say(f"{title}: {_shown(run)} in {duration(job.seconds)}{about}")

    where.work_off(jobs(planned, arguments, logs), ended, watch)
    return outcome


def jobs(planned: list[Planned], arguments: Sequence[str], logs: Path) -> list[Job]:
    """What is left of a plan as commands; a run that goes on from another waits for it. Keys are places in the plan."""
    place = {run.directory: number for number, run in enumerate(planned) if run.open}
    made = []
    for number, run in enumerate(planned):
        if run.open:
            sets = [word for override in run.entry.overrides for word in ("--set", override)]
            sets += ["--from-run", str(run.source), "--anew"] if run.source else []
            command = [sys.executable, *SAFE, "-m", "harness", "run", "--method", run.entry.method]
            command += ["--seed", str(run.seed), *sets, "--redo", "changed", "--wait", *arguments]
            waits_for = [place[run.source]] if run.source in place else []
            log = logs / f"{names.slug(run.entry.label)}-seed{run.seed}.log"
            reads = [run.source] if run.source is not None else []
            made.append(Job(number, command, log, waits_for, run.directory, reads))
    return made


def lines_of(planned: list[Planned], arguments: Sequence[str]) -> list[str]:
    """What is left of a plan as lines of a shell, one a run; a run that goes on from another stands behind it."""
    lines: dict[int, str] = {}
    last: dict[int, int] = {}
    for job in jobs(planned, arguments, Path()):
        line = shlex.join(["bench", *job.command[job.command.index("run") :]])
        first = last.get(job.waits_for[0], job.waits_for[0]) if job.waits_for else job.key
        last[job.key] = first
        lines[first] = f"{lines[first]} && {line}" if first in lines else line
    return list(lines.values())


def _shown(run: Planned) -> str:
    stages = finished.metrics(RunDirectory(run.directory))["stages"]
    item = list(stages.values())[-1]["item"]
    shown = [name for name in ("HR@10", "NDCG@10") if name in item] or list(item)[:2]  # k may be below 10
    return "item " + ", ".join(f"{name} {item[name]:.4f}" for name in shown)


def duration(seconds: float) -> str:
    """``8 s``, ``3 min``, ``1 h 20 min``."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
