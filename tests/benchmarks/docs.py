"""Tables of the documentation from recorded files: ``python -m tests.benchmarks.docs [--check]``.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Any

from harness import reported
from harness.report import table
from leaderboard import comparison

ROOT = Path(__file__).parents[2]
SPEED = ROOT / "docs" / "benchmarks.json"
SPEED_REAL = ROOT / "docs" / "benchmarks-industrial.json"
TABLE1 = ROOT / "leaderboard/results/Industrial_and_Scientific/table1.json"
QUALITY = ROOT / "leaderboard/results/Industrial_and_Scientific/quality.json"
STAGES = ROOT / "docs" / "grpo-over-sft.json"
EXPLORATION = ROOT / "leaderboard/searches/minionerec.json"


def speed_table(record: dict[str, Any]) -> str:
    """The rows of a benchmark run, and what they were measured on."""

    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    lines = [
        [r["what"], number(r["fast"]), number(r["usual"]), r["unit"], f"{r['ratio']:.1f}×", r["same"]]
        for r in record["rows"]
    ]
    hardware = record["hardware"]
    caption = (
        f"{hardware['processor']}, {record['threads']} threads, {record['category']}, {record['date']}, revision "
        f"{record['revision']}, peak memory of the whole process {record['peak memory GiB']:g} GiB."
    )
    return table(["what", "fast", "usual", "unit", "ratio", "same result"], lines) + "\n\n" + caption


def quality_table(records: list[dict[str, Any]]) -> str:
    """The rows of the quality suite: means over seeds, their spread, the cost."""
    lines = []
    for row in comparison.from_records(records):
        valid = statistics.fmean(run["valid"]["NDCG@10"] for run in row.runs)
        line = [row.label, str(len(row.runs)), f"{valid:.4f}"]
        for protocol in ("sid", "item"):
            for metric in ("HR@10", "NDCG@10"):
                spread = row.deviation(protocol, metric)
                mean = row.mean(protocol, metric)
                line.append(f"{mean:.4f}" + (f" ± {spread:.4f}" if spread is not None else ""))
        minutes = statistics.fmean(run["train seconds"] for run in row.runs) / 60
        lines.append([*line, f"{minutes:.1f} min", str(max(run["parameters"] for run in row.runs) or "—")])
    headers = ["row", "seeds", "valid NDCG@10", "SID HR@10", "SID NDCG@10", "item HR@10", "item NDCG@10", "train",
               "parameters"]  # fmt: skip
    first = records[0]
    caption = (
        f"*{first['category']}: {first['caption']}; ± is the standard deviation over seeds; valid is mean NDCG@10.*"
    )
    return table(headers, lines) + "\n\n" + caption


def main_table(content: dict[str, Any]) -> str:
    """The README's form of table 1: both protocols at a glance, the paper's numbers and the cost beside."""
    paper = {r.method: r.metrics for r in reported.rows(content["category"]) if r.source == comparison.SOURCE}
    rows = comparison.from_records(content["runs"])
    columns = [(protocol, metric) for protocol in ("sid", "item") for metric in ("HR@10", "NDCG@10")]
    best = {column: max(row.mean(*column) or 0 for row in rows) for column in columns}
    lines = []
    for row in rows:
        cells = [f"**{v:.4f}**" if (v := row.mean(*column) or 0) == best[column] else f"{v:.4f}" for column in columns]
        low, high = row.interval("sid", "HR@10") or (0.0, 0.0)
        theirs = paper.get(row.runs[0]["settings"].get("reported") or "")
        seconds = statistics.fmean(run["train seconds"] for run in row.runs)
        lines.append(
            [row.label, str(len(row.runs)), cells[0], f"{low:.3f}–{high:.3f}", *cells[1:],
             f"{theirs['HR@10']:.4f} / {theirs['NDCG@10']:.4f}" if theirs else "—",
             f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"]
        )  # fmt: skip
    headers = ["method", "seeds", "SID HR@10", "95 %", "SID NDCG@10", "item HR@10", "item NDCG@10",
               "paper (SID) HR@10 / NDCG@10", "train"]  # fmt: skip
    return table(headers, lines)


def stages_table(records: list[dict[str, Any]]) -> str:
    """GRPO against the SFT model that it started from, seed by seed and paired over test samples."""
    lines = [
        [r["seeds"], r["metric"], f"{r['sft']:.4f}", f"{r['grpo']:.4f}", f"{r['difference']:+.4f}",
         f"{r['low']:+.4f} to {r['high']:+.4f}"]
        for r in records
    ]  # fmt: skip
    return table(["seed", "metric (SID protocol)", "SFT", "GRPO", "difference", "95 %, paired over samples"], lines)


def exploration_table(record: dict[str, Any]) -> str:
    """What was tried on valid before the recipe was fixed."""
    lines = [
        [t["what"], f"{t['best epoch']:.0f} of {t['epochs']:.0f}" + (" (stopped)" if t["stopped early"] else ""),
         *(f"{t['valid'][m]:.4f}" for m in ("HR@1", "HR@10", "NDCG@10"))]
        for t in record["trials"]
    ]  # fmt: skip
    return table(["SFT with", "best epoch", "valid HR@1", "HR@10", "NDCG@10"], lines) + f"\n\n*{record['note']}.*"


def tables() -> dict[str, str]:
    """``{name: table}`` of all recorded files."""

    def read(path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))

    return {
        "speed": speed_table(read(SPEED)),
        "speed-real": speed_table(read(SPEED_REAL)),
        "table1": main_table(read(TABLE1)),
        "quality": quality_table(read(QUALITY)["runs"]),
        "grpo": stages_table(read(STAGES)["rows"]),
        "exploration": exploration_table(read(EXPLORATION)),
    }


def filled(text: str, found: dict[str, str]) -> str:
    """A document with its named tables replaced."""
    for name, content in found.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda m, content=content: f"{m[1]}{content}\n{m[2]}", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a document differs")
    options = parser.parse_args()
    found = tables()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        new = filled(text, found)
        if new != text and options.check:
            raise SystemExit(f"{path.name} does not hold the recorded tables; run python -m tests.benchmarks.docs")
        if new != text:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
