"""Clusters, quantisers, repairs and figures of quality, each against a plain way of the same."""

import doctest
import itertools
import sys
import types

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from harness.data.dataset import Items
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.evaluation import statistics
from harness.quantising import clusters
from harness.quantising import quality as quality_module
from harness.quantising.balanced import balanced_assignment, balanced_k_means
from harness.quantising.clusters import k_means, nearest
from harness.quantising.collisions import repair
from harness.quantising.quality import compared, pictures, quality
from harness.quantising.quantisers import books_of, product, residual, sinkhorn


def cheapest(cost):
    """The least cost of a balanced assignment, as one of rows to copies of clusters (the Hungarian method)."""
    n, k = cost.shape
    must = np.repeat(np.arange(k), n // k)
    far = 1e4  # the further copies are taken only where rows are left
    table = np.concatenate([cost[:, must], cost + far], axis=1) if n % k else cost[:, must]
    rows, columns = linear_sum_assignment(table)
    return table[rows, columns].sum() - far * (n % k)


@pytest.mark.parametrize("whole", [False, True])
def test_a_balanced_assignment_is_the_cheapest_there_is(whole):
    rng = np.random.default_rng(0)
    for _ in range(80):
        k = int(rng.integers(1, 9))
        n = int(rng.integers(k, 60))
        cost = rng.integers(0, 5, (n, k)).astype(float) if whole else rng.random((n, k))
        codes, prices = balanced_assignment(cost, rng.random(k))
        sizes = np.bincount(codes, minlength=k)
        assert sizes.min() == n // k and sizes.max() <= n // k + 1
        assert cost[np.arange(n), codes].sum() == pytest.approx(cheapest(cost))
        under = cost + prices
        assert (under[np.arange(n), codes] <= under.min(axis=1) + 1e-9).all()


def test_balanced_k_means_balances_what_k_means_does_not():
    rng = np.random.default_rng(1)
    vectors = np.concatenate([rng.normal(0, 0.1, (150, 4)), rng.normal(3, 1, (50, 4))]).astype(np.float32)
    plain, even = k_means(vectors, 7, 0), balanced_k_means(vectors, 7, 0)
    assert np.ptp(np.bincount(plain.codes)) > 20 and np.ptp(np.bincount(even.codes)) == 1

    def error(found):
        return ((vectors - found.centres[found.codes]) ** 2).sum()

    assert error(plain) < error(even) < ((vectors - vectors.mean(axis=0)) ** 2).sum()
    np.testing.assert_allclose(even.centres[3], vectors[even.codes == 3].mean(axis=0), rtol=1e-4)
    alike = balanced_k_means(np.ones((10, 3), np.float32), 4, 0)
    assert sorted(np.bincount(alike.codes).tolist()) == [2, 2, 3, 3]


class FlatIndex:
    """What of FAISS's interface is used, by plain distances: the other engine's path is run without the library."""

    def __init__(self, width):
        self.width = width

    def add(self, rows):
        self.rows = rows

    def search(self, asked, k):
        far = ((asked[:, None, :] - self.rows[None]) ** 2).sum(axis=2)
        found = far.argmin(axis=1)[:, None]
        return np.take_along_axis(far, found, axis=1), found


def test_both_engines_give_the_same_codes(monkeypatch):
    rng = np.random.default_rng(2)
    vectors = np.concatenate([rng.normal(c, 0.3, (40, 5)) for c in range(0, 12, 2)]).astype(np.float32)
    monkeypatch.setattr(clusters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match="extra"):
        k_means(vectors, 6, 3, engine="faiss")
    plain = k_means(vectors, 6, 3, engine="auto")
    monkeypatch.setitem(sys.modules, "faiss", types.SimpleNamespace(IndexFlatL2=FlatIndex))
    monkeypatch.setattr(clusters.importlib.util, "find_spec", lambda name: True)
    other = k_means(vectors, 6, 3, engine="auto")
    assert (plain.codes == other.codes).mean() > 0.98
    np.testing.assert_allclose(np.sort(plain.centres.sum(axis=1)), np.sort(other.centres.sum(axis=1)), rtol=1e-3)


def test_faiss_itself_gives_the_same_codes():
    pytest.importorskip("faiss")
    vectors = np.random.default_rng(2).normal(size=(500, 8)).astype(np.float32)
    one, other = (k_means(vectors, 16, 3, engine=engine) for engine in ("sklearn", "faiss"))
    assert (one.codes == other.codes).mean() > 0.98


def test_a_large_catalogue_is_clustered_in_batches(monkeypatch):
    rng = np.random.default_rng(3)
    vectors = np.concatenate([rng.normal(c, 0.2, (300, 4)) for c in range(0, 20, 4)]).astype(np.float32)
    whole = k_means(vectors, 5, 0)
    monkeypatch.setattr(clusters, "AT_ONCE", 100)
    batched = k_means(vectors, 5, 0)
    assert len(np.unique(np.stack([whole.codes, batched.codes]), axis=1).T) == 5  # the same groups
    assert np.array_equal(batched.codes, nearest(vectors, batched.centres))


def test_residual_levels_rebuild_more_and_more():
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(400, 12)).astype(np.float32)
    made = residual(vectors, range(4), lambda left, level: k_means(left, 16, level))
    again = sum(book[made.codes[:, level]] for level, book in enumerate(made.books))
    np.testing.assert_allclose(vectors - again, made.left, atol=1e-5)
    implied = books_of(made.codes, vectors)
    np.testing.assert_allclose(implied.books[0], made.books[0], atol=0.05)
    errors = [(books_of(made.codes[:, :n], vectors).left ** 2).sum() for n in (1, 2, 3, 4)]
    assert all(a > b for a, b in itertools.pairwise(errors))
    normal = residual(vectors, range(2), lambda left, level: k_means(left, 16, level), normalise=True)
    assert (normal.codes[:, 0] != made.codes[:, 0]).any()


