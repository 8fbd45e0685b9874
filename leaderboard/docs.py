"""Tables and sentences of the documentation from recorded files: ``make docs`` (``--check``: whether they differ).

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Any

from harness.cli.tables import PROTOCOLS, duration, table
from harness.evaluation.statistics import paired
from harness.runs import suite
from harness.text.plain import Marked

from . import reported
from .board import Row, build
from .collected import read_all
from .record import Record
from .report.captions import caption

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "docs" / "benchmarks.json"
SPEED_REAL = ROOT / "docs" / "benchmarks-industrial.json"
RESULTS = ROOT / "leaderboard/results/Industrial_and_Scientific"
STAGES = ROOT / "docs" / "grpo-over-sft.json"
TITLES = ROOT / "docs" / "benchmarks-titles.json"
REPORTING = ROOT / "docs" / "benchmarks-reporting.json"
SEARCHES = ROOT / "leaderboard/searches"
EXPLORATION = SEARCHES / "minionerec.json"


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


def suite_rows(name: str) -> list[Row]:
    """A suite's rows from the committed records, in the suite's order."""
    labels = [entry.label for entry in suite.read(name).entries]
    found = build([r for r in read_all(RESULTS) if r.label in labels], ["item"]).rows
    return sorted(found, key=lambda row: labels.index(row.name))


def _ground(rows: list[Row]) -> list[Record]:
    return [record for row in rows for record in row.records]


def quality_table() -> str:
    """The rows of the quality suite: means over seeds, their spread, the cost."""
    rows = suite_rows("quality")
    lines = []
    for row in rows:
        valid = statistics.fmean(record.valid or 0.0 for record in row.records)
        line = [row.name, str(len(row.records)), f"{valid:.4f}"]
        for protocol in ("sid", "item"):
            for metric in ("HR@10", "NDCG@10"):
                spread = row.spread(protocol, metric)
                mean = row.system.metric(protocol, metric)
                line.append(f"{mean:.4f}" + (f" ± {spread:.4f}" if spread is not None else ""))
        parameters = row.cost("parameters") or 0
        lines.append([*line, duration(row.cost("train seconds") or 0), f"{parameters:,.0f}" if parameters else "—"])
    headers = ["row", "seeds", "valid NDCG@10", "SID HR@10", "SID NDCG@10", "item HR@10", "item NDCG@10", "train",
               "parameters"]  # fmt: skip
    note = "± is the standard deviation over seeds; valid is mean NDCG@10"
    return table(headers, lines) + "\n\n" + caption(_ground(rows), "", [note])


def what_it_says(name: str) -> str:
    """What a suite's board bears, a sentence a line: nothing here is typed, and no sentence goes beyond the tests."""
    labels = [entry.label for entry in suite.read(name).entries]
    board = build([r for r in read_all(RESULTS) if r.label in labels], ["sid", "item"])
    lines: list[str] = []
    for one in board.tables:
        where = f"{PROTOCOLS[one.protocol]}, NDCG@10"
        groups: dict[str, list[str]] = {"above": [], "below": [], "not told apart from": []}
        open_rows = []
        for row, found in one.versus_counting.items():
            if found.p is None:
                open_rows.append(row)
            else:
                side = "above" if found.difference > 0 else "below"
                groups[side if found.significant else "not told apart from"].append(row)
        for side, rows in groups.items():
            if rows:
                verb = "is" if len(rows) == 1 else "are"
                lines.append(f"{where}: {_listed(rows)} {verb} {side} the counting baseline {one.counting}.")
        if open_rows:
            lines.append(f"{where}: no claim is made of {_listed(open_rows)}: one seed.")
        trained = [row for row in one.rows if row.group != "counting"]
        for metric in ("HR@10", "NDCG@10"):
            best = max(trained, key=lambda row: row.system.metric(one.protocol, metric) or 0.0)
            lines.append(
                f"{PROTOCOLS[one.protocol]}: the highest {metric} of a trained row is {best.name}'s, "
                f"{best.system.metric(one.protocol, metric):.4f}."
            )
    early = [row.name for row in board.rows if row.effort.converged is False]
    if early:
        lines.append(f"Training had not ended (the best step is the last): {_listed(early)}.")
    plain = {row.name: row for row in board.rows}
    ours, without = plain.get("minionerec"), plain.get("minionerec without the category's tasks")
    if ours and without:
        for protocol in PROTOCOLS:
            first, second = without.system.runs(protocol, ("NDCG@10",)), ours.system.runs(protocol, ("NDCG@10",))
            if first is not None and second is not None:
                found_pair = paired(first, second)["NDCG@10"]
                verdict = "beyond chance" if found_pair.significant else "within chance"
                lines.append(
                    f"{PROTOCOLS[protocol]}: the category's own tasks (`alike`, `again`, item tokens) give MiniOneRec "
                    f"{found_pair.difference:+.4f} NDCG@10 (95 % {found_pair.low:+.4f} to {found_pair.high:+.4f}), "
                    f"{verdict}."
                )
    return "\n".join(f"- {line}" for line in lines)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def coverage_table(record: dict[str, Any]) -> str:
    """How often intervals held the truth, and tests claimed a difference, where the truth is known."""
    lines = [
        [f"{c['design']:.1f}", str(c["seeds"]), str(c["spread"]), f"{c['coverage']:.1%}", f"{c['false_positives']:.1%}",
         f"{c['power']:.0%}"]
        for c in record["cells"]
    ]  # fmt: skip
    headers = ["design effect", "seeds", "spread of seeds", "coverage", "false positives", "power"]
    note = f"{record['rounds']:,} rounds a row; one seed is that of deterministic methods; spread in user-level errors"
    return table(headers, lines) + f"\n\n*{note}.*"


