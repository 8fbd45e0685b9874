"""Embeddings that start from vectors: their geometry, their scale, which tokens they are of, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from baselines import tiger
from harness.data import categories
from harness.data.dataset import Items
from harness.data.semantic_ids import SemanticIds
from harness.language import new_tokens
from harness.networks.start import fitted_to, of_tokens
from harness.runs.config import told
from plugins.backbones.nano import NanoBackbone
from plugins.backbones.nano import Settings as NanoSettings
from tests.baselines.test_networks import MODELS, N
from tests.baselines.test_tiger import CODES, SIDS, small
from tests.commands import bench_run, run_whole
from tests.metamorphic import category

SMALL = ["dataset.items=60", "dataset.users=120"]
TINY = {
    "gru4rec": ["gru4rec.epochs=1", "gru4rec.hidden=16"],
    "tiger": ["tiger.epochs=1", "tiger.hidden=16", "tiger.layers=1", "decoder.beams=20", "probe.beams=10"],
    "minionerec-sft": ["backbone.hidden=32", "backbone.layers=1", "backbone.heads=2", "backbone.intermediate=48",
                       "sft.epochs=0.5", "sft.eval_every=1", "decoder.beams=20", "probe.beams=10"],
}  # fmt: skip


def cosines(rows):
    rows = rows - rows.mean(0)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


@pytest.mark.parametrize("width", [8, 16, 40])
def test_vectors_keep_their_angles_and_get_place_and_spread_of_what_they_replace(width):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 8)) @ rng.normal(size=(8, 8)) * 100 + 7
    rows = torch.randn(50, width, generator=torch.Generator().manual_seed(0)) * 0.02
    table = torch.randn(400, width, generator=torch.Generator().manual_seed(1)) * 0.5 + 3
    made = fitted_to(vectors, rows, table).numpy()
    np.testing.assert_allclose(cosines(made[:, :8]), cosines(vectors), atol=1e-4)
    np.testing.assert_allclose(made[:, :8].mean(0), table[:, :8].mean(0), atol=1e-3)
    assert np.sqrt(((made[:, :8] - made[:, :8].mean(0)) ** 2).mean()) == pytest.approx(float(table.std()), rel=0.02)
    np.testing.assert_array_equal(made[:, 8:], rows[:, 8:].numpy())


def test_a_narrow_model_gets_the_axes_on_which_items_differ_most():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 6)) * [10, 0.1, 5, 0.1, 0.1, 0.1]
    made = fitted_to(vectors, torch.randn(200, 2)).numpy()
    kept = vectors[:, [0, 2]]
    np.testing.assert_allclose(cosines(made), cosines(kept), atol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_every_network_starts_its_items_there_and_nothing_else(name):
    vectors = np.random.default_rng(2).normal(size=(N, 5))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.start_from(vectors)
    weight = model.output.embedding.weight.detach().numpy()
    np.testing.assert_allclose(cosines(weight[:N, :5]), cosines(vectors), atol=1e-4)
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    shared = {p.data_ptr() for p in [model.output.embedding.weight]}
    assert {model.state_dict()[key].data_ptr() for key in changed} == shared
    assert np.array_equal(weight[N], before[changed[0]][N].numpy())  # padding


def test_a_token_starts_from_the_mean_of_its_items():
    tokens = np.array([[1, 5], [1, 6], [2, 5], [2, -1]])
    known, means = of_tokens(np.array([[0.0, 1], [2, 3], [4, 5], [8, 9]]), tokens)
    assert known.tolist() == [1, 2, 5, 6]
    np.testing.assert_allclose(means, [[1, 2], [6, 7], [2, 3], [2, 3]])


def test_tiger_starts_the_tokens_of_its_sids():
    model, vectors = small(), np.random.default_rng(3).normal(size=(len(CODES), 4))
    before = model.t5.shared.weight.detach().clone()
    model.start_from(vectors)
    known, means = of_tokens(vectors, tiger.token_ids(CODES)[0])
    changed = (model.t5.shared.weight != before).any(1).nonzero()[:, 0].tolist()
    assert changed == known.tolist()
    np.testing.assert_allclose(cosines(model.t5.shared.weight.detach().numpy()[known, :4]), cosines(means), atol=1e-4)


def test_a_language_model_starts_its_sid_tokens_and_no_word():
    backbone = NanoBackbone(NanoSettings(hidden=32, layers=1, heads=2, intermediate=48, text_vocabulary=300), None)
    model, text_tokenizer = backbone.build(SIDS.tokens, [], ["some words", "of titles"], 0)
    before = model.get_input_embeddings().weight.detach().clone()
    vectors = np.random.default_rng(4).normal(size=(len(CODES), 4))
    new_tokens.start(model, text_tokenizer, SIDS, vectors)
    changed = (model.get_input_embeddings().weight != before).any(1).nonzero()[:, 0].tolist()
    assert sorted(text_tokenizer.convert_ids_to_tokens(changed)) == sorted(SIDS.tokens)
    ragged = SemanticIds(np.array([[0, 1], [0, -1], [1, 0]], dtype=np.int32))
    model, text_tokenizer = backbone.build(ragged.tokens, ["<|sid_end|>"], ["words"], 0)
    new_tokens.start(model, text_tokenizer, ragged, vectors[:3])


@pytest.mark.parametrize("method", TINY)
def test_a_run_says_what_it_started_from(method, tmp_path):
    stage = "sft" if method == "minionerec-sft" else method
    _, plain = run_whole(tmp_path / "none", method, [*SMALL, *TINY[method]])
    folder, found = run_whole(tmp_path / "tfidf", method, [*SMALL, *TINY[method], f"{stage}.start=tfidf"])
    assert found[stage]["train"]["start"] == "tfidf" and "start" not in plain[stage]["train"]
    assert found[stage]["valid"] != plain[stage]["valid"]
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert next(s for s in settings["stages"] if s["name"] == stage)["start"] == "tfidf"


def test_runs_from_before_there_was_a_start_keep_their_names():
    stage = {"name": "sasrec", "hidden": 64}
    assert told({"stages": [stage | {"start": "none"}]}) == told({"stages": [stage]})
    assert told({"stages": [stage | {"start": "tfidf"}]}) != told({"stages": [stage]})
    part, of_it = {"name": "memory", "parts": {"net": stage}}, {"net": stage | {"start": "none"}}
    assert told({"stages": [part | {"parts": of_it}]}) == told({"stages": [part]})


def test_the_vectors_of_the_tokenizer(tmp_path):
    sets = [*SMALL, *TINY["gru4rec"], "gru4rec.start=vectors"]
    refused = bench_run(tmp_path / "given", "gru4rec", sets)
    assert refused.exit_code == 2 and "tokenizer given has none; name an embedder" in refused.output
    own = ["tokenizer=rqkmeans", "tokenizer.codes=8", "tokenizer.dimensions=12"]
    one, _ = run_whole(tmp_path / "vectors", "gru4rec", [*sets, *own])
    two, _ = run_whole(tmp_path / "tfidf", "gru4rec", [*sets[:-1], *own, "gru4rec.start={tfidf: {dimensions: 12}}"])
    one, two = (load_file(folder / "stages/1-gru4rec/model.safetensors") for folder in (one, two))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("method", "start", "line"),
    [
        ("gru4rec", "npy:{folder}/short.npy", "has 60 items; a row an item"),
        ("gru4rec", "npy:{folder}/nan.npy", "row 3 holds NaN"),
        ("gru4rec", "tf-idf", "unknown embedder 'tf-idf'; did you mean tfidf?"),
        ("bigrec", "tfidf", "it is what new SID tokens start from, and this stage has none"),
    ],
)
def test_a_start_that_cannot_be_is_one_line(method, start, line, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(60, 3))
    np.save(tmp_path / "short.npy", vectors[:50])
    vectors[3] = np.nan
    np.save(tmp_path / "nan.npy", vectors)
    stage = "sft" if method == "bigrec" else method
    tiny = TINY.get(method, TINY["minionerec-sft"][:4])
    done = bench_run(tmp_path / "runs", method, [*SMALL, *tiny, f"{stage}.start={start.format(folder=tmp_path)}"])
    assert done.exit_code == 2 and done.output.count("Error:") == 1 and line in done.output
    assert not list((tmp_path / "runs").glob("*/*/*/manifest.json"))


def test_without_texts_it_starts_at_random_and_says_so_or_refuses(plugins, tmp_path):
    whole = categories.read(plugins, "Synthetic", None, {"items": 60, "users": 120})
    silent = dataclasses.replace(whole, items=Items.without_texts(60))
    words = ["--category", category.NAME, "--data-dir", str(category.write(silent, tmp_path / "data"))]
    sets = TINY["gru4rec"]
    refused = bench_run(tmp_path / "strict", "gru4rec", [*sets, "gru4rec.start=tfidf"], *words, "--strict")
    assert refused.exit_code == 2 and "has no item texts" in refused.output and "set start=none" in refused.output
    _, plain = run_whole(tmp_path / "none", "gru4rec", sets, *words)
    folder, found = run_whole(tmp_path / "tfidf", "gru4rec", [*sets, "gru4rec.start=tfidf"], *words)
    assert found["gru4rec"]["item"] == plain["gru4rec"]["item"]
    assert found["gru4rec"]["train"]["start"] == "none: no item has a text"
    assert json.loads((folder / "manifest.json").read_text())["finished"]
