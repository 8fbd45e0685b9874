"""Ranking by item scores: ties, and as many items as the SID protocol needs."""

import dataclasses

import numpy as np
import pytest

from harness.data.dataset import Bought, Histories
from harness.data.semantic_ids import SemanticIds
from harness.data.ties import Tied
from harness.decoding import items
from harness.errors import BenchError
from harness.evaluation.metrics import item_protocol, sid_protocol
from harness.evaluation.target_ranks import distinct_sids
from harness.evaluation.validation import validation_score
from harness.progress import Progress
from plugins.decoders.rank import RankDecoder, Settings
from plugins.metrics.intervals import intervals
from tests.evaluated import evaluated


class Scores:
    def __init__(self, table):
        self.table = table

    def score(self, histories):
        return self.table[histories.items[:, 0]]


def decode(table, semantic_ids=None, k=50, batch=7):
    histories = Histories.of([[row] for row in range(len(table))])
    decoder = RankDecoder(Settings(k=k, batch=batch))
    rankings = decoder.decode(Scores(table), histories, semantic_ids, "cpu", Progress(quiet=True))
    rankings.check(table.shape[1])
    return rankings


def test_equal_scores_stand_in_the_order_of_item_ids():
    table = np.zeros((3, 100), dtype=np.float32)
    table[1, 40] = 1
    table[2, 7:90] = -1
    found = decode(table).ids
    assert found[0].tolist() == list(range(50))
    assert found[1].tolist() == [40, *range(40), *range(41, 50)]
    assert found[2].tolist() == [*range(7), *range(90, 100), *range(7, 40)]


def test_the_sid_protocol_of_a_ranking_is_that_of_the_whole_catalogue():
    """Items on one SID take several places: 50 items hold fewer than 50 SIDs, and more are returned."""
    rng = np.random.default_rng(0)
    semantic_ids = SemanticIds(rng.integers(0, 12, (300, 2)).astype(np.int32))  # about 125 SIDs for 300 items
    table = rng.normal(size=(40, 300)).astype(np.float32)
    targets = rng.integers(0, 300, 40)
    narrow, whole = decode(table, semantic_ids), decode(table, semantic_ids, k=300)
    assert 50 < narrow.ids.shape[1] < 300
    shown = distinct_sids(narrow, semantic_ids)[:, :50]
    assert (shown >= 0).all()
    for row, sids in enumerate(shown):
        order = np.argsort(-table[row], kind="stable")
        expected = list(dict.fromkeys(semantic_ids.of_item[order].tolist()))[:50]
        assert sids.tolist() == expected
    for protocol in (sid_protocol, item_protocol):
        few, all_ = (protocol(evaluated(r, targets, semantic_ids)) for r in (narrow, whole))
        assert few == pytest.approx(all_)
    plain = decode(table)
    assert plain.ids.shape[1] == 50
    assert np.array_equal(plain.ids, narrow.ids[:, :50])


def test_intervals_hold_the_metric_they_are_of():
    rng = np.random.default_rng(1)
    semantic_ids = SemanticIds(rng.integers(0, 12, (300, 2)).astype(np.int32))
    table = rng.normal(size=(200, 300)).astype(np.float32)
    targets = np.where(rng.random(200) < 0.3, table.argmax(1), rng.integers(0, 300, 200))
    rankings = decode(table, semantic_ids)
    bounds = intervals(evaluated(rankings, targets, semantic_ids))
    for protocol, metric in (("sid", sid_protocol), ("item", item_protocol)):
        for name, value in metric(evaluated(rankings, targets, semantic_ids)).items():
            low, high = bounds[protocol][name]
            assert low <= value <= high, (protocol, name)
            assert high - low < 0.2
    assert set(intervals(evaluated(decode(table), targets))) == {"item"}


def test_more_candidates_than_items_are_refused_and_a_model_that_scores_none():
    from harness.data.dataset import Items

    with pytest.raises(BenchError, match=r"set decoder\.k=3"):
        RankDecoder(Settings()).check(Items(["a"] * 3, [""] * 3, [""] * 3, [""] * 3), None)
    histories = Histories.of([[0]])
    with pytest.raises(BenchError, match="decoder=beam"):
        RankDecoder(Settings()).decode(object(), histories, None, "cpu", Progress(quiet=True))


