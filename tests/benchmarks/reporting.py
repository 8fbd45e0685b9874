"""Seconds of measuring and reporting: ``python -m tests.benchmarks.reporting [--data-dir DIR] [--output FILE]``.

Medians of five, each beside the other way where there is one, in the same process. The page is sorted in Chromium.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import plugins as plugin_manager
from harness.data import categories
from harness.data.problems import Problems
from harness.evaluation import measure
from harness.evaluation.statistics import Clusters, Runs, intervals, paired
from harness.evaluation.target_ranks import TargetRanks
from harness.runs.provenance import hardware, revision
from leaderboard import formats, page
from leaderboard.board import boards
from leaderboard.collected import read_all
from leaderboard.docs import reporting_table
from leaderboard.record import Record
from tests.metamorphic import category
from tests.recorded import make_record, skilled

ROUNDS = 5
RUNS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--category", default="Synthetic")
    parser.add_argument("--data-dir")
    parser.add_argument("--output", help="write the rows as JSON")
    options = parser.parse_args()
    plugins = plugin_manager.load()
    dataset = categories.read(plugins, options.category, options.data_dir, {})
    rankings = skilled(dataset, dataset.given, 0.15, 1)
    ranks = TargetRanks.of(rankings, dataset.test.targets, dataset.given, "item")
    n = f"{len(dataset.test):,}"
    rows = [
        row(f"all metrics and analyses of {n} × 50 rankings", 1.0,
            lambda: measure.measure(plugins, measure.Evaluated.test(rankings, dataset, dataset.given)),
            "HR and NDCG alone, by ir_measures", lambda: by_library(rankings, dataset.test.targets)),
        interval_row(ranks, dataset.test.user_numbers, n),
        *reading_rows(plugins),
        *board_rows(dataset, ranks),
    ]  # fmt: skip
    facts = {
        "hardware": hardware("cpu"),
        "revision": revision(),
        "date": time.strftime("%F"),
        "category": options.category,
    }
    print(reporting_table({"rows": rows, **facts}))
    if options.output:
        Path(options.output).write_text(json.dumps({"rows": rows, **facts}, indent=2) + "\n")


def row(what: str, bar: float, work: Any, other: str = "", usual: Any = None, rounds: int = ROUNDS) -> dict[str, Any]:
    """Median seconds of a piece of work, and of the other way."""
    found = {"what": what, "bar": bar, "seconds": seconds(work, rounds), "other": other, "other seconds": None}
    return found | ({"other seconds": seconds(usual, 1)} if usual else {})


def seconds(work: Any, rounds: int) -> float:
    if rounds > 1:
        work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def by_library(rankings: Any, targets: np.ndarray) -> None:
    import ir_measures

    measures = [ir_measures.parse_measure(f"{m}@{k}") for k in (1, 3, 5, 10, 20, 50) for m in ("nDCG", "Success")]
    truth = [ir_measures.Qrel(str(i), str(t), 1) for i, t in enumerate(targets)]
    run = [
        ir_measures.ScoredDoc(str(i), str(item), float(score))
        for i, (ids, scores) in enumerate(zip(rankings.ids, rankings.scores, strict=True))
        for item, score in zip(ids, scores, strict=True)
    ]
    ir_measures.calc_aggregate(measures, truth, run)


def interval_row(ranks: TargetRanks, users: np.ndarray, n: str) -> dict[str, Any]:
    """Intervals of three seeds over users, beside whole users drawn anew in a loop."""
    values = np.stack([np.column_stack(list(ranks.values().values()))] * 3)
    runs = Runs({str(column): values[:, :, column] for column in range(values.shape[2])}, users)
    sums = Clusters.of(users, len(users)).sums(np.moveaxis(values.mean(axis=0), 1, 0))
    sizes = np.bincount(users)

    def loop() -> None:
        rng = np.random.default_rng(0)
        drawn = (rng.integers(0, len(sizes), len(sizes)) for _ in range(2000))
        means = [sums[:, chosen].sum(axis=1) / sizes[chosen].sum() for chosen in drawn]
        np.percentile(means, [2.5, 97.5], axis=0)

    return row(f"intervals over users and 3 seeds, {n} samples, 13 metrics", 1.0,
               lambda: intervals(runs), "2,000 resamples of users in a loop", loop)  # fmt: skip


def reading_rows(plugins: Any) -> list[dict[str, Any]]:
    """Reading a category of which each train row is warned of, beside the same without a warning."""
    folder = Path(tempfile.mkdtemp())
    try:
        dataset = categories.read(plugins, "Synthetic", None, {"items": 500, "users": 10_600, "mean_length": 7.0})
        plain, warned = (category.write(dataset, folder / name) for name in ("plain", "warned"))
        train = warned / "train" / f"{category.NAME}.csv"
        sids = [dataset.given.string_of_item(item) for item in range(2)]
        lines = list(csv.reader(train.read_text().splitlines()))
        for cells in lines[1:]:
            cells[-1] = sids[cells[-1] == sids[0]]  # another than the index has
        with open(train, "w", newline="") as file:
            csv.writer(file).writerows(lines)

        def read(root: Path) -> Problems:
            problems = Problems()
            categories.read(plugins, category.NAME, str(root), {}, problems)
            return problems

        assert read(warned).number("warning") == len(lines) - 1
        return [
            row(f"reading a category with {len(lines) - 1:,} warnings", 2.0, lambda: read(warned),
                "the same without a warning", lambda: read(plain))
        ]  # fmt: skip
    finally:
        shutil.rmtree(folder)


def board_rows(dataset: Any, ranks: TargetRanks) -> list[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp())
    try:
        base = make_record(folder / "runs", dataset, stages=("sft",)) if dataset.category == "Synthetic" else None
        records = many(base or _industrial(), ranks)
        for number, record in enumerate(records):
            record.write(folder / "records" / f"{number}.json")
        rng, values = np.random.default_rng(0), ranks.values()
        users = dataset.test.user_numbers
        first, second = (
            Runs({name: np.stack([rng.permutation(value) for _ in range(3)]) for name, value in values.items()}, users)
            for _ in range(2)
        )
        found = [
            row(f"leaderboard of {RUNS:,} recorded runs, files to markdown", 2.0,
                lambda: formats.markdown(boards(read_all(folder / "records"), ["sid", "item"])), rounds=3),
            row("paired comparison of two rows of three seeds, 13 metrics", 1.0, lambda: paired(first, second)),
        ]  # fmt: skip
        return found + page_rows(records, folder)
    finally:
        shutil.rmtree(folder)


def many(base: Record, ranks: TargetRanks) -> list[Record]:
    """A thousand records that differ in who was hit."""
    rng, found = np.random.default_rng(0), []
    for number in range(RUNS):
        other = ranks.take(rng.permutation(len(ranks)))
        stage = {**base.stages[base.last], "ranks": {p: other.encode() for p in ("sid", "item")}}
        noise = {p: {k: v * rng.uniform(0.9, 1.1) for k, v in stage[p].items()} for p in ("sid", "item")}
        group = ("floor", "traditional", "generative", "ours")[number % 4]
        name = "hybrid" if number == 0 else f"method-{number:04d}"
        content = base.content | {"stages": {base.last: stage | noise}, "label": name, "method": name, "group": group}
        found.append(Record(content, base.place))
    return found


def _industrial() -> Record:
    return Record.read(next(Path("leaderboard/results/Industrial_and_Scientific/sasrec").glob("*.json")))


def page_rows(records: list[Record], folder: Path) -> list[dict[str, Any]]:
    from tests.leaderboard.test_page import CHROMIUM, FLAGS

    if CHROMIUM is None:
        return []
    from playwright.sync_api import sync_playwright

    file = folder / "board.html"
    start = time.perf_counter()
    file.write_text(page.html(boards(records, ["sid", "item"])), encoding="utf-8")
    made = time.perf_counter() - start
    script = """(title) => {
        const button = [...document.querySelectorAll('#head button')].find((b) => b.textContent === title);
        const start = performance.now(); button.click(); document.body.getBoundingClientRect();
        return (performance.now() - start) / 1000; }"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(file.as_uri())
        times = [
            tab.evaluate(script, title) for title in ("HR@10", "Method", "HR@50", "Train", "NDCG@3", "HR@1", "MRR")
        ]
        browser.close()
    what = f"the page of {RUNS:,} rows sorts and lays out (Chromium, {file.stat().st_size / 2**20:.1f} MiB)"
    other = {"other": "", "other seconds": None}
    return [
        {"what": what, "bar": 0.1, "seconds": statistics.median(times), **other},
        {"what": "making that page, figures included", "bar": None, "seconds": made, **other},
    ]


if __name__ == "__main__":
    main()
