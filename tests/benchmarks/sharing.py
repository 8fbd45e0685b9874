"""One run on two processes, and a suite with two workers, against one with one: ``python -m tests.benchmarks.sharing``.

Everything has one thread a process; the two ways run in turn.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness.runs.provenance import hardware, revision
from leaderboard.docs import speed_table
from tests.benchmarks.timing import row

MODEL = ["backbone.hidden=128", "backbone.layers=4", "backbone.intermediate=384", "sft.epochs=2", "sft.eval_every=1",
         "sft.patience=0"]  # fmt: skip
SUITE = """
name: eight
seeds: [1, 2, 3, 4]
methods:
  - {method: sasrec, set: [sasrec.epochs=4]}
  - {method: gru4rec, set: [gru4rec.epochs=2]}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--category", default="Synthetic")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", default="build/sharing")
    parser.add_argument("--output", help="write the rows as JSON")
    options = parser.parse_args()
    work = Path(options.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    (work / "eight.yaml").write_text(SUITE)
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for n in (1, 2):
            for name, value in {**shared(work, options.category, n), "suite": suite(work, options.category, n)}.items():
                found.setdefault((name, n), []).append(value)
    median = {key: statistics.median(values) for key, values in found.items()}
    rows = [
        row(f"{what}, two processes / one", median[name, 2], median[name, 1], unit,
            (median[name, 2] / median[name, 1]) ** (1 if more else -1), same)
        for name, what, unit, more, same in (
            ("sft", "SFT of a 1 M model", "rows/s", True, "weights to 1e-5"),
            ("decode", "decoding, 50 beams", "users/s", True, "the same bytes"),
            ("start", "a run that only counts", "s", False, "the same"),
            ("suite", "a suite of eight short runs, workers", "s", False, "the same"),
        )
    ]  # fmt: skip
    facts = {"hardware": hardware("cpu"), "revision": revision(), "date": time.strftime("%F"), "rows": rows}
    facts |= {"category": options.category, "threads": 1}
    print(speed_table(facts))
    if options.output:
        Path(options.output).write_text(json.dumps(facts, indent=2) + "\n")


def bench(*words: str) -> float:
    """Seconds of a command."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "harness", *words], check=True, capture_output=True)
    return time.perf_counter() - started


def shared(work: Path, category: str, n: int) -> dict[str, float]:
    """Throughput of a run on n processes with the same rows a step, and seconds of one that does next to nothing."""
    shutil.rmtree(work / "runs", ignore_errors=True)
    common = ["--category", category, "--threads", "1", "--no-mlflow", "--no-figures", "--quiet", "--runs",
              str(work / "runs"), "--device", "cpu", *(["--processes", str(n)] if n > 1 else [])]  # fmt: skip
    sets = [word for s in [*MODEL, f"sft.batch={64 // n}"] for word in ("--set", s)]
    bench("run", "--method", "minionerec-sft", *common, *sets)
    (path,) = work.glob("runs/*/minionerec-sft/*/metrics.json")
    entry = json.loads(path.read_text())["stages"]["sft"]
    rows = entry["train"]["rows"] * entry["train"]["epochs"]
    seconds = bench("run", "--method", "popularity", *common)
    return {
        "sft": rows / entry["train"]["train seconds"],
        "decode": entry["decode"]["users per second"],
        "start": seconds,
    }


def suite(work: Path, category: str, n: int) -> float:
    """Seconds of a suite of eight runs with n workers."""
    shutil.rmtree(work / "suite", ignore_errors=True)
    return bench("suite", "run", str(work / "eight.yaml"), "--category", category, "--threads", "1", "--no-mlflow",
                 "--quiet", "--device", "cpu", "--runs", str(work / "suite"), "--workers", str(n))  # fmt: skip


if __name__ == "__main__":
    main()
