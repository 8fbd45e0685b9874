"""RunConfig: a recipe, its defaults, and ``--set key=value`` on top, all validated.

A recipe is YAML in the form of ``configs/methods/*.yaml``. Every component's settings are checked
against its ``Settings`` dataclass: an unknown key is an error with a suggestion, a wrong type an
error with the place. This file reads no data and runs nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import BenchError, unknown
from harness.recipes import group_of
from harness.runs import overrides as overrides_
from harness.runs.chosen import Component, SidSettings, component_of, made_of, sids_of
from harness.settings import settings
from harness.settings import unread as silent_settings
from harness.text.parsing import check_plain

if TYPE_CHECKING:
    from harness.plugins import Plugins

LATER: dict[str, dict[str, Any]] = {
    "backbone": {"revision": ""},
    "tokenizer": {"repair": "none", "embedder": "", "text": "title-description", "normalise": False, "engine": "auto"},
}
"""Settings that came into being after runs were recorded, with the value that means what was before them."""
LATER_OF_STAGES = {"start": "none", "rows": "all", "holdout": 0.0}
LATER_OF_TRAINERS: dict[str, dict[str, Any]] = {
    "minionerec-grpo": {"weights": "none", "average": 0.0},
    "minionerec-counts": {"head": False, "items": False},
}
OF_A_MODEL = ("stages", "backbone", "decoder", "prompts")
"""Parts of a recipe that a paper or a search settles; another of these is the choice of who asks for it."""
ABOUT = ("called", "deterministic", "settings_from", "searched", "tuned", "note")
"""Keys of a configuration that change no result: what tables and captions say, where its settings are from."""
MOST_SEED = 2**32 - 1
"""Seeds lie in 0 … 2³² − 1: NumPy, scikit-learn and torch all take those."""


@dataclass(frozen=True)
class ProbeSettings:
    """The valid metric that early stopping and selection look at."""

    samples: int = dataclasses.field(default=0, metadata={"help": "valid samples to decode, drawn once; 0: all"})
    beams: int = dataclasses.field(default=20, metadata={"help": "beams of the probe; 0: as the decoder has"})


@dataclass(frozen=True)
class ProtocolSettings:
    """What an evaluation declares beside the split; two values never stand in one table."""

    seen: Literal["keep", "drop"] = dataclasses.field(
        default="keep", metadata={"help": "whether items that the user bought before may be recommended"}
    )


@dataclass(frozen=True)
class Stage:
    """One stage of a method.

    Attributes:
        parts: what it builds on, by the recipe's keys: :class:`Component` of a trainer, or of kind ``run``, whose
            location is the folder of a finished run.
        made: components that a setting names, by setting and name.
    """

    name: str
    trainer: Component
    parts: dict[str, Component] = dataclasses.field(default_factory=dict)
    made: dict[str, dict[str, Component | None]] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The stage in the recipe's form, every setting spelled out."""
        parts = {key: part.as_part() for key, part in self.parts.items()}
        return {
            "name": self.name,
            "trainer": self.trainer.name,
            **({"parts": parts} if parts else {}),
            **dataclasses.asdict(self.trainer.settings),
        }


@dataclass(frozen=True)
class RunConfig:
    """One run, fully resolved."""

    method: str
    summary: str
    group: str
    reported: str
    category: str
    seed: int
    prompts: str
    tokenizer: Component | None
    sids: SidSettings
    backbone: Component | None
    stages: tuple[Stage, ...]
    decoder: Component
    dataset: dict[str, Any]
    probe: ProbeSettings
    protocol: dict[str, Any] = dataclasses.field(default_factory=lambda: {"seen": "keep"})
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the recipe says of itself, and what was taken from a search on this data: :data:`ABOUT`."""

    def as_dict(self) -> dict[str, Any]:
        """The run's whole configuration as plain values (written to ``config.yaml``)."""
        return {
            "name": self.method,
            "summary": self.summary,
            "group": self.group,
            "reported": self.reported,
            "category": self.category,
            "seed": self.seed,
            "prompts": self.prompts,
            "tokenizer": self._told_tokenizer(),
            "backbone": self.backbone.as_dict() if self.backbone else None,
            "stages": [stage.as_dict() for stage in self.stages],
            "decoder": self.decoder.as_dict(),
            "dataset": self.dataset,
            "probe": dataclasses.asdict(self.probe),
            **({"protocol": self.protocol} if self.protocol != dataclasses.asdict(ProtocolSettings()) else {}),
            **self.about,
        }

    def _told_tokenizer(self) -> dict[str, Any] | None:
        if self.tokenizer is None:
            return None
        return self.tokenizer.as_dict() | self.sids.as_dict()

    def hash(self, **more: Any) -> str:
        """Eight hex digits over all that changes results, and `more` (fingerprints); not over the seed."""
        return hashed(self.as_dict(), more)


