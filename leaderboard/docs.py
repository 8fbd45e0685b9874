"""Tables and sentences of the documentation from recorded files: ``make docs`` (``--check``: whether they differ).

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
from functools import cache
from pathlib import Path
from typing import Any

from harness.cli.tables import duration, summary, table
from harness.errors import BenchError
from harness.evaluation.measure import BAYES
from harness.evaluation.statistics import paired
from harness.files import read_json
from harness.runs import suite
from harness.runs.suite_tuning import Tuned
from harness.text.plain import Marked

from . import front_page, learning_table, reported, rl_table, sentences, tokenizer_table
from .board import Board, Row, boards, build
from .collected import read_all
from .record import Record
from .report.captions import caption
from .report.compare import compare, paired_table
from .report.observations import observations
from .report.systems import Recipe, System, systems

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "docs" / "benchmarks.json"
SPEED_GPU = ROOT / "docs" / "benchmarks-gpu.json"
SPEED_REAL = ROOT / "docs" / "benchmarks-industrial.json"
SPEED_PEERS = ROOT / "docs" / "benchmarks-peers.json"
SPEED_SIDS = ROOT / "docs" / "benchmarks-sids.json"
SPEED_SHARING = ROOT / "docs" / "benchmarks-sharing.json"
GROWTH = ROOT / "docs" / "benchmarks-growth.json"
RESULTS = ROOT / "leaderboard/results/Industrial_and_Scientific"
TOKENIZERS = ROOT / "leaderboard/tokenizers"
"""Records of the suite ``tokenizers``: one model over other SIDs than a category's own, so no rows of its boards."""
RL = ROOT / "leaderboard/rl"
"""Records of the suite ``rl``: one model that is trained on in many ways, so no rows of the boards."""
PICTURE = ROOT / "docs" / "pipeline.svg"
REPEATS = ROOT / "docs" / "repeats.json"
MAKE_RUN = ROOT / "docs" / "make-run"
"""Records of ``make run``."""
RUN_COLUMNS = ("HR@1", "HR@10", "NDCG@10")
TITLES = ROOT / "docs" / "benchmarks-titles.json"
REPORTING = ROOT / "docs" / "benchmarks-reporting.json"
SEARCHES = ROOT / "leaderboard/searches"
BUDGET = SEARCHES / "table1-8-trials.json"
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
        f"{hardware.get('accelerator', hardware['processor'])}, {record['threads']} threads, {record['category']}, "
        f"{record['date']}, revision {record['revision']}"
    )
    if "peak memory GiB" in record:
        caption += f", peak memory of the whole process {record['peak memory GiB']:g} GiB"
    return table(["what", "fast", "usual", "unit", "ratio", "same result"], lines) + f"\n\n{caption}."


def growth_table(record: dict[str, Any]) -> str:
    """Seconds and memory at each size, and how fast both grow: the power of the size over the last step."""

    def power(values: list[float], sizes: list[int]) -> str:
        return f"{math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2]):.1f}" if values[-2] > 0 else "—"

    lines = [
        [
            row["what"], " / ".join(f"{size:,}" for size in row["sizes"]),
            " / ".join(f"{value:.3g}" for value in row["seconds"]), power(row["seconds"], row["sizes"]),
            " / ".join(f"{value:,.0f}" for value in row["MiB"]), power(row["MiB"], row["sizes"]),
        ]
        for row in record["rows"]
    ]  # fmt: skip
    headers = ["what grows with", "sizes", "seconds", "power", "MiB", "power"]
    facts = f"{record['hardware']['processor']}, one thread, {record['date']}, revision {record['revision']}"
    return table(headers, lines) + f"\n\n{facts}; MiB above what the program itself takes, of runs in all."


@cache
def _records(folder: Path) -> tuple[Record, ...]:
    """The committed records of a category, read once."""
    return tuple(read_all(folder))


