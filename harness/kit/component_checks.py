"""What tokenizers, decoders, metrics, rewards, datasets and backbones promise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.data.generated import generated
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError, ContractError
from harness.evaluation.measure import Evaluated, check_signature, value_of
from harness.kit.promises import SEED, made, require
from harness.kit.trial_models import generative_model, item_scorer
from harness.plugins import Plugin, Plugins
from harness.progress import Progress
from harness.runs.chosen import Component
from harness.runs.tokenizing import Vectors, checked_vectors, made_by
from harness.settings import settings as validated


def tokenizer_repeats(kind: str, name: str, plugins: Plugins) -> None:
    """One SID for each item, the same for the same seed, and without a look at valid and test."""
    twice = []
    for _ in range(2):
        with _vectors(plugins) as vectors:
            twice.append(made_by(made(kind, name, plugins), name, vectors.context))
    require((twice[0] is None) == (twice[1] is None), "it gives SIDs one time and none the other")
    if twice[0] is not None and twice[1] is not None:
        require(np.array_equal(twice[0].codes, twice[1].codes), "it gives other SIDs the second time; use the seed")
        codes = twice[0].codes
        require((codes >= -1).all() and (codes[:, 0] >= 0).all(), "a code is below 0; codes count from 0")
        beyond = np.logical_or.accumulate(codes < 0, axis=1)
        require((codes[beyond] < 0).all(), "a level follows one that its SID does not have; -1 stands at the end alone")
        again = SemanticIds(twice[0].codes, twice[0].source)
        require(again.fingerprint == twice[0].fingerprint, "its SIDs do not survive being written and read")


@contextmanager
def _vectors(plugins: Plugins) -> Iterator[Vectors]:
    """What a tokenizer or an embedder sees of the generated category, with a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-check-") as folder:
        yield Vectors(generated(), plugins, SEED, "cpu", Path(folder), Progress(True))


def embedder_repeats(kind: str, name: str, plugins: Plugins) -> None:
    """A finite vector for each item, the same twice. One that needs a location (``located``) is not made here."""
    factory = plugins.get(kind, name)
    if getattr(factory, "located", False):
        return
    component = Component(kind, name, validated(factory, getattr(factory, "small", {}), f"{kind} {name}"))
    n_items = len(generated().items)
    twice = []
    for _ in range(2):
        with _vectors(plugins) as vectors:
            twice.append(checked_vectors(component.make(plugins).embed(vectors.context), n_items, component))
    require(np.array_equal(twice[0], twice[1]), "it gives other vectors the second time; use the seed")


def decoder_keeps_contract(kind: str, name: str, plugins: Plugins) -> None:
    """K distinct candidates of the catalogue, best first, the same whatever else is in the batch."""
    data, quiet = generated(), Progress(quiet=True)
    assert data.given is not None
    decoder = made(kind, name, plugins)
    if getattr(decoder, "decodes_nothing", False):
        return  # it stands for rankings that were made elsewhere
    if hasattr(decoder, "check"):
        decoder.check(data.items, data.given)
    histories = data.test.histories
    refusals = []
    for model in (generative_model(data, plugins), generative_model(data, plugins, titles=True), item_scorer(data)):
        try:
            whole = decoder.decode(model, histories, data.given, "cpu", quiet)
        except BenchError as error:
            refusals.append(error.message)  # it takes another kind of model
            continue
        require(isinstance(whole, Rankings), f"decode gave {type(whole).__name__}; return Rankings")
        catalogue = len(data.given.distinct) if whole.kind == "sid" else len(data.items)
        k = int(getattr(decoder.settings, "k", 0) or getattr(decoder.settings, "beams", 0) or 0)
        whole.check(catalogue, min(k, catalogue) if k else 0, more=whole.kind == "item")
        require(len(whole.ids) == len(histories), f"it ranked {len(whole.ids)} of {len(histories)} histories")
        part = decoder.decode(model, histories.take(np.arange(7)), data.given, "cpu", quiet)
        width = min(part.ids.shape[1], whole.ids.shape[1])
        same = part.ids[:, :width] == whole.ids[:7, :width]
        close = np.isclose(part.scores[:, :width], whole.scores[:7, :width], atol=1e-4)
        require((same | close).all(), "a history is ranked otherwise where it is decoded with fewer others")
        return
    raise ContractError(
        f"it takes neither a language model over SIDs or titles nor a model that scores items: {refusals[-1]}"
    )


