"""rerank: candidates and features by hand, folds that leak nothing, trees read back, and bad input in one line."""

import dataclasses
import json

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from baselines.rerank import ordering
from baselines.rerank.candidates import Catalogue, Proposers, _best, _place, share_of_best
from baselines.rerank.ordering import Table, TreeSettings
from baselines.rerank.rerank_stage import FITTED, FOLDS, Reranked, RerankTrainer, Settings
from harness import files
from harness.data import categories
from harness.data.dataset import Bought, Histories, Items, Samples
from harness.data.texts import title_vectors
from harness.errors import BenchError
from plugins.embedders.together import Cooccurrence
from tests.commands import bench_run, run_whole
from tests.metamorphic import category

SMALL = ["dataset.items=60", "dataset.users=120", "rerank.folds=2", "rerank.candidates=15", "rerank.trees=15",
         "rerank.least=5", "rerank.parts.network={name: gru4rec, epochs: 1, hidden: 16}"]  # fmt: skip
ENGINES = ("lightgbm", "scikit-learn")


class Fixed:
    """Scores that depend on the last item alone."""

    def __init__(self, table):
        self.table = table

    def score(self, histories):
        return self.table[histories.last(1)]


def proposers(most=4, n=12, titles=True):
    rng = np.random.default_rng(0)
    items = Items([f"word{i % 5} thing{i % 3}" if titles else "" for i in range(n)], *([[""] * n] * 3))
    train = Samples.build(["u"] * 30, [[i % n] for i in range(30)], rng.integers(0, n, 30).tolist(), 5)
    scorers = {"counts": Fixed(rng.random((n, n)) * (rng.random((n, n)) < 0.5)), "net": Fixed(rng.normal(size=(n, n)))}
    return Proposers(scorers, Catalogue.of(items, train), most), items, train


HISTORIES = Histories.of([[3, 1, 3, 7], [5], [0, 2, 4, 6, 8, 10], [9, 9]], 5)


def test_candidates_are_the_best_of_each_and_of_their_sum():
    found, _, _ = proposers()
    made = found.candidates(HISTORIES)
    scores = {name: scorer.score(HISTORIES) for name, scorer in found.scorers.items()}
    counts, net = scores["counts"], scores["net"]
    together = counts / np.maximum(counts.max(1, keepdims=True), 1e-12) + np.exp(net - net.max(1, keepdims=True))
    for row in range(len(HISTORIES)):
        wanted = {int(item) for score in (counts, net, together) for item in np.argsort(-score[row], kind="stable")[:4]}
        assert set(made.items[made.rows == row].tolist()) == wanted
    np.testing.assert_allclose(made.rest, together, rtol=1e-5)


def test_features_are_what_their_names_say():
    found, items, train = proposers()
    made, names = found.candidates(HISTORIES), found.names
    assert made.features.shape == (len(made.items), len(names))
    cosines = (title_vectors(items) @ title_vectors(items).T).toarray()
    bought = np.bincount(train.targets, minlength=12) * 1e6 / len(train)
    for row, item, values in zip(made.rows, made.items, made.features, strict=True):
        told, history = dict(zip(names, values.tolist(), strict=True)), HISTORIES.lists()[row]
        last = [step for step, bought_item in enumerate(history[::-1], start=1) if bought_item == item]
        assert told["times in the history"] == history.count(item)
        assert told["steps back of its last purchase"] == (last[0] if last else 6)
        assert told["history length"] == len(history)
        assert told["different items in the history"] == len(set(history))
        assert told["log purchases in train"] == pytest.approx(np.log1p(bought[item]), rel=1e-5)
        assert told["title: cosine to the last"] == pytest.approx(cosines[history[-1], item], abs=1e-6)
        assert told["title: best cosine"] == pytest.approx(max(cosines[h, item] for h in history), abs=1e-6)
        assert told["title: mean cosine"] == pytest.approx(np.mean([cosines[h, item] for h in history]), abs=1e-6)
        own = found.scorers["net"].score(HISTORIES)[row]
        assert told["net: score"] == pytest.approx(own[item], rel=1e-6)
        among = made.items[made.rows == row]
        assert told["net: place"] == (own[among] > own[item]).sum()


def test_without_titles_there_are_no_features_of_titles():
    found, _, _ = proposers(titles=False)
    assert not any("title" in name for name in found.names)
    assert found.candidates(HISTORIES).features.shape[1] == len(found.names)


