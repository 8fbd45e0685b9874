"""``bench suite``: a grid of methods and seeds on one category."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import (
    LazyPlugins,
    category_option,
    data_dir_option,
    fetch_option,
    resumable,
    runs_option,
    search_options,
    share_of_cores,
    with_plugins,
    working_options,
)
from harness.cli.workers import side_by_side, workers_option

if TYPE_CHECKING:
    from harness.plugins import Plugins
    from harness.runs.pool import Pool
    from harness.runs.suite import Planned, Suite

only_option = click.option("--only", multiple=True, metavar="ROW", help="Only these rows of the suite (repeatable).")
seeds_option = click.option("--seeds", type=int, metavar="N", help="Only the first N of the suite's seeds.")
output_option = click.option(
    "--output",
    metavar="DIR",
    help="Write the table to DIR/CATEGORY/NAME.md, and a record of each run (as bench results export does).",
)


@click.group()
def suite() -> None:
    """Run a grid of methods and seeds, and make one table of it."""


@suite.command("list")
def list_() -> None:
    """List the suites, a line each."""
    from harness.runs import suite as suites

    for name in suites.shipped():
        one = suites.read(name)
        click.echo(f"{name:<12} {len(one.entries)} rows × up to {len(one.seeds)} seeds: {one.summary}")


@suite.command()
@click.argument("name")
@category_option
@only_option
@seeds_option
@click.option("--dry-run", is_flag=True, help="Print the plan with an estimate of time, and run nothing.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N",
    help="Runs at a time on this machine, each with its share of the cores.",
)  # fmt: skip
@click.option(
    "--cluster", metavar="WHERE",
    help="Do the runs on a Ray cluster: auto (the one that this machine is part of), HOST:PORT, or ray://HOST:PORT.",
)  # fmt: skip
@click.option("--needs", metavar="cpus=N,gpus=M", help="With --cluster: what each run is given.  [default: cpus=1]")
@click.option(
    "--own-folders", is_flag=True,
    help="With --cluster: runs write to their machine's own disk and are brought back, also where it sees this one.",
)  # fmt: skip
@click.option("--print-jobs", is_flag=True, help="Print a command a run, for a job array, and run nothing.")
@fetch_option
@output_option
@working_options
@with_plugins
def run(
    plugins: Plugins, name: str, category: str, only: tuple[str, ...], seeds: int | None, dry_run: bool, workers: int,
    cluster: str | None, needs: str | None, own_folders: bool, print_jobs: bool, output: str | None,
    data_dir: str | None, runs: str, device: str, threads: int, no_mlflow: bool, quiet: bool,
) -> None:  # fmt: skip
    """Run a suite: what is recorded is skipped, a failure is passed over, a table ends it.

    NAME is a suite of bench suite list, or a file of that form.
    """
    from harness import files
    from harness.errors import BenchError
    from harness.progress import Progress
    from harness.runs import suite as suites
    from harness.world import world

    from .states import States

    world.only_one("bench suite run")
    where = _asked_pool(workers, cluster, needs, own_folders, device)
    if cluster and print_jobs:
        raise BenchError("--print-jobs prints lines for another scheduler, and --cluster runs on Ray; give one of them")
    chosen = suites.on_category(suites.select(suites.read(name), only, seeds), category)
    planned = suites.plan(chosen, category, data_dir, Path(runs), plugins)
    if dry_run:
        _print(planned)
        return
    if not threads and workers > 1 and not cluster:
        threads = share_of_cores(workers)
    words = ["--category", category, "--runs", runs, "--device", device, "--threads", str(threads)]
    words += ["--data-dir", data_dir] if data_dir else []
    words += ["--no-mlflow"] if no_mlflow or cluster else []  # what a cluster made is logged behind it, from here
    words += [word for file in LazyPlugins.of(click.get_current_context()).files for word in ("--plugin", file)]
    if print_jobs:
        for line in suites.lines_of(planned, words):
            click.echo(line)
        return
    if output:
        files.make_folder(Path(output))
    states = States(planned, Progress(quiet).say, live=sys.stderr.isatty() and not quiet)
    logs = Path(runs) / category / "suites" / chosen.name
    with resumable(), states:
        pool = where(Path(runs))
        outcome = suites.execute(planned, words, logs, states.say, states.show, pool)
        if (cluster or workers > 1) and outcome.done and not no_mlflow:  # what runs could not log, or were not to
            _synced(Path(runs), [run.directory for run in outcome.done], states.say)
    if outcome.done:
        _table(chosen, planned, category, output)
    for failed, problem in outcome.failed:
        click.echo(f"failed: {failed.entry.label} seed {failed.seed}: {problem}", err=True)
    if outcome.failed:
        sys.exit(1)


def _asked_pool(
    workers: int, cluster: str | None, needs: str | None, own_folders: bool, device: str
) -> Callable[[Path], Pool]:
    """The pool that the options ask for, to be made when all else is known to be right; takes the runs folder."""
    from harness.errors import BenchError
    from harness.runs.pool import Here

    if cluster is None:
        if needs is not None or own_folders:
            raise BenchError(f"{'--needs' if needs is not None else '--own-folders'} goes with --cluster")
        return lambda runs: Here(workers)
    if workers > 1:
        raise BenchError("--workers counts runs on this machine, and --cluster uses all of a cluster; give one of them")
    from harness.runs.cluster import Cluster, Needs

    asked = Needs.of(needs or "")
    if device.startswith("cuda") and not asked.gpus:
        raise BenchError(f"--device {device}: give each run a GPU, --needs cpus={asked.cpus:g},gpus=1")
    if device == "cpu" and asked.gpus:
        raise BenchError("--device cpu: the GPUs of --needs would stand idle; leave out gpus")
    return lambda runs: Cluster(cluster, asked, runs, own_folders)


@suite.command()
@click.argument("name")
@category_option
@only_option
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="Trials of each row's search, in all.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), metavar="M", help="Minutes of trials a row.")
@search_options
@workers_option
@click.option("--output", metavar="FILE", help="Also write the table to this file.")
@working_options
@with_plugins
def tune(
    plugins: Plugins, name: str, category: str, only: tuple[str, ...], trials: int | None, minutes: float | None,
    no_prune: bool, seed: int, workers: int, output: str | None, data_dir: str | None, runs: str, device: str,
    threads: int, no_mlflow: bool, quiet: bool,
) -> None:  # fmt: skip
    """Give every row of a suite the same budget for its settings: a search each on valid, and one table.

    The same command again goes on where it was. bench run --config RUNS/CATEGORY/METHOD/tuning/tuned.yaml runs what
    was found.
    """
    from harness import files
    from harness.cli.common import debug_mode
    from harness.cli.tables import duration, setting, table
    from harness.errors import BenchError
    from harness.progress import Progress
    from harness.runs import suite as suites
    from harness.runs import suite_tuning
    from harness.runs.machine import prepare_device, quieten
    from harness.world import world

    world.only_one("bench suite tune")
    if minutes is not None and not math.isfinite(minutes):
        raise BenchError(f"--minutes {minutes}: give a number of minutes")
    if (trials is None) == (minutes is None):
        raise BenchError("give --trials N or --minutes M: the budget that each row has")
    files.check_output(output)
    if not debug_mode():
        quieten()
    chosen = suites.on_category(suites.select(suites.read(name), only, None), category)
    budget = suite_tuning.Budget(trials, minutes * 60 if minutes is not None else None)
    progress = Progress(quiet)
    with resumable():
        if workers > 1:
            logs = Path(runs) / category / "suites" / chosen.name / "tuning"
            side_by_side(workers, threads, logs, progress.say, lambda: None, lenient=True)
        found = suite_tuning.tune(
            chosen, category, budget, seed, plugins, data_dir, Path(runs), prepare_device(device, threads),
            not no_mlflow, not no_prune, progress.say,
        )  # fmt: skip
    kept = suite_tuning.kept(chosen, category, found, budget, Path(runs))
    lines = []
    for row in found:
        gain = row.best - row.default if row.best is not None and row.default is not None else None
        best = (row.record.get("best") or {}).get("settings") or {}
        said = row.problem or " ".join(f"{key}={setting(value)}" for key, value in best.items())
        states = [row.count(state) if row.record else None for state in ("complete", "pruned", "failed")]
        shown = None if gain is None else f"{gain:+.4f}"
        lines.append([row.entry.label, *states, duration(row.seconds), row.default, row.best, shown, said])
    headers = ["row", "complete", "pruned", "failed", "time", "default", "best", "gain", "best settings"]
    data = next((row.record["data"] for row in found if row.record), "")
    text = (
        f"# {category}: suite {chosen.name}, {budget.shown} a row\n\n{table(headers, lines)}\n\n"
        f"*valid NDCG@10; data {data[:12] or 'unknown'}; seed {seed}; test was not read.*\n"
    )
    click.echo(text + f"\nrecord: {kept}")
    if output:
        files.write_text(Path(output), text)
    failed = [row for row in found if row.problem and not row.problem.startswith("nothing to search")]
    for row in failed:
        click.echo(f"failed: {row.entry.label}: {row.problem}", err=True)
    if failed:
        sys.exit(1)


@suite.command()
@click.argument("name")
@category_option
@only_option
@seeds_option
@output_option
@data_dir_option
@runs_option
@with_plugins
def table(
    plugins: Plugins, name: str, category: str, only: tuple[str, ...], seeds: int | None, output: str | None,
    data_dir: str | None, runs: str,
) -> None:  # fmt: skip
    """The table of what is recorded of a suite; nothing is run."""
    from harness.errors import BenchError
    from harness.runs import suite as suites

    chosen = suites.on_category(suites.select(suites.read(name), only, seeds), category)
    planned = suites.plan(chosen, category, data_dir, Path(runs), plugins)
    if not any(run.recorded for run in planned):
        raise BenchError(f"no run of suite {chosen.name} on {category} is recorded in {runs}; bench suite run {name} …")
    _table(chosen, planned, category, output)


def _table(chosen: Suite, planned: list[Planned], category: str, output: str | None) -> None:
    """The table of what is recorded; a protocol under which the rows do not compare says so in its place."""
    from harness import files
    from harness.errors import BenchError

    from .. import board, collected, formats, submission
    from ..record import Record

    gathered = collected.Collected()
    for run in planned:
        if run.recorded:
            gathered.take(partial(Record.of_run, run.directory, run.entry.label))
    collected.say_damaged(gathered.damaged)
    records = gathered.settle(strict=False, empty=f"no run of suite {chosen.name} can be read").records
    parts = [f"# {category}: suite {chosen.name}\n"]
    for protocol in ("sid", "item"):
        try:
            for one in board.boards(records, [protocol]):
                parts += [*([f"## {one.title}\n"] if one.seen == "drop" else []), formats.tables(one)]
        except BenchError as error:
            parts.append(f"Not shown: {error.format_message()}\n")
    missing = [f"{run.entry.label} seed {run.seed}" for run in planned if not run.recorded]
    if missing:
        parts.append(f"Not recorded: {', '.join(missing)}.\n")
    if gathered.damaged:
        parts.append(f"Damaged and left out: {len(gathered.damaged)} of {sum(run.recorded for run in planned)} runs.\n")
    text = "\n".join(parts)
    click.echo(text)
    if output:
        for record in records:
            submission.export(record, Path(output))
        path = Path(output) / category / f"{chosen.name}.md"
        files.write_text(path, text)
        click.echo(f"wrote {path} and {len(records)} records")


def _synced(root: Path, folders: list[Path], say: Callable[[str], None]) -> None:
    """MLflow brought up to date; where it does not answer, that is said, and the suite is none the worse."""
    from harness.errors import BenchError
    from harness.runs import syncing

    try:
        found = syncing.sync(root, folders, 60.0, say)
    except BenchError as error:
        say(f"{error.format_message()}; bench mlflow sync --runs {root} brings it up to date")
        return
    for line in found.left:
        say(f"MLflow: left out: {line}")


def _print(planned: list[Planned]) -> None:
    from harness.cli.tables import table
    from harness.runs import suite as suites

    rows = []
    for run in planned:
        state = run.problem or ("recorded" if run.recorded else "to run")
        basis = "recorded runs" if run.measured else "suite file"
        rows.append(
            [
                run.entry.label,
                str(run.seed),
                state,
                suites.duration(run.seconds) if run.open else None,
                basis if run.open else None,
            ]
        )
    click.echo(table(["row", "seed", "state", "about", "estimate from"], rows))
    left = [run for run in planned if run.open]
    about = suites.duration(sum(run.seconds for run in left))
    click.echo(f"\n{len(left)} of {len(planned)} runs to do, about {about}")