SHOWN = ("sasrec", "tiger", "minionerec", "hybrid", "minionerec-memory")
"""Rows of the README's table."""


def readme_table() -> str:
    """A handful of table 1's rows, SID protocol."""
    rows = [row for row in suite_rows("table1") if row.name in SHOWN]
    lines = []
    for row in rows:
        values = [row.system.metric("sid", metric) or 0.0 for metric in ("HR@10", "NDCG@10")]
        bounds = row.system.interval("sid", "NDCG@10")
        shown = f"{bounds.low:.3f}–{bounds.high:.3f}" if bounds else None
        train = duration(row.cost("train seconds") or 0.0)
        lines.append([row.name, str(len(row.records)), *(f"{value:.4f}" for value in values), shown, train])
    said = f"SID protocol; {RESULTS.name}, {rows[0].records[0].content['caption']}: rows compare with each other alone"
    return table(["Method", "Seeds", "HR@10", "NDCG@10", "95 %", "Train"], lines) + f"\n\n*{said}.*"


LANGUAGE = ("hybrid", "minionerec", "lcrec", "bigrec", "d3", "sdpo")
"""Rows of the table in docs/language.md: the methods on a language model, and the floor."""


def main_table(only: tuple[str, ...] = ()) -> str:
    """The README's form of table 1: both protocols at a glance, the paper's numbers and the cost beside."""
    rows = [row for row in suite_rows("table1") if not only or row.name in only]
    paper = {r.method: r.metrics for r in reported.rows(RESULTS.name) if r.source == "minionerec-paper"}
    columns = [(protocol, metric) for protocol in ("sid", "item") for metric in ("HR@10", "NDCG@10")]
    values = {column: [row.system.metric(*column) or 0.0 for row in rows] for column in columns}
    lines = []
    for number, row in enumerate(rows):
        cells = [
            Marked(f"**{found[number]:.4f}**") if found[number] == max(found) else f"{found[number]:.4f}"
            for found in values.values()
        ]
        bounds = row.system.interval("sid", "HR@10")
        low, high = (bounds.low, bounds.high) if bounds else (0.0, 0.0)
        theirs = paper.get(row.records[0].settings.get("reported") or "")
        lines.append(
            [row.name, str(len(row.records)), cells[0], f"{low:.3f}–{high:.3f}", *cells[1:],
             f"{theirs['HR@10']:.4f} / {theirs['NDCG@10']:.4f}" if theirs else "—",
             duration(row.cost("train seconds") or 0.0)]
        )  # fmt: skip
    headers = ["method", "seeds", "SID HR@10", "95 %", "SID NDCG@10", "item HR@10", "item NDCG@10",
               "paper (SID) HR@10 / NDCG@10", "train"]  # fmt: skip
    return table(headers, lines) + "\n\n" + caption(_ground(rows))