def test_places_shares_and_the_best():
    rows = np.array([0, 0, 0, 1, 1, 2])
    assert _place(np.array([1.0, 3, 1, 5, 5, 0]), rows).tolist() == [1, 0, 1, 0, 0, 0]
    np.testing.assert_allclose(share_of_best(np.array([[0.0, 2, 4]])), [[0, 0.5, 1]])
    np.testing.assert_allclose(share_of_best(np.array([[-1.0, 0]])), [[np.exp(-1), 1]])
    assert share_of_best(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
    both = share_of_best(np.array([[0.0, 2, 4], [-1, 0, 1]]))  # a row's form hangs on no other row
    np.testing.assert_allclose(both, [[0, 0.5, 1], np.exp([-2, -1, 0])])
    scores = np.array([[0, 1, 1, 1, 2.0], [3, 3, 3, 3, 3]])
    assert sorted(_best(scores, 3)[0].tolist()) == [1, 2, 4] and sorted(_best(scores, 3)[1].tolist()) == [0, 1, 2]


def planted(n, seed, features=4):
    """Histories of 8 candidates whose target follows from two features."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 8, features)).astype(np.float32)
    wanted = (values[:, :, 0] - np.abs(values[:, :, 1]) + 0.3 * rng.normal(size=(n, 8))).argmax(axis=1)
    target = np.arange(8) == wanted[:, None]
    return Table(values.reshape(n * 8, features), target.ravel(), np.full(n, 8), n)


@pytest.mark.parametrize("engine", ENGINES)
def test_trees_learn_what_is_planted_and_are_read_back_as_they_were(engine, tmp_path):
    settings = TreeSettings(engine=engine, trees=80, learning_rate=0.2, least=10, patience=20, share=1.0)
    train, valid, fresh = planted(1500, 0), planted(300, 1), planted(500, 2)
    trees, gains = ordering.fit(train, valid, settings, 7, ["yes", "folded", "no", "neither"])
    best_feature = fresh.ndcg(fresh.features[:, 0])
    assert fresh.ndcg(trees.scores(fresh.features)) > best_feature + 0.05
    assert sum(gains.values()) == pytest.approx(1) and min(gains["yes"], gains["folded"]) > 10 * gains["no"]
    again, _ = ordering.fit(train, valid, settings, 7, ["yes", "folded", "no", "neither"])
    np.testing.assert_array_equal(trees.scores(fresh.features), again.scores(fresh.features))
    ordering.save(trees, tmp_path)
    read = ordering.load(tmp_path, 4)
    np.testing.assert_array_equal(read.scores(fresh.features), trees.scores(fresh.features))
    assert read.count == trees.count <= 80
    [path] = [path for path in tmp_path.iterdir() if path.name != ordering.SAID]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BenchError, match=r"it is not what was written[)]; run the method again"):
        ordering.load(tmp_path, 4)


@pytest.mark.parametrize("engine", ENGINES)
def test_trees_that_are_none_are_one_line_though_their_hash_fits(engine, tmp_path):
    train, valid = planted(300, 0), planted(100, 1)
    trees, _ = ordering.fit(train, valid, TreeSettings(engine=engine, trees=3, least=5), 0, list("abcd"))
    ordering.save(trees, tmp_path)
    with pytest.raises(BenchError, match="features"):
        ordering.load(tmp_path, 3)
    if engine == "lightgbm":
        (tmp_path / ordering.LIGHTGBM).write_text("hello")
    else:
        arrays = load_file(tmp_path / ordering.ARRAYS)
        arrays["left"][0, -1] = 0  # back to the root: no end
        save_file(arrays, tmp_path / ordering.ARRAYS)
    name = ordering.LIGHTGBM if engine == "lightgbm" else ordering.ARRAYS
    said = {"engine": engine, "sha256": files.sha256(tmp_path / name)}
    (tmp_path / ordering.SAID).write_text(json.dumps(said))
    with pytest.raises(BenchError, match="cannot be loaded"):
        ordering.load(tmp_path, 4)


def test_plain_trees_are_scikit_learns():
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = planted(400, 3)
    model = HistGradientBoostingClassifier(max_iter=12, max_leaf_nodes=9, early_stopping=False, random_state=0)
    model.fit(table.features, table.target)
    plain = ordering._together([ordering._plain(p.nodes, 4)[0] for (p,) in model._predictors])
    expected = model.decision_function(table.features) - model._baseline_prediction.ravel()
    np.testing.assert_allclose(plain.scores(table.features), expected, atol=1e-9)


def test_the_tables_ndcg_counts_rows_without_a_candidate_and_shares_ties():
    target = np.array([0, 1, 0, 0, 0, 1, 0], dtype=bool)
    table = Table(np.zeros((7, 1), np.float32), target, np.array([3, 2, 2]), 4)
    scores = np.array([5.0, 4, 1, 9, 9, 2, 2])
    assert table.ndcg(scores) == pytest.approx((1 / np.log2(3) + 1 / np.log2(2.5)) / 4)


class Spy:
    """A part that remembers whom it was fitted on, and whom it scored."""

    def __init__(self):
        self.fitted, self.scored = [], []

    def check(self, context):
        pass

    def anew(self, context):
        return self

    def fit(self, context, probe=None):
        assert context.dataset.n_users == len(set(context.train.users.tolist()))
        (context.directory / "spy.json").write_text(json.dumps(sorted(set(context.train.users.tolist()))))
        self.fitted.append((context.directory.parent.name, context.directory.name))
        return {}

    def load(self, context):
        known, spy = set(json.loads((context.directory / "spy.json").read_text())), self

        class Model:
            def score(self, histories):
                spy.scored.append((context.directory.parent.name, known, histories))
                return np.tile(np.arange(len(context.items), 0, -1.0), (len(histories), 1))

        return Model()


class Parts(dict):
    def made(self, setting):
        return {}


def stage_context(plugins, folder, parts):
    from harness.components import Context
    from harness.progress import Progress
    from harness.runs.run import without_test

    data = without_test(categories.read(plugins, "Synthetic", None, {"items": 60, "users": 120}))
    return Context(
        data, None, None, parts, "", folder, None, 3, "cpu", lambda model: {}, lambda numbers, step: None,
        Progress(quiet=True),
    )  # fmt: skip


def test_no_row_is_scored_by_what_its_user_taught_and_nothing_is_fitted_twice(plugins, tmp_path):
    spy = Spy()
    context = stage_context(plugins, tmp_path, Parts(spy=spy))
    trainer = RerankTrainer(Settings(folds=3, candidates=40, trees=3, least=2))
    trainer.fit(context)
    assert sorted(name for above, name in spy.fitted if above == "folds") == ["0", "1", "2"] and len(spy.fitted) == 4
    train = {tuple(h): u for u, h, _ in context.train.each()}
    seen = set()
    for name, known, histories in spy.scored:
        if name == "folds":
            assert (histories.users == -1).all()  # a model of users knows none of them
            owners = {train[tuple(h)] for h in histories.lists()}
            shared = {tuple(h) for h in histories.lists() if train[tuple(h)] in known}
            ambiguous = {h for h in shared if sum(tuple(o) == h for _, o, _ in context.train.each()) > 1}
            assert shared <= ambiguous
            seen |= owners
    assert len(seen) > 70  # nearly all users' rows are learned from
    assert not (tmp_path / FOLDS).exists()


def test_a_killed_stage_goes_on_with_the_parts_that_are_there(plugins, tmp_path, monkeypatch):
    spy = Spy()
    context = stage_context(plugins, tmp_path, Parts(spy=spy))
    trainer = RerankTrainer(Settings(folds=3, candidates=40, trees=3, least=2))
    with monkeypatch.context() as patch:
        patch.setattr(ordering, "fit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.fit(context)
    (tmp_path / FOLDS / "1/spy" / FITTED).unlink()
    trainer.fit(context)
    assert spy.fitted[4:] == [("folds", "1")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return run_whole(tmp_path_factory.mktemp("rerank"), "rerank", SMALL)


def test_a_run_records_what_its_trees_go_by(ran):
    folder, stages = ran
    facts = stages["rerank"]["train"]
    assert facts["trees"] >= 1 and facts["parts"]["network"]["epochs"] == 1
    assert yaml.safe_load((folder / "config.yaml").read_text())["stages"][0]["engine"] == "lightgbm"  # what auto was
    assert sum(facts["importance"].values()) == pytest.approx(1, abs=0.01)
    report = (folder / "report.md").read_text()
    assert "What its score goes by" in report and "| network: place " in report


def test_a_history_is_ranked_alike_alone_and_among_others_and_candidates_come_first(plugins, tmp_path):
    found, _, _ = proposers()
    width = len(found.names)
    settings = TreeSettings(trees=20, least=5)
    trees, _ = ordering.fit(planted(300, 0, width), planted(100, 1, width), settings, 0, found.names)
    model = Reranked(found, trees)
    together = model.score(HISTORIES)
    for row in range(len(HISTORIES)):
        np.testing.assert_array_equal(model.score(HISTORIES.take(np.array([row])))[0], together[row])
        made = found.candidates(HISTORIES.take(np.array([row])))
        others = np.setdiff1d(np.arange(12), made.items)
        assert together[row][made.items].min() > together[row][others].max()
        assert np.argsort(-together[row][others]).tolist() == np.argsort(-made.rest[0][others]).tolist()


def test_a_recorded_run_proposes_too_and_is_fitted_anew_without_each_fold(tmp_path):
    gru, _ = run_whole(tmp_path / "gru", "gru4rec", [*SMALL[:2], "gru4rec.epochs=1", "gru4rec.hidden=16"])
    sets = [*SMALL[:-1], f"rerank.parts={{chain: skip-markov, network: 'run:{gru}'}}"]
    folder, _ = run_whole(tmp_path / "runs", "rerank", sets)
    stage = folder / "stages/1-rerank"
    assert sorted(path.name for path in stage.iterdir() if path.is_dir()) == ["chain", "network"]
    assert not (stage / "network/model.safetensors").exists()
    of_stages, _ = run_whole(
        tmp_path / "sdpo", "sdpo",
        [*SMALL[:2], "backbone.hidden=16", "backbone.layers=1", "backbone.heads=1", "backbone.intermediate=16",
         "sft.epochs=0.1", "sft.eval_every=1", "sdpo.epochs=0.1", "sdpo.eval_every=1", "sdpo.negatives=2",
         "decoder.beams=20", "probe.beams=10"],
    )  # fmt: skip
    refused = bench_run(tmp_path / "no", "rerank", [*SMALL[:-1], f"rerank.parts={{network: 'run:{of_stages}'}}"])
    assert refused.exit_code == 2 and "builds on another stage, part or backbone" in refused.output


def test_without_titles_the_part_of_titles_is_left_out_and_said(plugins, tmp_path):
    whole = categories.read(plugins, "Synthetic", None, {"items": 60, "users": 120})
    silent = dataclasses.replace(whole, items=Items.without_texts(60))
    words = ["--category", category.NAME, "--data-dir", str(category.write(silent, tmp_path / "data"))]
    refused = bench_run(tmp_path / "strict", "rerank", SMALL[2:], *words, "--strict")
    assert refused.exit_code == 2 and "needs item titles and this category has none" in refused.output
    assert not list((tmp_path / "strict").glob("*/*/*/manifest.json"))
    _, stages = run_whole(tmp_path / "runs", "rerank", SMALL[2:], *words)
    assert stages["rerank"]["train"]["parts left out for want of texts"] == "titles"


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["rerank.folds=500"], "rerank.folds = 500, and train has 93 users; set rerank.folds=93"),
        (["rerank.candidates=1", "rerank.rows=15"], "trees need 20; raise rerank.candidates or rerank.rows"),
        (["rerank.parts={pop: popularty}"], "did you mean popularity?"),
        (["rerank.parts={sid: minionerec-sft}"], "backbone"),
        (["rerank.parts={run: 'run:/nowhere'}"], "/nowhere"),
        (["rerank.engine=xgboost"], "rerank.engine = 'xgboost'"),
        (["rerank.parts.network.start=tf-idf"], "did you mean tfidf?"),
        (["rerank.parts.network.start=run:/nowhere"], "/nowhere"),
        (["rerank.parts.network.start=vectors"], "tokenizer given has none"),
        (["rerank.parts={folds: popularity}"], "that is the folder of the folds"),
    ],
)
def test_what_cannot_be_is_one_line(sets, line, tmp_path):
    done = bench_run(tmp_path, "rerank", [*SMALL, *sets])
    assert done.exit_code == 2 and done.output.count("Error:") == 1 and line in done.output
    late = sets == ["rerank.candidates=1", "rerank.rows=15"]  # what only training tells
    assert bool(list(tmp_path.glob("*/*/*/manifest.json"))) == late


def test_an_engine_that_is_not_there_names_its_extra(monkeypatch):
    assert TreeSettings().engine == "lightgbm"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert TreeSettings().engine == "scikit-learn"
    with pytest.raises(BenchError, match=r"genrec-bench\[rank\]"):
        RerankTrainer(Settings(engine="lightgbm"))


def test_what_may_not_be_recommended_is_no_candidate():
    found, _, _ = proposers()
    starts, barred = np.array([0, 2, 2, 3, 3]), np.array([1, 4, 7], dtype=np.int32)
    made = found.candidates(dataclasses.replace(HISTORIES, bought=Bought(starts, barred)))
    assert not {(0, 1), (0, 4), (2, 7)} & set(zip(made.rows.tolist(), made.items.tolist(), strict=True))
    assert (np.bincount(made.rows) >= 4).all()


def test_vectors_of_a_fold_are_made_of_that_fold(plugins, tmp_path):
    sets = [*SMALL[:-1], "rerank.parts={network: {name: gru4rec, epochs: 1, hidden: 16, start: cooccurrence}}"]
    seen = []
    whole = Cooccurrence.embed

    def embed(self, context):
        seen.append(len(context.train))
        return whole(self, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cooccurrence, "embed", embed)
        run_whole(tmp_path, "rerank", sets)
    total = max(seen)
    assert len([n for n in seen if n < total]) == 2 and sum(n for n in seen if n < total) == total  # two halves