@cache
def _board(name: str, *protocols: str) -> Board:
    """The board of a suite's rows."""
    labels = {entry.label for entry in suite.read(name).entries}
    return build([record for record in _records(RESULTS) if record.label in labels], protocols)


def suite_rows(name: str) -> list[Row]:
    """A suite's rows from the committed records, in the suite's order."""
    labels = [entry.label for entry in suite.read(name).entries]
    return sorted(_board(name, "item").rows, key=lambda row: labels.index(row.name))


def _bounds(row: Row, metric: str) -> str | None:
    """A row's 95 % interval under the SID protocol, as a cell."""
    bounds = row.system.interval("sid", metric)
    return f"{bounds.low:.3f}–{bounds.high:.3f}" if bounds else None


def _ground(rows: list[Row]) -> list[Record]:
    return [record for row in rows for record in row.records]


def quality_table() -> str:
    """The rows of the quality suite: means over seeds, their spread, the cost."""
    rows = suite_rows("quality")
    lines = []
    for row in rows:
        valid = [record.valid for record in row.records if record.valid is not None]
        shown = f"{statistics.fmean(valid):.4f}" if len(valid) == len(row.records) else None
        line: list[Any] = [row.name, str(len(row.records)), shown]
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


def coverage_table(record: dict[str, Any]) -> str:
    """How often intervals held the truth, and tests claimed a difference, where the truth is known."""
    lines = [
        [f"{c['design']:.1f}", str(c["seeds"]), str(c["spread"]), f"{c['coverage']:.1%}", f"{c['false_positives']:.1%}",
         f"{c['against_counting']:.1%}", f"{c['power']:.0%}"]
        for c in record["cells"]
    ]  # fmt: skip
    headers = ["design effect", "seeds", "spread of seeds", "coverage", "false positives",
               "against a deterministic row", "power"]  # fmt: skip
    note = f"{record['rounds']:,} rounds a row; one seed is that of deterministic methods; spread in user-level errors"
    return table(headers, lines) + f"\n\n*{note}.*"


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
        theirs = paper.get(row.records[0].settings.get("reported") or "")
        lines.append(
            [row.name, str(len(row.records)), cells[0], _bounds(row, "HR@10"), *cells[1:],
             f"{theirs['HR@10']:.4f} / {theirs['NDCG@10']:.4f}" if theirs else "—",
             duration(row.cost("train seconds") or 0.0)]
        )  # fmt: skip
    headers = ["method", "seeds", "SID HR@10", "95 %", "SID NDCG@10", "item HR@10", "item NDCG@10",
               "paper (SID) HR@10 / NDCG@10", "train"]  # fmt: skip
    return table(headers, lines) + "\n\n" + caption(_ground(rows))


def stages_table(row: Row) -> str:
    """GRPO against the SFT model that it started from, seed by seed and paired over test samples (SID protocol)."""
    recipe, metrics = row.system.recipe, ("HR@10", "NDCG@10", "HR@50")
    each = [(f"seed {record.seed}", Recipe(recipe.name, (record,))) for record in recipe.records]
    lines: list[list[Any]] = []
    for metric in metrics:
        for name, one in [*each, (f"mean of {len(each)}", recipe)]:
            first, second = (System(stage, one, stage).runs("sid", (metric,)) for stage in ("sft", "grpo"))
            if first is not None and second is not None:
                r = paired(first, second, together=True)[metric]
                lines.append(
                    [name, metric, f"{r.first:.4f}", f"{r.second:.4f}", f"{r.difference:+.4f}",
                     f"{r.low:+.4f} to {r.high:+.4f}", f"{r.p:.2g}"]
                )  # fmt: skip
    headers = ["", "metric", "SFT", "GRPO", "difference", "95 %, paired", "p"]
    note = "one seed's line is of users alone, the mean's of users and seeds; p is not corrected"
    return table(headers, lines) + "\n\n" + caption(list(recipe.records), "sid", [note])


