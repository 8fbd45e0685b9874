"""The Python API: what ``bench run`` and its kin do, as functions with plain values.

::

    import harness

    done = harness.run("popularity", "Synthetic", settings={"dataset.items": 200})
    done.metrics("item")["HR@10"]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.components import Evaluated
from harness.data import categories, foreign
from harness.data.dataset import Dataset
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError, unknown
from harness.evaluation.agreement import contradictions
from harness.evaluation.measure import measure, plain
from harness.evaluation.target_ranks import PROTOCOLS
from harness.plugins import Plugins
from harness.plugins import load as load_plugins
from harness.progress import Progress
from harness.recipes import INHERITED, read_recipe, with_base
from harness.runs import finished, pipeline, scoring
from harness.runs.config import RunConfig
from harness.runs.continuation import Origin
from harness.runs.edits import Edits
from harness.runs.machine import prepare_device
from harness.runs.on_data import resolve_on
from harness.runs.provenance import revision
from harness.runs.run import Run
from harness.runs.run_directory import RunDirectory
from harness.runs.tracking import Tracker
from harness.world import world

SEED = 42
Settings = Mapping[str, Any] | Iterable[str]
"""Settings over a recipe's: ``{"decoder.beams": 20}``, or ``["decoder.beams=20"]`` as for ``--set``."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        directory: where it is recorded.
    """

    directory: Path

    @property
    def _folder(self) -> RunDirectory:
        return RunDirectory(self.directory)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What it was made with: fingerprints, versions, hardware, components, what was done."""
        return finished.need_finished(self._folder)

    @cached_property
    def result(self) -> dict[str, Any]:
        """The content of ``metrics.json``.

        Raises:
            BenchError: it is missing or damaged, or its metrics do not follow from its target ranks.
        """
        content = finished.metrics(self._folder)
        lines = contradictions(content["stages"], self.manifest["rows"]["test"])
        if lines:
            raise BenchError(f"{self.directory}: {lines[0]}; bench results measure {self.directory} computes it again")
        return content

    @property
    def stages(self) -> list[str]:
        """The names of its stages, in order."""
        return list(self.result["stages"])

    def metrics(self, protocol: str = "sid", stage: str = "") -> dict[str, float]:
        """HR, NDCG and MRR on test, of the last stage by default; empty without semantic IDs for ``sid``."""
        if protocol.lower() not in PROTOCOLS:
            raise unknown("protocol", protocol, PROTOCOLS)
        return dict(self._entry(stage).get(protocol.lower()) or {})

    def rankings(self, stage: str = "") -> Rankings:
        """The test rankings of a stage (the last by default), in the order of their file."""
        name = self._name(stage)
        return Rankings.read(self._folder.rankings(name), finished.semantic_ids(self._folder))

    @property
    def semantic_ids(self) -> SemanticIds | None:
        """The semantic IDs that it used, or None."""
        return finished.semantic_ids(self._folder)

    def _name(self, stage: str) -> str:
        if stage and stage not in self.stages:
            raise BenchError(f"{self.directory} has no stage '{stage}'; it has {', '.join(self.stages)}")
        return stage or self.stages[-1]

    def _entry(self, stage: str) -> dict[str, Any]:
        entry: dict[str, Any] = self.result["stages"][self._name(stage)]
        return entry


def planned(
    method: str | Path | Mapping[str, Any], category: str, seed: int | None = None, settings: Settings = (),
    data_dir: str | None = None, plugins: Plugins | None = None,
) -> tuple[RunConfig, Dataset, Plugins]:  # fmt: skip
    """What a run would be: its resolved configuration, its dataset, and the plugins.

    Args:
        method: a method's name, a recipe file (a run's ``config.yaml`` too), or a recipe as a dict.
    """
    plugins = plugins if plugins is not None else load_plugins()
    if not isinstance(plugins, Plugins):
        raise BenchError(f"plugins must be what harness.plugins.load([...]) gives, not {type(plugins).__name__}")
    known: Any = None
    if isinstance(method, str):
        recipe = plugins.get("method", method)
    elif not isinstance(method, (Path, Mapping)):
        raise BenchError(f"method must be a name, the path of a recipe or a dict, not {type(method).__name__}")
    else:
        content = dict(method) if isinstance(method, Mapping) else files.read_yaml(Path(method))
        known = content.get("seed")
        kept = INHERITED if content.get("base") else ()  # over a base, null means without
        own = {k: v for k, v in content.items() if k not in ("category", "seed") and (k in kept or v not in (None, ""))}
        recipe = with_base(read_recipe(own), lambda name: plugins.get("method", name))
    chosen = next(value for value in (seed, known, SEED) if value is not None)
    config, dataset = resolve_on(
        recipe, category, chosen, _overrides(settings), plugins,
        lambda given: categories.read(plugins, category, data_dir, given), method if isinstance(method, str) else "",
    )  # fmt: skip
    return config, dataset, plugins


