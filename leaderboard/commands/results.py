"""``bench results``: recorded runs as small files, and whether they tell the truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import data_dir_option, with_plugins

from ..folders import RESULTS

if TYPE_CHECKING:
    from harness.plugins import Plugins

runs_argument = click.argument("runs", nargs=-1, required=True, metavar="RUN…")


@click.group()
def results() -> None:
    """Recorded runs as small files: measure, export, verify, lint."""


@results.command()
@runs_argument
@click.option("--output", default=RESULTS, show_default=True, metavar="DIR", help="A folder of records.")
@click.option("--label", default="", metavar="NAME", help="Its row in tables, where that is not the method's name.")
@click.option("--with-rankings", is_flag=True, help="Put the rankings beside the record: a pull request needs them.")
def export(runs: tuple[str, ...], output: str, label: str, with_rankings: bool) -> None:
    """Write a record of each RUN (a run directory): OUTPUT/<category>/<method>/<run>.json."""
    from harness.errors import BenchError, shown
    from harness.text.plain import line

    from .. import submission
    from ..record import Record

    if not output.strip():
        raise BenchError("--output is empty: name a folder of records")
    if label and not 1 <= len(line(label).strip()) <= 200:
        raise BenchError(f"--label {shown(label)[:40]!r}: give 1 to 200 characters that can be seen")
    records = [Record.of_run(Path(run), label) for run in runs]  # all are sound before one is written
    for record in records:
        path = submission.export(record, Path(output), with_rankings)
        click.echo(f"wrote {path}" + (f" and {path.with_suffix('')}/" if with_rankings else ""))


@results.command()
@click.argument("paths", nargs=-1, metavar="[RECORD|DIR]…")
@click.option("--rankings", metavar="DIR", help="A run directory or folder with the rankings of one RECORD.")
@click.option("--strict", is_flag=True, help="A record without rankings files fails too.")
@data_dir_option
@with_plugins
def verify(plugins: Plugins, paths: tuple[str, ...], rankings: str | None, strict: bool, data_dir: str | None) -> None:
    """Compute the metrics of records again and say whether they tell the truth.

    Without rankings files (beside the record, or --rankings) metrics are computed from the record's target ranks.
    The default is every record in leaderboard/results.
    """
    from .. import submission

    verdicts = submission.verify_all(paths or (RESULTS,), plugins, data_dir, rankings)
    for verdict in verdicts:
        click.echo(verdict.line)
    false = sum(bool(verdict.false) for verdict in verdicts)
    unproven = sum(bool(verdict.open) for verdict in verdicts if not verdict.false)
    click.echo(f"{len(verdicts)} records, {false} false, {unproven} without all their rankings")
    if false or (strict and unproven):
        sys.exit(1)


@results.command()
@click.argument("paths", nargs=-1, metavar="[FILE|DIR]…")
def lint(paths: tuple[str, ...]) -> None:
    """Say which numbers cannot be true: of records (.json), of reported rows (.yaml), by default of all shipped ones.

    HR and NDCG of single targets rise with K, lie in order, and each step is bounded by the ranks it covers.
    """
    from .. import lint as linter

    rows = linter.rows(paths)
    flagged = 0
    for row in rows:
        for problem in row.problems:
            click.echo(f"{row.name}: {problem}")
        flagged += bool(row.problems)
    click.echo(f"{len(rows)} rows, {flagged} that cannot be true")
    if flagged:
        sys.exit(1)


@results.command()
@click.argument("paths", nargs=-1, metavar="[RECORD|DIR]…")
@data_dir_option
@with_plugins
def migrate(plugins: Plugins, paths: tuple[str, ...], data_dir: str | None) -> None:
    """Bring records of older versions to the newest format, in place.

    Metrics and intervals are computed anew from the target ranks, users of the samples are joined from the data where
    it is here. The default is every record in leaderboard/results.
    """
    from .. import submission

    for line in submission.migrate_all(paths or (RESULTS,), plugins, data_dir):
        click.echo(line)


@results.command()
@runs_argument
@click.option("--no-figures", is_flag=True, help="Draw no figures beside the report.")
@data_dir_option
@with_plugins
def measure(plugins: Plugins, runs: tuple[str, ...], no_figures: bool, data_dir: str | None) -> None:
    """Measure finished runs again from their rankings files, with the metrics registered now.

    Nothing is trained or decoded. Use it for runs of older versions, and after adding a metric.
    """
    from harness.cli.tables import summary
    from harness.runs import pipeline
    from harness.runs.run_directory import RunDirectory

    for run in runs:
        result = pipeline.measure_again(RunDirectory(Path(run)), plugins, data_dir, not no_figures)
        click.echo(f"{run}\n{summary(result)}\n")