def hashed(settings: dict[str, Any], more: dict[str, Any]) -> str:
    """Eight hex digits over all of a configuration that changes results, and `more`."""
    return hashlib.sha256(json.dumps(told(settings) | more, sort_keys=True).encode()).hexdigest()[:8]


def identified(
    data: str, given: str | None, origin: str | None, files: dict[str, str] | None, processes: int = 1
) -> dict[str, Any]:  # fmt: skip
    """What a run's hash is over beside its settings: data, given SIDs, the run gone on from, content of local files.

    And how many processes share a batch, since batches are counted by process. Without any files, and in one process,
    the hash is what it was before these counted.
    """
    more = ({"files": files} if files else {}) | ({"processes": processes} if processes > 1 else {})
    return {"data": data, "given": given, "origin": origin} | more


def told(settings: dict[str, Any]) -> dict[str, Any]:
    """Of a configuration what changes results and is no seed; settings that came since count where they are set."""
    counted = {k: v for k, v in settings.items() if k not in ("seed", "summary", "group", "reported", *ABOUT)}
    if isinstance(counted.get("stages"), list):
        counted["stages"] = [_told_stage(stage) for stage in counted["stages"]]
    for section, later in LATER.items():
        if isinstance(counted.get(section), dict):
            counted[section] = {k: v for k, v in counted[section].items() if k not in later or v != later[k]}
    if isinstance(counted.get("tokenizer"), dict):
        counted["tokenizer"].pop("figures", None)  # it tells of SIDs, and makes none
    return counted