def run(
    method: str | Path | Mapping[str, Any], category: str, *, seed: int | None = None, settings: Settings = (),
    data_dir: str | None = None, runs: str | Path = "runs", from_run: str | Path | None = None, anew: bool = False,
    redo: str = "", keep: bool = False, wait: bool = False, device: str = "auto", threads: int = 0,
    mlflow: bool = False, figures: bool = False, quiet: bool = True, plugins: Plugins | None = None,
    strict: bool = False,
) -> FinishedRun:  # fmt: skip
    """Train, decode and measure a method; the same call again goes on where it was, or gives what is recorded.

    Args:
        method: a method's name, a recipe file, or a recipe as a dict.
        settings: over the recipe's, as for ``--set``.
        from_run: a finished run to go on from; `anew`: the first stage that differs starts from its beginning.
        redo: a stage to train anew (or ``changed``: those whose code has changed); `keep`: take old results all the
            same, and mark the record.
        wait: wait where another process is at work on the same run, in place of an error.
        mlflow: whether to log to MLflow.
        figures: whether the report has figures.
        plugins: those to use (:func:`harness.plugins.load`); by default the built-ins and installed ones.
        strict: refuse what a stage would otherwise do without, such as texts that the data does not have.

    Raises:
        BenchError: bad settings or data, in one line.
    """
    origin = Origin(Path(from_run), anew) if from_run else None

    def asked() -> tuple[str, RunConfig, Dataset, Plugins, RunDirectory]:
        if anew and not from_run:
            raise BenchError("--anew says how to go on from a run; give --from-run DIR too")
        if redo and keep:
            raise BenchError("--redo and --keep are two answers to one question; give one of them")
        found = prepare_device(device, threads)
        config, dataset, known = planned(method, category, seed, settings, data_dir, plugins)
        return found, config, dataset, known, RunDirectory(pipeline.directory(Path(runs), config, dataset, origin))

    world.start()
    if world.together:  # what one fetches, converts or keeps in columns, the others find
        world.once(lambda: planned(method, category, seed, settings, data_dir, plugins)[1].fingerprint)
    chosen, config, dataset, known, folder = world.agreed(asked)
    if world.together:
        world.same("the code", revision())
    world.same("the data", dataset.fingerprint)
    world.same("the run's settings", folder.path.name)
    progress = Progress(quiet or not world.main)
    tracker = Tracker(Path(runs), mlflow and world.main)
    this = Run(config, dataset, known, folder, progress, chosen, tracker, figures, strict)
    caption = dataset.caption or "as read"
    progress.say(f"{config.method} on {category} ({caption}), seed {config.seed} → {folder.path}")
    pipeline.execute(this, origin, Edits(redo, keep), wait)
    return FinishedRun(folder.path)


def score(
    rankings: str | Path, category: str, name: str, *, seen: str = "keep", settings: Settings = (),
    data_dir: str | None = None, runs: str | Path = "runs", mlflow: bool = False, figures: bool = False,
    quiet: bool = True, plugins: Plugins | None = None,
) -> FinishedRun:  # fmt: skip
    """Measure and record rankings that another system made of a category's test samples (``bench score``).

    Args:
        rankings: the file (:mod:`harness.data.foreign` says what it holds).
        name: what the system is called in tables.
        seen: whether it may recommend what a user bought before (``keep``) or may not (``drop``).
        settings: of the data, such as ``dataset.max_history=20``.

    Raises:
        BenchError: the file does not fit the category's test split; nothing is written.
    """
    path = Path(rankings)
    method = scoring.method(path, name)
    given = [*_overrides(settings), f"protocol.seen={seen}"]
    config, dataset, plugins = planned(method, category, 0, given, data_dir, plugins)
    made = foreign.read(path, dataset, dataset.given)
    folder = RunDirectory(pipeline.directory(Path(runs), config, dataset, None))
    this = Run(config, dataset, plugins, folder, Progress(quiet), "cpu", Tracker(Path(runs), mlflow), figures)
    scoring.record(this, made)
    return FinishedRun(folder.path)


