"""What grows with items, rows, parameters and beams: ``python -m tests.benchmarks.growth``; one thread, a process each.

Time and memory at three sizes, each in a process of its own: the peak of the process less what it took when all was
imported.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from harness.runs.provenance import hardware, revision

WIDTH, ROWS, USERS = 64, 128, 128
ITEMS = (10_000, 100_000, 1_000_000)
RUNS = (8_000, 80_000, 262_000)
"""Users of a generated category of 10,000 items: of the last there are a million train rows."""


def step(n: int) -> Callable[[], object]:
    """An item model's loss, gradient and update: the part that grows with the catalogue."""
    from harness.item_models.full_softmax import full_softmax

    torch.manual_seed(0)
    table = torch.nn.Embedding(n, WIDTH)
    optimiser = torch.optim.AdamW(table.parameters(), foreach=False)
    states, targets = torch.randn(ROWS, WIDTH, requires_grad=True), torch.randint(0, n, (ROWS,))

    def work() -> None:
        full_softmax(states, table.weight, targets).backward()
        optimiser.step()
        optimiser.zero_grad()

    return work


def ranked(n: int) -> Callable[[], object]:
    """The 50 best of all items for some users."""
    from harness.decoding.items import top_items

    states, weight = torch.randn(USERS, WIDTH), torch.randn(n, WIDTH)
    return lambda: top_items((states @ weight.T).numpy(), 50)


def trie_of(n: int) -> Callable[[], object]:
    """The trie of a catalogue of four levels of 256 codes."""
    from harness.decoding.trie import Trie

    rng = np.random.default_rng(0)
    table = np.unique(rng.integers(0, 256, (int(n * 1.01) + 50, 4)), axis=0)[:n] + 1 + 256 * np.arange(4)
    return lambda: Trie(table)


def decoded(beams: int) -> Callable[[], object]:
    """Beams of a model of 1 M parameters over a million items, 24 users."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from harness.decoding.beam import beam_search
    from harness.decoding.padding import pad_left

    config = Qwen2Config(
        vocab_size=1025, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=384, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model, trie = Qwen2ForCausalLM(config).eval(), trie_of(1_000_000)()
    rng = np.random.default_rng(0)
    ids, mask = pad_left([rng.integers(1, 1025, 17).tolist() for _ in range(24)], 0, "cpu")
    return lambda: beam_search(model, ids, mask, trie, beams)


MADE = {"step": step, "rank": ranked, "trie": trie_of, "beams": decoded}


def once(what: str, size: int) -> None:
    """One measurement, printed: seconds (median of three after one), MiB."""
    torch.set_num_threads(1)
    work = MADE[what](8)  # all that is imported for it
    if what != "beams":
        work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = MADE[what](size)
    work()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    print(json.dumps([statistics.median(times), peak]))


def run(users: int, work: Path) -> list[float]:
    """Seconds and MiB of a whole run that counts, from data to record."""
    code = (
        "import resource, subprocess, sys, time; t = time.perf_counter(); subprocess.run(sys.argv[1:], check=True, "
        "capture_output=True); print([time.perf_counter() - t, "
        "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10])"
    )
    words = ["run", "--method", "skip-markov", "--category", "Synthetic", "--threads", "1", "--no-mlflow", "--quiet"]
    words += ["--no-figures", "--runs", str(work / str(users)), "--set", "dataset.items=10000"]
    words += ["--set", f"dataset.users={users}"]
    command = [sys.executable, "-c", code, sys.executable, "-m", "harness", *words]
    found: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", nargs=2, metavar=("WHAT", "SIZE"))
    parser.add_argument("--work", default="build/growth")
    parser.add_argument("--output")
    options = parser.parse_args()
    if options.once:
        once(options.once[0], int(options.once[1]))
        return
    rows = []
    for what, sizes, said in (
        ("step", ITEMS, f"items: softmax, gradient and AdamW of a table of width {WIDTH}, {ROWS} rows"),
        ("rank", ITEMS, f"items: the 50 best of all, {USERS} users"),
        ("trie", ITEMS, "items: the trie of their SIDs (4 levels), built"),
        ("beams", (10, 50, 200), "beams: 24 users decoded over 1,000,000 items, 1 M parameters"),
    ):
        found = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-m", "tests.benchmarks.growth", "--once", what, str(size)],
                    check=True, capture_output=True, text=True,
                ).stdout
            )
            for size in sizes
        ]  # fmt: skip
        rows.append(
            {"what": said, "sizes": list(sizes), "seconds": [f[0] for f in found], "MiB": [f[1] for f in found]}
        )
    found = [run(users, Path(options.work)) for users in RUNS]
    rows.append(
        {
            "what": "users: a run of skip-markov, from data to record, 10,000 items (1,000,000 train rows at the last)",
            "sizes": list(RUNS), "seconds": [f[0] for f in found], "MiB": [f[1] for f in found],
        }
    )  # fmt: skip
    record = {
        "hardware": hardware("cpu"),
        "revision": revision(),
        "date": time.strftime("%F"),
        "threads": 1,
        "rows": rows,
    }
    from leaderboard.docs import growth_table

    print(growth_table(record))
    if options.output:
        Path(options.output).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
