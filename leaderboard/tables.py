"""Leaderboard tables from recorded runs; it reads run directories and computes no metric."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import reported, store
from harness.config import GROUPS
from harness.errors import BenchError
from harness.report import BAYES, PROTOCOLS, table

COLUMNS = ["HR@1", "HR@3", "HR@5", "HR@10", "HR@20", "HR@50", "NDCG@3", "NDCG@5", "NDCG@10", "NDCG@50", "MRR"]
REPORTED = ["HR@1", "HR@3", "HR@5", "HR@10", "HR@20", "HR@50", "NDCG@3", "NDCG@5", "NDCG@10"]


@dataclass(frozen=True)
class Recorded:
    """A finished run, as its directory tells."""

    directory: Path
    manifest: dict[str, Any]
    result: dict[str, Any]

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.manifest["method"])

    @property
    def valid(self) -> float:
        """NDCG@10 of the last stage on valid: what the best run of a method is chosen by."""
        last = list(self.result["stages"].values())[-1]
        return float((last.get("valid") or {}).get("NDCG@10", 0.0))


def recorded(runs: Path, category: str) -> list[Recorded]:
    """The finished runs of a category.

    Raises:
        BenchError: there is none, or one is damaged.
    """
    found = []
    for path in sorted((runs / category).glob(f"*/*/{store.METRICS}")):
        manifest = store.read_json(path.parent / store.MANIFEST)
        if "run" in manifest.get("done", {}):
            found.append(Recorded(path.parent, manifest, store.read_json(path)))
    if not found:
        known = sorted(p.name for p in runs.glob("*") if p.is_dir())
        there = f"recorded are {', '.join(known)}" if known else f"{runs} is empty"
        raise BenchError(
            f"no finished run of {category} in {runs} ({there}); make one: bench run --category {category} …"
        )
    return found


def leaderboard(runs: Path, category: str, protocols: list[str], stages: bool = False) -> str:
    """Markdown: a table for each split (fingerprint) and protocol, then the reported numbers."""
    by_data: dict[str, list[Recorded]] = defaultdict(list)
    for run in recorded(runs, category):
        by_data[run.manifest["fingerprints"]["data"]].append(run)
    parts = [f"# {category}"]
    for fingerprint, found in by_data.items():
        caption = found[0].manifest["caption"] or "as read"
        best = _best(found)
        for protocol in protocols:
            rows = _rows(best, protocol, stages)
            if rows:
                parts.append(f"## {PROTOCOLS[protocol][0].upper()}{PROTOCOLS[protocol][1:]}")
                parts.append(table(["Method", "Stage", "Seed", *COLUMNS, "CC"], _emphasised(rows)))
                parts.append(_under(caption, fingerprint, best))
    published = reported.rows(category)
    if published:
        parts += ["## Reported elsewhere", "As their sources give them (SID string match); not measured here."]
        parts.append(
            table(
                ["Method", "Source", *REPORTED],
                [[r.method, r.source, *(r.metrics.get(c) for c in REPORTED)] for r in published],
            )
        )
    return "\n\n".join(parts) + "\n"


def _best(found: list[Recorded]) -> list[Recorded]:
    """The run of each method with the best valid NDCG@10, methods by group; test has no say."""
    best: dict[str, Recorded] = {}
    for run in found:
        if run.method not in best or run.valid > best[run.method].valid:
            best[run.method] = run
    return sorted(best.values(), key=lambda r: (GROUPS.index(r.manifest.get("group", "ours")), r.method))


def _rows(best: list[Recorded], protocol: str, stages: bool) -> list[list[Any]]:
    rows = []
    for run in best:
        found = list(run.result["stages"].items())
        for name, stage in found if stages else found[-1:]:
            if protocol in stage:
                metrics = [stage[protocol].get(c) for c in COLUMNS]
                rows.append([run.method, name, run.manifest["seed"], *metrics, stage.get("invalid")])
    optimal = next((r.result[BAYES][protocol] for r in best if protocol in r.result.get(BAYES, {})), None)
    if optimal:
        rows.append([BAYES, None, None, *(optimal.get(c) for c in COLUMNS), None])
    return rows


def _emphasised(rows: list[list[Any]]) -> list[list[Any]]:
    """The best measured value of each column in bold; the optimum is no competitor."""
    shown = [list(row) for row in rows]
    for column in range(3, 3 + len(COLUMNS)):
        values = [row[column] for row in rows if row[0] != BAYES and row[column] is not None]
        for row, original in zip(shown, rows, strict=True):
            if values and row[0] != BAYES and original[column] == max(values):
                row[column] = f"**{original[column]:.4f}**"
    return shown


def _under(caption: str, fingerprint: str, best: list[Recorded]) -> str:
    revisions = sorted({r.manifest["revision"] for r in best})
    return (
        f"*{caption}; data {fingerprint[:12]}; the run of each method with the best valid NDCG@10; "
        f"code {', '.join(revisions)}.*"
    )
