"""Vectors of items: from texts, from train, from files, from encoders, from recorded runs; and what is kept of them."""

import dataclasses

import numpy as np
import pytest

from harness import testing
from harness.data import texts
from harness.data.dataset import Items
from harness.errors import BenchError, ContractError
from harness.plugins import load
from harness.progress import Progress
from harness.runs.tokenizing import Vectors
from tests.commands import run_whole
from tests.conftest import TINY_SETTINGS

QUIET = Progress(quiet=True)


@pytest.fixture
def vectors(plugins, tmp_path):
    def made(dataset, embedder, **settings):
        return Vectors(dataset, plugins, 0, "cpu", tmp_path, QUIET).of(embedder, **settings)

    return made


def test_templates_say_what_of_an_item_is_read():
    items = Items(["Saw", "Nail"], ["cuts", ""], ["Acme", "Bolt & Co"], ["Tools, Saws", ""])
    assert texts.item_texts(items, "title") == ["Saw", "Nail"]
    assert texts.item_texts(items) == ["Saw cuts", "Nail"]
    assert texts.item_texts(items, "title-brand-categories") == ["Saw Acme Tools, Saws", "Nail Bolt & Co"]
    assert texts.item_texts(items, "{title} by {brand}") == ["Saw by Acme", "Nail by Bolt & Co"]
    odd = Items(["{brand}"], ["{0.__class__}"], ["x"], [""])
    assert texts.item_texts(odd, "all") == ["{brand} x  {0.__class__}"]  # texts are no templates
    for bad in ("{title!r}", "{title:>9999999}", "{0}", "{brand.upper}"):
        with pytest.raises(BenchError, match="the fields are"):
            texts.item_texts(items, bad)


def test_brands_and_categories_are_read_where_the_template_names_them(tiny, vectors):
    brands = dataclasses.replace(tiny.items, brands=[f"brand{i % 2}" for i in range(80)])
    data = dataclasses.replace(tiny, items=brands)
    same = vectors(data, "tfidf", text="title", dimensions=16)
    assert np.array_equal(same, vectors(tiny, "tfidf", text="title", dimensions=16))
    assert not np.allclose(vectors(data, "tfidf", text="title-brand-categories", dimensions=16), same)


def test_several_embedders_stand_side_by_side_with_their_weights(tiny, vectors):
    words = vectors(tiny, "tfidf", dimensions=16)
    both = vectors(tiny, {"tfidf": 1.0, "cooccurrence": {"weight": 0.5, "factors": 8}}, dimensions=16)
    assert both.shape == (80, 24)
    np.testing.assert_allclose(both[:, :16], words, atol=1e-6)
    lengths = np.linalg.norm(both[:, 16:], axis=1)
    assert np.allclose(lengths[lengths > 0], 0.5, atol=1e-5)


def test_items_bought_together_are_near(vectors, tiny):
    """Two groups of items that no user mixes: vectors are alike within, and not across."""
    rng = np.random.default_rng(0)
    groups = np.arange(80) % 2
    histories = tiny.train.histories.items
    side = rng.integers(0, 2, len(tiny.train))
    own = [np.flatnonzero(groups == g) for g in (0, 1)]
    drawn = np.stack([rng.choice(own[s], histories.shape[1]) for s in side])
    items = np.where(histories >= 0, drawn, -1).astype(np.int32)
    targets = np.array([rng.choice(own[s]) for s in side], dtype=tiny.train.targets.dtype)
    train = dataclasses.replace(
        tiny.train, targets=targets, histories=dataclasses.replace(tiny.train.histories, items=items)
    )
    found = vectors(dataclasses.replace(tiny, train=train), "cooccurrence", factors=4)
    cosine = found @ found.T
    same = groups[:, None] == groups[None]
    assert cosine[same].mean() > 0.4 and abs(cosine[~same].mean()) < 0.1
    nobody = dataclasses.replace(tiny.train, histories=tiny.train.histories).take(np.arange(0))
    with pytest.raises(BenchError, match="bought together"):
        vectors(dataclasses.replace(tiny, train=nobody), "cooccurrence")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (np.zeros((79, 4)), "79 × 4"),
        (np.full((80, 4), 2.0), "same vector for every item"),
        (np.where(np.arange(320).reshape(80, 4) == 13, np.nan, 1.0 * np.arange(320).reshape(80, 4)), "row 3 holds NaN"),
        (np.zeros((80, 4, 2)), "[80, 4, 2]"),
        (np.array(["x"] * 80)[:, None], "array of numbers"),
        (np.array([{}] * 80, dtype=object)[:, None], "no NumPy file that can be read"),
        (b"\x93NUMPY\x01\x00", "no NumPy file that can be read"),
    ],
)
def test_a_bad_file_of_vectors_is_one_line(content, what, tiny, vectors, tmp_path):
    path = tmp_path / "v.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(BenchError) as caught:
        vectors(tiny, f"npy:{path}")
    assert what in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_vectors_is_taken_as_it_is(tiny, vectors, tmp_path):
    own = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float16)
    np.save(tmp_path / "v.npy", own)
    np.testing.assert_array_equal(vectors(tiny, f"npy:{tmp_path / 'v.npy'}"), own.astype(np.float32))


