"""A suite's recorded runs as one table: means over seeds, intervals over samples, the reported rows beside.

It reads run directories and computes no metric.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness import reported, store
from harness.errors import BenchError
from harness.report import BAYES, PROTOCOLS, table

COLUMNS = ["HR@1", "HR@3", "HR@5", "HR@10", "HR@20", "HR@50", "NDCG@3", "NDCG@5", "NDCG@10", "NDCG@20", "NDCG@50"]
WITH_INTERVAL = ("HR@10", "NDCG@10")
SOURCE = "minionerec-paper"


@dataclass(frozen=True)
class Row:
    """A row of the table: a method's recorded runs, one a seed."""

    label: str
    runs: list[dict[str, Any]]

    def values(self, protocol: str, metric: str) -> list[float]:
        """The metric of each seed, where the protocol is there."""
        found = [run["metrics"].get(protocol, {}).get(metric) for run in self.runs]
        return [value for value in found if value is not None]

    def mean(self, protocol: str, metric: str) -> float | None:
        """The mean over seeds."""
        values = self.values(protocol, metric)
        return statistics.fmean(values) if values else None

    def interval(self, protocol: str, metric: str) -> tuple[float, float] | None:
        """The 95 % interval over test samples, its bounds averaged over seeds."""
        found = [run["intervals"].get(protocol, {}).get(metric) for run in self.runs]
        bounds = [pair for pair in found if pair]
        return (statistics.fmean(b[0] for b in bounds), statistics.fmean(b[1] for b in bounds)) if bounds else None

    def deviation(self, protocol: str, metric: str) -> float | None:
        """The standard deviation over seeds; None for one seed."""
        values = self.values(protocol, metric)
        return statistics.stdev(values) if len(values) > 1 else None


def collect(planned: Iterable[Any]) -> list[Row]:
    """The rows of recorded runs (:class:`harness.suite.Planned`), in the suite's order.

    Raises:
        BenchError: runs of different data; they are not comparable. (The caption names the semantic IDs.)
    """
    rows = from_records([_record(run) for run in planned])
    first = rows[0].runs[0]
    for row in rows:
        for run in row.runs:
            if run["fingerprints"]["data"] != first["fingerprints"]["data"]:
                raise BenchError(f"{row.label} and {rows[0].label} were run on different data; they do not compare")
    return rows


def from_records(records: Iterable[dict[str, Any]]) -> list[Row]:
    """The rows of records, as :func:`as_json` lists them under ``runs``."""
    by_label: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_label.setdefault(record["label"], []).append(record)
    return [Row(label, runs) for label, runs in by_label.items()]


def _record(run: Any) -> dict[str, Any]:
    """One run as a small record: settings, metrics, intervals, fingerprints, versions, cost."""
    from harness.config import read_yaml

    manifest = store.read_json(run.directory / store.MANIFEST)
    result = store.read_json(run.directory / store.METRICS)
    stages = result["stages"]
    name, last = list(stages.items())[-1]
    record = {
        "label": run.entry.label,
        "method": manifest["method"],
        "group": manifest.get("group"),
        "stage": name,
        "category": manifest["category"],
        "seed": manifest["seed"],
        "run": run.directory.name,
        "metrics": {p: last[p] for p in PROTOCOLS if p in last},
        "intervals": last.get("intervals", {}),
        "invalid": last.get("invalid"),
        "valid": last.get("valid"),
        "parameters": max((s["train"].get("parameters", 0) for s in stages.values() if s.get("train")), default=0),
        "train seconds": round(sum(s["train"]["seconds"] for s in stages.values() if s.get("train")), 1),
        "decode seconds": last["decode"]["seconds"],
        "peak memory GiB": last["decode"].get("peak memory GiB"),
        "settings": read_yaml(run.directory / store.CONFIG),
        "stages": {n: {p: s[p] for p in PROTOCOLS if p in s} for n, s in stages.items()} if len(stages) > 1 else {},
    }
    if BAYES in result:
        record[BAYES] = result[BAYES]
    return record | {k: manifest[k] for k in ("caption", "fingerprints", "rows", "revision", "versions", "hardware")}


