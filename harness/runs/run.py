"""A run as one value: what it is of, where it is recorded, and what is prepared for it once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.components import OF_TOKENIZER, Context, RunInfo
from harness.data.dataset import Dataset, Histories
from harness.data.earlier import under
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError, ContractError
from harness.evaluation.validation import PROBED, validation_score
from harness.plugins import Plugins
from harness.progress import Progress
from harness.runs.chosen import Component, named
from harness.runs.config import RunConfig, Stage
from harness.runs.parts import BuiltParts
from harness.runs.run_directory import RunDirectory, append_log
from harness.runs.tokenizing import Vectors, vectors_of_tokenizer
from harness.runs.tracking import Tracker
from harness.world import world

CANDIDATES = 50
"""As many as a decoder gives that does not say."""


@dataclass
class Run:
    """One method on one category with one seed."""

    config: RunConfig
    dataset: Dataset
    plugins: Plugins
    directory: RunDirectory
    progress: Progress
    device: str
    tracker: Tracker
    figures: bool = True
    strict: bool = False

    def __post_init__(self) -> None:
        """Where bought items are to be left out, valid and test histories say which they are."""
        self.dataset = under(self.dataset, self.config.protocol)

    @property
    def store(self) -> RunDirectory:
        """The run directory, by its earlier name."""
        return self.directory

    @property
    def info(self) -> RunInfo:
        """What lifecycle hooks see."""
        config, path = self.config, self.directory.path
        return RunInfo(config.method, config.category, config.seed, path, config.as_dict(), self.figures)


def without_test(dataset: Dataset) -> Dataset:
    """The dataset as components may see it: no test sample, no oracle."""
    return dataclasses.replace(dataset, test=dataset.test.take(np.arange(0)), oracle=None)


@dataclass(frozen=True)
class Made:
    """The components of a run, made before anything is written."""

    tokenizer: Any
    backbone: Any
    trainers: tuple[Any, ...]
    parts: tuple[BuiltParts, ...]
    decoder: Any

    @classmethod
    def of(cls, config: RunConfig, plugins: Plugins, data: str) -> Made:
        """All components of a configuration, for data of that fingerprint.

        Raises:
            BenchError: settings that a component refuses.
        """

        def make(component: Component | None) -> Any:
            return component.make(plugins) if component is not None else None

        trainers = tuple(make(stage.trainer) for stage in config.stages)
        parts = tuple(BuiltParts.of(stage, plugins, data) for stage in config.stages)
        return cls(make(config.tokenizer), make(config.backbone), trainers, parts, make(config.decoder))


@dataclass(frozen=True)
class StageOf:
    """A stage of a prepared run."""

    number: int
    stage: Stage
    trainer: Any
    context: Context

    @property
    def name(self) -> str:
        """Its name."""
        return self.stage.name


@dataclass(frozen=True)
class Prepared:
    """What a run has before its first stage: its components and its semantic IDs.

    Attributes:
        seen: the dataset as components see it, without test.
        at_log: called with the stage's name whenever one logs; checks cut a training there.
    """

    run: Run
    made: Made
    semantic_ids: SemanticIds | None
    seen: Dataset
    at_log: Callable[[str], None] = lambda stage: None

    @property
    def catalogue(self) -> int:
        """How many candidates there are under the main protocol: distinct SIDs, or items."""
        return len(self.semantic_ids.distinct) if self.semantic_ids is not None else len(self.run.dataset.items)

    def stages(self) -> Iterator[StageOf]:
        """The stages in order, each with its context; the one before stands in ``context.previous``."""
        previous: Path | None = None
        probe = self.probe()
        for number, stage in enumerate(self.run.config.stages, start=1):
            context = self._context(number, stage, previous, probe)
            yield StageOf(number, stage, self.made.trainers[number - 1], context)
            previous = context.directory

    def _context(self, number: int, stage: Stage, previous: Path | None, probe: Any) -> Context:
        run = self.run
        folder = run.directory.stage(number, stage.name)
        folder.mkdir(parents=True, exist_ok=True)

        def log(numbers: dict[str, float], step: int) -> None:
            append_log(folder, numbers, step)
            run.tracker.log(numbers, step)
            self.at_log(stage.name)

        return Context(
            dataset=self.seen,
            semantic_ids=self.semantic_ids,
            backbone=self.made.backbone,
            parts=self.made.parts[number - 1],
            prompts=run.config.prompts,
            directory=folder,
            previous=previous,
            seed=run.config.seed,
            device=run.device,
            probe=probe,
            log=log,
            progress=run.progress,
            vectors=self._vectors(self.run.dataset, folder),
            strict=run.strict,
            stage=stage.name,
            earlier={one.name: one.trainer.settings for one in run.config.stages[: number - 1]},
            rebound=lambda dataset, own: (self.probe(dataset), self._vectors(dataset, own)),
        )

    def _vectors(self, dataset: Dataset, folder: Path) -> Callable[..., np.ndarray | None]:
        """What embedders make of the items and the train samples of a dataset."""
        run = self.run

        def vectors(embedder: Any, quick: bool = False, **defaults: Any) -> np.ndarray | None:
            if embedder == OF_TOKENIZER:
                embedder, defaults = vectors_of_tokenizer(run.config.tokenizer)
            asked = [one for one in named("embedder", "embedder", embedder, run.plugins).values() if one is not None]
            if recorded := [one.location for one in asked if one.name == "run" and dataset is not run.dataset]:
                raise BenchError(
                    f"run:{recorded[0]} has learnt from all of train, and here a part of it may be seen; name an "
                    "embedder that reads texts, such as tfidf"
                )
            if quick and any(getattr(run.plugins.get("embedder", one.name), "slow", False) for one in asked):
                return None
            source = Vectors(dataset, run.plugins, run.config.seed, run.device, folder, run.progress)
            return source.of(embedder, **defaults)

        return vectors

    def probe(self, dataset: Dataset | None = None) -> Callable[[Any], dict[str, float]]:
        """The valid metric: the recipe's own decoder with fewer beams or candidates, on valid samples drawn once.

        Args:
            dataset: the one whose valid samples these are, where it is not the run's.
        """
        run = self.run
        settings, decoder = run.config.probe, run.config.decoder
        valid = (dataset or run.dataset).valid.drawn(settings.samples, run.config.seed)
        beams = getattr(decoder.settings, "beams", 0)
        narrow = decoder.settings
        if beams and settings.beams:
            narrow = dataclasses.replace(decoder.settings, beams=min(settings.beams, beams))
        if beams and 0 < getattr(narrow, "beams", 0) < getattr(narrow, "k", 0):
            narrow = dataclasses.replace(narrow, k=narrow.beams)  # no more candidates than beams
        narrow = _lowered(narrow, getattr(decoder.make(run.plugins), "probe_settings", {}), decoder.name)
        width = _candidates(narrow) or CANDIDATES
        if beams and self.semantic_ids is not None and width >= len(self.semantic_ids.distinct):
            width = CANDIDATES  # a few SIDs that are all ranked give every metric
        quiet = Progress(quiet=True)

        def probe(model: Any) -> dict[str, float]:
            probed = dataclasses.replace(decoder, settings=narrow)
            rankings = self.decode(probed.make(run.plugins), model, valid.histories, quiet, narrow)
            return validation_score(rankings, valid.targets, self.semantic_ids, valid.histories.bought)

        probe.gives = {name for name in PROBED if width >= int(name.partition("@")[2])}  # type: ignore[attr-defined]
        return probe

    def decode(self, decoder: Any, model: Any, histories: Any, progress: Progress, settings: Any = None) -> Rankings:
        """Rankings of histories, held to the decoder's contract.

        Raises:
            ContractError: the contract is broken; the line names the decoder and, where it is a plugin's, the plugin.
        """
        run, name = self.run, self.run.config.decoder.name

        def decode() -> Rankings:
            made: Rankings = decoder.decode(model, histories, self.semantic_ids, run.device, progress)
            return made

        rankings = decode() if getattr(decoder, "shares_work", False) else world.once(decode)
        try:
            if not isinstance(rankings, Rankings):
                raise ContractError(f"decode gave {type(rankings).__name__}; it must return Rankings")
            catalogue = rankings.catalogue(self.semantic_ids, len(run.dataset.items))
            wanted = _candidates(settings if settings is not None else run.config.decoder.settings)
            more = rankings.kind == "item" and self.semantic_ids is not None
            rankings.check(catalogue, min(wanted, catalogue) if wanted else 0, more)
            if len(rankings.ids) != len(histories):
                raise ContractError(f"ranked {len(rankings.ids)} of {len(histories)} histories")
            if (sample := bought_again(rankings, histories, self.semantic_ids, len(run.dataset.items))) is not None:
                raise ContractError(
                    f"recommends to sample {sample} what its user bought before, and protocol.seen is drop: leave "
                    "histories.bought out"
                )
        except BenchError as error:
            plugin = run.plugins.owner("decoder", name)
            whose = f" of plugin {plugin.name}" if plugin is not None and not plugin.built_in else ""
            raise type(error)(f"decoder {name}{whose}: {error.message}") from None
        return rankings


def bought_again(
    rankings: Rankings, histories: Histories, semantic_ids: SemanticIds | None, n_items: int
) -> int | None:  # fmt: skip
    """The first sample that is recommended what its user bought before, where that is to be left out; None: no one."""
    bought = histories.bought
    if bought is None:
        return None
    if rankings.kind == "sid" and semantic_ids is not None:
        mask = bought.mask(semantic_ids.of_item, len(semantic_ids.distinct))
    else:
        mask = bought.items_mask(n_items)
    again = np.take_along_axis(mask, np.maximum(rankings.ids, 0), axis=1) & (rankings.ids >= 0)
    return int(again.any(axis=1).argmax()) if again.any() else None


def _lowered(settings: Any, most: dict[str, int], decoder: str) -> Any:
    """A decoder's settings, none above its own `most` for a probe.

    Raises:
        ContractError: there is no such setting.
    """
    if unknown := [name for name in most if not hasattr(settings, name)]:
        raise ContractError(f"decoder {decoder}: probe_settings names {unknown[0]!r}, and it has no such setting")
    return dataclasses.replace(settings, **{name: min(value, getattr(settings, name)) for name, value in most.items()})


def _candidates(settings: Any) -> int:
    """As many candidates as a decoder's settings say (``k``, or ``beams``); 0 where they do not say."""
    return int(getattr(settings, "k", 0) or getattr(settings, "beams", 0) or 0)
