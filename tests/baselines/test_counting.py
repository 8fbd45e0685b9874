"""The counting floors: by hand, against loops and independent libraries, and on data with a known optimum."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.neighbors import NearestNeighbors

from baselines import COUNTING, ease, hybrid, itemknn, markov, recency, skip_markov, tfidf
from baselines.shared import item_to_item
from harness.components import Context
from harness.data.dataset import Items, Samples
from harness.errors import BenchError
from tests.baselines.running import run

TITLES = ["blue steel valve", "steel valve", "red lamp", "lamp", "", "blue pump"]
CHAIN = Samples.build(
    ["u", "u", "u", "v", "v", "w"], [[0], [0, 1], [0, 1, 2], [1], [1, 2], [0]], [1, 2, 3, 2, 3, 5], 10
)
N = 6
TRAINERS = {
    "recency": (recency.RecencyTrainer, {}),
    "markov": (markov.MarkovTrainer, {}),
    "skip-markov": (skip_markov.SkipMarkovTrainer, {}),
    "itemknn": (itemknn.ItemKnnTrainer, {}),
    "ease": (ease.EaseTrainer, {}),
    "tfidf": (tfidf.TfidfTrainer, {}),
    "hybrid": (hybrid.HybridTrainer, {}),
}


def fitted(name, samples, folder, titles=TITLES, **settings):
    trainer_class, _ = TRAINERS[name]
    trainer = trainer_class(trainer_class.Settings(**settings))
    items = Items(titles, [""] * len(titles), [""] * len(titles), [""] * len(titles))
    Path(folder).mkdir(parents=True, exist_ok=True)
    context = SimpleContext(items, samples, Path(folder))
    trainer.fit(context)
    return trainer.load(context)


@dataclasses.dataclass(frozen=True)
class SimpleContext:
    items: Items
    train: Samples
    directory: Path
    previous: Path | None = None
    within = Context.within


def histories(*lists):
    return Samples.build(["x"] * len(lists), [list(h) for h in lists], [0] * len(lists), 10).histories


def test_markov_by_hand(tmp_path):
    model = fitted("markov", CHAIN, tmp_path, decay=0.5, reach=2, smoothing=1.0, popularity=0.0)
    # after 0: 1 once, 5 once; after 1: 2 twice; after 2: 3 twice. A share is a count over the sum + 1.
    expected = np.zeros((2, N))
    expected[0, [1, 5]] = 1 / 3
    expected[1, 3] = 2 / 3
    expected[1, 2] = 0.5 * 2 / 3
    np.testing.assert_allclose(model.score(histories([0], [0, 1, 2])), expected, atol=1e-6)
    deep = fitted("markov", CHAIN, tmp_path / "deep", decay=0.5, reach=3, smoothing=1.0, popularity=0.0)
    expected[1, [1, 5]] += 0.25 / 3
    np.testing.assert_allclose(deep.score(histories([0], [0, 1, 2])), expected, atol=1e-6)


def test_popularity_orders_what_transitions_leave_equal(tmp_path):
    model = fitted("markov", CHAIN, tmp_path, popularity=1e-3)
    scores = model.score(histories([4]))[0]  # item 4 was never bought in train: a cold history
    shares = np.array([0, 1, 2, 2, 0, 1]) / 6
    np.testing.assert_allclose(scores, 1e-3 * shares, atol=1e-8)


def test_skip_markov_counts_each_pair_of_a_sequence_once(tmp_path):
    window, gap_decay, backward, smoothing = 3, 0.7, 0.25, 2.0
    counts = np.zeros((N, N))
    for sequence in ([0, 1, 2, 3], [1, 2, 3], [0, 5]):
        for j in range(len(sequence)):
            for gap in range(1, min(window, j) + 1):
                counts[sequence[j - gap], sequence[j]] += gap_decay ** (gap - 1)
    counts = counts + backward * counts.T
    expected = counts / (counts.sum(1, keepdims=True) + smoothing)
    model = fitted("skip-markov", CHAIN, tmp_path, window=window, gap_decay=gap_decay, backward=backward,
                   smoothing=smoothing, popularity=0.0, decay=0.6)  # fmt: skip
    for item in range(N):
        np.testing.assert_allclose(model.score(histories([item]))[0], expected[item], atol=1e-6)
    np.testing.assert_allclose(model.score(histories([1, 2]))[0], expected[2] + 0.6 * expected[1], atol=1e-6)


def random_purchases(seed=0, users=40, items=12):
    rng = np.random.default_rng(seed)
    return csr_matrix((rng.random((users, items)) < 0.3).astype(np.float32))


def test_ease_is_the_ridge_of_each_item_on_all_others():
    bought, penalty = random_purchases(), 3.0
    weights = ease.solve(bought, penalty)
    dense = bought.toarray().astype(np.float64)
    assert (np.diag(weights) == 0).all()
    for j in range(dense.shape[1]):
        others = np.arange(dense.shape[1]) != j
        x = dense[:, others]
        direct = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ dense[:, j])
        np.testing.assert_allclose(weights[others, j], direct, atol=1e-10)


def test_ease_refuses_a_catalogue_that_it_cannot_invert():
    with pytest.raises(BenchError, match="use itemknn"):
        ease.EaseTrainer(ease.Settings()).check(SimpleNamespace(items=range(ease.MOST_ITEMS + 1)))


def test_itemknn_without_shrinkage_is_scikit_learns_cosine():
    bought = random_purchases(1)
    found = itemknn.similarities(bought, 0.0, 4).toarray()
    knn = NearestNeighbors(n_neighbors=12, metric="cosine", algorithm="brute").fit(bought.T)
    distances, indices = knn.kneighbors(bought.T)
    for item in range(12):
        cosine = np.zeros(12)
        cosine[indices[item]] = 1 - distances[item]
        cosine[item] = 0
        kept = np.flatnonzero(found[item])
        assert len(kept) == min(4, np.count_nonzero(cosine > 1e-9))
        np.testing.assert_allclose(found[item, kept], cosine[kept], atol=1e-6)
        assert cosine[kept].min() >= np.sort(cosine)[::-1][: len(kept)].min() - 1e-6
    shrunk = itemknn.similarities(bought, 10.0, 0).toarray()
    together = (bought.T @ bought).toarray()
    norms = np.sqrt(np.diag(together))
    expected = together / (np.outer(norms, norms) + 10.0)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(shrunk, expected, atol=1e-6)


def test_tfidf_matches_titles_by_their_rare_words(tmp_path):
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = fitted("tfidf", CHAIN, tmp_path, decay=0.5, popularity=0.0)
    vectors = TfidfVectorizer(token_pattern=r"[a-z0-9]+").fit_transform(TITLES).toarray()
    cosines = vectors @ vectors.T
    np.testing.assert_allclose(model.score(histories([0]))[0], cosines[0], atol=1e-6)
    np.testing.assert_allclose(model.score(histories([2, 0]))[0], cosines[0] + 0.5 * cosines[2], atol=1e-6)
    assert model.score(histories([4])).max() == 0  # an item without a title matches nothing


def test_titles_without_latin_letters_are_matched_too(tmp_path):
    model = fitted("tfidf", CHAIN, tmp_path, titles=["阀 门", "阀", "灯", "泵", "管", "线"], popularity=0.0)
    assert model.score(histories([0]))[0].argsort()[::-1][:2].tolist() == [0, 1]


def test_hybrid_adds_both_scaled_by_their_maxima(tmp_path):
    settings = {"window": 3, "popularity": 0.0}
    chain = fitted("skip-markov", CHAIN, tmp_path / "a", decay=0.6, **settings).score(histories([0, 1]))
    match = fitted("tfidf", CHAIN, tmp_path / "b", decay=0.4, popularity=0.0).score(histories([0, 1]))
    both = fitted("hybrid", CHAIN, tmp_path / "c", decay=0.6, title_decay=0.4, title_weight=1.3, **settings)
    np.testing.assert_allclose(
        both.score(histories([0, 1])), chain / chain.max() + 1.3 * match / match.max(), atol=1e-6
    )
    cold = both.score(histories([4]))
    assert np.isfinite(cold).all()


@pytest.mark.parametrize("name", ["tfidf", "hybrid"])
def test_a_category_without_titles_is_refused(name):
    context = SimpleContext(Items([""] * N, [""] * N, [""] * N, [""] * N), CHAIN, Path())
    trainer_class, _ = TRAINERS[name]
    with pytest.raises(BenchError, match="needs item titles"):
        trainer_class(trainer_class.Settings()).check(context)


@pytest.mark.parametrize("name", TRAINERS)
def test_a_cold_history_has_finite_scores_and_more_history_is_read(name, tmp_path):
    model = fitted(name, CHAIN, tmp_path)
    scores = model.score(histories([4], [0], [0, 1, 2]))
    assert scores.shape == (3, N)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", [n for n in TRAINERS if n != "tfidf"])
def test_relabelled_items_get_the_relabelled_scores(name, tmp_path):
    order = np.array([3, 0, 5, 1, 4, 2])  # item i is called order[i]
    lists = [[int(order[i]) for i in history] for history in CHAIN.histories.lists()]
    renamed = Samples.build(CHAIN.users.tolist(), lists, order[CHAIN.targets].tolist(), 10)
    titles = [""] * N
    for item, title in enumerate(TITLES):
        titles[order[item]] = title
    before = fitted(name, CHAIN, tmp_path / "a").score(histories([0, 1]))
    after = fitted(name, renamed, tmp_path / "b", titles=titles).score(histories([int(order[0]), int(order[1])]))
    np.testing.assert_allclose(after[0, order], before[0], atol=1e-6)


def test_votes_decay_from_the_last_item():
    votes = item_to_item.visits(histories([1, 2, 1]), N, 0.5, 10).toarray()[0]
    np.testing.assert_allclose(votes, [0, 1 + 0.25, 0.5, 0, 0, 0])
    np.testing.assert_allclose(item_to_item.visits(histories([1, 2, 3]), N, 0.0, 10).toarray()[0], [0, 0, 0, 1, 0, 0])


@pytest.fixture(scope="module")
def on_synthetic(plugins, tmp_path_factory):
    """HR@10 (item protocol) of every floor on the generated category, and the optimum's."""
    folder = tmp_path_factory.mktemp("floors")
    return {name: run(plugins, name, folder) for name in COUNTING}


