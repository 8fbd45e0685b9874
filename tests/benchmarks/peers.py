"""Item models beside RecBole's of the same shape: ``make benchmark-peers``.

The same rows, batches and number of threads; the two run in turn, each in a process of its own, RecBole in an
environment of its own, since it needs older versions of NumPy and pandas. What is timed is an epoch with the
validation behind it, and the scoring of test.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from harness.runs.provenance import hardware, revision
from leaderboard.docs import speed_table
from tests.benchmarks import training
from tests.benchmarks.timing import row

RECBOLE = "1.2.1"
PINS = ("torch==2.13.0", f"recbole=={RECBOLE}", "numpy<2", "pandas<2.2", "scipy<1.14", "setuptools<80")
HISTORY = 20
BATCH = 2_048
SHAPES = {
    "SASRec": (
        "sasrec", {"hidden": 64, "blocks": 2, "heads": 2, "intermediate": 256, "label_smoothing": 0.0},
        {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "inner_size": 256},
    ),
    "GRU4Rec": (
        "gru4rec", {"hidden": 128, "layers": 1, "temperature": 0.0},
        {"embedding_size": 128, "hidden_size": 128, "num_layers": 1},
    ),
    "Caser": (
        "caser", {"hidden": 64, "vertical": 4, "horizontal": 8, "temperature": 0.0},
        {"embedding_size": 64, "n_v": 4, "n_h": 8, "reg_weight": 0.0},
    ),
}  # fmt: skip
"""Our method and its settings, and those of RecBole's model, by the name of the model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--category", default="Beauty")
    parser.add_argument("--only", choices=list(SHAPES))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", default="build/peers", help="holds RecBole's environment, the rows and the runs")
    parser.add_argument("--output", help="write the rows as JSON")
    options = parser.parse_args()
    work = Path(options.work).absolute()
    python = environment(work / "venv")
    shutil.rmtree(work / "data" / options.category, ignore_errors=True)
    bench("data", "export", options.category, "--format", "recbole", "--set", f"dataset.max_history={HISTORY}",
          "--output", str(work / "data" / options.category))  # fmt: skip
    torch.set_num_threads(options.threads)
    rows, peak = [training.softmax_row()], 0.0
    for model in [options.only] if options.only else SHAPES:
        ours, theirs = [], []
        for _ in range(options.rounds):
            theirs.append(recbole(python, work, options, model))
            ours.append(own(work, options, model))
        peak = max(peak, *(found["peak GiB"] for found in ours))
        memory = " / ".join(f"{statistics.median(f['peak GiB'] for f in side):.2f}" for side in (ours, theirs))
        for what, called in (("epoch", "epoch with its validation"), ("score", "scoring of test")):
            fast, usual = (statistics.median(found[what] for found in side) for side in (ours, theirs))
            of = f"{model}, {called}: ours / RecBole {RECBOLE}"
            rows.append(row(of, fast, usual, "s", usual / fast, f"peak memory {memory} GiB"))
    facts = {"hardware": hardware("cpu"), "revision": revision(), "date": time.strftime("%F"), "rows": rows}
    facts |= {"category": options.category, "threads": options.threads, "peak memory GiB": round(peak, 2)}
    print(speed_table(facts))
    if options.output:
        Path(options.output).write_text(json.dumps(facts, indent=2) + "\n")


def environment(folder: Path) -> Path:
    """The interpreter of an environment that holds RecBole, made where there is none."""
    python = folder / "bin" / "python"
    if not (folder / ".installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINS], check=True)
        (folder / ".installed").touch()
    return python


def bench(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "harness", *words], check=True, stdout=subprocess.DEVNULL)


def recbole(python: Path, work: Path, options: argparse.Namespace, model: str) -> dict[str, float]:
    asked = {
        "folder": str(work / "data"), "category": options.category, "model": model, "epochs": options.epochs,
        "threads": options.threads,
        "settings": SHAPES[model][2] | {"train_batch_size": BATCH, "eval_batch_size": 512},
    }  # fmt: skip
    words = [str(python), str(Path(__file__).with_name("recbole_driver.py")), json.dumps(asked)]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=work, env=alone)
    found = json.loads(done.stdout.splitlines()[-1])
    epoch = statistics.median(a + b for a, b in zip(found["epoch"], found["valid"], strict=True))
    return {"epoch": epoch, "score": found["score"][0], "peak GiB": found["peak GiB"]}


def own(work: Path, options: argparse.Namespace, model: str) -> dict[str, float]:
    method, settings, _ = SHAPES[model]
    runs = work / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    sets = [f"{method}.{name}={value}" for name, value in (settings | {"batch": BATCH}).items()]
    sets += [f"{method}.epochs={options.epochs}", f"dataset.max_history={HISTORY}"]
    words = ["run", "--method", method, "--category", options.category, "--threads", str(options.threads)]
    words += ["--quiet", "--no-mlflow", "--no-figures", "--runs", str(runs)]
    bench(*words, *(word for s in sets for word in ("--set", s)))
    (path,) = runs.glob("*/*/*/metrics.json")
    (stage,) = json.loads(path.read_text())["stages"].values()
    return {
        "epoch": stage["train"]["train seconds"] / stage["train"]["epochs"],
        "score": stage["decode"]["seconds"],
        "peak GiB": stage["decode"]["peak memory GiB"],
    }


if __name__ == "__main__":
    main()