@pytest.mark.parametrize("kind", ["normal", "tied", "bought", "few", "constant"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_best_items_are_those_of_a_stable_sort(kind, dtype, monkeypatch):
    rng = np.random.default_rng(4)
    for width, k in ((1, 1), (40, 7), (40, 40), (700, 50), (3001, 50), (3001, 400)):
        scores = rng.normal(size=(23, width))
        if kind == "tied":
            scores = np.round(scores)
        elif kind == "bought":
            scores[rng.random(scores.shape) < 0.3] = -np.inf
        elif kind == "few":
            scores[rng.random(scores.shape) < 0.99] = 0.0
        elif kind == "constant":
            scores[:] = 2.5
        scores = scores.astype(dtype)
        ids, best = items.top_items(scores, k)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(ids, order)
        np.testing.assert_array_equal(best, np.take_along_axis(scores, order, axis=1))
        assert best.dtype == dtype


def test_a_score_that_is_no_number_is_among_the_best_and_so_is_found():
    for place in (0, 777, 3000):
        scores = np.random.default_rng(0).normal(size=(5, 3001))
        scores[2, place] = np.nan
        ids, best = items.top_items(scores, 50)
        assert ids[2, 0] == place
        assert np.isnan(best).sum() == 1


def test_where_items_share_sids_as_many_are_ranked_as_distinct_sids_take(monkeypatch):
    """Rows that need more than the first guess, early or late, get them, and all rows get as many."""
    n_items, k = 400, 10
    codes = np.arange(n_items)
    codes[:60] = 0  # one SID takes 60 items
    sids = SemanticIds(codes[:, None].astype(np.int32))
    for special in (0, 6, 12):
        scores = np.random.default_rng(1).random((13, n_items))
        scores[special, :60] += 5

        class Model:
            def score(self, histories, table=scores):
                return table[histories.items[:, 0]]

        histories = Histories.of([[row] for row in range(13)])
        found = items.rank_items(Model(), histories, n_items, k, sids, Progress(quiet=True), batch=4)
        assert found.ids.shape == (13, 69)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :69]
        np.testing.assert_array_equal(found.ids, order)


@pytest.mark.parametrize("with_sids", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_what_a_probe_lowers_changes_no_valid_metric(with_sids, dropped):
    """Few candidates tell the valid metrics that all candidates do, also where scores are equal in large groups."""
    rng = np.random.default_rng(3)
    n, n_items = 60, 240
    table = rng.integers(0, 6, (n, n_items)).astype(np.float32)
    table[: n // 2] *= rng.random((n // 2, n_items)) < 0.03  # most are zero
    targets = rng.integers(0, n_items, n)
    sids = SemanticIds(rng.integers(0, 9, (n_items, 2)).astype(np.int32)) if with_sids else None
    histories = Histories.of([[row] for row in range(n)])
    if dropped:
        bought = Bought(
            np.arange(0, 4 * n + 1, 4), rng.permuted(np.tile(np.arange(n_items), (n, 1)), axis=1)[:, :4].ravel()
        )
        histories = dataclasses.replace(histories, bought=bought)
    found = []
    for k in (min(RankDecoder.probe_settings.values()), 50, n_items):
        rankings = items.rank_items(Scores(table), histories, n_items, k, sids, Progress(quiet=True), batch=7)
        found.append(validation_score(rankings, targets, sids, histories.bought))
    assert found[0] == found[1] == pytest.approx(found[2])
    assert len(found[0]) == (5 if with_sids else 3)


def test_who_was_cut_is_found_one_by_one_as_in_the_whole_table():
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 4, (200, 30)).astype(np.float32)
    scores[::3] *= rng.random((67, 30)) < 0.1
    kept, _ = items.top_items(scores, 5)
    tied = Tied.of(scores, kept)
    members = tied.members(kept, 30)
    assert 0 < members.mean() < 0.9 and tied.inverse.any() and not tied.inverse.all()
    for candidate in range(-2, 30):
        expected = members[:, candidate] if candidate >= 0 else np.zeros(200, bool)
        assert np.array_equal(tied.has(kept, np.full(200, candidate)), expected)
