"""What must not change a number: every shipped method on a small category, its files and its run turned in ways that
mean the same. Metrics agree to 1e-6, bytes where nothing is computed otherwise."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from harness.components import Evaluated
from harness.data import categories
from harness.decoding import split
from harness.progress import Progress
from harness.runs import pipeline
from harness.runs.config import resolve
from harness.runs.finished import settings as recorded_settings
from harness.runs.run import Made, Prepared
from harness.runs.run_directory import RunDirectory
from harness.runs.tracking import Tracker
from tests.commands import run_whole
from tests.conftest import TINY_SETTINGS
from tests.metamorphic import category

COUNTING = ("popularity", "recency", "markov", "skip-markov", "itemknn", "ease", "tfidf", "hybrid")
FLOORS = ("random", "next-id")
NETWORKS = ("gru4rec", "caser", "sasrec", "sasrec-bce", "hstu", "bert4rec", "fmlp-rec")
NANO = [s for s in TINY_SETTINGS if s.startswith("backbone")]
SFT = ["sft.epochs=1", "sft.batch=32", "sft.eval_every=0.5", "probe.samples=20"]
SID = [*NANO, *SFT, "decoder.beams=30", "probe.beams=10"]
GRPO = ["grpo.batch=64", "grpo.generations=4", "grpo.epochs=0.5", "grpo.eval_every=1"]
LANGUAGE = {
    "minionerec": [*SID, *GRPO],
    "minionerec-sft": SID,
    "minionerec-sft-more": [*SID, "more.epochs=0.5", "more.eval_every=1"],
    "minionerec-memory": [*SID, *GRPO, "memory.candidates=30"],
    "minionerec-counts": [*SID, "sft.holdout=0.2"],
    "lcrec": [*SID, "sft.tasks={next_sid: 1, title_to_sid: 0.5, titles_to_sid: 0.2}"],
    "sdpo": [*SID, "sdpo.batch=32", "sdpo.negatives=3", "sdpo.epochs=0.5", "sdpo.eval_every=1"],
    "bigrec": [*NANO, *SFT, "grounding.samples=20"],
    "d3": [*NANO, *SFT, "decoder.beams=20", "decoder.k=20", "assistant.samples=20", "assistant.alphas=[0.1, 0.5]",
           "assistant.method=markov"],
}  # fmt: skip
SETTINGS = {
    **{method: [] for method in (*FLOORS, *COUNTING)},
    **{method: [f"{method}.epochs=2"] for method in NETWORKS},
    "rerank": ["rerank.folds=2", "rerank.candidates=20", "rerank.trees=20", "rerank.parts.network.epochs=2"],
    "tiger": ["tiger.epochs=2", "tiger.eval_every=1", "tiger.hidden=32", "tiger.head_width=8", "decoder.beams=30"],
    **LANGUAGE,
}


@pytest.fixture(scope="module")
def small(plugins):
    return categories.read(plugins, "Synthetic", None, category.SIZES)


@pytest.fixture(scope="module")
def data(small, tmp_path_factory):
    return category.write(small, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The run of each method on the files as they are, made when first asked for."""
    root, made = tmp_path_factory.mktemp("runs"), {}

    def of(method):
        if method not in made:
            made[method] = run(root / method, method, data)
        return made[method]

    return of


def run(folder, method, data, *more):
    return run_whole(folder, method, SETTINGS[method], "--category", category.NAME, "--data-dir", str(data), *more)


def alike(one, other):
    """All metrics of all stages, valid included."""
    assert list(one) == list(other)
    for name, stage in one.items():
        for part in ("sid", "item", "valid"):
            assert other[name][part] == pytest.approx(stage[part], abs=1e-6), (name, part)


def test_every_shipped_method_is_here(plugins):
    shipped = {name for name, (_, plugin) in plugins.registry("method").items() if plugin.source == "built-in"}
    large = {name for name in shipped if name.startswith("minionerec-qwen2.5")}  # the same trainers on more gigabytes
    assert set(SETTINGS) == shipped - large


@pytest.mark.parametrize("method", SETTINGS)
def test_the_order_of_rows_and_the_names_of_users_change_nothing(method, runs, small, tmp_path):
    other = category.write(small, tmp_path / "data", shuffle=True, rename=True)
    directory, stages = run(tmp_path / "runs", method, other)
    before, expected = runs(method)
    alike(expected, stages)
    for path in sorted((before / "rankings").iterdir()):
        own = pd.read_parquet(directory / "rankings" / path.name)
        pd.testing.assert_frame_equal(own, pd.read_parquet(path))


