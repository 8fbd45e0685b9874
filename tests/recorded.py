"""Recorded runs for tests without any training: rankings of a given skill, measured by the harness itself."""

from __future__ import annotations

import numpy as np
import yaml

from harness import files
from harness.data.rankings import Rankings
from harness.runs import pipeline, run_directory
from harness.runs.run_directory import RunDirectory
from leaderboard.record import Record
from tests.conftest import TINY_DATA

HARDWARE = {"processor": "test", "cores": 2, "device": "cpu", "memory GiB": 1.0}


def make_run(
    root, dataset, method="model", seed=1, skill=0.3, group="ours", stages=("sft", "grpo"), semantic_ids=None,
    valid=0.1, reported="", summary="a model", seconds=60.0, settings=None, kind="sid", draw=False,
    category="Synthetic",
):  # fmt: skip
    """A finished run whose rankings put the target first for a share `skill` of the samples (more, stage by stage)."""
    semantic_ids = semantic_ids or dataset.given
    folder = root / category / method / f"seed{seed}-{len(str(settings))}{'-'.join(stages)}"
    folder.mkdir(parents=True)
    keep = RunDirectory(folder)
    config = {
        "name": method, "summary": summary, "group": group, "reported": reported, "category": "Synthetic", "seed": seed,
        "prompts": "compact", "tokenizer": {"name": "given"}, "backbone": None,
        "stages": [{"name": stage, "trainer": f"{method}-{stage}", **(settings or {})} for stage in stages],
        "decoder": {"name": "beam", "beams": 50}, "dataset": TINY_DATA, "probe": {"samples": 0, "beams": 10},
    }  # fmt: skip
    files.write_text(folder / run_directory.CONFIG, yaml.safe_dump(config))
    files.write_text(folder / run_directory.SEMANTIC_IDS, semantic_ids.to_json())
    keep.note(
        method=method, category=category, seed=seed, group=group, caption=dataset.caption,
        fingerprints={"data": dataset.fingerprint, "semantic_ids": semantic_ids.fingerprint},
        rows={name: len(samples) for name, samples in dataset.splits.items()}, items=len(dataset.items),
        semantic_ids=semantic_ids.report(), revision="abc123", versions={"python": "3"}, hardware=HARDWARE,
        started="2026-01-01T00:00:00+0000", finished="2026-01-01T00:01:00+0000",
    )  # fmt: skip
    for number, stage in enumerate(stages, start=1):
        rankings = skilled(dataset, semantic_ids, skill + 0.1 * (number - 1), seed, kind)
        with files.replace_file(keep.rankings(stage)) as path:
            rankings.write(path, semantic_ids, dataset.test)
        keep.finish(f"{stage}/fit", seconds=seconds, parameters=1_000_000, **{"best step": 20})
        keep.finish(f"{stage}/decode", seconds=2.0, valid={"NDCG@10": valid}, **{"peak memory GiB": 0.5})
        keep.stage(number, stage).mkdir(parents=True)
        for step in range(0, 41, 10):
            numbers = {
                "loss": 3.0 - step / 20,
                "epoch": step / 20,
                "eval_NDCG@10": step / 400,
                "eval_HR@10": step / 300,
            }
            more = {"reward": step / 100, "kl": step / 1000} if stage == "grpo" else {}
            run_directory.append_log(keep.stage(number, stage), numbers | more, step)
    keep.finish("begin")
    keep.finish("run")
    pipeline.measure_again(keep, _plugins(), None, draw)
    return folder


def skilled(dataset, semantic_ids, skill, seed, kind="sid"):
    """Rankings that find the target of a share of the samples, at rank 1 or a little below; the rest is chance."""
    rng = np.random.default_rng(seed)
    targets = dataset.test.targets if kind == "item" else semantic_ids.of_item[dataset.test.targets]
    catalogue = len(dataset.items) if kind == "item" else len(semantic_ids.distinct)
    rows = []
    for target in targets.tolist():
        others = rng.permutation(catalogue)
        others = others[others != target][:50]
        if rng.random() < skill:
            others = np.insert(others[:49], int(rng.integers(0, 3)), target)
        rows.append(others)
    scores = np.tile(-np.arange(50, dtype=np.float32), (len(targets), 1))
    return Rankings(kind, np.stack(rows).astype(np.int32), scores)


def make_record(*arguments, label="", **settings):
    """The record of such a run."""
    return Record.of_run(make_run(*arguments, **settings), label)


def _plugins():
    from harness import plugins

    return plugins.load()
