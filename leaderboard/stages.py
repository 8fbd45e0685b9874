"""One stage against another of the same runs: ``python -m leaderboard.stages RUN… --output FILE``.

Reads rankings and targets of recorded runs; the difference of a metric is averaged over seeds for each
sample, and samples are drawn again for the interval (a paired bootstrap).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from harness import store
from harness.config import read_yaml
from harness.data import catalogue
from harness.data.dataset import Dataset
from harness.errors import BenchError
from harness.plugins import load
from harness.rankings import Rankings
from harness.ranks import TargetRanks
from harness.semantic_ids import SemanticIds
from harness.statistics import bootstrap
from harness.store import Store

METRICS = ("HR@10", "NDCG@10", "HR@50")


def main() -> None:
    """Write the record of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="directories of finished runs, one a seed")
    parser.add_argument("--first", default="sft")
    parser.add_argument("--second", default="grpo")
    parser.add_argument("--data-dir")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    config = read_yaml(options.runs[0] / store.CONFIG)
    dataset = catalogue.read(load(), config["category"], options.data_dir, config["dataset"])
    rows = compare(options.runs, dataset, options.first, options.second)
    manifest = Store(options.runs[0]).manifest
    facts = {key: manifest[key] for key in ("caption", "fingerprints", "revision")}
    store.write_json(options.output, {"rows": rows, **facts})


def compare(runs: list[Path], dataset: Dataset, first: str, second: str) -> list[dict[str, Any]]:
    """Each run and their mean: both stages' metrics, the difference and its 95 % interval (SID protocol)."""
    found: list[tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]] = []
    for run in runs:
        manifest = Store(run).manifest
        if manifest["fingerprints"]["data"] != dataset.fingerprint:
            raise BenchError(f"{run} was run on other data than {dataset.category} holds now")
        semantic_ids = SemanticIds.from_json((run / store.SEMANTIC_IDS).read_text(encoding="utf-8"))

        def values(stage: str, run: Path = run, sids: SemanticIds = semantic_ids) -> dict[str, np.ndarray]:
            rankings = Rankings.read(Store(run).rankings(stage), sids)
            return TargetRanks.of(rankings, dataset.test.targets, sids, "sid").values()

        found.append((str(manifest["seed"]), values(first), values(second)))
    rows = []
    for metric in METRICS:
        seeds = [(name, before[metric], after[metric]) for name, before, after in found]
        before, after = (np.mean([seed[i] for seed in seeds], axis=0) for i in (1, 2))
        for name, a, b in [*seeds, (f"mean of {len(seeds)}", before, after)]:
            low, high = bootstrap((b - a)[:, None])[0].tolist()
            rows.append(
                {"seeds": name, "metric": metric, first: float(a.mean()), second: float(b.mean()),
                 "difference": float((b - a).mean()), "low": low, "high": high}
            )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