def test_a_rotated_product_loses_less_than_a_plain_one():
    """Directions that carry the variance are dealt out to the parts, and the rotation goes on to help."""
    rng = np.random.default_rng(5)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    vectors = (rng.normal(size=(600, 8)) * [5, 3, 2, 1, 0.5, 0.3, 0.2, 0.1] @ turn).astype(np.float32)
    plain = [k_means(vectors[:, 2 * p : 2 * p + 2], 8, p) for p in range(4)]
    lost = sum(((vectors[:, 2 * p : 2 * p + 2] - c.centres[c.codes]) ** 2).sum() for p, c in enumerate(plain))
    one, many = (product(vectors, 4, 8, 0, range(rounds)) for rounds in (1, 8))
    assert (many.left**2).sum() < (one.left**2).sum() * 1.001 and (many.left**2).sum() < 0.8 * lost
    assert many.codes.shape == (600, 4) and many.codes.max() < 8
    assert product(vectors[:, :7], 4, 8, 0, range(2)).codes.shape == (600, 4)  # zeros fill the last part up


def test_sinkhorn_deals_out_evenly_and_near():
    rng = np.random.default_rng(6)
    cost = rng.random((200, 10)) + np.linspace(0, 1, 10)  # the first columns are near to all
    near = np.bincount(cost.argmin(axis=1), minlength=10)
    dealt = sinkhorn(cost, 0.05, 100)
    sizes = np.bincount(dealt, minlength=10)
    assert np.ptp(near) > 40 and np.ptp(sizes) < 12
    assert cost[np.arange(200), dealt].sum() < 1.1 * cheapest(cost)
    assert np.bincount(sinkhorn(cost, 0.003, 50), minlength=10).min() > 0


def test_zcr_moves_fewest_then_least_far():
    """Against all ways to deal the last codes out in a small group."""
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(6, 3)).astype(np.float32)
    for _ in range(20):
        codes = np.stack([np.zeros(6, int), rng.integers(0, 7, 6)], axis=1).astype(np.int32)
        made = books_of(codes, vectors)
        book = np.zeros((7, 3))
        book[: len(made.books[-1])] = made.books[-1]
        before = made.left + made.books[-1][codes[:, 1]]
        far = ((before[:, None, :] - book[None]) ** 2).sum(axis=2)
        ways = [
            (sum(a != b for a, b in zip(way, codes[:, 1], strict=True)), far[np.arange(6), way].sum())
            for way in itertools.permutations(range(7), 6)
        ]
        done = repair(SemanticIds(codes), "zcr", vectors, 7)
        moved, distance = min(ways)
        assert done.moved == moved and done.left == 0
        assert far[np.arange(6), done.semantic_ids.codes[:, 1]].sum() == pytest.approx(distance, rel=1e-4)


def test_a_group_larger_than_the_codebook_stays_and_is_counted():
    codes = np.array([[0, 0], [0, 0], [0, 1], [1, 1], [1, 1]], dtype=np.int32)
    done = repair(SemanticIds(codes), "zcr")
    assert done.too_large == (1, 3) and done.left == 2 and done.by_code
    assert (
        np.array_equal(done.semantic_ids.codes[:3], codes[:3]) and len(np.unique(done.semantic_ids.codes[3:, 1])) == 2
    )
    assert "larger than the codebook" in done.told and done.as_dict()["items in them"] == 3
    assert repair(SemanticIds(codes), "zcr", codes=3).left == 0


