"""Every tokenizer, through the one way in which runs and commands make semantic IDs."""

import dataclasses

import numpy as np
import pytest

from harness.data.dataset import Items
from harness.errors import BenchError, ContractError
from harness.plugins import load
from harness.progress import Progress
from harness.runs import code, tokenizing
from harness.runs.chosen import tokenizer_of
from harness.runs.config import resolve
from harness.runs.run_directory import RunDirectory
from tests.commands import bench_run, only_run, run_whole

QUIET = Progress(quiet=True)
SMALL = {
    "rqkmeans": ["codes=8", "dimensions=16"],
    "rqkmeans-balanced": ["codes=8", "dimensions=16"],
    "rqkmeans-plus": ["codes=8", "dimensions=16", "hidden=[16]", "epochs=4", "look_every=2"],
    "rqvae": ["codes=8", "dimensions=16", "hidden=[16]", "latent=8", "epochs=20", "look_every=5"],
    "letter": ["codes=8", "dimensions=16", "hidden=[16]", "latent=8", "epochs=20", "look_every=5", "groups=3"],
    "opq": ["codes=8", "dimensions=16", "levels=4", "rounds=3"],
    "fused": ["of={rqkmeans: {codes: 8}}"],
    "title": [],
    "random": ["codes=8"],
    "hashed": ["codes=8"],
    "permuted": [],
    "given": [],
}


@pytest.fixture
def tokenize(plugins, tmp_path):
    def made(dataset, name, *overrides, seed=0, directory=None):
        component, repair = tokenizer_of(name, overrides, plugins)
        folder = directory or tmp_path / "tokenizer"
        return tokenizing.tokenized(component, repair, seed, dataset, plugins, "cpu", folder, QUIET)

    return made


def test_every_tokenizer_is_tried_here(plugins):
    assert set(plugins.registry("tokenizer")) == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_each_is_the_same_for_the_same_seed_and_sees_train_alone(name, tiny, tokenize, tmp_path):
    one = tokenize(tiny, name, *SMALL[name]).semantic_ids
    rng = np.random.default_rng(1)
    others = {
        split: dataclasses.replace(samples, targets=rng.permutation(samples.targets))
        for split, samples in tiny.splits.items() if split != "train"
    }  # fmt: skip
    again = tokenize(dataclasses.replace(tiny, **others), name, *SMALL[name], directory=tmp_path / "b").semantic_ids
    assert one.n_items == 80 and one.fingerprint == again.fingerprint
    if name not in ("given", "hashed", "title"):
        other = tokenize(tiny, name, *SMALL[name], seed=7, directory=tmp_path / "c").semantic_ids
        assert other.fingerprint != one.fingerprint


def test_cooccurrence_hangs_on_train(tiny, tokenize, tmp_path):
    overrides = ["embedder=cooccurrence", "codes=8"]
    rng = np.random.default_rng(1)
    other = dataclasses.replace(
        tiny, train=dataclasses.replace(tiny.train, targets=rng.permutation(tiny.train.targets))
    )
    one, two = (tokenize(data, "rqkmeans", *overrides).semantic_ids for data in (tiny, other))
    assert one.fingerprint != two.fingerprint


def likeness(codes, items):
    """How many more title words items share that have one first code than others."""
    words = [set(title.split()) for title in items.titles]
    shared = np.array([[len(a & b) for b in words] for a in words])
    together = codes[:, 0][:, None] == codes[:, 0][None, :]
    return shared[together & ~np.eye(len(words), dtype=bool)].mean() / shared[~together].mean()


@pytest.mark.parametrize("name", ["rqkmeans", "rqkmeans-balanced", "rqkmeans-plus", "rqvae", "letter"])
def test_like_items_stand_together(name, tiny, tokenize):
    assert likeness(tokenize(tiny, name, *SMALL[name]).semantic_ids.codes, tiny.items) > 1.2


def test_controls_know_nothing_of_items(tiny, tokenize):
    for name in ("random", "hashed", "permuted"):
        ratios = [likeness(tokenize(tiny, name, *SMALL[name], seed=n).semantic_ids.codes, tiny.items) for n in range(4)]
        assert 0.7 < np.mean(ratios) < 1.2, name
    mixed = tokenize(tiny, "permuted").semantic_ids
    assert sorted(map(tuple, mixed.codes.tolist())) == sorted(map(tuple, tiny.given.codes.tolist()))
    assert not np.array_equal(mixed.codes, tiny.given.codes)
    assert len(tokenize(tiny, "random", "codes=8").semantic_ids.distinct) == 80
    with pytest.raises(BenchError, match="fewer SIDs than the 80 items"):
        tokenize(tiny, "random", "codes=2", "levels=6")


