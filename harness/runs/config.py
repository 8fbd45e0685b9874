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
from harness.settings import settings
from harness.settings import unread as silent_settings
from harness.text.parsing import check_plain, parse_yaml

if TYPE_CHECKING:
    from harness.plugins import Plugins

LATER = {"backbone": {"revision": ""}}
"""Settings that came into being after runs were recorded, with the value that means what was before them."""
ABOUT = ("deterministic", "settings_from", "searched", "tuned", "note")
"""Keys of a configuration that change no result: where its settings are from, what its seeds do, what captions say."""
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
class Component:
    """A named component with validated settings."""

    kind: str
    name: str
    settings: Any
    location: str | None = None
    """What stands behind the colon of a backbone, e.g. the path in ``hf:PATH``."""

    def as_dict(self) -> dict[str, Any]:
        """The component in the recipe's form, every setting spelled out."""
        name = f"{self.name}:{self.location}" if self.location else self.name
        return {"name": name, **dataclasses.asdict(self.settings)}

    def as_part(self) -> Any:
        """The component as a stage's part: a recorded run by its place, another by name and settings."""
        return f"run:{self.location}" if self.kind == "run" else self.as_dict()

    def make(self, plugins: Plugins) -> Any:
        """The component itself.

        Raises:
            BenchError: a plugin's component cannot be made; its own :class:`BenchError` goes through.
        """
        factory = plugins.get(self.kind, self.name)
        if self.kind == "reward" and not isinstance(factory, type):
            return factory  # a plain function
        try:
            return factory(self.settings, self.location) if self.kind == "backbone" else factory(self.settings)
        except BenchError:
            raise
        except Exception as error:
            plugin = plugins.owner(self.kind, self.name)
            if plugin is None or plugin.built_in:
                raise
            raise BenchError(
                f"{self.kind} {self.name} of plugin {plugin.name} cannot be made with its settings: "
                f"{type(error).__name__}: {error}; its __init__ takes (settings)"
            ) from error


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
            "tokenizer": self.tokenizer.as_dict() if self.tokenizer else None,
            "backbone": self.backbone.as_dict() if self.backbone else None,
            "stages": [stage.as_dict() for stage in self.stages],
            "decoder": self.decoder.as_dict(),
            "dataset": self.dataset,
            "probe": dataclasses.asdict(self.probe),
            **({"protocol": self.protocol} if self.protocol != dataclasses.asdict(ProtocolSettings()) else {}),
            **self.about,
        }

    def hash(self, **more: Any) -> str:
        """Eight hex digits over all that changes results, and `more` (fingerprints); not over the seed."""
        return hashed(self.as_dict(), more)


def hashed(settings: dict[str, Any], more: dict[str, Any]) -> str:
    """Eight hex digits over all of a configuration that changes results, and `more`."""
    return hashlib.sha256(json.dumps(told(settings) | more, sort_keys=True).encode()).hexdigest()[:8]


def identified(data: str, given: str | None, origin: str | None, files: dict[str, str] | None) -> dict[str, Any]:
    """What a run's hash is over beside its settings: data, given SIDs, the run gone on from, content of local files.

    Without any files the hash is what it was before files counted.
    """
    return {"data": data, "given": given, "origin": origin} | ({"files": files} if files else {})


