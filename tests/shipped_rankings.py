"""Are the rankings of the shipped recipes the same, byte for byte, before and after a change of the code?

``python -m tests.shipped_rankings before.json`` in the old checkout, then ``python -m tests.shipped_rankings after.json
--against before.json`` in the new one, on the same machine: every recipe is run on Synthetic as it is shipped, in one
thread, and the sha256 of each ranking file is noted. Not a test by itself: it takes about half an hour.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CATEGORY = "Synthetic"
SMALLER = [
    "backbone=nano", "backbone.hidden=32", "backbone.layers=1", "sft.epochs=1", "sft.batch=64", "sft.accumulation=1",
    "sft.precision=float32", "grpo.epochs=0.01", "grpo.batch=64", "grpo.accumulation=1", "grpo.precision=float32",
    "sft.eval_every=1", "grpo.eval_every=1",
]  # fmt: skip
"""For recipes that need a GPU and a download: the same stages and tasks on the small backbone, a short epoch each."""


def recipes() -> list[str]:
    """The names of the recipes in ``configs/methods``."""
    return sorted(path.stem for path in Path("configs/methods").glob("*.yaml"))


def rankings(method: str, runs: Path) -> dict[str, str]:
    """``{stage: sha256 of its ranking file}`` of one run."""
    settings = [word for change in (SMALLER if "qwen" in method else []) for word in ("--set", change)]
    command = [sys.executable, "-m", "harness", "run", "--method", method, "--category", CATEGORY, "--threads", "1"]
    command += ["--runs", str(runs), "--no-mlflow", "--quiet", *settings]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    files = sorted((runs / CATEGORY / method).glob("*/rankings/*.parquet"))
    return {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def main() -> None:
    """Run, note, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_args()
    known = json.loads(arguments.against.read_text()) if arguments.against else {}
    results: dict[str, dict[str, str]] = {}
    differ = []
    for method in arguments.only or recipes():
        with tempfile.TemporaryDirectory() as folder:
            results[method] = rankings(method, Path(folder))
        same = known.get(method) in (None, results[method])
        differ += [] if same else [method]
        print(method, "same" if method in known and same else "NOT the same" if not same else "noted", flush=True)
        arguments.output.write_text(json.dumps(results, indent=1))
    sys.exit(f"not the same: {', '.join(differ)}" if differ else 0)


if __name__ == "__main__":
    main()