def printed(name: str) -> str:
    """What ``bench run`` prints of a row's first seed."""
    first = next(row for row in suite_rows("table1") if row.name == name).records[0]
    return f"{summary({'stages': first.stages})}\n\n{caption([first])}"


def observed(row: Row) -> str:
    """Two of the observations that the report of a run's first seed has, as a quotation."""
    of_first = systems([Recipe(row.name, row.records[:1])])
    lines = [line for line in observations(of_first, ()) if line.startswith(("**Bottleneck", "**GRPO over SFT"))]
    return "\n>\n".join(f"> {line}" for line in lines)


def run_table() -> str:
    """Some columns of the table that ``make run`` ends with, from its records."""
    (one,) = build(read_all(MAKE_RUN), ["sid"], stages=True).tables
    lines: list[list[Any]] = []
    for row in one.rows:
        values = (row.system.metric("sid", metric) for metric in RUN_COLUMNS)
        lines.append([row.name, *values, _bounds(row, "HR@10"), duration(row.cost("train seconds") or 0.0)])
    lines.append([Marked(f"*{BAYES}*"), *(one.optimal.get(metric) for metric in RUN_COLUMNS)])
    return table(["Method", *RUN_COLUMNS, "95 % of HR@10", "Train"], lines)


def comparison_table() -> str:
    """The head of what ``bench compare`` prints of hybrid and MiniOneRec (item protocol)."""
    rows = {row.name: row.system for row in suite_rows("table1")}
    found = compare(rows["hybrid"], rows["minionerec"], None, 0, ("HR@10", "NDCG@10"))
    return paired_table("hybrid", "minionerec", found.protocols["item"])


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


def budget_table(record: dict[str, Any]) -> str:
    """What the same budget found for each row of a suite, on valid."""
    entries = {entry.label: entry for entry in suite.read(record["suite"]).entries}
    rows = [Tuned(entries[label], {} if "problem" in found else found) for label, found in record["rows"].items()]
    lines = [
        [row.entry.label, *(row.count(state) if row.record else None for state in ("complete", "pruned")),
         duration(row.seconds) if row.record else None, row.default, row.best,
         f"{row.best - row.default:+.4f}" if row.best is not None and row.default is not None else None]
        for row in rows
    ]  # fmt: skip
    data = next(row.record["data"] for row in rows if row.record)
    note = f"{record['category']}; {record['budget']} a row, the recipe's own settings among them; data {data[:12]}"
    headers = ["row", "complete", "pruned", "time", "recipe's settings", "best found", "gain"]
    return table(headers, lines) + f"\n\n*{note}; valid NDCG@10, and test was not read.*"


def trials_table(record: dict[str, Any]) -> str:
    """The trials of a recorded ablation, a column a key; what begins with Δ is a difference."""

    def cell(name: str, value: Any) -> str:
        if isinstance(value, float):
            return f"{value:+.5f}" if name.startswith("Δ") else f"{value:.4f}"
        return str(value)

    headers = list(record["trials"][0])
    lines = [[cell(name, trial[name]) for name in headers] for trial in record["trials"]]
    return table(headers, lines) + f"\n\n*{record['category']}: {record['caption']}; {record['note']}.*"


def tokenizer_tables() -> dict[str, str]:
    """The tables of the suite ``tokenizers`` by category, and what they bear."""
    records = {folder.name: read_all(folder) for folder in sorted(TOKENIZERS.iterdir())}
    said = [tokenizer_table.says(found) for found in records.values()]
    made = {name.lower(): tokenizer_table.tokenizer_table(found) for name, found in records.items()}
    return made | {"says": "\n".join(filter(None, said))}


def rl_tables() -> dict[str, str]:
    """The tables of the suite ``rl`` by category, and what they bear."""
    return rl_table.all_of(read_all(folder) for folder in sorted(RL.glob("*/")))


