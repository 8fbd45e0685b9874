"""Two stages of the same runs, paired over test samples."""

import numpy as np
import pytest

from harness import store
from harness.errors import BenchError
from harness.rankings import Rankings
from harness.store import Store
from leaderboard.stages import compare


def recorded(folder, tiny, seed, hits):
    """A run whose second stage puts the target first for the first `hits` samples and whose first stage never does."""
    sids, targets = tiny.given, tiny.given.of_item[tiny.test.targets]
    keep = Store(folder)
    folder.mkdir()
    keep.note(seed=seed, fingerprints={"data": tiny.fingerprint})
    store.write_text(folder / store.SEMANTIC_IDS, sids.to_json())
    others = np.stack([np.delete(np.arange(len(sids.distinct)), target)[:50] for target in targets]).astype(np.int32)
    better = others.copy()
    better[:hits, 0] = targets[:hits]
    scores = np.tile(-np.arange(50, dtype=np.float32), (len(targets), 1))
    for stage, ids in (("sft", others), ("grpo", better)):
        with store.replace_file(keep.rankings(stage)) as path:
            Rankings("sid", ids, scores).write(path, sids)
    return folder


def test_differences_are_paired_and_averaged_over_seeds(tiny, tmp_path):
    n = len(tiny.test)
    runs = [recorded(tmp_path / str(seed), tiny, seed, hits) for seed, hits in ((1, n // 2), (2, 0))]
    rows = {(row["seeds"], row["metric"]): row for row in compare(runs, tiny, "sft", "grpo")}
    first, second, mean = (rows[name, "NDCG@10"] for name in ("1", "2", "mean of 2"))
    assert first["sft"] == 0
    assert first["difference"] == pytest.approx((n // 2) / n)
    assert second["low"] == second["difference"] == second["high"] == 0
    assert mean["difference"] == pytest.approx(first["difference"] / 2)
    assert mean["low"] < mean["difference"] < mean["high"]


def test_runs_on_other_data_are_refused(tiny, tmp_path):
    run = recorded(tmp_path / "run", tiny, 1, 0)
    Store(run).note(fingerprints={"data": "other"})
    with pytest.raises(BenchError, match="was run on other data"):
        compare([run], tiny, "sft", "grpo")