def test_further_tokens_tell_apart_what_shares_a_sid():
    codes = np.array([[0, 0], [0, 0], [0, 1]], dtype=np.int32)
    some, all_ = (repair(SemanticIds(codes), how).semantic_ids for how in ("extra-token", "extra-token-all"))
    assert some.codes.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, -1]]
    assert all_.codes.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    short = SemanticIds(np.array([[0, -1], [0, -1], [0, 1]], dtype=np.int32))
    longer = repair(short, "extra-token").semantic_ids
    assert longer.lengths.tolist() == [2, 2, 2] and len(longer.distinct) == 3
    with pytest.raises(BenchError, match="equal length"):
        repair(short, "zcr")
    with pytest.raises(BenchError, match="needs vectors"):
        repair(SemanticIds(codes), "sinkhorn")
    fine = SemanticIds(np.array([[0], [1]], dtype=np.int32))
    assert repair(fine, "extra-token").moved == 0 and repair(fine, "extra-token").semantic_ids.n_levels == 1


@pytest.mark.data
@pytest.mark.parametrize(("category", "moves"), [("Scientific", 875), ("Beauty", 1574), ("Yelp", 2029)])
def test_zcr_moves_as_few_as_the_published_repair(plugins, category, moves):
    import os

    from harness.data import categories

    native, theirs = (
        categories.read(plugins, category, os.environ["BENCH_DATA"], {"index": f"rkmeans_{kind}"}).given
        for kind in ("native", "zcr")
    )
    assert int((native.codes != theirs.codes).any(axis=1).sum()) == moves
    done = repair(native, "zcr")
    assert done.moved == moves and done.left == 0 and done.too_large == (0, 0)
    assert np.array_equal(done.semantic_ids.codes[:, :-1], theirs.codes[:, :-1])


@pytest.mark.parametrize(("module", "least"), [(quality_module, 2), (statistics, 1)])
def test_the_examples_of_the_figures_hold(module, least):
    tried = doctest.testmod(module)
    assert tried.attempted >= least and not tried.failed


def test_figures_of_quality_are_what_they_say():
    codes = np.array([[0, 0], [0, 0], [0, 1], [1, 0]], dtype=np.int32)
    items = Items(["a"] * 4, [""] * 4, [""] * 4, ["Tools, Saws", "Tools, Saws", "Tools, Saws", "Tools, Nails"])
    vectors = np.array([[0, 1], [0, 1.2], [0, 1.1], [5, 0]], dtype=np.float32)
    found = quality(SemanticIds(codes), items, vectors, purchases=np.array([2, 0, 1, 1]))
    assert found["distinct SIDs"] == 3 and found["collision rate"] == 0.25 and found["items on a shared SID"] == 2
    assert found["codes used"] == [2, 2] and found["branching"] == [2.0, 1.5]
    assert found["perplexity of codes"][0] == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert found["ceiling of item HR@1"] == (2 * 0.5 + 1 + 1) / 4
    assert found["categories told by the first code"] == 1.0  # a single nail counts by what is above it: Tools
    assert 0 < found["unexplained variance"] < 0.01 and found["cosine to what is rebuilt"] > 0.99
    assert found["first code shared with the 10 nearest"] == pytest.approx((2 / 3 * 3 + 0) / 4)
    drawn = pictures(SemanticIds(codes), vectors)
    assert drawn["codes"] == [[3, 1], [3, 1]] and drawn["groups"] == [2, 1] and [n for *_, n in drawn["map"]] == [3, 1]
    whole = quality(SemanticIds(np.arange(4, dtype=np.int32)[:, None]))
    assert whole["perplexity of codes"] == [pytest.approx(4)] and whole["Gini of codes"] == [0.0]


def test_sids_are_compared_by_what_stands_together():
    rng = np.random.default_rng(8)
    codes = rng.integers(0, 6, (300, 3)).astype(np.int32)
    names = rng.permutation(6).astype(np.int32)
    renamed, other = SemanticIds(names[codes]), SemanticIds(rng.integers(0, 6, (300, 3)).astype(np.int32))
    same = compared(SemanticIds(codes), renamed)
    assert same["mutual information of codes"] == [pytest.approx(1)] * 3 and same["Rand index of prefixes"][2] == 1
    assert same["items with the same SID"] < 300
    apart = compared(SemanticIds(codes), other)
    assert max(map(abs, apart["mutual information of codes"])) < 0.05