def test_vectors_of_a_recorded_run_are_its_items(tiny, vectors, tmp_path):
    sets = [setting for setting in TINY_SETTINGS if setting.startswith("dataset.")]
    folder, _ = run_whole(tmp_path / "runs", "sasrec", [*sets, "sasrec.epochs=1", "sasrec.hidden=16"])
    assert vectors(tiny, f"run:{folder}").shape == (80, 16)
    other = dataclasses.replace(tiny, train=tiny.train.take(np.arange(50)))
    with pytest.raises(BenchError, match="other data"):
        vectors(other, f"run:{folder}")
    counted, _ = run_whole(tmp_path / "counts", "markov", sets)
    with pytest.raises(BenchError, match="no model with a vector for each item"):
        vectors(tiny, f"run:{counted}")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A random BERT of two layers with a word-piece vocabulary, as a folder of the Hugging Face form."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{x}" for x in [*letters, *"0123456789"]),
    ]
    (folder / "vocab.txt").write_text("\n".join([*vocabulary, *"0123456789"]))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary) + 10, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_an_encoder_pads_nothing_into_its_vectors(tiny, vectors, encoder):
    """Batches of one text and of many give the same; rows stand in the order of items; an empty text is no error."""
    titles = ["saw", *tiny.items.titles[1:-1], ""]
    data = dataclasses.replace(tiny, items=dataclasses.replace(tiny.items, titles=titles))
    many, one = (vectors(data, {f"hf:{encoder}": {"batch": batch, "text": "title"}}) for batch in (16, 1))
    assert many.shape == (80, 16)
    np.testing.assert_allclose(many, one, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1, atol=1e-5)
    short = vectors(data, {f"hf:{encoder}": {"most_tokens": 3, "text": "title"}})
    assert not np.allclose(short, many, atol=1e-3)
    with pytest.raises(BenchError, match="cannot be loaded"):
        vectors(tiny, "hf:/nowhere/at/all")


def test_slow_vectors_are_kept_by_content(tiny, plugins, encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_READ_CACHE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls = []
    encode = texts.encode

    def counted(*arguments, **named):
        calls.append(arguments)
        return encode(*arguments, **named)

    from harness.builtin.plugins.embedders import encoders

    monkeypatch.setattr(encoders, "encode", counted)
    one, two = (
        Vectors(tiny, plugins, 0, "cpu", tmp_path, QUIET).of({f"hf:{encoder}": {"text": "title"}}) for _ in range(2)
    )
    assert len(calls) == 1 and np.array_equal(one, two)
    (entry,) = (tmp_path / "cache/genrec-bench/.vectors").iterdir()
    (entry / "array.npy").write_bytes(b"damaged")
    again = Vectors(tiny, plugins, 0, "cpu", tmp_path, QUIET).of({f"hf:{encoder}": {"text": "title"}})
    assert len(calls) == 2 and np.array_equal(one, again)
    other = dataclasses.replace(tiny, items=dataclasses.replace(tiny.items, titles=tiny.items.titles[::-1]))
    assert not np.array_equal(Vectors(other, plugins, 0, "cpu", tmp_path, QUIET).of(f"hf:{encoder}"), one)
    assert len(calls) == 3


OWN = """
import numpy as np
from harness import hookimpl
from harness.components import NoSettings


class Lengths:
    Settings = NoSettings

    def __init__(self, settings, location):
        self.location = location

    def embed(self, context):
        assert not len(context.dataset.valid) and not len(context.dataset.test)
        found = np.array([[len(title), number] for number, title in enumerate(context.items.titles)], dtype=float)
        return {"nan": found * np.nan, "short": found[1:], "list": found.tolist()}.get(self.location, found)


@hookimpl
def bench_embedders():
    return {"lengths": Lengths}
"""


def test_an_embedder_of_a_plugin_is_held_to_its_contract(tiny, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    plugins = load([str(tmp_path / "own.py")])
    testing.check_embedder("lengths", plugins)
    made = Vectors(tiny, plugins, 0, "cpu", tmp_path, QUIET)
    assert made.of("lengths").shape == (80, 2)
    for location, what in (("nan", "item 0 holds NaN"), ("short", "79 × 2 for 80 items"), ("list", "gave list")):
        with pytest.raises(ContractError, match=what):
            made.of(f"lengths:{location}")
