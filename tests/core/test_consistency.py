"""The lint of numbers: it flags what cannot be true, says why, and passes what can."""

from math import log2

import numpy as np
import pytest

from harness.errors import BenchError
from harness.evaluation.target_ranks import CUTOFFS, TargetRanks
from leaderboard import reported
from leaderboard.plausibility import problems

FLAGGED = {
    ("Industrial_and_Scientific", "HSTU"): "NDCG@5 − NDCG@3 = 0.0033 is below what HR@5 − HR@3 = 0.0110 allows",
    ("Industrial_and_Scientific", "D3"): "NDCG falls with K: NDCG@3 0.0991, NDCG@5 0.0989",
    ("Office_Products", "TIGER"): "NDCG@5 − NDCG@3 = 0.0108 is above what HR@5 − HR@3 = 0.0177 allows",
    ("Sports_and_Outdoors", "TIGER"): "NDCG@20 − NDCG@10 = 0.0044 is below what HR@20 − HR@10 = 0.0219 allows",
    ("Office_Products", "S-DPO"): "NDCG@10 − NDCG@5 = 0.0145 is above what HR@10 − HR@5 = 0.0231 allows",
}


def test_exactly_the_impossible_rows_are_flagged_in_words():
    found = {(r.category, r.method): r.problems for r in reported.all_rows() if r.problems}
    assert set(found) == set(FLAGGED)
    for row, words in FLAGGED.items():
        assert any(words in line for line in found[row]), found[row]
    assert len(found["Office_Products", "TIGER"]) == 2
    assert len(reported.all_rows()) > 30


def test_metrics_of_any_ranks_pass_also_when_rounded():
    rng = np.random.default_rng(0)
    for n in (7, 450, 4533):
        for _ in range(20):
            before = np.where(rng.random(n) < rng.random(), rng.geometric(rng.random(), n) - 1.0, np.inf)
            metrics = TargetRanks(before, np.ones(n, dtype=int), 50).means()
            assert problems(metrics, samples=n) == []
            assert problems({k: round(v, 4) for k, v in metrics.items()}, 4, n) == []


def test_each_rule_speaks():
    fine = {"HR@1": 0.1, "NDCG@1": 0.1, "HR@5": 0.2, "NDCG@5": 0.15}
    assert problems(fine) == []
    for change, words in (
        ({"HR@5": 0.05}, "HR falls with K"),
        ({"NDCG@5": 0.09}, "NDCG falls with K"),
        ({"NDCG@1": 0.11}, "NDCG@1 = 0.11 is not HR@1 = 0.1"),
        ({"NDCG@5": 0.21}, "NDCG@5 = 0.21 is above HR@5 = 0.2"),
        ({"NDCG@5": 0.2 / log2(6) - 0.001, "NDCG@1": 0.05, "HR@1": 0.05}, "is below HR@5/log2(6)"),
        ({"NDCG@5": 0.19}, "is above what"),
        ({"HR@5": 1.2}, "outside 0–1"),
    ):
        assert any(words in line for line in problems(fine | change)), (change, problems(fine | change))


def test_hit_rates_are_counts_over_the_samples():
    assert problems({"HR@10": 626 / 4533}, samples=4533) == []
    assert "no multiple of 1/4,533" in problems({"HR@10": 626.5 / 4533}, samples=4533)[0]
    assert problems({"HR@10": 0.1381}, 4, 4533) == []  # 626 hits, rounded
    assert problems({"HR@10": 0.0915}, 4, 4533) == []  # 415 hits, cut off
    assert problems({"HR@10": 0.1382}, 4, 4533) != []  # between 626 and 627 hits
    assert problems({"HR@10": 626.5 / 4533}, samples=4533, whole=False) == []


@pytest.mark.parametrize("value", [float("nan"), None, "0.1", True])
def test_a_value_that_is_no_number_is_an_error(value):
    with pytest.raises(BenchError, match="HR@10"):
        problems({"HR@10": value})


def test_the_bounds_are_tight():
    """One more hit at the first or the last rank of a step meets the bound exactly."""
    for a, b in ((3, 5), (5, 10), (20, 50)):
        for rank in (a + 1, b):
            metrics = {f"{m}@{k}": 0.0 for m in ("HR", "NDCG") for k in CUTOFFS if k < b}
            metrics |= {f"HR@{b}": 0.1, f"NDCG@{b}": 0.1 / log2(rank + 1)}
            assert problems(metrics) == []
            metrics[f"NDCG@{b}"] *= 1.001 if rank == a + 1 else 0.999
            assert problems(metrics) != []