def stages_table(record: dict[str, Any]) -> str:
    """GRPO against the SFT model that it started from, seed by seed and paired over test samples (SID protocol)."""
    by_seed = {f"seed {seed}": found["sid"] for seed, found in record["by seed"].items()}
    by_seed[f"mean of {len(by_seed)}"] = record["protocols"]["sid"]
    lines = [
        [name, metric, f"{r['first']:.4f}", f"{r['second']:.4f}", f"{r['difference']:+.4f}",
         f"{r['low']:+.4f} to {r['high']:+.4f}", f"{r['p']:.2g}"]
        for metric in ("HR@10", "NDCG@10", "HR@50")
        for name, found in by_seed.items()
        for r in [found[metric]]
    ]  # fmt: skip
    headers = ["", "metric (SID protocol)", "SFT", "GRPO", "difference", "95 %, paired over samples", "p"]
    prints = record["fingerprints"]
    ground = (
        f"SID protocol; {record['category']}: {record['caption']}; data {prints['data'][:12]}; SIDs "
        f"{prints['semantic_ids'][:12]}; seeds {', '.join(map(str, record['seeds of the first']))}; code "
        f"{', '.join(record['revisions'])}; p: randomisation test, not corrected"
    )
    return table(headers, lines) + f"\n\n*{ground}.*"


def reporting_table(record: dict[str, Any]) -> str:
    """Seconds of measuring and reporting, and what they were measured on."""
    lines = [
        [r["what"], f"{r['seconds']:.3g}", f"{r['bar']:g}" if r["bar"] else "—",
         f"{r['other']}: {r['other seconds']:.3g} ({r['other seconds'] / r['seconds']:.0f}×)" if r["other"] else "—"]
        for r in record["rows"]
    ]  # fmt: skip
    facts = f"{record['hardware']['processor']}, {record['category']}, {record['date']}, revision {record['revision']}"
    return table(["what", "seconds", "bar", "the other way (seconds)"], lines) + f"\n\n*{facts}; medians.*"


def exploration_table(record: dict[str, Any]) -> str:
    """What was tried on valid before the recipe was fixed."""
    lines = [
        [t["what"], f"{t['best epoch']:.0f} of {t['epochs']:.0f}" + (" (stopped)" if t["stopped early"] else ""),
         *(f"{t['valid'][m]:.4f}" for m in ("HR@1", "HR@10", "NDCG@10"))]
        for t in record["trials"]
    ]  # fmt: skip
    return table(["SFT with", "best epoch", "valid HR@1", "HR@10", "NDCG@10"], lines) + f"\n\n*{record['note']}.*"


def trials_table(record: dict[str, Any]) -> str:
    """The trials of a recorded ablation, a column a key; what begins with Δ is a difference."""

    def cell(name: str, value: Any) -> str:
        if isinstance(value, float):
            return f"{value:+.5f}" if name.startswith("Δ") else f"{value:.4f}"
        return str(value)

    headers = list(record["trials"][0])
    lines = [[cell(name, trial[name]) for name in headers] for trial in record["trials"]]
    return table(headers, lines) + f"\n\n*{record['category']}: {record['caption']}; {record['note']}.*"


def tables() -> dict[str, str]:
    """``{name: table}`` of all recorded files."""

    def read(path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))

    return {
        "speed": speed_table(read(SPEED)),
        "speed-real": speed_table(read(SPEED_REAL)),
        "reporting": reporting_table(read(REPORTING)),
        "table1": main_table(),
        "readme": readme_table(),
        "table1-says": what_it_says("table1"),
        "coverage": coverage_table(read(ROOT / "docs" / "coverage.json")),
        "language": main_table(LANGUAGE),
        "quality": quality_table(),
        "grpo": stages_table(read(STAGES)),
        "d3": trials_table(read(SEARCHES / "d3.json")),
        "sdpo": trials_table(read(SEARCHES / "sdpo.json")),
        "speed-titles": speed_table(read(TITLES)),
        "exploration": exploration_table(read(EXPLORATION)),
    }


def filled(text: str, found: dict[str, str]) -> str:
    """A document with its named tables replaced."""
    for name, content in found.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda m, content=content: f"{m[1]}{content}\n{m[2]}", text)
    return text


def main() -> None:
    """Write the documents, or say which differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a document differs")
    options = parser.parse_args()
    found = tables()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        new = filled(text, found)
        if new != text and options.check:
            raise SystemExit(f"{path.name} does not hold the recorded tables; run make docs")
        if new != text:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
