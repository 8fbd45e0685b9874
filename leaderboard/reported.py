"""Published and replicated numbers, carried as facts in ``leaderboard/reported/*.yaml``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness import files, recipes
from harness.checks import schemas
from harness.errors import BenchError
from harness.evaluation.levels import drop_off
from harness.text.parsing import parse_yaml
from harness.text.plain import line

from . import plausibility

DIGITS = 4  # that tables of the field are printed with


@dataclass(frozen=True)
class Reported:
    """A reported row: its source, and the metrics it gives.

    Attributes:
        family: the method that it is a version of; a run of that method is compared with it.
        stage: the stage that it is of, where that is not simply the last.
        levels: per-level accuracies where the source gives them, in the form of a stage's ``levels``.
    """

    method: str
    category: str
    source: str
    what: str
    metrics: dict[str, float]
    family: str = ""
    stage: str = ""
    levels: dict[str, Any] = field(default_factory=dict, hash=False)

    @cached_property
    def problems(self) -> list[str]:
        """What cannot be true of the row (:mod:`harness.consistency`); the published test split is its n."""
        return plausibility.problems(self.metrics, DIGITS, published_samples(self.category))


@cache
def published_samples(category: str) -> int | None:
    """Test rows of the category's published split, where known."""
    path = recipes.shipped("datasets", f"{category}.yaml")
    return files.read_yaml(path).get("published_rows", {}).get("test") if path.is_file() else None


def rows(category: str) -> tuple[Reported, ...]:
    """All reported rows of a category, in the order of the files; rows without numbers are left out."""
    return tuple(row for row in all_rows() if row.category == category)


SHIPPED = tuple(sorted((Path(__file__).parent / "reported").glob("*.yaml")))
_brought: list[Path] = list(SHIPPED)


def bring(paths: Iterable[str | Path]) -> None:
    """Say which files the rows are of: those of all plugins (``bench_reported``)."""
    _brought[:] = dict.fromkeys(Path(path) for path in paths)


def all_rows() -> tuple[Reported, ...]:
    """All reported rows that plugins bring, the shipped ones among them."""
    return tuple(row for path in _brought for row in _read_once(path))


@cache
def _read_once(path: Path) -> tuple[Reported, ...]:
    return tuple(read(path))


def read(path: Path) -> list[Reported]:
    """The rows of a file.

    Raises:
        BenchError: it has not the form of ``leaderboard/reported/published.yaml``.
    """
    from .record_files import ReportedLevels, ReportedRows

    mend = "mend the table"
    try:
        tables = parse_yaml(files.read_text(path, "name a file that is there", files.MOST_YAML_BYTES))
    except ValueError as error:
        raise BenchError(f"{path} cannot be read: {error}; {mend}") from None
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BenchError(f"{path} must hold a list of tables: source, category, columns, rows")
    reported: list[Reported] = []
    for number, table in enumerate(tables, start=1):
        where = f"{path}, table {number}"
        schemas.check(ReportedLevels if "analysis" in table else ReportedRows, table, where, mend)
    for table in tables:
        source = table["source"]
        if "analysis" in table:
            continue
        for method, values in (table.get("rows") or {}).items():
            if values is None:
                continue
            metrics = dict(zip(table["columns"], map(float, values), strict=True))
            levels = _levels(tables, source["id"], table["category"], str(method))
            family, stage = table.get("family", method), (table.get("stages") or {}).get(method, "")
            reported.append(
                Reported(
                    line(method), table["category"], line(source["id"]), line(source.get("what", "")), metrics,
                    str(family), str(stage), levels,
                )
            )  # fmt: skip
    return reported


def _levels(tables: list[dict[str, Any]], source: str, category: str, method: str) -> dict[str, Any]:
    """The per-level tables of a source that are of this row (``of`` names the row for each of its keys)."""
    by_analysis: dict[str, Any] = {}
    for table in tables:
        if table.get("analysis") and table["source"].get("id") == source and table["category"] == category:
            key = next((key for key, row in table["of"].items() if row == method), None)
            if key:
                names = table["columns"][1:]
                by_analysis[table["analysis"]] = {
                    str(row[0]): dict(zip(names, row[1:], strict=True)) for row in table[key]
                }
    if "cumulative" in by_analysis:
        by_analysis["drop-off"] = drop_off(by_analysis["cumulative"]["1"])
    return by_analysis