def markdown(rows: list[Row], category: str) -> str:
    """The table for each protocol, with what must be said under it."""
    parts = [f"# {category}: {sum(len(r.runs) for r in rows)} runs, {len(rows)} methods"]
    for protocol, title in PROTOCOLS.items():
        shown = [row for row in rows if row.mean(protocol, "HR@10") is not None]
        if not shown:
            continue
        parts.append(f"## {title[0].upper()}{title[1:]}")
        parts.append(_table(shown, protocol, category))
        parts.append(_caption(rows, title))
    return "\n\n".join(parts) + "\n"


def _table(rows: list[Row], protocol: str, category: str) -> str:
    paper = {r.method: r.metrics for r in reported.rows(category) if r.source == SOURCE}
    beside = paper and protocol == "sid"
    headers = ["Method", "Seeds"]
    for column in COLUMNS:
        headers += [column, "95 %"] if column in WITH_INTERVAL else [column]
    headers += ["± seeds HR@10", "± seeds NDCG@10"]
    headers += ["paper HR@10", "paper NDCG@10"] if beside else []
    headers += ["Train", "Parameters", "CC"]
    best = {c: max(row.mean(protocol, c) or 0 for row in rows) for c in COLUMNS}
    cells = []
    for row in rows:
        line: list[Any] = [row.label, str(len(row.runs))]
        for column in COLUMNS:
            mean = row.mean(protocol, column)
            line.append(f"**{mean:.4f}**" if mean is not None and mean == best[column] else mean)
            if column in WITH_INTERVAL:
                bounds = row.interval(protocol, column)
                line.append(f"{bounds[0]:.4f}–{bounds[1]:.4f}" if bounds else None)
        line += [row.deviation(protocol, c) for c in WITH_INTERVAL]
        if beside:
            own = paper.get(row.runs[0]["settings"].get("reported") or "", {})
            line += [own.get(c) for c in WITH_INTERVAL]
        line += [_seconds(statistics.fmean(r["train seconds"] for r in row.runs)), _count(row.runs[0]["parameters"])]
        line.append(sum(r["invalid"] or 0 for r in row.runs))
        cells.append(line)
    optimal = next((r.runs[0][BAYES][protocol] for r in rows if protocol in r.runs[0].get(BAYES, {})), None)
    if optimal:
        line = [BAYES, None]
        for column in COLUMNS:
            line += [optimal.get(column), None] if column in WITH_INTERVAL else [optimal.get(column)]
        cells.append(line + [None] * (len(headers) - len(line)))
    return table(headers, cells)


def _caption(rows: list[Row], protocol: str) -> str:
    runs = [run for row in rows for run in row.runs]
    first = runs[0]
    sids = sorted({run["fingerprints"]["semantic_ids"][:12] for run in runs if run["fingerprints"]["semantic_ids"]})
    parts = [
        f"{protocol}; {first['category']}: {first['caption'] or 'as read'}",
        f"data {first['fingerprints']['data'][:12]}",
        f"SIDs {', '.join(sids) or 'none'}",
        f"seeds {', '.join(str(s) for s in sorted({run['seed'] for run in runs}))}",
        f"code {', '.join(sorted({run['revision'] for run in runs}))}",
        "means over seeds",
        "95 %: bootstrap over test samples, bounds averaged over seeds",
        "±: standard deviation over seeds",
    ]
    if reported.rows(first["category"]):
        parts.append("paper: MiniOneRec's Table 1, the published train split, as printed and not measured here")
    return f"*{'; '.join(parts)}.*"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _count(parameters: int) -> str | None:
    return f"{parameters / 1e6:.2f} M" if parameters else None


def as_json(rows: list[Row], category: str) -> dict[str, Any]:
    """All records, as a file keeps them."""
    return {"category": category, "runs": [run for row in rows for run in row.runs]}