def metric_is_plain(kind: str, name: str, plugins: Plugins) -> None:
    """One value in; numbers, texts, lists and dicts out, the same twice; lists by item and by SID, and without SIDs."""
    check_signature(plugins, name)
    data = generated()
    assert data.given is not None
    rng = np.random.default_rng(SEED)
    n, k = len(data.test), 20
    scores = np.tile(-np.arange(k, dtype=np.float32), (n, 1))
    items = np.stack([rng.permutation(len(data.items))[:k] for _ in range(n)]).astype(np.int32)
    items[: n // 3, 0] = data.test.targets[: n // 3]
    sids = np.stack([rng.permutation(len(data.given.distinct))[:k] for _ in range(n)]).astype(np.int32)
    sids[0, -1] = -1
    for rankings, given in (
        (Rankings("item", items, scores), data.given),
        (Rankings("item", items, scores), None),
        (Rankings("sid", sids, scores), data.given),
    ):
        evaluated = Evaluated.test(rankings, data, given)
        before = rankings.ids.copy()
        values = [value_of(plugins, name, evaluated) for _ in range(2)]
        require(values[0] == values[1], "it gives another value the second time")
        require(np.array_equal(before, rankings.ids), "it changes the rankings that it is given")


def reward_is_finite(kind: str, name: str, plugins: Plugins) -> None:
    """A finite number a completion, that of each group free of the others."""
    import torch

    from harness.language.rewards import Groups, Rewards

    data = generated()
    assert data.given is not None
    try:
        reward = made(kind, name, plugins)
    except BenchError:
        return  # it needs a setting that only its user can give, and says so in its own words
    context = _context(data, plugins)
    if hasattr(reward, "prepare"):
        reward.prepare(context)
    rng = np.random.default_rng(SEED)
    rows = 6
    completions = torch.from_numpy(np.stack([rng.permutation(len(data.given.distinct))[:8] for _ in range(rows)]))
    items = data.train.targets[:rows].tolist()
    targets = torch.from_numpy(data.given.of_item[items].astype(np.int64))
    completions[0, 2] = targets[0]
    groups = Groups(
        completions, targets, items, data.train.histories.take(np.arange(rows)).lists(), ["x"] * rows, data.given
    )
    checked = Rewards({name: 1.0}, {name: reward}, "rewards")
    whole = checked(groups, 1)[name]
    alone = torch.cat([checked(groups.one(row), 1)[name] for row in range(rows)])
    require(torch.allclose(whole, alone, atol=1e-5), "a group's rewards hang on the other groups of the batch")


def _context(data: Dataset, plugins: Plugins) -> Any:
    """The context of a stage on the generated category, with nothing before it."""
    from harness.components import Context
    from harness.runs.parts import BuiltParts
    from harness.runs.run import without_test

    quiet = Progress(quiet=True)
    parts = BuiltParts("stage", {}, plugins, data.fingerprint)
    folder = Path(tempfile.gettempdir())
    return Context(
        without_test(data), data.given, None, parts, "compact", folder, None, SEED, "cpu", lambda model: {},
        lambda numbers, step: None, quiet,
    )  # fmt: skip


def dataset_repeats(kind: str, name: str, plugins: Plugins) -> None:
    """Its categories are names; one without files, or in ``data`` beside the plugin, reads the same twice."""
    from harness.data.problems import Problems

    factory, plugin = plugins.get(kind, name), plugins.owner(kind, name)
    with tempfile.TemporaryDirectory() as empty:
        for root in (None, Path(empty)):
            names = factory.categories(root)
            require(
                isinstance(names, list) and all(isinstance(n, str) for n in names),
                f"categories({root and 'an empty folder'}) gave {names!r:.60}; return a list of names",
            )
    for root in (None, *_beside(plugin)):
        for category in factory.categories(root)[:1]:
            reader = partial(factory, validated(factory, getattr(factory, "small", {}), "dataset"))
            twice = []
            for _ in range(2):
                problems = Problems()
                twice.append(reader().read(root, category, problems))
                problems.stop_on_errors()
            require(isinstance(twice[0], Dataset), f"read gave {type(twice[0]).__name__}; return a Dataset")
            require(twice[0].fingerprint == twice[1].fingerprint, f"{category} reads otherwise the second time")
            for split, samples in twice[0].splits.items():
                require(len(samples), f"{category}: {split} has no sample")
                require(int(samples.targets.max()) < len(twice[0].items), f"{category}: a target of {split} is no item")


def _beside(plugin: Plugin | None) -> Iterator[Path]:
    file = getattr(plugin.module, "__file__", None) if plugin is not None else None
    for folder in Path(file).resolve().parents[:3] if file else ():
        if (folder / "data").is_dir():
            yield folder / "data"


def backbone_builds(kind: str, name: str, plugins: Plugins) -> None:
    """A causal LM and its tokenizer, each SID token one token, the same for the same seed, decoded as a plain pass."""
    import torch

    from harness.decoding import trial
    from harness.language import new_tokens

    factory = plugins.get(kind, name)
    if getattr(factory, "stand_in", ""):
        return  # it loads a checkpoint, which is its user's
    data = generated()
    assert data.given is not None
    settings = validated(factory, getattr(factory, "small", {}), name)
    built = [factory(settings, None).build(data.given.tokens, ["<|next|>"], data.items.titles, SEED) for _ in range(2)]
    require(
        all(isinstance(pair, tuple) and len(pair) == 2 for pair in built), "build must give (model, text tokenizer)"
    )
    model, text_tokenizer = built[0]
    new_tokens.check(text_tokenizer, data.given.tokens)
    require(model.get_output_embeddings() is not None, "the model has no head that gives next-token logits")
    require(text_tokenizer.eos_token_id is not None, "the text tokenizer has no end token")
    for first, second in zip(model.parameters(), built[1][0].parameters(), strict=True):
        require(torch.equal(first, second), "it builds other weights the second time; use the seed")
    trial.of(model.eval(), 12)