def load_run(directory: str | Path) -> FinishedRun:
    """A finished run by its directory.

    Raises:
        BenchError: it is none.
    """
    done = FinishedRun(Path(directory))
    if not done.manifest:
        raise BenchError(f"{directory} is not the directory of a finished run; give one that bench run printed")
    return done


def load_dataset(
    category: str, data_dir: str | None = None, settings: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
) -> Dataset:  # fmt: skip
    """A category: items, train, valid and test samples, given semantic IDs, fingerprint.

    Args:
        settings: of its reader, such as ``{"max_history": 20}``; ``dataset.`` before a name changes nothing.
    """
    own = dict(settings or {}) if isinstance(settings, Mapping) or not settings else None
    if own is None:
        raise BenchError(f"settings of a dataset are a mapping, such as {{'max_history': 20}}, not {settings!r:.60}")
    named = {str(key).removeprefix("dataset."): value for key, value in own.items()}
    return categories.read(plugins if plugins is not None else load_plugins(), category, data_dir, named)


def evaluate(
    rankings: Rankings | np.ndarray, category: str | Dataset, *, semantic_ids: SemanticIds | None = None,
    data_dir: str | None = None, settings: Mapping[str, Any] | None = None, plugins: Plugins | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure rankings of a category's test samples, as a run's own are: both protocols, intervals, levels, segments.

    Args:
        rankings: the top k of each test sample, or an array of item ids ``[n, k]``, best first, -1 for nothing; rows
            in the order of ``load_dataset(category).test``.
        semantic_ids: those of the SID protocol; the data's own by default.

    Raises:
        BenchError: rankings of other samples, or that break the contract of rankings.
    """
    plugins = plugins if plugins is not None else load_plugins()
    dataset = category if isinstance(category, Dataset) else load_dataset(category, data_dir, settings, plugins)
    sids = semantic_ids if semantic_ids is not None else dataset.given
    if not isinstance(rankings, Rankings):
        ids = np.asarray(rankings)
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise BenchError(f"rankings must be item ids [n, k], not {ids.dtype} {ids.shape}")
        if ids.size and not (ids.min() >= -1 and ids.max() < len(dataset.items)):
            raise BenchError(
                f"rankings hold item id {ids.max()} or {ids.min()}; ids go from 0 to {len(dataset.items) - 1}"
            )
        scores = np.tile(-np.arange(ids.shape[1], dtype=np.float32), (len(ids), 1))
        rankings = Rankings("item", ids.astype(np.int32), scores)
    elif rankings.keys is not None:
        rankings = rankings.of(dataset.test, Path("given"))
    if len(rankings.ids) != len(dataset.test):
        raise BenchError(f"rankings are of {len(rankings.ids)} samples, test has {len(dataset.test)}")
    if rankings.kind == "sid" and sids is None:
        raise BenchError("rankings by SID need semantic IDs; give semantic_ids=")
    scoring.hold(rankings, dataset, sids)
    return measure(plugins, Evaluated.test(rankings, dataset, sids))


def _overrides(settings: Settings) -> list[str]:
    if isinstance(settings, Mapping):
        try:
            return [f"{key}={json.dumps(plain(value, f'setting {key}'))}" for key, value in settings.items()]
        except TypeError as error:
            raise BenchError(f"settings hold what YAML does not: {error}") from None
    if isinstance(settings, str) or not isinstance(settings, Iterable):
        raise BenchError(f"settings must be a mapping or a list of key=value, not {settings!r}")
    given = list(settings)
    if not all(isinstance(one, str) for one in given):
        raise BenchError(f"settings must be a mapping or a list of key=value, not {given!r:.80}")
    return given
