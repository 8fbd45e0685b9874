"""Records of many runs or files: what can be read, and what is damaged, named and left out with a count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from harness.errors import BenchError, shown
from harness.runs import run_directory
from harness.runs.run_directory import RunDirectory

from .record import Record, trusted


@dataclass
class Collected:
    """Records of several places, and what could not be read.

    Attributes:
        damaged: a line for each run or record that is left out: where, what, the mend.
    """

    records: list[Record] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def take(self, read: Callable[[], Record | None]) -> None:
        """Add a record, or the line on why it is none."""
        try:
            record = read()
            if record is not None:
                self.records.append(record)
        except BenchError as error:
            self.damaged.append(error.message)

    def settle(self, strict: bool, empty: str) -> Collected:
        """Itself.

        Raises:
            BenchError: `strict` and something is damaged, or there is no record at all (`empty` says so).
        """
        if self.damaged and (strict or not self.records):
            more = f" (and {len(self.damaged) - 1} more damaged)" if len(self.damaged) > 1 else ""
            raise BenchError(f"{self.damaged[0]}{more}")
        if not self.records:
            raise BenchError(empty)
        return self


def collect_files(root: Path, strict: bool = False, trust: bool = True) -> Collected:
    """Every record below a folder, by path.

    Args:
        strict: a damaged one is an error, not left out.
        trust: whether metrics must follow from the target ranks.

    Raises:
        BenchError: there is none, or `strict` and one is damaged.
    """
    collected, read = Collected(), _trusted if trust else Record.read
    for path in sorted(root.rglob("*.json")):
        if path.name != run_directory.SEMANTIC_IDS:
            collected.take(partial(read, path))
    return collected.settle(strict, f"no record in {root}; bench results export RUN --output {root} writes one")


def _trusted(path: Path) -> Record:
    return trusted(Record.read(path))


def read_all(root: Path) -> list[Record]:
    """Every record below a folder, by path; whether their metrics follow is another question (:func:`trusted`).

    Raises:
        BenchError: there is none, or one is damaged.
    """
    return collect_files(root, strict=True, trust=False).records


def collect_runs(runs: Path, category: str = "", strict: bool = False) -> Collected:
    """The records of every finished run in a runs directory, of one category or of all.

    Args:
        strict: a damaged run is an error, not left out.

    Raises:
        BenchError: there is none, or `strict` and one is damaged.
    """
    collected = Collected()
    for root in [runs / category] if category else sorted(runs.glob("*")):
        _below(root, collected)
    known = sorted(p.name for p in runs.glob("*") if p.is_dir())
    there = f"recorded are {', '.join(known)}" if known and category else f"{runs} holds no run"
    what = f"of {category} " if category else ""
    return collected.settle(
        strict,
        f"no finished run {what}in {runs} ({there}); make one: bench run --category {category or 'Synthetic'} …",
    )


def finished_runs(runs: Path, category: str = "") -> list[Record]:
    """The records of :func:`collect_runs`, none of them damaged.

    Raises:
        BenchError: there is none, or one is damaged.
    """
    return collect_runs(runs, category, strict=True).records


def finished_below(folder: Path) -> list[Record]:
    """The records of every finished run below a folder, by path.

    Raises:
        BenchError: there is none, or one is damaged.
    """
    collected = Collected()
    _below(folder, collected)
    return collected.settle(True, f"{folder} holds no finished run; bench run prints the directory of one").records


def _below(folder: Path, collected: Collected) -> None:
    """The finished runs of a folder: itself, its folders, and theirs. A run whose manifest is gone is a damaged one."""
    for path in sorted([folder, *folder.glob("*/"), *folder.glob("*/*/")]):
        if (path / run_directory.MANIFEST).exists():
            collected.take(partial(_if_finished, path))
        elif (path / run_directory.METRICS).exists():
            collected.damaged.append(
                f"{path} has {run_directory.METRICS} and no {run_directory.MANIFEST}; delete the folder and run the "
                "method again"
            )


def _if_finished(path: Path) -> Record | None:
    folder = RunDirectory(path)
    if folder.finished("run") is not None:
        return Record.of_run(path)
    if (path / run_directory.METRICS).exists() and "method" not in folder.manifest and not folder.in_use:
        raise BenchError(f"{path / run_directory.MANIFEST} says nothing of its run; {run_directory.DAMAGED}")
    return None


def say_damaged(lines: list[str]) -> None:
    """Name on stderr what is left out, with a count."""
    for line in lines:
        click.echo(f"Left out: {shown(line)}", err=True)
    if lines:
        click.echo(f"{len(lines)} damaged left out; --strict stops at the first", err=True)