def test_each_level_quantises_what_the_levels_before_leave_over(tiny, tokenize):
    """More levels tell more items apart, and the first levels do not change."""
    one, three = (tokenize(tiny, "rqkmeans", f"levels={n}", "codes=6").semantic_ids for n in (1, 3))
    assert np.array_equal(one.codes[:, 0], three.codes[:, 0])
    assert len(three.distinct) > len(one.distinct)


def test_balanced_levels_differ_by_one_item_at_most(tiny, tokenize):
    codes = tokenize(tiny, "rqkmeans-balanced", "codes=12", "dimensions=16").semantic_ids.codes
    for column in codes.T:
        sizes = np.bincount(column, minlength=12)
        assert sizes.min() == 80 // 12 and sizes.max() <= 80 // 12 + 1


def test_words_of_a_title_are_its_id(tiny, tokenize):
    titles = ["red pump", "red valve", "red pump", "", "Blue pump, 3/4 inch"]
    items = Items(titles, [""] * 5, [""] * 5, [""] * 5)
    data = dataclasses.replace(tiny, items=items, given=None)
    sids = tokenize(data, "title").semantic_ids
    assert sids.lengths.tolist() == [2, 2, 2, 1, 5] and sids.of_item[0] == sids.of_item[2]
    assert sids.codes[0, 0] == sids.codes[1, 0] == 0  # the commonest first word
    assert sids.codes[0, 1] == sids.codes[4, 1] != sids.codes[1, 1]
    apart = tokenize(data, "title", "repair=extra-token").semantic_ids
    assert len(apart.distinct) == 5
    with pytest.raises(BenchError, match="no titles"):
        tokenize(dataclasses.replace(data, items=Items([""] * 5, [""] * 5, [""] * 5, [""] * 5)), "title")


def test_items_with_equal_texts_share_a_sid(tiny, tokenize):
    texts = dataclasses.replace(tiny.items, titles=["same"] * 80, descriptions=[""] * 80)
    assert len(tokenize(dataclasses.replace(tiny, items=texts), "rqkmeans").semantic_ids.distinct) == 1
    empty = dataclasses.replace(tiny, items=Items([""] * 80, [""] * 80, [""] * 80, [""] * 80))
    with pytest.raises(BenchError, match="no item texts"):
        tokenize(empty, "rqkmeans")
    assert tokenize(empty, "rqkmeans", "embedder=cooccurrence").semantic_ids.n_items == 80  # reads no text


def test_given_is_what_the_data_ships(tiny, tokenize):
    assert tokenize(tiny, "given").semantic_ids is tiny.given
    bare = dataclasses.replace(tiny, given=None)
    with pytest.raises(BenchError, match="--tokenizer rqkmeans"):
        tokenize(bare, "given")
    assert tokenize(bare, "given", "optional=true").semantic_ids is None
    with pytest.raises(BenchError, match="this method has none"):
        tokenize(bare, "given", "optional=true", "repair=zcr")


def test_repairs_leave_no_collision_and_say_what_they_moved(tiny, tokenize):
    for repair in ("zcr", "extra-token", "extra-token-all"):
        made = tokenize(tiny, "given", f"repair={repair}")
        assert len(made.semantic_ids.distinct) == 80 and made.semantic_ids.source.endswith(repair)
        assert made.facts["repair"]["items moved"] > 0
    by_code = tokenize(tiny, "given", "repair=zcr").facts["repair"]
    assert by_code["ties of equal moves"] == "by code"
    measured = tokenize(tiny, "given", "repair=zcr", "embedder=tfidf").facts["repair"]
    assert "ties of equal moves" not in measured and measured["items moved"] == by_code["items moved"]


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["levels=0"], "tokenizer.levels = 0"),
        (["codes=1"], "tokenizer.codes = 1"),
        (["repair=zrc"], "unknown repair 'zrc'; did you mean zcr"),
        (["embedder=tfdif"], "unknown embedder 'tfdif'; did you mean tfidf"),
        (["embedder={tfidf: {dims: 3}}"], "tokenizer.embedder.tfidf.dims"),
        (["embedder={tfidf: -1}"], "its weight is -1"),
        (["text=titel"], "unknown template 'titel'; did you mean title"),
        (["text='{title.__class__}'"], "the fields are title, description, brand, categories"),
        (["text='{title'"], "close its braces"),
        (["embedder=npy:nowhere.npy"], "nowhere.npy is no NumPy file"),
        (["embedder=npy"], "npy:PATH"),
        (["embedder=tfidf:x"], "takes no location"),
        (["embedder=run:nowhere"], "nowhere"),
    ],
)
def test_bad_settings_are_one_line(overrides, what, tiny, tokenize):
    with pytest.raises(BenchError) as caught:
        tokenize(tiny, "rqkmeans", *overrides)
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_more_codes_than_items_and_vectors_too_narrow(tiny, tokenize, tmp_path):
    for name in ("rqkmeans", "rqkmeans-balanced", "rqvae", "rqkmeans-plus"):
        more = ["codes=500", *(o for o in SMALL[name] if not o.startswith("codes"))]
        assert tokenize(tiny, name, *more, directory=tmp_path / name).semantic_ids.codes.max() < 80
    with pytest.raises(BenchError, match="have no 300 parts"):
        tokenize(tiny, "opq", "levels=300")


