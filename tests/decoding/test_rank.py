"""Ranking by item scores: ties, and as many items as the SID protocol needs."""

import numpy as np
import pytest

from harness.data.dataset import Samples
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.evaluation.metrics import item_protocol, sid_protocol
from harness.evaluation.target_ranks import distinct_sids
from harness.progress import Progress
from plugins.decoders.rank import RankDecoder, Settings
from plugins.metrics.intervals import intervals
from tests.evaluated import evaluated


class Scores:
    def __init__(self, table):
        self.table, self.at = table, 0

    def score(self, histories):
        part = self.table[self.at : self.at + len(histories)]
        self.at += len(histories)
        return part


def decode(table, semantic_ids=None, k=50, batch=7):
    histories = Samples.build(["u"] * len(table), [[0]] * len(table), [0] * len(table), 10).histories
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
    histories = Samples.build(["u"], [[0]], [0], 10).histories
    with pytest.raises(BenchError, match="decoder=beam"):
        RankDecoder(Settings()).decode(object(), histories, None, "cpu", Progress(quiet=True))
