"""The parts of a stage, built: other methods' trainers, recorded runs, and components that settings name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.components import Context, Part
from harness.errors import BenchError, unknown
from harness.plugins import Plugins
from harness.runs import finished
from harness.runs.chosen import Component
from harness.runs.config import RunConfig, Stage
from harness.runs.run_directory import RunDirectory


@dataclass(frozen=True)
class TrainedPart:
    """Another method's trainer, trained in a folder of its own within the stage's."""

    key: str
    name: str
    trainer: Any
    recorded: bool = False

    def check(self, context: Context) -> None:
        """Let it refuse settings that do not fit the data."""
        if hasattr(self.trainer, "check"):  # no folder is made yet: what is refused leaves nothing
            self.trainer.check(dataclasses.replace(context, directory=context.directory / self.key, previous=None))

    def fit(self, context: Context, probe: Callable[[Any], dict[str, float]] | None = None) -> dict[str, Any]:
        """Train it, under its own probe where one is given."""
        inner = context.within(self.key)
        facts: dict[str, Any] = self.trainer.fit(dataclasses.replace(inner, probe=probe) if probe else inner)
        return facts

    def load(self, context: Context) -> Any:
        """Its model."""
        return self.trainer.load(context.within(self.key))

    def anew(self, context: Context) -> TrainedPart:
        """Itself."""
        return self


@dataclass(frozen=True)
class RecordedPart:
    """A recorded run: trained already."""

    key: str
    name: str
    plugins: Plugins
    data: str
    recorded: bool = True

    def check(self, context: Context) -> None:
        """The run must be there, finished, and on the same data."""
        self.load(context)

    def fit(self, context: Context, probe: Callable[[Any], dict[str, float]] | None = None) -> dict[str, Any]:
        """Nothing is left to do."""
        return {}

    def load(self, context: Context) -> Any:
        """The model of its last stage."""
        return recorded_model(Path(self.name), context, self.plugins, self.data)

    def anew(self, context: Context) -> TrainedPart:
        """Its method with its settings, untrained."""
        config = _config_of(RunDirectory(Path(self.name)), self.plugins, self.data)
        stages = config.stages
        if len(stages) > 1 or stages[0].parts or config.backbone is not None:
            raise BenchError(
                f"{self.name}: {stages[-1].name} builds on another stage, part or backbone, so that it cannot be "
                "trained on other samples; name a run of one stage"
            )
        return TrainedPart(self.key, stages[0].trainer.name, stages[0].trainer.make(self.plugins))


@dataclass(frozen=True)
class BuiltParts:
    """See :class:`harness.components.Parts`."""

    stage: str
    parts: Mapping[str, Part]
    plugins: Plugins
    data: str
    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: Stage, plugins: Plugins, data: str) -> BuiltParts:
        """The parts of a stage, made; `data` is the fingerprint of the dataset."""

        def part(key: str, component: Component) -> Part:
            if component.kind == "run":
                return RecordedPart(key, str(component.location), plugins, data)
            return TrainedPart(key, component.name, component.make(plugins))

        made = {
            setting: {name: component.make(plugins) if component else None for name, component in named.items()}
            for setting, named in stage.made.items()
        }
        return cls(stage.name, {key: part(key, value) for key, value in stage.parts.items()}, plugins, data, made)

    def __getitem__(self, key: str) -> Part:
        if key not in self.parts:
            error = unknown("part", key, self.parts)
            raise BenchError(f"stage {self.stage}: {error.message}; name it in the recipe, parts: {{{key}: METHOD}}")
        return self.parts[key]

    def __contains__(self, key: object) -> bool:
        return key in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def made(self, setting: str) -> Mapping[str, Any]:
        """The components that a setting names."""
        return self.components.get(setting, {})

    def recorded(self, directory: str | Path, context: Context) -> Any:
        """The model of a finished run on the same data."""
        return recorded_model(Path(directory), context, self.plugins, self.data)


def recorded_model(directory: Path, context: Context, plugins: Plugins, data: str) -> Any:
    """The model of the last stage of a finished run, as its own decoder would take it.

    Args:
        data: the fingerprint of the data that it must be of.

    Raises:
        BenchError: the directory holds no finished run, or one of other data.
    """
    folder = RunDirectory(directory)
    config = _config_of(folder, plugins, data)
    number, stage = len(config.stages), config.stages[-1]
    trainer = stage.trainer.make(plugins)
    theirs = dataclasses.replace(
        context,
        backbone=config.backbone.make(plugins) if config.backbone is not None else None,
        directory=folder.stage(number, stage.name),
        previous=folder.stage(number - 1, config.stages[-2].name) if number > 1 else None,
        prompts=config.prompts,
        parts=BuiltParts.of(stage, plugins, data),
    )
    return trainer.load(theirs)


def _config_of(folder: RunDirectory, plugins: Plugins, data: str) -> RunConfig:
    """The settings of a finished run on that data."""
    manifest = finished.need_finished(folder)
    there = manifest.get("fingerprints", {}).get("data")
    if there != data:
        raise BenchError(
            f"{folder.path} is a run on other data: {manifest.get('category')}, fingerprint {str(there)[:8]} there, "
            f"{data[:8]} here"
        )
    return finished.settings(folder, plugins)
