"""The conformance suite: what a plugin's components promise, tried in miniature on a generated category.

Each check is a function that raises :class:`~harness.errors.ContractError` with what is broken, where, and the mend.
"""

from __future__ import annotations

import dataclasses
import pickletools
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from harness.kit.models import generative_model, item_scorer
from harness.plugins import KINDS, Plugin, Plugins
from harness.progress import Progress
from harness.runs.config import Component, RunConfig, resolve
from harness.runs.contract import checked_sids
from harness.runs.rehearsal import miniature
from harness.settings import settings as validated
from harness.settings import settings_class

SEED = 7
LONGEST = 60.0
"""Seconds that a method's training in miniature may take."""
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
CHECKPOINTS = "checkpoints"
"""Where transformers keeps its own trainer state, some of it pickled; nothing there is read but by itself."""


@dataclass(frozen=True)
class Check:
    """One promise of one component."""

    kind: str
    component: str
    name: str
    run: Callable[[], None]

    @property
    def label(self) -> str:
        """As reports and test ids show it."""
        return f"{self.kind} {self.component}: {self.name}"


def checks_of(plugin: Plugin, plugins: Plugins) -> list[Check]:
    """All checks of what a plugin registers."""
    found: list[Check] = []
    for kind in KINDS:
        for name, (_, owner) in plugins.registry(kind).items():
            if owner is plugin:
                found += checks(kind, name, plugins)
    return found


def checks(kind: str, name: str, plugins: Plugins) -> list[Check]:
    """The checks of one component."""
    tried: dict[str, Callable[..., None]] = {
        "dataset": {"settings": settings_documented, "reads the same twice": dataset_repeats},
        "tokenizer": {"settings": settings_documented, "one SID an item, from seed alone": tokenizer_repeats},
        "backbone": {"settings": settings_documented, "builds a causal LM that knows its tokens": backbone_builds},
        "trainer": {"settings": settings_documented},
        "decoder": {"settings": settings_documented, "k distinct, whatever the batch": decoder_keeps_contract},
        "metric": {"plain finite numbers of one value": metric_is_plain},
        "reward": {"settings": settings_documented, "a finite number a completion": reward_is_finite},
        "method": {
            "recipe resolves": recipe_resolves,
            "runs, with k distinct candidates": method_runs,
            "repeats from its seed": method_repeats,
            "sees no test target": method_sees_no_target,
            "goes on after a kill": method_resumes,
            "leaves no pickle": method_leaves_no_pickle,
        },
    }[kind]  # type: ignore[assignment]
    return [Check(kind, name, what, partial(function, kind, name, plugins)) for what, function in tried.items()]


def _require(condition: Any, reason: str) -> None:
    if not condition:
        raise ContractError(reason)


def settings_documented(kind: str, name: str, plugins: Plugins) -> None:
    """Every setting has a line on its meaning, and its default is valid."""
    factory = plugins.get(kind, name)
    if kind == "reward" and not isinstance(factory, type):
        return
    known = settings_class(factory, f"{kind} {name}")
    bare = [field.name for field in dataclasses.fields(known) if not field.metadata.get("help")]
    _require(
        not bare,
        f"settings {', '.join(bare)} of {known.__module__}.{known.__qualname__} say nothing of their meaning; write "
        'name: type = setting(default, "one line: meaning, units") (from harness.components)',
    )
    validated(factory, {f.name: _default(f) for f in dataclasses.fields(known) if _has_default(f)}, f"{kind} {name}")


def _has_default(field: Any) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _default(field: Any) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _made(kind: str, name: str, plugins: Plugins) -> Any:
    """A component with its own small settings."""
    factory = plugins.get(kind, name)
    if kind == "reward" and not isinstance(factory, type):
        return factory
    return Component(kind, name, validated(factory, getattr(factory, "small", {}), f"{kind} {name}")).make(plugins)


# --- methods


def _config(name: str, plugins: Plugins) -> RunConfig:
    return resolve(plugins.get("method", name), "Generated", SEED, [], plugins)


def recipe_resolves(kind: str, name: str, plugins: Plugins) -> None:
    """The recipe, its base and all its settings are valid."""
    config = _config(name, plugins)
    _require(config.summary, f"recipe {name} has no summary; say in one line what the method is")


def _mini(name: str, plugins: Plugins, folder: Path, dataset: Dataset | None = None) -> dict[str, Rankings]:
    """The test rankings of each stage of a method in miniature."""
    prepared = miniature(_config(name, plugins), plugins, folder, dataset=dataset)
    quiet, histories = Progress(quiet=True), (dataset or generated()).test.histories
    found = {}
    for stage in prepared.stages():
        found[stage.name] = prepared.decode(prepared.made.decoder, stage.trainer.load(stage.context), histories, quiet)
    return found