HALF = {
    "minionerec": ["sft.precision", "grpo.precision", "decoder.precision"],
    "minionerec-sft-more": ["sft.precision", "more.precision", "decoder.precision"],
    "lcrec": ["sft.precision", "decoder.precision"],
    "sdpo": ["sft.precision", "sdpo.precision", "decoder.precision"],
    "bigrec": ["sft.precision"],
    "d3": ["sft.precision"],
    "tiger": ["decoder.precision"],
}
"""Settings of precision, by method."""


def test_every_setting_of_precision_is_tried(plugins):
    from harness.runs.config import resolve

    for method in [*LANGUAGE, "tiger"]:
        config = resolve(plugins.get("method", method), "-", 1, [], plugins)
        parts = {**{stage.name: stage.trainer for stage in config.stages}, "decoder": config.decoder}
        there = [f"{name}.precision" for name, part in parts.items() if hasattr(part.settings, "precision")]
        assert any(set(there) <= set(tried) for tried in HALF.values()), (method, there)


@pytest.mark.parametrize("method", HALF)
def test_half_precision_trains_and_ranks_almost_as_the_whole_does(method, runs, data, tmp_path, monkeypatch):
    whole = []
    made = split.SplitModel.__init__

    def noted(self, model):
        made(self, model)
        whole.append(self.whole)

    monkeypatch.setattr(split.SplitModel, "__init__", noted)
    more = ["grpo.beta=0.01"] if method == "minionerec" else []
    sets = [*SETTINGS[method], *more, *(f"{setting}=bfloat16" for setting in HALF[method])]
    _, stages = run_whole(tmp_path, method, sets, "--category", category.NAME, "--data-dir", str(data))
    assert (whole or method == "tiger") and not any(whole)  # logits are computed where they are read, as in float32
    _, expected = runs(method)
    for name, stage in stages.items():
        assert stage["item"]["HR@10"] == pytest.approx(expected[name]["item"]["HR@10"], abs=0.1)
        assert all(np.isfinite(value) for value in stage["valid"].values())


def loaded(plugins, directory, data):
    """The model, the decoder's component and the dataset of a finished run."""
    folder = RunDirectory(directory)
    config = recorded_settings(folder, plugins)
    dataset = categories.read(plugins, category.NAME, str(data), config.dataset)
    this = pipeline.Run(config, dataset, plugins, folder, Progress(quiet=True), "cpu", Tracker(directory, False))
    semantic_ids = dataset.given if config.tokenizer is not None else None
    made = Made.of(config, plugins, dataset.fingerprint)
    last = list(Prepared(this, made, semantic_ids, dataset).stages())[-1]
    model = last.trainer.load(last.context)
    return model, config.decoder, dataset, semantic_ids


def decoded(plugins, decoder, model, dataset, semantic_ids, **settings):
    import dataclasses

    changed = dataclasses.replace(decoder.settings, **settings)
    made = plugins.get("decoder", decoder.name)(changed)
    return made.decode(model, dataset.test.histories, semantic_ids, "cpu", Progress(quiet=True))


def same_rankings(plugins, found, expected, dataset, semantic_ids):
    for protocol in ("sid", "item"):
        one, other = (
            plugins.get("metric", protocol)(Evaluated.test(r, dataset, semantic_ids)) for r in (expected, found)
        )
        assert other == pytest.approx(one, abs=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("method", SETTINGS)
def test_batches_padding_and_threads_of_decoding_change_nothing(method, runs, data, plugins, monkeypatch):
    from harness.decoding import padding

    directory, _ = runs(method)
    model, decoder, dataset, semantic_ids = loaded(plugins, directory, data)
    expected = decoded(plugins, decoder, model, dataset, semantic_ids)
    size = "batch_tokens" if hasattr(decoder.settings, "batch_tokens") else "batch"
    rows = len(dataset.test)
    sizes = {"batch_tokens": (1, 1000, 10**6), "batch": (1, 7, rows)}[size]  # one row; some; all
    for batch in sizes:
        found = decoded(plugins, decoder, model, dataset, semantic_ids, **{size: batch})
        same_rankings(plugins, found, expected, dataset, semantic_ids)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(2, threads))
        found = decoded(plugins, decoder, model, dataset, semantic_ids)
    finally:
        torch.set_num_threads(threads)
    same_rankings(plugins, found, expected, dataset, semantic_ids)
    plain = padding.pad_left

    def longer(prompts, pad, device):
        ids, mask = plain(prompts, pad, device)
        return torch.nn.functional.pad(ids, (5, 0), value=pad), torch.nn.functional.pad(mask, (5, 0), value=False)

    monkeypatch.setattr(padding, "pad_left", longer)
    found = decoded(plugins, decoder, model, dataset, semantic_ids)
    same_rankings(plugins, found, expected, dataset, semantic_ids)


