"""Speed as ratios in one process: ``python -m tests.benchmarks [--only NAME] [--output FILE]``.

Each row times the fast path and the usual path in turn on the same model, prompts and beams, and
quotes medians. Models are random and generated or real items are decoded: speed does not depend on
what was learned. ``make docs`` writes the tables of the documentation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from harness import plugins as plugin_manager
from harness.data import categories
from harness.runs.provenance import hardware, revision, versions
from leaderboard.docs import speed_table
from tests.benchmarks import decoding, quantising, training
from tests.benchmarks.timing import paired, peak_gib, random_model, row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--category", default="Synthetic")
    parser.add_argument("--data-dir")
    parser.add_argument("--users", type=int, default=64, help="users decoded by the usual path each round")
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    parser.add_argument("--large", action="store_true", help="also models of 20 M parameters")
    parser.add_argument("--output", help="write the rows as JSON")
    options = parser.parse_args()
    dataset = categories.read(plugin_manager.load(), options.category, options.data_dir, {})
    sizes = ["1 M", "20 M"] if options.large else ["1 M"]
    wanted = [options.only] if options.only else list(PARTS)
    rows = [found for part in wanted for found in PARTS[part](dataset, options.users, sizes)]
    facts = {"hardware": hardware("cpu"), "versions": versions(), "revision": revision(), "date": time.strftime("%F")}
    facts |= {"category": options.category, "threads": torch.get_num_threads(), "peak memory GiB": round(peak_gib(), 2)}
    print(speed_table({"rows": rows, **facts}))
    if options.output:
        Path(options.output).write_text(json.dumps({"rows": rows, **facts}, indent=2) + "\n")


def start(*_):
    """``bench --help`` against an empty Python process."""
    fast, usual = paired(
        lambda: subprocess.run([sys.executable, "-m", "harness", "--help"], capture_output=True, check=True),
        lambda: subprocess.run([sys.executable, "-c", "pass"], capture_output=True, check=True),
    )
    return [row("bench --help, beside an empty Python process", fast, usual, "s", usual / fast, "–")]


def decode(dataset, users, sizes):
    for size in sizes:
        for style in ("compact-items", "instruction"):
            for softmax in ("vocabulary", "catalogue"):
                some = users if size == "1 M" else max(4, users // 8)
                model = random_model(dataset, style, size, softmax)
                yield decoding.decode_row(model, dataset.test.histories, some, style)


def grpo(dataset, users, sizes):
    for style in ("compact-items", "instruction"):
        model = random_model(dataset, style, "1 M")
        yield training.log_prob_row(model, dataset, style)
        for beta in (0.0, 1e-3):
            yield training.grpo_row(model, dataset, beta)
    if "20 M" in sizes:
        yield training.grpo_row(random_model(dataset, "instruction", "20 M"), dataset, 1e-3, prompts=6)


def sft(dataset, users, sizes):
    yield training.packed_row(random_model(dataset, "compact", "1 M"), dataset)


def sound(dataset, users, sizes):
    for size in sizes:
        for style in ("compact-items", "instruction"):
            yield decoding.trial_row(random_model(dataset, style, size), dataset.test.histories, style)
    yield decoding.rank_row()


def trie(dataset, users, sizes):
    yield from decoding.trie_rows()


def baselines(dataset, users, sizes):
    yield decoding.translator_row(dataset, users)
    yield training.dropout_row(dataset)
    yield training.softmax_row()


def titles(dataset, users, sizes):
    for renormalise in (True, False):
        yield decoding.title_row(dataset, max(8, users // 4), renormalise)
    yield decoding.write_row(dataset, users)


def sids(*_):
    yield quantising.balanced_row()
    yield quantising.batches_row()


PARTS = {
    "start": start,
    "decode": decode,
    "grpo": grpo,
    "sft": sft,
    "trie": trie,
    "baselines": baselines,
    "titles": titles,
    "sound": sound,
    "sids": sids,
}

if __name__ == "__main__":
    main()