def told(settings: dict[str, Any]) -> dict[str, Any]:
    """Of a configuration what changes results and is no seed; settings that came since count where they are set."""
    counted = {k: v for k, v in settings.items() if k not in ("seed", "summary", "group", "reported", *ABOUT)}
    for section, later in LATER.items():
        if isinstance(counted.get(section), dict):
            counted[section] = {k: v for k, v in counted[section].items() if k not in later or v != later[k]}
    return counted


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
    # another component first, then its settings: so they hold in any order
    given, taken = list(overrides), list(tuned)
    for override in sorted([*taken, *given], key=lambda text: "." in text.partition("=")[0]):
        _apply(tree, override)

    def component(kind: str, given: Any) -> Component:
        given = {"name": given} if isinstance(given, str) else dict(given)
        name, _, location = str(given.pop("name", "")).partition(":")
        factory = plugins.get(kind, name)
        return Component(kind, name, settings(factory, given, kind), location or None)

    stages = [_stage(name, values, plugins) for name, values in tree["stages"].items()]
    config = RunConfig(
        method=tree["name"],
        summary=tree.get("summary", ""),
        group=group_of(tree.get("group") or "ours"),
        reported=tree.get("reported", ""),
        category=category,
        seed=seed,
        prompts=str(tree.get("prompts", "")),
        tokenizer=component("tokenizer", tree["tokenizer"]) if tree.get("tokenizer") else None,
        backbone=component("backbone", tree["backbone"]) if tree.get("backbone") else None,
        stages=tuple(stages),
        decoder=component("decoder", tree["decoder"]),
        dataset=dict(tree.get("dataset") or {}),
        probe=settings(_Probe, dict(tree.get("probe") or {}), "probe"),
        protocol=dataclasses.asdict(settings(_Protocol, dict(tree.get("protocol") or {}), "protocol")),
        about={key: tree[key] for key in ABOUT if tree.get(key) is not None} | ({"tuned": taken} if taken else {}),
    )
    if strict:
        _must_be_read(config, given)
    return config


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
    made = {
        field.name: _named(f"{name}.{field.name}", field.metadata["components"], getattr(chosen, field.name), plugins)
        for field in dataclasses.fields(chosen)
        if field.metadata.get("components")
    }
    return Stage(name, Component("trainer", trainer, chosen), parts, made)


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
    return Component("trainer", trainer, settings(factory, stage, where))


def _named(where: str, kind: str, given: Any, plugins: Plugins) -> dict[str, Component | None]:
    """The components that a setting names: a name, or names with a weight or settings (a ``weight`` among them)."""
    wanted = {given: {}} if isinstance(given, str) else dict(given or {})
    components: dict[str, Component | None] = {}
    for name, value in wanted.items():
        values = {key: v for key, v in value.items() if key != "weight"} if isinstance(value, dict) else {}
        factory = plugins.get(kind, name)
        if isinstance(factory, type):
            components[name] = Component(kind, name, settings(factory, values, f"{where}.{name}"))
        elif values:
            raise BenchError(f"{where}.{name}: this {kind} has no settings but its weight")
        else:
            components[name] = Component(kind, name, None)
    return components


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


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise BenchError(f"--set {override}: write it as key=value, e.g. --set decoder.beams=20")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        shown = "not valid YAML" if str(error).startswith("not valid") else str(error)
        raise BenchError(f"--set {override[:80]}: the value is {shown}; quote it, or give another") from None
    head, *rest = key.strip().split(".")
    sections = [*tree["stages"], "tokenizer", "backbone", "decoder", "dataset", "probe", "protocol", "prompts"]
    if head not in sections:
        raise unknown("setting", key, sections, f"in --set {override}")
    if head == "prompts":
        tree[head] = value
        return
    holder = tree["stages"] if head in tree["stages"] else tree
    if not rest:  # --set tokenizer=rqkmeans, --set backbone=hf:PATH: another component, its own defaults
        if head in tree["stages"] or not isinstance(value, (str, type(None))):
            raise BenchError(f"--set {override}: name the setting, as in {head}.SETTING=value")
        holder[head] = {"name": value} if value else None
        return
    if isinstance(holder.get(head), str):
        holder[head] = {"name": holder[head]}
    place = holder.setdefault(head, {})
    if place is None:
        raise BenchError(f"--set {override}: the recipe has no {head}")
    for number, part in enumerate(rest[:-1]):
        inner = place.setdefault(part, {})
        if number == 0 and part == "parts" and isinstance(inner, list):
            place[part] = {key: key for key in inner}
        elif number == 1 and rest[0] == "parts" and isinstance(inner, str):
            place[part] = {"name": inner}
        place = place[part]
        if not isinstance(place, dict):
            raise BenchError(f"--set {override}: {part} holds a value, not settings")
    place[rest[-1]] = value
