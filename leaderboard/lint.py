"""Lint of numbers in files: records (.json) and reported rows (.yaml); the rules are ``harness.consistency``'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BenchError
from harness.runs.run_directory import SEMANTIC_IDS

from . import reported
from .collected import read_all
from .folders import RESULTS
from .plausibility import problems
from .record import Record

SUFFIXES = (".json", ".yaml", ".yml")


@dataclass(frozen=True)
class Linted:
    """A row of numbers, where it stands, and what cannot be true of it."""

    name: str
    problems: list[str]


def rows(paths: Sequence[str]) -> list[Linted]:
    """The rows of files and folders; without any, the reported rows that are shipped and the records in the clone.

    Raises:
        BenchError: a file that holds neither records nor reported rows.
    """
    if not paths:
        linted = [_reported(row) for row in reported.all_rows()]
        return linted + ([row for r in read_all(Path(RESULTS)) for row in _record(r)] if Path(RESULTS).is_dir() else [])
    linted = []
    for path in map(Path, paths):
        if not path.exists():
            raise BenchError(f"{path} does not exist; give a record (.json), reported rows (.yaml) or a folder of them")
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.name != SEMANTIC_IDS)
            if not files:
                raise BenchError(f"{path} holds no record (.json) and no reported rows (.yaml)")
        else:
            files = [path]
        for file in files:
            if file.suffix == ".json":
                linted += _record(Record.read(file))
            else:
                linted += [_reported(row) for row in reported.read(file)]
    return linted


def _reported(row: reported.Reported) -> Linted:
    return Linted(f"{row.source}, {row.category}, {row.method}", row.problems)


def _record(record: Record) -> list[Linted]:
    n = record.content["rows"].get("test")
    linted = []
    for stage in record.stages:
        for protocol in record.protocols:
            ranks = record.ranks(protocol, stage)
            whole = ranks is None or bool((ranks.group == 1).all())
            lines = problems(record.metrics(protocol, stage), samples=n, whole=whole)
            linted.append(Linted(f"{record.place}, {stage}, {protocol} protocol", lines))
    return linted