def _named(name: str, every: list[Board]) -> list[Row]:
    """A method's row of the main board, by SID; none where it has none."""
    [board] = [board for board in every if board.category == RESULTS.name and board.seen == "keep"]
    return [row for one in board.tables if one.protocol == "sid" for row in one.rows if row.name == name]


def tables() -> dict[str, str]:
    """``{name: table}`` of all recorded files."""

    def read(path: Path) -> Any:
        return read_json(path, "git checkout brings it back")

    categories = sorted(RESULTS.parent.iterdir())
    every = boards([record for path in categories for record in _records(path)], ["sid", "item"])
    ours = next(row for row in suite_rows("quality") if row.name == "minionerec")
    return {
        "speed": speed_table(read(SPEED)),
        "speed-real": speed_table(read(SPEED_REAL)),
        "speed-gpu": speed_table(read(SPEED_GPU)),
        "speed-peers": speed_table(read(SPEED_PEERS)),
        "speed-sids": speed_table(read(SPEED_SIDS)),
        "speed-sharing": speed_table(read(SPEED_SHARING)),
        "growth": growth_table(read(GROWTH)),
        "reporting": reporting_table(read(REPORTING)),
        "table1": main_table(),
        "readme": front_page.results([*suite_rows("table1"), *_named("rerank", every)], RESULTS.name),
        "families": front_page.families(every),
        "table1-says": sentences.table1(_board("table1", "sid", "item")),
        "language-says": sentences.language(suite_rows("table1")),
        "quality-says": sentences.quality(suite_rows("quality"), RESULTS.name),
        "grpo-says": sentences.grpo(ours),
        "exploration-says": sentences.exploration(read(EXPLORATION)),
        "d3-says": sentences.d3(read(SEARCHES / "d3.json"), suite_rows("table1")),
        "sdpo-says": sentences.sdpo(read(SEARCHES / "sdpo.json")),
        "repeats": sentences.repeats(read(REPEATS)),
        "make-run": run_table(),
        "minionerec-run": printed("minionerec"),
        "memory-run": printed("minionerec-memory"),
        "observed": observed(ours),
        "compare": comparison_table(),
        "findings": sentences.findings(suite_rows("table1")),
        "coverage": coverage_table(read(ROOT / "docs" / "coverage.json")),
        "language": main_table(LANGUAGE),
        "quality": quality_table(),
        "grpo": stages_table(ours),
        "d3": trials_table(read(SEARCHES / "d3.json")),
        "sdpo": trials_table(read(SEARCHES / "sdpo.json")),
        "budget": budget_table(read(BUDGET)),
        "speed-titles": speed_table(read(TITLES)),
        "exploration": exploration_table(read(EXPLORATION)),
        **{f"tokenizers-{name}": made for name, made in tokenizer_tables().items()},
        **{f"rl-{name}": made for name, made in rl_tables().items()},
        **{f"learning-{name}": made for name, made in learning_table.all_of(map(_records, categories)).items()},
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
    try:
        found = tables()
    except (OSError, ValueError, LookupError, StopIteration, BenchError) as error:
        shown = error.message if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        raise SystemExit(f"a recorded file is missing or damaged: {shown}") from None
    shown: set[str] = set()
    drawn = front_page.picture()
    if options.check and not (PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == drawn):
        raise SystemExit(f"{PICTURE.name} is not what is drawn now; run make docs")
    PICTURE.write_text(drawn, encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        shown |= {name for name in found if f"<!-- {name} -->\n" in text and f"<!-- /{name} -->" in text}
        new = filled(text, found)
        if new != text and options.check:
            raise SystemExit(f"{path.name} does not hold the recorded tables; run make docs")
        if new != text:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.name}")
    if missing := sorted(set(found) - shown):
        raise SystemExit(
            f"no page holds {', '.join(f'<!-- {name} -->' for name in missing)}; a mark is misspelt or gone"
        )


if __name__ == "__main__":
    main()
