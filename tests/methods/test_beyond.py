"""Beyond accuracy, against loops over lists, and the doctests of the formulas."""

import doctest
import itertools

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from harness.components import Evaluated
from plugins.metrics import beyond
from tests.recorded import skilled


def test_the_doctests_hold():
    tried = doctest.testmod(beyond)
    assert tried.attempted >= 4 and not tried.failed


@pytest.mark.parametrize("kind", ["item", "sid"])
def test_every_value_by_a_loop_over_lists(tiny, kind):
    rankings = skilled(tiny, tiny.given, 0.3, 1, kind)
    found = beyond.beyond_accuracy(Evaluated.test(rankings, tiny, tiny.given))
    lists = []
    for row in rankings.ids.tolist():
        items = [i for sid in row for i in np.flatnonzero(tiny.given.of_item == sid)] if kind == "sid" else row
        lists.append([int(item) for item in items[:10]])
    assert beyond.top_items(rankings, tiny.given, 10).tolist() == lists
    shown = [item for items in lists for item in items]
    n = len(tiny.items)
    assert found["coverage@10"] == pytest.approx(len(set(shown)) / n)
    counts = sorted(shown.count(item) for item in range(n))
    pairs = sum(abs(a - b) for a in counts for b in counts)
    assert found["Gini of exposure@10"] == pytest.approx(pairs / (2 * n * n * np.mean(counts)))
    times = [0] * n
    for target in tiny.train.targets:
        times[target] += 1
    for history in tiny.train.histories.lists():
        times[history[0]] += len(history) == 1
    assert found["purchases in train@10"] == pytest.approx(np.mean([times[item] for item in shown]))
    bits = [-np.log2((times[item] + 1) / (sum(times) + n)) for item in shown]
    assert found["novelty (bits)@10"] == pytest.approx(np.mean(bits))
    histories = tiny.test.histories.lists()
    again = [item in history for items, history in zip(lists, histories, strict=True) for item in items]
    assert found["repeats@10"] == pytest.approx(np.mean(again))
    vectors = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit_transform(tiny.items.titles).toarray()
    apart = [
        np.mean([1 - vectors[a] @ vectors[b] for a, b in itertools.combinations(items, 2)]) for items in lists[:40]
    ]
    assert beyond.diversity(np.array(lists[:40]), beyond.title_vectors(tiny.items.titles)) == pytest.approx(
        np.mean(apart)
    )
    if any(tiny.items.categories):
        names = tiny.items.categories
        differ = [np.mean([names[a] != names[b] for a, b in itertools.combinations(items, 2)]) for items in lists]
        assert found["diversity by category@10"] == pytest.approx(np.mean(differ))


def test_lists_of_nothing_have_no_value(tiny):
    rankings = skilled(tiny, tiny.given, 0.3, 1)
    rankings.ids[:] = -1
    assert beyond.beyond_accuracy(Evaluated.test(rankings, tiny, tiny.given)) == {}
