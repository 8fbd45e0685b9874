"""The dry pass: a run in miniature on a generated category, before hours are spent on a plugin's fault.

Only runs with a component that is not the harness's own are rehearsed. Every component is made small: with its class's
``small`` settings, and a backbone that loads a checkpoint by the backbone that its ``stand_in`` names.
"""

from __future__ import annotations

import dataclasses
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

from harness.data.dataset import Dataset
from harness.data.generated import generated
from harness.errors import BenchError, ContractError
from harness.evaluation.measure import Evaluated, value_of
from harness.plugins import Plugin, Plugins
from harness.progress import Progress
from harness.runs.chosen import Component
from harness.runs.config import ProbeSettings, RunConfig, Stage
from harness.runs.contract import checked_facts
from harness.runs.run import Made, Prepared, Run, without_test
from harness.runs.run_directory import RunDirectory
from harness.runs.tokenizing import tokenized
from harness.runs.tracking import Tracker
from harness.settings import settings as validated

MENDS = {
    "tokenize": "write def tokenize(self, context) and return SemanticIds, or None",
    "build": "write def build(self, sid_tokens, special_tokens, texts, seed) and return (model, text tokenizer)",
    "check": "write def check(self, context), and raise BenchError for settings that do not fit the data",
    "fit": "write def fit(self, context), train, leave the model in context.directory, and return a dict of facts",
    "load": "write def load(self, context) and return the model of context.directory as the recipe's decoder takes it",
    "decode": "write def decode(self, model, histories, semantic_ids, device, progress) and return Rankings",
}


_rehearsed: WeakKeyDictionary[Plugins, set[tuple[tuple[str, str], ...]]] = WeakKeyDictionary()


def foreign(config: RunConfig, layout: str, plugins: Plugins) -> list[tuple[str, str, Plugin]]:
    """``(kind, name, plugin)`` of the components of a run that are not the harness's own; metrics are all in use."""
    used = [("dataset", layout), ("decoder", config.decoder.name)]
    used += [(c.kind, c.name) for c in (config.tokenizer, config.backbone) if c is not None]
    for stage in config.stages:
        used += [("trainer", stage.trainer.name), *((c.kind, c.name) for c in stage.parts.values())]
        used += [(c.kind, c.name) for named in stage.made.values() for c in named.values() if c is not None]
    used += [("metric", name) for name in plugins.registry("metric")]
    owned = [(kind, name, plugins.owner(kind, name)) for kind, name in dict.fromkeys(used) if kind != "run"]
    return [(kind, name, plugin) for kind, name, plugin in owned if plugin is not None and not plugin.built_in]


def rehearse(run: Run) -> None:
    """Run a method in miniature where a component comes from outside.

    Raises:
        BenchError: a component breaks its contract: the plugin, the component, its file and the mend.
    """
    strangers = foreign(run.config, run.dataset.layout, run.plugins)
    done = _rehearsed.setdefault(run.plugins, set())
    what = tuple((kind, name) for kind, name, _ in strangers)
    if what in done or not any(kind != "dataset" for kind, _ in what):
        return
    names = ", ".join(sorted({plugin.name for _, _, plugin in strangers}))
    run.progress.say(f"dry pass of {names} on a generated category")
    with tempfile.TemporaryDirectory(prefix="bench-dry-") as folder:
        try:
            miniature(run.config, run.plugins, Path(folder), run.device)
            done.add(what)  # once a process: trials of a tuning differ in settings alone
        except ContractError:
            raise
        except BenchError as error:  # the plugin itself refuses this data, in its own words: no fault
            run.progress.say(f"the dry pass ended early: {error.message}")


def small(config: RunConfig, plugins: Plugins) -> RunConfig:
    """The same method, each component with its own small settings for checks (the class attribute ``small``)."""

    def shrink(component: Component | None) -> Component | None:
        if component is None or component.kind == "run":
            return component
        factory = plugins.get(component.kind, component.name)
        stand_in = getattr(factory, "stand_in", "")
        if component.kind == "backbone" and stand_in and stand_in in plugins.registry("backbone"):
            factory = plugins.get("backbone", stand_in)
            component = Component("backbone", stand_in, validated(factory, {}, "backbone"))
        less = {k: v for k, v in getattr(factory, "small", {}).items() if hasattr(component.settings, k)}
        if component.settings is None or not less:
            return component
        values = dataclasses.asdict(component.settings) | less
        return dataclasses.replace(component, settings=validated(factory, values, f"{component.kind} {component.name}"))

    def stage_of(stage: Stage) -> Stage:
        parts = {key: shrink(part) for key, part in stage.parts.items()}
        return dataclasses.replace(stage, trainer=shrink(stage.trainer), parts=parts)  # type: ignore[arg-type]

    decoder = shrink(config.decoder)
    assert decoder is not None
    return dataclasses.replace(
        config, tokenizer=shrink(config.tokenizer), backbone=shrink(config.backbone), decoder=decoder,
        stages=tuple(stage_of(stage) for stage in config.stages), probe=ProbeSettings(samples=40, beams=10),
    )  # fmt: skip