def test_an_autoencoder_that_is_killed_goes_on_to_the_same_codes(tiny, tokenize, tmp_path, monkeypatch):
    from harness.quantising import vae_training

    overrides = [*SMALL["rqvae"], "revive_every=2"]
    whole = tokenize(tiny, "rqvae", *overrides, directory=tmp_path / "whole").semantic_ids
    monkeypatch.setattr(vae_training, "SAVE_EVERY", 3)
    epochs = []

    def stop(*arguments):
        epochs.append(arguments[5])
        if len(epochs) == 11:
            raise KeyboardInterrupt
        return epoch(*arguments)

    epoch = vae_training._epoch
    monkeypatch.setattr(vae_training, "_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        tokenize(tiny, "rqvae", *overrides, directory=tmp_path / "killed")
    assert list((tmp_path / "killed").glob("checkpoint*.safetensors"))
    again = tokenize(tiny, "rqvae", *overrides, directory=tmp_path / "killed").semantic_ids
    assert epochs[10:13] == [11, 10, 11]  # from the ninth
    assert np.array_equal(whole.codes, again.codes)
    assert not list((tmp_path / "killed").glob("checkpoint*.safetensors"))


FIRST_FORM = """
import numpy as np
from harness import hookimpl
from harness.components import NoSettings
from harness.data.semantic_ids import SemanticIds


class Short:
    Settings = NoSettings

    def __init__(self, settings):
        pass

    def tokenize(self, dataset, seed, progress):
        assert not len(dataset.valid) and not len(dataset.test)
        return SemanticIds(np.arange(len(dataset.items) - (seed == 9), dtype=np.int32)[:, None])


@hookimpl
def bench_tokenizers():
    return {"short": Short}
"""


def test_the_first_form_of_a_tokenizer_still_works(tiny, tmp_path):
    (tmp_path / "short.py").write_text(FIRST_FORM)
    plugins = load([str(tmp_path / "short.py")])
    component, repair = tokenizer_of("short", [], plugins)

    def made(seed):
        return tokenizing.tokenized(component, repair, seed, tiny, plugins, "cpu", tmp_path, QUIET).semantic_ids

    assert len(made(1).distinct) == 80
    with pytest.raises(ContractError, match="79 SIDs for 80 items"):
        made(9)


def test_a_run_from_vectors_to_record(tmp_path):
    """tiger on repaired SIDs of an RQ-VAE: both protocols are the same; how good the SIDs are is in the manifest."""
    small = [f"tokenizer.{setting}" for setting in (*SMALL["rqvae"], "repair=zcr")]
    sets = ["dataset.items=60", "dataset.users=80", "tokenizer=rqvae", *small, "tiger.epochs=1", "decoder.beams=20"]
    folder, metrics = run_whole(tmp_path, "tiger", sets)
    assert metrics["tiger"]["sid"] == metrics["tiger"]["item"]
    manifest = RunDirectory(folder).manifest
    assert manifest["tokenizer"]["quality"]["distinct SIDs"] == 60
    assert manifest["tokenizer"]["repair"]["items still on a shared SID"] == 0
    assert manifest["semantic_ids"]["source"] == "rqvae (tfidf), zcr"
    config = (folder / "config.yaml").read_text()
    assert "repair: zcr" in config
    again = bench_run(tmp_path, folder / "config.yaml")
    assert again.exit_code == 0 and only_run(tmp_path)[0] == folder  # the same run, finished


def test_the_code_of_a_repair_and_of_an_embedder_counts(plugins):
    """An edit to either makes the semantic IDs of a run stale; the figures that they are told in change nothing."""

    def resolved(*sets):
        return resolve(plugins.get("method", "tiger"), "Synthetic", 1, sets, plugins)

    def modules(*sets):
        config = resolved(*sets)
        return set(code.of_step("tokenize", config, code.of_run(config, "synthetic", plugins)))

    assert not any("quantising" in name for name in modules())
    assert "harness.quantising.collisions" in modules("tokenizer.repair=zcr")
    assert {"plugins.embedders.together", "harness.quantising.vae"} <= modules(
        "tokenizer=fused", "tokenizer.of={rqvae: {epochs: 3}}"
    )
    plain, repaired = resolved(), resolved("tokenizer.repair=zcr")
    assert plain.hash() != repaired.hash() and plain.hash() == resolved("tokenizer.figures=tfidf").hash()
    assert "repair" not in plain.as_dict()["tokenizer"] and repaired.as_dict()["tokenizer"]["repair"] == "zcr"