@pytest.mark.parametrize("method", [*FLOORS, *COUNTING, *NETWORKS, "bigrec"])
def test_a_constant_added_to_all_scores_changes_no_rank(method, runs, data, plugins):
    directory, _ = runs(method)
    model, decoder, dataset, semantic_ids = loaded(plugins, directory, data)
    expected = decoded(plugins, decoder, model, dataset, semantic_ids)
    plain = model.score
    if method in (*FLOORS, *COUNTING):
        assert model.score(dataset.test.histories).dtype == np.float64

    class Shifted:
        def score(self, histories):
            return plain(histories).astype(np.float64) + 1000.0

    found = decoded(plugins, decoder, Shifted(), dataset, semantic_ids)
    np.testing.assert_array_equal(found.ids, expected.ids)


@pytest.mark.parametrize("method", ["next-id", *COUNTING])
def test_the_numbers_of_items_change_nothing_but_ties(method, runs, small, data, plugins, tmp_path):
    number = np.random.default_rng(3).permutation(len(small.items))
    other = category.write(small, tmp_path / "data", renumber=number)
    directory, _ = run(tmp_path / "runs", method, other)
    before, _ = runs(method)
    ranks, tied = [], []
    for path, files, given in ((before, data, np.arange(len(number))), (directory, other, number)):
        model, _, dataset, _ = loaded(plugins, path, files)
        scores = model.score(dataset.test.histories)
        own = scores[np.arange(len(scores)), dataset.test.targets]
        near = np.abs(scores - own[:, None]) <= 1e-12 * np.maximum(1, np.abs(own[:, None]))
        back = np.argsort(given)  # samples in an order that both have: by history and target under the old numbers
        keys = [
            (u, [int(back[i]) for i in h], int(back[t]))
            for u, h, t in zip(
                dataset.test.users.tolist(), dataset.test.histories.lists(), dataset.test.targets.tolist(), strict=True
            )
        ]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        ranks.append((scores > own[:, None] + 1e-12).sum(1)[order])
        tied.append(near.sum(1)[order])
    np.testing.assert_array_equal(*ranks)  # how many stand surely before the target
    np.testing.assert_array_equal(*tied)  # and how many share its place
    print(f"{method}: {(tied[0] > 1).sum()} of {len(tied[0])} targets are tied")


@pytest.mark.parametrize("method", SETTINGS)
def test_a_run_that_stopped_between_two_steps_ends_in_the_same_numbers(method, runs, data, tmp_path):
    """After training and before decoding, and after decoding and before measuring, of each stage."""
    before, expected = runs(method)
    stages = list(expected)
    for last in [*(f"{stage}/fit" for stage in stages), f"{stages[-1]}/decode"]:
        folder = tmp_path / last.replace("/", "-")
        target = folder / before.relative_to(before.parents[2])
        shutil.copytree(before, target)
        manifest = json.loads((target / "manifest.json").read_text())
        done = manifest["done"]
        kept = list(done)[: list(done).index(last) + 1]
        manifest["done"] = {step: done[step] for step in kept}
        (target / "manifest.json").write_text(json.dumps(manifest))
        (target / "metrics.json").unlink()
        for number, stage in enumerate(stages, start=1):
            if f"{stage}/fit" not in kept:
                shutil.rmtree(target / "stages" / f"{number}-{stage}")
        directory, found = run(folder, method, data)
        assert directory == target
        alike(expected, found)


def test_settings_hold_in_any_order_and_a_recorded_configuration_repeats_the_run(runs, data, plugins, tmp_path):
    directory, expected = runs("sasrec")
    again, found = run_whole(
        tmp_path / "again", directory / "config.yaml", [], "--category", category.NAME, "--data-dir", str(data)
    )
    assert again.name == directory.name
    alike(expected, found)
    recipe = plugins.get("method", "minionerec")
    sets = ["tokenizer=rqkmeans", "tokenizer.codes=8", "backbone=nano", "backbone.hidden=32"]
    one = resolve(recipe, "-", 1, sets, plugins)
    assert one == resolve(recipe, "-", 1, sets[::-1], plugins)
    assert one.tokenizer.settings.codes == 8
    assert yaml.safe_load((directory / "config.yaml").read_text())["seed"] == 1
