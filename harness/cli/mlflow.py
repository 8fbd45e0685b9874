"""``bench mlflow``: MLflow as a mirror of what is recorded."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click

from harness.cli.common import runs_option


@click.group()
def mlflow() -> None:
    """Bring MLflow up to date with the runs directory, which is the record."""


@mlflow.command()
@click.argument("runs_given", nargs=-1, metavar="[RUN…]")
@runs_option
def sync(runs_given: tuple[str, ...], runs: str) -> None:
    """Log what is missing of finished and half-done runs, and end those that a kill left running.

    RUN is a run directory; without one, all below --runs. Nothing is logged twice: not a point, parameter, input or
    artifact. A run that a process is at work on is left alone.
    """
    from harness.errors import BenchError
    from harness.runs import syncing
    from harness.runs.run_directory import MANIFEST

    if runs_given:
        folders = [Path(run) for run in runs_given]
        for path in folders:
            if not (path / MANIFEST).is_file():
                raise BenchError(f"{path} is not the directory of a run; bench run prints it")
        root = folders[0].resolve().parents[2]
    else:
        root = Path(runs)
        folders = sorted(path.parent for path in root.glob(f"*/*/seed*/{MANIFEST}"))
        if not folders:
            raise BenchError(f"{root} holds no run; bench run makes one")
    patience = math.inf if sys.stdin.isatty() else 60.0
    found = syncing.sync(root, folders, patience, lambda line: click.echo(line, err=True))
    for line in found.left:
        click.echo(f"Left out: {line}", err=True)
    click.echo(f"{found.done} of {len(folders)} runs are up to date in {found.address}")