def _differ(first: dict[str, Rankings], second: dict[str, Rankings]) -> str:
    """The first stage whose rankings differ, or nothing."""
    for stage, rankings in first.items():
        if not np.array_equal(rankings.ids, second[stage].ids) or rankings.scores.tobytes() != second[stage].scores.tobytes():
            return stage
    return ""


def method_runs(kind: str, name: str, plugins: Plugins) -> None:
    """It trains and decodes in miniature, within seconds."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        _mini(name, plugins, Path(folder))
    seconds = time.monotonic() - started
    _require(
        seconds < LONGEST,
        f"it takes {seconds:.0f} s in miniature; give its trainer small settings for checks, e.g. small = {{'epochs': 1}}",
    )


def method_repeats(kind: str, name: str, plugins: Plugins) -> None:
    """The same seed gives the same rankings, byte for byte."""
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        stage = _differ(_mini(name, plugins, Path(a)), _mini(name, plugins, Path(b)))
    _require(not stage, f"stage {stage} gives other rankings the second time; seed all that is random by context.seed")


def method_sees_no_target(kind: str, name: str, plugins: Plugins) -> None:
    """Other test targets change nothing."""
    dataset = generated()
    targets = np.random.default_rng(0).permutation(dataset.test.targets)
    other = dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, targets=targets))
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        first, second = _mini(name, plugins, Path(a), dataset), _mini(name, plugins, Path(b), _same_order(other, dataset))
    stage = _differ(first, second)
    _require(not stage, f"stage {stage} ranks otherwise where only the test targets differ: it has seen them")


def _same_order(other: Dataset, dataset: Dataset) -> Dataset:
    """The other dataset with its test samples in the order of the first: targets are part of the canonical order."""
    test = dataclasses.replace(dataset.test, targets=other.test.targets, rows=dataset.test.rows)
    return dataclasses.replace(other, test=test)


class _Killed(BaseException):
    """Stands in for a kill."""


def method_resumes(kind: str, name: str, plugins: Plugins) -> None:
    """A training that is killed at one of its logs goes on with the same call, and ends in the same rankings."""
    from harness.runs.run import Prepared

    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as cut:
        first = _mini(name, plugins, Path(whole))
        original = Prepared._context
        killed: set[str] = set()

        def interrupted(self: Prepared, number: int, stage: Any, previous: Any, probe: Any) -> Any:
            context = original(self, number, stage, previous, probe)
            log = context.log

            def once(numbers: dict[str, float], step: int) -> None:
                log(numbers, step)
                if stage.name not in killed:
                    killed.add(stage.name)
                    raise _Killed

            return dataclasses.replace(context, log=once)

        Prepared._context = interrupted  # type: ignore[method-assign]
        try:
            for _ in range(1 + len(first)):
                try:
                    second = _mini(name, plugins, Path(cut))
                    break
                except _Killed:
                    continue
        finally:
            Prepared._context = original  # type: ignore[method-assign]
        stage = _differ(first, second)
    _require(
        not stage,
        f"stage {stage} ends otherwise where it was killed and run again; keep the state of the training in "
        "context.directory, and go on from it in fit",
    )


def method_leaves_no_pickle(kind: str, name: str, plugins: Plugins) -> None:
    """What stages leave is safetensors, JSON, text: nothing that runs code when it is read."""
    with tempfile.TemporaryDirectory() as folder:
        _mini(name, plugins, Path(folder))
        pickled = [path for path in Path(folder).rglob("*") if path.is_file() and _is_pickle(path)]
        odd = [path.name for path in pickled if CHECKPOINTS not in path.relative_to(folder).parts]
    _require(not odd, f"it leaves {', '.join(odd[:3])}, a pickle; write weights with safetensors, facts as JSON")


def _is_pickle(path: Path) -> bool:
    if path.suffix in PICKLES:
        return True
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    content = path.read_bytes()[:4096]
    if not content.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return False
    try:
        next(pickletools.genops(content))
    except (ValueError, StopIteration):
        return False
    return True


# --- components


def tokenizer_repeats(kind: str, name: str, plugins: Plugins) -> None:
    """One SID for each item, the same for the same seed, and without a look at test."""
    from harness.runs.run import without_test

    data, quiet = without_test(generated()), Progress(quiet=True)
    found = [checked_sids(_made(kind, name, plugins).tokenize(data, SEED, quiet), len(data.items), name) for _ in range(2)]
    _require((found[0] is None) == (found[1] is None), "it gives SIDs one time and none the other")
    if found[0] is not None and found[1] is not None:
        _require(np.array_equal(found[0].codes, found[1].codes), "it gives other SIDs the second time; use the seed")
        _require((found[0].codes >= 0).all(), "a code is below 0; codes of each level count from 0")
        again = SemanticIds(found[0].codes, found[0].source)
        _require(again.fingerprint == found[0].fingerprint, "its SIDs do not survive being written and read")


def decoder_keeps_contract(kind: str, name: str, plugins: Plugins) -> None:
    """K distinct candidates of the catalogue, best first, the same whatever else is in the batch."""
    data, quiet = generated(), Progress(quiet=True)
    assert data.given is not None
    decoder = _made(kind, name, plugins)
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
        _require(isinstance(whole, Rankings), f"decode gave {type(whole).__name__}; return Rankings")
        catalogue = len(data.given.distinct) if whole.kind == "sid" else len(data.items)
        k = int(getattr(decoder.settings, "k", 0) or getattr(decoder.settings, "beams", 0) or 0)
        whole.check(catalogue, min(k, catalogue) if k else 0, more=whole.kind == "item")
        _require(len(whole.ids) == len(histories), f"it ranked {len(whole.ids)} of {len(histories)} histories")
        part = decoder.decode(model, histories.take(np.arange(7)), data.given, "cpu", quiet)
        width = min(part.ids.shape[1], whole.ids.shape[1])
        same = part.ids[:, :width] == whole.ids[:7, :width]
        close = np.isclose(part.scores[:, :width], whole.scores[:7, :width], atol=1e-4)
        _require((same | close).all(), "a history is ranked otherwise where it is decoded with fewer others")
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
        _require(values[0] == values[1], "it gives another value the second time")
        _require(np.array_equal(before, rankings.ids), "it changes the rankings that it is given")


def reward_is_finite(kind: str, name: str, plugins: Plugins) -> None:
    """A finite number a completion, that of each group free of the others."""
    import torch

    from harness.language.rewards import Groups, Rewards

    data = generated()
    assert data.given is not None
    try:
        reward = _made(kind, name, plugins)
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
    groups = Groups(completions, targets, items, data.train.histories.take(np.arange(rows)).lists(), ["x"] * rows, data.given)
    checked = Rewards({name: 1.0}, {name: reward}, "rewards")
    whole = checked(groups, 1)[name]
    alone = torch.cat([checked(groups.one(row), 1)[name] for row in range(rows)])
    _require(torch.allclose(whole, alone, atol=1e-5), "a group's rewards hang on the other groups of the batch")


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
    """Its categories are names; one that needs no files, or lies in ``data`` beside the plugin, reads the same twice."""
    from harness.data.problems import Problems

    factory, plugin = plugins.get(kind, name), plugins.owner(kind, name)
    with tempfile.TemporaryDirectory() as empty:
        for root in (None, Path(empty)):
            names = factory.categories(root)
            _require(
                isinstance(names, list) and all(isinstance(n, str) for n in names),
                f"categories({root and 'an empty folder'}) gave {names!r:.60}; return a list of names",
            )
    for root in (None, *_beside(plugin)):
        for category in factory.categories(root)[:1]:
            reader = partial(factory, validated(factory, getattr(factory, "small", {}), "dataset"))
            found = []
            for _ in range(2):
                problems = Problems()
                found.append(reader().read(root, category, problems))
                problems.stop_on_errors()
            _require(isinstance(found[0], Dataset), f"read gave {type(found[0]).__name__}; return a Dataset")
            _require(found[0].fingerprint == found[1].fingerprint, f"{category} reads otherwise the second time")
            for split, samples in found[0].splits.items():
                _require(len(samples), f"{category}: {split} has no sample")
                _require(int(samples.targets.max()) < len(found[0].items), f"{category}: a target of {split} is no item")


def _beside(plugin: Plugin | None) -> Iterator[Path]:
    file = getattr(plugin.module, "__file__", None) if plugin is not None else None
    for folder in Path(file).resolve().parents[:3] if file else ():
        if (folder / "data").is_dir():
            yield folder / "data"


def backbone_builds(kind: str, name: str, plugins: Plugins) -> None:
    """A causal LM and its tokenizer, each SID token one token, the same for the same seed, decoded as a plain pass."""
    import torch

    from harness.decoding import trial
    from harness.language.sft_trainer import check_tokens

    factory = plugins.get(kind, name)
    if getattr(factory, "stand_in", ""):
        return  # it loads a checkpoint, which is its user's
    data = generated()
    assert data.given is not None
    settings = validated(factory, getattr(factory, "small", {}), name)
    built = [factory(settings, None).build(data.given.tokens, ["<|next|>"], data.items.titles, SEED) for _ in range(2)]
    _require(all(isinstance(pair, tuple) and len(pair) == 2 for pair in built), "build must give (model, text tokenizer)")
    model, text_tokenizer = built[0]
    check_tokens(text_tokenizer, data.given.tokens)
    _require(model.get_output_embeddings() is not None, "the model has no head that gives next-token logits")
    _require(text_tokenizer.eos_token_id is not None, "the text tokenizer has no end token")
    for first, second in zip(model.parameters(), built[1][0].parameters(), strict=True):
        _require(torch.equal(first, second), "it builds other weights the second time; use the seed")
    trial.of(model.eval(), 12)


