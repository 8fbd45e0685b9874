"""``bench run`` in this process, on one thread, without anything that a test does not look at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from harness.cli import cli


def bench(*words: object) -> Result:
    """Any command, with whatever words."""
    return CliRunner().invoke(cli, [str(word) for word in words])


def bench_run(
    folder: Path, method: str | Path, sets: Iterable[str] = (), *more: str, category: str = "Synthetic"
) -> Result:  # fmt: skip
    """Run a method, or a recipe's file, into a folder with ``--set`` each of `sets`."""
    what = ["--config", str(method)] if isinstance(method, Path) else ["--method", method]
    words = ["run", *what, "--category", category, "--seed", "1", "--runs", str(folder), "--no-mlflow", "--no-figures",
             "--quiet", "--device", "cpu", "--threads", "1", *more]  # fmt: skip
    return bench(*words, *(word for s in sets for word in ("--set", s)))


def only_run(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the one run that there is, and the metrics of its stages."""
    [path] = folder.glob("*/*/*/metrics.json")
    return path.parent, json.loads(path.read_text())["stages"]


def run_whole(folder: Path, method: str | Path, sets: Iterable[str] = (), *more: str) -> tuple[Path, dict[str, Any]]:
    """As :func:`bench_run`, and it must succeed: the run's folder, and the metrics of its stages."""
    done = bench_run(folder, method, sets, *more)
    assert done.exit_code == 0, (done.output, done.exception)
    return only_run(folder)
