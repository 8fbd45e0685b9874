from dataclasses import replace

import numpy as np
import pytest

from harness.data.dataset import Histories
from harness.errors import BenchError
from plugins.datasets.synthetic import Process, SyntheticReader, SyntheticSettings

SMALL = SyntheticSettings(items=60, users=3000, mean_length=8, collisions=0.1)


def read(settings):
    return SyntheticReader(settings).read(None, "Synthetic", None)


def test_the_same_settings_give_the_same_data_and_another_seed_another():
    assert read(SMALL).fingerprint == read(SMALL).fingerprint
    assert read(SMALL).fingerprint != read(replace(SMALL, seed=1)).fingerprint


def test_the_default_category_is_large_enough_and_hierarchical():
    data = read(SyntheticSettings())
    facts = data.facts()
    assert facts["items"] >= 1000
    assert facts["users"] >= 4000
    assert data.given.n_levels == 3
    assert all(split["target in history"] > 0.03 for split in facts["splits"].values())  # repeat purchases
    nouns = {}
    for item, title in enumerate(data.items.titles):
        nouns.setdefault(int(data.given.codes[item, 0]), set()).add(title.split()[2])
    assert all(len(found) == 1 for found in nouns.values())  # level 1 can be read off the title
    counts = np.sort(np.bincount(data.train.targets))[::-1]
    assert counts[: len(counts) // 10].sum() > 0.25 * counts.sum()  # popularity skew
    assert 0 < data.given.report()["items on a shared SID"] < 60


def brute_force(process, history):
    """P(next item) written as a loop from the generator's description."""
    s, cluster = process.settings, process.cluster
    probability = np.zeros(s.items)
    last, previous = history[-1], history[-2] if len(history) > 1 else None
    first = process.followers(np.array([-1]), cluster[[last]])[0]
    second = first if previous is None else process.followers(cluster[[previous]], cluster[[last]])[0]
    for item in range(s.items):
        jump = (1 - s.first_order - s.second_order) * process.base[cluster[item]]
        for slot, weight in enumerate(process.successor_weights):
            jump += s.first_order * weight * (first[slot] == cluster[item])
            jump += s.second_order * weight * (second[slot] == cluster[item])
        probability[item] = (1 - s.repeat) * jump * process.popularity[item]
    recency = process.recency[: len(history)] / process.recency[: len(history)].sum()
    for back, weight in enumerate(recency):
        probability[history[-1 - back]] += s.repeat * weight
    return probability


def test_the_optimal_ranking_is_the_one_of_the_true_distribution():
    data = read(SMALL)
    process = data.oracle
    for history in data.test.histories.lists()[:40]:
        probability = brute_force(process, history)
        assert probability.sum() == pytest.approx(1)
        one = data.test.take(np.array([0])).histories
        items = np.full_like(one.items, -1)
        items[0, : len(history)] = history
        histories = Histories(items, np.array([len(history)], dtype=np.int32))
        found = process.rankings(histories, "item", 20)
        np.testing.assert_allclose(found.scores[0], np.sort(probability)[::-1][:20], rtol=1e-5)
        np.testing.assert_allclose(found.scores[0], probability[found.ids[0]], rtol=1e-5)
        by_sid = np.bincount(process.semantic_ids.of_item, probability)
        found = process.rankings(histories, "sid", 20)
        np.testing.assert_allclose(found.scores[0], np.sort(by_sid)[::-1][:20], rtol=1e-5)


def test_purchases_follow_the_distribution():
    settings = replace(SMALL, users=40_000, items=30, collisions=0.0)
    process = Process(settings)
    users, positions, items, _ = process.purchases()
    second = np.flatnonzero((positions == 2) & (np.r_[-1, -1, users[:-2]] == users))
    contexts = items[second - 2] * settings.items + items[second - 1]
    busiest = np.bincount(contexts).argmax()
    rows = second[contexts == busiest]
    expected = brute_force(process, [busiest // settings.items, busiest % settings.items])
    seen = np.bincount(items[rows], minlength=settings.items) / len(rows)
    assert len(rows) > 300
    assert np.abs(seen - expected).sum() < 4 * np.sqrt(settings.items / len(rows))
    assert np.corrcoef(seen, expected)[0, 1] > 0.9


def test_splits_are_by_time_and_histories_are_what_came_before():
    data = read(SMALL)
    assert abs(len(data.train) / sum(map(len, data.splits.values())) - 0.8) < 0.01
    longest = {}
    for split in data.splits.values():
        samples = split.take(np.argsort(split.rows))  # as generated: by time
        for user, history, target in zip(
            samples.users.tolist(), samples.histories.lists(), samples.targets.tolist(), strict=True
        ):
            known = longest.get(user, history[:1])
            assert known[-10:] == history
            longest[user] = [*known, target]


@pytest.mark.parametrize(
    "bad", [{"items": 1}, {"users": 3}, {"repeat": 1.5}, {"first_order": 0.9}, {"collisions": 0.9}]
)
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(BenchError, match="dataset:"):
        SyntheticReader(replace(SMALL, **bad))


@pytest.mark.slow
def test_a_million_items_fit_in_memory(plugins):
    data = read(SyntheticSettings(items=1_000_000))
    assert len(data.items) == 1_000_000
    assert data.oracle.rankings(data.test.histories, "sid", 50).ids.shape[1] == 50