def test_floors_order_as_theory_says(on_synthetic):
    """popularity < a chain < the true distribution; popularity stands at its known value."""
    optimal = on_synthetic["markov"].optimal
    value = {name: found.item["HR@10"] for name, found in on_synthetic.items()}
    data = on_synthetic["popularity"].dataset
    share = np.bincount(data.train.targets, minlength=len(data.items))
    top = set(np.argsort(-share, kind="stable")[:10].tolist())
    assert value["popularity"] == pytest.approx(np.mean([t in top for t in data.test.targets.tolist()]))
    assert value["popularity"] < value["recency"] < value["markov"] - 0.03
    assert value["popularity"] < value["itemknn"]
    assert value["popularity"] < value["ease"]
    assert value["markov"] > 0.4 * optimal
    assert all(found < optimal - 0.05 for found in value.values())


def test_nothing_beats_popularity_where_purchases_are_independent(plugins, tmp_path):
    """On an i.i.d. category popularity is the optimum: a method above it beyond noise has seen test."""
    settings = ["dataset.repeat=0", "dataset.first_order=0", "dataset.second_order=0", "dataset.users=3000",
                "dataset.items=300"]  # fmt: skip
    found = {name: run(plugins, name, tmp_path, settings) for name in COUNTING}
    popularity = found["popularity"].item["HR@10"]
    noise = 3 * np.sqrt(popularity * (1 - popularity) / len(found["popularity"].dataset.test))
    assert abs(popularity - found["popularity"].optimal) < noise
    for name, result in found.items():
        assert result.item["HR@10"] < popularity + noise, name
