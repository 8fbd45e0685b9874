"""Expected ranks of ties, against an enumeration of every order."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from harness.data.dataset import Histories
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.data.ties import Tied
from harness.decoding.items import rank_items
from harness.errors import BenchError
from harness.evaluation.metrics import sid_protocol
from harness.evaluation.target_ranks import CUTOFFS, TargetRanks
from harness.progress import Progress
from plugins.metrics.by_level import levels
from tests.evaluated import evaluated

QUIET = Progress(quiet=True)
CODES = np.array([[0], [0], [1], [2], [2], [2], [3]], dtype=np.int32)
SIDS = SemanticIds(CODES)


class Scores:
    """A model that scores as it is told."""

    def __init__(self, scores):
        self.scores = np.asarray(scores, dtype=np.float32)

    def score(self, histories):
        return self.scores[histories.items[:, 0]]


def ranked(scores, k, semantic_ids=None, batch=512):
    histories = Histories.of([[row] for row in range(len(scores))])
    return rank_items(Scores(scores), histories, len(scores[0]), k, semantic_ids, QUIET, batch)


def orders(scores):
    """Every order of candidates whose scores do not rise."""
    groups = [np.flatnonzero(scores == value).tolist() for value in sorted(set(scores.tolist()), reverse=True)]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield list(itertools.chain(*parts))


def by_enumeration(scores, target, most):
    """HR@K, NDCG@K and MRR over the first `most`, the mean over all orders."""
    sums, n = {}, 0
    for order in orders(np.asarray(scores)):
        n += 1
        rank = order.index(target) + 1
        for k in (k for k in CUTOFFS if k <= most):
            sums[f"HR@{k}"] = sums.get(f"HR@{k}", 0) + (rank <= k)
            sums[f"NDCG@{k}"] = sums.get(f"NDCG@{k}", 0) + (rank <= k) / np.log2(rank + 1)
        sums["MRR"] = sums.get("MRR", 0) + (1 / rank if rank <= most else 0)
    return {name: value / n for name, value in sums.items()}


def equal(found, expected, row):
    for name, value in expected.items():
        assert found[name][row] == pytest.approx(value, abs=1e-12), name


def drawn(rows=60, items=7, levels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, (rows, items)).astype(np.float32), rng.integers(0, items, rows)


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_items_ranked_by_item(k):
    scores, targets = drawn()
    rankings = ranked(scores, k, batch=7)
    rankings.check(7, k)
    found = TargetRanks.of(rankings, targets, None, "item").values()
    for row, target in enumerate(targets):
        equal(found, by_enumeration(scores[row], target, k), row)


@pytest.mark.parametrize("k", [1, 3])
def test_items_ranked_by_sid(k):
    """A SID scores as its best item; SIDs of equal score stand in any order."""
    scores, targets = drawn(seed=1)
    rankings = ranked(scores, k, SIDS, batch=11)
    found = TargetRanks.of(rankings, targets, SIDS, "sid").values()
    best = np.stack([scores[:, SIDS.of_item == sid].max(axis=1) for sid in range(4)], axis=1)
    for row, target in enumerate(targets):
        expected = by_enumeration(best[row], SIDS.of_item[target], rankings.ids.shape[1])
        equal(found, {name: value for name, value in expected.items() if name != "MRR"}, row)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("protocol", ["sid", "item"])
def test_sids(k, protocol):
    rng = np.random.default_rng(2)
    scores, targets = rng.integers(0, 3, (60, 4)).astype(np.float32), rng.integers(0, 7, 60)
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rankings = Rankings("sid", ids.astype(np.int32), np.take_along_axis(scores, ids, 1), tied=Tied.of(scores, ids))
    rankings.check(4, k)
    found = TargetRanks.of(rankings, targets, SIDS, protocol).values()
    of_item = scores[:, SIDS.of_item]
    for row, target in enumerate(targets):
        shown = (scores[row], SIDS.of_item[target]) if protocol == "sid" else (of_item[row], target)
        equal(found, by_enumeration(*shown, k if k < 4 else max(CUTOFFS)), row)  # behind a whole catalogue is nothing


def test_constant_scores_are_chance_for_every_target():
    rankings = ranked(np.zeros((7, 7)), 3)
    assert rankings.tied.count.tolist() == [4] * 7
    assert TargetRanks.of(rankings, np.arange(7), None, "item").means()["HR@3"] == pytest.approx(3 / 7)


def test_batches_do_not_matter():
    scores, targets = drawn(seed=3)
    one, other = ranked(scores, 3, SIDS, batch=1), ranked(scores, 3, SIDS, batch=60)
    for protocol in ("sid", "item"):
        a, b = (TargetRanks.of(r, targets, SIDS, protocol).values() for r in (one, other))
        assert all(np.array_equal(a[name], b[name]) for name in a)
    np.testing.assert_array_equal(one.ids, other.ids)


def test_files_and_parts_keep_them(tmp_path: Path):
    scores, targets = drawn(seed=4)
    rankings = ranked(scores, 3, SIDS)
    assert rankings.tied.count.any()
    for slim in (False, True):
        path = tmp_path / f"{slim}.parquet"
        rankings.write(path, SIDS, slim=slim)
        again = Rankings.read(path, SIDS, items=7)
        rows = np.array([5, 2, 2, 40])
        for protocol in ("sid", "item"):
            expected = TargetRanks.of(rankings, targets, SIDS, protocol).values()
            for name, values in TargetRanks.of(again, targets, SIDS, protocol).values().items():
                np.testing.assert_array_equal(values, expected[name])
            taken = TargetRanks.of(again.take(rows), targets[rows], SIDS, protocol).values()
            assert all(np.array_equal(taken[name], expected[name][rows]) for name in taken)


def test_ties_that_do_not_hold_are_refused():
    scores, _ = drawn(seed=5)
    rankings = ranked(scores, 3)
    row = int(np.flatnonzero(rankings.tied.count)[0])
    rankings.tied.count[row] += 1
    with pytest.raises(BenchError, match=f"ties of sample {row}"):
        rankings.check(7, 3)


def test_the_exported_form_holds_large_groups():
    ranks = TargetRanks(np.array([0.0, np.inf, 3.0]), np.array([100_000, 1, 7]), 50)
    again = TargetRanks.decode(ranks.encode())
    assert again.means() == ranks.means()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_levels_over_every_order_of_sids(k):
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 0]], dtype=np.int32)
    sids = SemanticIds(codes)
    scores, targets = drawn(rows=40, items=6, seed=6)
    rankings = ranked(scores, k, sids)
    found = levels(evaluated(rankings, targets, sids))
    best = np.stack([scores[:, sids.of_item == sid].max(axis=1) for sid in range(5)], axis=1)
    for cutoff in (c for c in CUTOFFS if c <= rankings.ids.shape[1]):
        expected = {"L1": [], "L2": [], "L1+L2": []}
        for row, target in enumerate(targets):
            hits = {name: [] for name in expected}
            for order in orders(best[row]):
                same = sids.distinct[order[:cutoff]] == codes[target]
                hits["L1"].append(same[:, 0].any())
                hits["L2"].append(same[:, 1].any())
                hits["L1+L2"].append(same.all(axis=1).any())
            for name, values in hits.items():
                expected[name].append(np.mean(values))
        shown = found["independent"][str(cutoff)] | found["cumulative"][str(cutoff)]
        for name, values in expected.items():
            assert shown[name] == pytest.approx(np.mean(values), abs=1e-9), (cutoff, name)
    whole = sid_protocol(evaluated(rankings, targets, sids))
    assert found["cumulative"]["1"]["L1+L2"] == pytest.approx(whole["HR@1"], abs=1e-9)