def _told_stage(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage or a part of one, without the later settings that are not set."""
    later = LATER_OF_STAGES | LATER_OF_TRAINERS.get(stage.get("trainer", ""), {})
    told_ = {k: v for k, v in stage.items() if k not in later or v != later[k]}
    if isinstance(parts := told_.get("parts"), dict):
        told_["parts"] = {key: _told_stage(part) if isinstance(part, dict) else part for key, part in parts.items()}
    return told_


def resolve(
    recipe: dict[str, Any], category: str, seed: int, overrides: Iterable[str], plugins: Plugins, strict: bool = True,
    tuned: Iterable[str] = (),
) -> RunConfig:  # fmt: skip
    """Apply ``--set`` overrides to a recipe and validate everything.

    Args:
        overrides: ``key=value`` strings; the key is ``stage.setting``, ``decoder.beams``,
            ``tokenizer=rqkmeans`` …, the value YAML.
        strict: whether an override that nothing reads is an error; trials of a search may have some.
        tuned: overrides before them that nobody wrote for this run (:func:`tuned`).

    Raises:
        BenchError: an unknown component, key or stage (with the nearest names), a value of a wrong type, or a seed
            out of range.
    """
    if type(seed) is not int:
        raise BenchError(f"seed {seed!r} is no whole number; write it without quotes")
    if not 0 <= seed <= MOST_SEED:
        raise BenchError(
            f"seed {seed} is outside 0–{MOST_SEED}, which is what the random generators take; choose another"
        )
    try:
        tree = json.loads(json.dumps({key: value for key, value in recipe.items() if key != "base"}))
        check_plain(tree)
    except (TypeError, ValueError, RecursionError) as error:
        raise BenchError(f"recipe {recipe.get('name')}: {error}") from None
    tree["stages"] = {stage["name"]: {"trainer": stage["name"]} | stage for stage in tree["stages"]}
    given, taken = list(overrides), list(tuned)
    before = _overridden(tree, taken)
    tree = _overridden(tree, [*taken, *given])
    if tree.get("settings_from") and any(tree.get(part) != before.get(part) for part in OF_A_MODEL):
        tree["settings_from"] = "choice"  # of who asked, on top of the paper's or of what a search found

    sids = sids_of(tree)
    stages = [_stage(name, values, plugins) for name, values in tree["stages"].items()]
    config = RunConfig(
        method=tree["name"],
        summary=tree.get("summary", ""),
        group=group_of(tree.get("group") or "ours"),
        reported=tree.get("reported", ""),
        category=category,
        seed=seed,
        prompts=str(tree.get("prompts", "")),
        tokenizer=component_of("tokenizer", tree["tokenizer"], plugins) if tree.get("tokenizer") else None,
        sids=sids,
        backbone=component_of("backbone", tree["backbone"], plugins) if tree.get("backbone") else None,
        stages=tuple(stages),
        decoder=component_of("decoder", tree["decoder"], plugins),
        dataset=dict(tree.get("dataset") or {}),
        probe=settings(_Probe, dict(tree.get("probe") or {}), "probe"),
        protocol=dataclasses.asdict(settings(_Protocol, dict(tree.get("protocol") or {}), "protocol")),
        about={key: tree[key] for key in ABOUT if tree.get(key) is not None} | ({"tuned": taken} if taken else {}),
    )
    if strict:
        _must_be_read(config, given)
    return config


def _overridden(tree: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of a recipe with overrides: another component first, then its settings, so they hold in any order."""
    copy = json.loads(json.dumps(tree))
    for override in sorted(overrides, key=lambda text: "." in text.partition("=")[0]):
        overrides_.apply(copy, override)
    return copy


class _Probe:
    """The probe as something that has settings."""

    Settings = ProbeSettings


class _Protocol:
    """The protocol as something that has settings."""

    Settings = ProtocolSettings


def _stage(name: str, values: dict[str, Any], plugins: Plugins) -> Stage:
    """A stage, its parts and the components that its settings name."""
    values = {k: v for k, v in values.items() if k != "name"}
    trainer = values.pop("trainer")
    factory = plugins.get("trainer", trainer)
    if hasattr(factory, "upgrade"):
        values = factory.upgrade(values)
    given = values.pop("parts", None) or {}
    named = {key: key for key in given} if isinstance(given, list) else given
    parts = {key: _part(f"{name}.parts.{key}", part, plugins) for key, part in named.items()}
    chosen = settings(factory, values, name)
    return Stage(name, Component("trainer", trainer, chosen), parts, made_of(name, chosen, plugins))


def _part(where: str, given: Any, plugins: Plugins) -> Component:
    """What a part names: a method (the trainer of its last stage), a trainer, or ``run:DIR``."""
    given = {"name": given} if isinstance(given, str) else given
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise BenchError(f"{where}: name a method or run:DIR, or give a mapping with its name and settings")
    name, values = given["name"], {key: value for key, value in given.items() if key != "name"}
    if name.startswith("run:"):
        if values or not name.removeprefix("run:"):
            raise BenchError(f"{where}: run:DIR is a folder, and a recorded run takes no settings")
        return Component("run", "run", None, name.removeprefix("run:"))
    if name in plugins.registry("method"):
        stage = {
            "trainer": plugins.get("method", name)["stages"][-1]["name"],
            **plugins.get("method", name)["stages"][-1],
        }
        stage = {key: value for key, value in stage.items() if key != "name"} | values
        trainer = stage.pop("trainer")
    else:
        known = {*plugins.registry("method"), *plugins.registry("trainer")}
        if name not in known:
            raise unknown("method", name, known, f"in {where}")
        trainer, stage = name, values
    factory = plugins.get("trainer", trainer)
    chosen = settings(factory, stage, where)
    return Component("trainer", trainer, chosen, made=made_of(where, chosen, plugins))


def unread(config: RunConfig) -> dict[str, str]:
    """``{"stage.setting": when it is read}`` of the settings that nothing reads under the others."""
    parts: dict[str, Any] = {stage.name: stage.trainer.settings for stage in config.stages}
    named = {"tokenizer": config.tokenizer, "backbone": config.backbone, "decoder": config.decoder}
    parts |= {name: component.settings for name, component in named.items() if component is not None}
    silent = {
        f"{head}.{name}": when for head, settings in parts.items() for name, when in silent_settings(settings).items()
    }
    if not hasattr(config.decoder.settings, "beams"):
        silent["probe.beams"] = "the decoder has beams"
    if config.backbone is None:
        silent["prompts"] = "the method has a backbone"
    return silent


def _must_be_read(config: RunConfig, overrides: Iterable[str]) -> None:
    """Refuse what was set and is not read under the other settings."""
    silent = unread(config)
    for override in overrides:
        key = ".".join(override.partition("=")[0].strip().split(".")[:2])
        if key in silent:
            raise BenchError(f"--set {override}: {key} is read only where {silent[key]}; leave it out")