def miniature(
    config: RunConfig, plugins: Plugins, folder: Path, device: str = "cpu", dataset: Dataset | None = None,
    at_log: Callable[[str], None] = lambda stage: None,
) -> Prepared:  # fmt: skip
    """Run a method's components in miniature; what a plugin's component breaks is named with its plugin and file.

    Args:
        folder: an empty folder for the run's files.
        dataset: in place of the generated category.
        at_log: called with the stage's name whenever one logs.

    Raises:
        ContractError: a component fails, or gives what its contract does not allow.
        BenchError: a component refuses the data or the settings in its own words.
    """
    dataset = dataset if dataset is not None else generated()
    config = small(dataclasses.replace(config, category=dataset.category, dataset={}), plugins)
    quiet = Progress(quiet=True)
    run = Run(config, dataset, plugins, RunDirectory(folder), quiet, device, Tracker(folder, False), False)
    made = Made.of(config, plugins, dataset.fingerprint)
    seen = without_test(dataset)
    semantic_ids = dataset.given
    if config.tokenizer is not None:
        with _fault(plugins, "tokenizer", config.tokenizer.name, "tokenize"):
            given = tokenized(
                config.tokenizer, config.sids, config.seed, dataset, plugins, device, folder / "tokenizer", quiet,
                made.tokenizer,
            )  # fmt: skip
            semantic_ids = given.semantic_ids
    prepared = Prepared(run, made, semantic_ids, seen, at_log)
    with _fault(plugins, "decoder", config.decoder.name, "check"):
        if hasattr(made.decoder, "check"):
            made.decoder.check(dataset.items, semantic_ids)
    for stage in prepared.stages():
        name = stage.stage.trainer.name
        if hasattr(stage.trainer, "check"):
            with _fault(plugins, "trainer", name, "check"):
                stage.trainer.check(stage.context)
        with _fault(plugins, "trainer", name, "fit"):
            facts = stage.trainer.fit(stage.context)
            checked_facts(facts, name)
        with _fault(plugins, "trainer", name, "load"):
            model = stage.trainer.load(stage.context)
            if model is None:
                raise ContractError(f"trainer {name}: load returned nothing")
        with _fault(plugins, "decoder", config.decoder.name, "decode", also=("trainer", name)):
            rankings = prepared.decode(made.decoder, model, dataset.test.histories, quiet)
        for metric in plugins.registry("metric"):
            with _fault(plugins, "metric", metric, "evaluate"):
                value_of(plugins, metric, Evaluated.test(rankings, dataset, semantic_ids))
    return prepared


@contextmanager
def _fault(plugins: Plugins, kind: str, name: str, step: str, also: tuple[str, str] | None = None) -> Iterator[None]:
    """Name the plugin, the component, its file and the mend of what fails within."""
    try:
        yield
    except ContractError as error:
        raise ContractError(_line(plugins, kind, name, also, error.message)) from error
    except BenchError as error:
        if kind == "metric":
            raise ContractError(_line(plugins, kind, name, also, error.message)) from error
        raise
    except Exception as error:
        if also is not None and not _is_foreign(plugins, kind, name) and _is_foreign(plugins, *also):
            kind, name = also  # the harness's own decoder fails on what the plugin's trainer gave it
        reason = f"{step} fails with {type(error).__name__}: {' '.join(str(error).split())}{_where(error)}"
        line = _line(plugins, kind, name, also, reason)
        mend = "" if _in_its_own(plugins, kind, name, error) else _mend(plugins, kind, name, step)
        raise ContractError(f"{line}; {mend}" if mend else line) from error


def _mend(plugins: Plugins, kind: str, name: str, step: str) -> str:
    """What its author should write."""
    if kind == "trainer" and step == "fit" and hasattr(plugins.get(kind, name), "build_for"):
        return (
            "look at its network: build(self, n_items, max_history) makes it and sets self.output, states(self, items) "
            "gives [batch, hidden], loss(self, items, targets) one number, a mean (docs/plugins.md)"
        )
    return MENDS.get(step, "")


def _is_foreign(plugins: Plugins, kind: str, name: str) -> bool:
    plugin = plugins.owner(kind, name)
    return plugin is not None and not plugin.built_in


def _in_its_own(plugins: Plugins, kind: str, name: str, error: BaseException) -> bool:
    """Whether the fault is inside the plugin's own code: then its line says all, and how it is called is right."""
    plugin = plugins.owner(kind, name)
    file = getattr(plugin.module, "__file__", None) if plugin is not None else None
    place = last_own_frame(error)
    return bool(file and place and Path(place[0]).parent == Path(file).parent)


def last_own_frame(error: BaseException) -> tuple[str, int] | None:
    """File and line of the last place of a fault in code that is not a library's."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else None


def _where(error: BaseException) -> str:
    place = last_own_frame(error)
    return f" ({Path(place[0]).name}, line {place[1]})" if place else ""


def _line(plugins: Plugins, kind: str, name: str, also: tuple[str, str] | None, reason: str) -> str:
    """``dry pass: trainer x of plugin y (file): reason``; of a fault that may be either's, the stranger is named."""
    if also is not None and not _is_foreign(plugins, kind, name) and _is_foreign(plugins, *also):
        kind, name = also
    plugin = plugins.owner(kind, name)
    place = ""
    if plugin is not None:
        file = getattr(plugin.module, "__file__", None)
        place = f" of plugin {plugin.name}" + (f" ({file})" if file and not plugin.built_in else "")
    return f"dry pass: {kind} {name}{place}: {reason}"
