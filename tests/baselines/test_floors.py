"""Floors: an order of chance, and the order of ids."""

import json

import numpy as np
import pytest

from baselines.next_id import NextId
from baselines.random_order import RandomOrder
from harness.data.dataset import Histories, places_of_ids
from harness.errors import BenchError
from tests.baselines.running import run


def test_the_next_larger_id_comes_first_and_the_own_last():
    ids = ["B2", "A1", "C3", "B1", "A2"]  # in order: A1 A2 B1 B2 C3
    scores = NextId(places_of_ids(ids)).score(Histories.of([[0], [2, 1], [2]]))
    order = np.argsort(-scores, axis=1).tolist()
    assert order[0] == [2, 1, 4, 3, 0]  # behind B2: C3, then from the front
    assert order[1] == [4, 3, 0, 2, 1]
    assert order[2] == [1, 4, 3, 0, 2]


def test_numbers_are_ordered_as_numbers():
    assert places_of_ids(["10", "9", "100"]).tolist() == [1, 0, 2]


def test_without_ids_it_is_refused_by_name(plugins, tmp_path):
    (tmp_path / "Few").mkdir()
    (tmp_path / "Few/Few.inter.json").write_text(json.dumps({f"u{u}": [0, 1, 2, u % 3] for u in range(9)}))
    with pytest.raises(BenchError, match="next-id needs the ids"):
        run(plugins, "next-id", tmp_path, ["decoder.k=3"], "Few", str(tmp_path))


def test_chance_is_the_same_in_any_batch_and_another_for_another_seed():
    histories = Histories.of([[1, 2], [3], [1, 2, 3], [2, 1]])
    whole = RandomOrder(7, 50).score(histories)
    one = np.concatenate([RandomOrder(7, 50).score(histories.take(np.array([row]))) for row in range(4)])
    assert np.array_equal(whole, one)
    assert len(np.unique(whole)) == whole.size
    assert not np.array_equal(whole, RandomOrder(8, 50).score(histories))


def test_chance_hits_as_often_as_it_should(plugins, tmp_path):
    found = run(plugins, "random", tmp_path, ["dataset.users=3000", "dataset.items=200"])
    share, n = 10 / 200, len(found.dataset.test)
    assert abs(found.item["HR@10"] - share) < 3 * (share * (1 - share) / n) ** 0.5
