import itertools
import math
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import yaml

from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.evaluation.levels import drop_off
from harness.evaluation.metrics import item_protocol, sid_protocol
from harness.evaluation.target_ranks import CUTOFFS
from plugins.metrics.by_level import levels
from plugins.metrics.intervals import invalid
from tests.evaluated import evaluated


def unique_sids(n):
    return SemanticIds(np.column_stack([np.arange(n) // 10, np.arange(n) % 10]).astype(np.int32))


def ranked(rng, n, k, catalogue, kind="item"):
    ids = np.stack([rng.permutation(catalogue)[:k] for _ in range(n)]).astype(np.int32)
    return Rankings(kind, ids, -np.tile(np.arange(k, dtype=np.float32), (n, 1)))


def test_hr_and_ndcg_equal_an_independent_library():
    rng = np.random.default_rng(3)
    rankings, targets = ranked(rng, 300, 50, 100), rng.integers(0, 100, 300)
    ours = item_protocol(evaluated(rankings, targets, None))
    measures = [ir_measures.parse_measure(f"{name}@{k}") for k in CUTOFFS for name in ("nDCG", "Success")]
    measures.append(ir_measures.parse_measure("RR"))
    truth = [ir_measures.Qrel(str(i), str(t), 1) for i, t in enumerate(targets)]
    run = [
        ir_measures.ScoredDoc(str(i), str(item), float(score))
        for i, (row, scores) in enumerate(zip(rankings.ids, rankings.scores, strict=True))
        for item, score in zip(row, scores, strict=True)
    ]
    theirs = {str(m): v for m, v in ir_measures.calc_aggregate(measures, truth, run).items()}
    for k in CUTOFFS:
        assert ours[f"HR@{k}"] == pytest.approx(theirs[f"Success@{k}"], abs=1e-9)
        assert ours[f"NDCG@{k}"] == pytest.approx(theirs[f"nDCG@{k}"], abs=1e-9)
    assert ours["MRR"] == pytest.approx(theirs["RR"], abs=1e-9)


def test_protocols_agree_when_no_sid_is_shared():
    rng = np.random.default_rng(4)
    semantic_ids = unique_sids(100)
    rankings, targets = ranked(rng, 200, 50, 100, "sid"), rng.integers(0, 100, 200)
    assert sid_protocol(evaluated(rankings, targets, semantic_ids)) == pytest.approx(
        item_protocol(evaluated(rankings, targets, semantic_ids))
    )


def test_item_protocol_is_the_expectation_over_orders_of_shared_items():
    codes = np.array([[0], [0], [0], [1], [2], [2]], dtype=np.int32)  # groups of 3, 1 and 2 items
    semantic_ids = SemanticIds(codes)
    beams = [1, 0, 2]  # SIDs: the group of 1 first, then the group of 3
    groups = {0: [0, 1, 2], 1: [3], 2: [4, 5]}
    for target in range(6):
        rankings = Rankings("sid", np.array([beams], dtype=np.int32), np.array([[0.0, -1.0, -2.0]], dtype=np.float32))
        found = item_protocol(evaluated(rankings, np.array([target]), semantic_ids))
        orders = list(itertools.product(*(itertools.permutations(groups[b]) for b in beams)))
        ranks = [[i for part in order for i in part].index(target) for order in orders]
        for k in (1, 3):
            assert found[f"HR@{k}"] == pytest.approx(np.mean([r < k for r in ranks]))
            assert found[f"NDCG@{k}"] == pytest.approx(np.mean([(r < k) / math.log2(r + 2) for r in ranks]))


def test_item_rankings_under_the_sid_protocol_drop_later_duplicates():
    semantic_ids = SemanticIds(np.array([[0], [0], [1], [2]], dtype=np.int32))
    rankings = Rankings("item", np.array([[0, 1, 2]], dtype=np.int32), np.array([[3.0, 2.0, 1.0]], dtype=np.float32))
    target = np.array([2])  # third item, but only the second distinct SID
    assert sid_protocol(evaluated(rankings, target, semantic_ids))["NDCG@3"] == pytest.approx(1 / math.log2(3))
    assert item_protocol(evaluated(rankings, target, semantic_ids))["NDCG@3"] == pytest.approx(1 / 2)


def test_invalid_counts_predictions_and_never_hits():
    semantic_ids = unique_sids(20)
    ids = np.array([[-1, 5, -1], [1, 2, 3]], dtype=np.int32)
    rankings = Rankings("sid", ids, np.zeros((2, 3), dtype=np.float32))
    assert invalid(evaluated(rankings, np.array([5, 9]), semantic_ids)) == 2
    assert sid_protocol(evaluated(rankings, np.array([5, 9]), semantic_ids))["HR@3"] == 0.5
    assert sid_protocol(evaluated(rankings, np.array([19, 19]), semantic_ids))["HR@3"] == 0  # -1 is not the last SID


def test_levels_by_hand():
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=np.int32)
    semantic_ids = SemanticIds(codes)
    ids = np.array([[3, 2, 1], [0, 1, 2]], dtype=np.int32)
    scores = np.tile(-np.arange(3, dtype=np.float32), (2, 1))
    found = levels(evaluated(Rankings("sid", ids, scores), np.array([0, 1]), semantic_ids))
    # row 1: target 000, predictions 100, 010, 001; row 2: target 001, predictions 000, 001, 010
    assert found["independent"]["1"] == {"L1": 0.5, "L2": 1.0, "L3": 0.5, "exact": 0.0}
    assert found["cumulative"]["1"] == {"L1": 0.5, "L1+L2": 0.5, "L1+L2+L3": 0.0}
    assert found["independent"]["3"] == {"L1": 1.0, "L2": 1.0, "L3": 1.0, "exact": 0.5}
    assert found["cumulative"]["3"] == {"L1": 1.0, "L1+L2": 1.0, "L1+L2+L3": 0.5}
    assert found["drop-off"]["L1+L2 → L1+L2+L3 retention"] == 0.0


def test_drop_off_reproduces_the_replication_log():
    path = Path(__file__).parents[2] / "leaderboard/reported/published.yaml"
    tables = yaml.safe_load(path.read_text())
    table = next(t for t in tables if t.get("analysis", "").startswith("cumulative"))
    expected = {"SFT": (0.2440, 0.4873, 0.5214), "RL": (0.2645, 0.4979, 0.5345)}  # the log prints 52.13, 53.43 %
    for stage, numbers in expected.items():
        top_1 = dict(zip(table["columns"][1:], table[stage][0][1:], strict=True))
        assert list(drop_off(top_1).values()) == pytest.approx(numbers, abs=5e-4)
