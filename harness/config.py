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
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.errors import BenchError, unknown

if TYPE_CHECKING:
    from harness.plugins import Plugins

RECIPE_KEYS = {
    "name", "summary", "group", "reference", "paper", "reported", "dataset",
    "tokenizer", "backbone", "prompts", "stages", "decoder", "probe", "search",
}  # fmt: skip
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, in C where libyaml is there: the same values ten times as fast."""
LATER = {"backbone": {"revision": ""}}
"""Settings that came into being after runs were recorded, with the value that means what was before them."""
MOST_SEED = 2**32 - 1
"""Seeds lie in 0 … 2³² − 1: NumPy, scikit-learn and torch all take those."""
GROUPS = ("floor", "traditional", "generative", "llm", "ours")


@dataclass(frozen=True)
class ProbeSettings:
    """The valid metric that early stopping and selection look at."""

    samples: int = dataclasses.field(default=0, metadata={"help": "valid samples to decode, drawn once; 0: all"})
    beams: int = dataclasses.field(default=20, metadata={"help": "beams of the probe; 0: as the decoder has"})


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

    def make(self, plugins: Plugins) -> Any:
        """The component itself."""
        factory = plugins.get(self.kind, self.name)
        return factory(self.settings, self.location) if self.kind == "backbone" else factory(self.settings)


@dataclass(frozen=True)
class Stage:
    """One stage of a method: its name and its trainer."""

    name: str
    trainer: Component


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
            "stages": [
                {"name": s.name, "trainer": s.trainer.name, **dataclasses.asdict(s.trainer.settings)}
                for s in self.stages
            ],
            "decoder": self.decoder.as_dict(),
            "dataset": self.dataset,
            "probe": dataclasses.asdict(self.probe),
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
    found = {k: v for k, v in settings.items() if k not in ("seed", "summary", "group", "reported")}
    for section, later in LATER.items():
        if isinstance(found.get(section), dict):
            found[section] = {k: v for k, v in found[section].items() if k not in later or v != later[k]}
    return found


def shipped(*parts: str) -> Path:
    """A file of the packaged ``configs`` folder."""
    return Path(str(resources.files("configs").joinpath(*parts)))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that must hold a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=SAFE_LOADER)
    except FileNotFoundError:
        raise BenchError(f"{path} does not exist") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BenchError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise BenchError(f"{path} must hold a mapping of settings, not {type(content).__name__}")
    return content


def read_recipe(source: Any) -> dict[str, Any]:
    """A recipe from a path or a dict, its outline checked (its settings are checked by :func:`resolve`)."""
    recipe = dict(source) if isinstance(source, dict) else read_yaml(Path(source))
    where = f"recipe {recipe.get('name', source)}"
    for key in recipe:
        if key not in RECIPE_KEYS:
            raise unknown("key", str(key), RECIPE_KEYS, f"in {where}")
    for key in ("name", "stages", "decoder"):
        if not recipe.get(key):
            raise BenchError(f"{where} lacks '{key}'")
    for key in ("name", "summary", "group", "reference", "reported", "prompts"):
        if not isinstance(recipe.get(key) or "", str):
            raise BenchError(f"{where}: {key} must be a text, not {recipe[key]!r}")
    for key in ("tokenizer", "backbone", "decoder"):
        if not isinstance(recipe.get(key) or {}, (str, dict)):
            raise BenchError(f"{where}: {key} must be a name, or a mapping with one, not {recipe[key]!r}")
    if recipe.get("group", "ours") not in GROUPS:
        raise unknown("group", str(recipe["group"]), GROUPS, f"in {where}")
    if not isinstance(recipe.get("paper") or {}, dict):
        raise BenchError(f"{where}: paper maps settings to the paper's values, such as sft.epochs: 5")
    names = []
    for stage in recipe["stages"]:
        if not isinstance(stage, dict) or "name" not in stage:
            raise BenchError(f"{where}: each stage needs a name")
        names.append(stage["name"])
    reserved = set(names) & {"tokenizer", "backbone", "decoder", "dataset", "probe", "prompts"}
    if len(set(names)) != len(names) or reserved:
        raise BenchError(f"{where}: stage names {names} must differ from each other and from the recipe's own keys")
    return recipe


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
    tree = json.loads(json.dumps(recipe))
    tree["stages"] = {stage["name"]: {"trainer": stage["name"]} | stage for stage in tree["stages"]}
    # another component first, then its settings: so they hold in any order
    given = list(overrides)
    for override in sorted([*tuned, *given], key=lambda text: "." in text.partition("=")[0]):
        _apply(tree, override)

    def component(kind: str, given: Any) -> Component:
        given = {"name": given} if isinstance(given, str) else dict(given)
        name, _, location = str(given.pop("name", "")).partition(":")
        factory = plugins.get(kind, name)
        return Component(kind, name, settings(factory, given, kind), location or None)

    stages = []
    for name, values in tree["stages"].items():
        values = {k: v for k, v in values.items() if k != "name"}
        trainer = values.pop("trainer")
        factory = plugins.get("trainer", trainer)
        stages.append(Stage(name, Component("trainer", trainer, settings(factory, values, name))))
    config = RunConfig(
        method=tree["name"],
        summary=tree.get("summary", ""),
        group=tree.get("group", "ours"),
        reported=tree.get("reported", ""),
        category=category,
        seed=seed,
        prompts=str(tree.get("prompts", "")),
        tokenizer=component("tokenizer", tree["tokenizer"]) if tree.get("tokenizer") else None,
        backbone=component("backbone", tree["backbone"]) if tree.get("backbone") else None,
        stages=tuple(stages),
        decoder=component("decoder", tree["decoder"]),
        dataset=dict(tree.get("dataset") or {}),
        probe=_validate(ProbeSettings, dict(tree.get("probe") or {}), "probe"),
    )
    if strict:
        _must_be_read(config, given)
    return config


def unread(config: RunConfig) -> dict[str, str]:
    """``{"stage.setting": when it is read}`` of the settings that nothing reads under the others."""
    parts: dict[str, Any] = {stage.name: stage.trainer.settings for stage in config.stages}
    named = {"tokenizer": config.tokenizer, "backbone": config.backbone, "decoder": config.decoder}
    parts |= {name: component.settings for name, component in named.items() if component is not None}
    found = {
        f"{head}.{field.name}": only[0]
        for head, settings in parts.items()
        for field in dataclasses.fields(settings)
        if (only := field.metadata.get("only")) and not only[1](settings) and not _is_default(field, settings)
    }
    if not hasattr(config.decoder.settings, "beams"):
        found["probe.beams"] = "the decoder has beams"
    if config.backbone is None:
        found["prompts"] = "the method has a backbone"
    return found


def _must_be_read(config: RunConfig, overrides: Iterable[str]) -> None:
    """Refuse what was set and is not read under the other settings."""
    silent = unread(config)
    for override in overrides:
        key = ".".join(override.partition("=")[0].strip().split(".")[:2])
        if key in silent:
            raise BenchError(f"--set {override}: {key} is read only where {silent[key]}; leave it out")


def _is_default(field: Any, settings: Any) -> bool:
    made = field.default_factory() if field.default is dataclasses.MISSING else field.default
    return bool(getattr(settings, field.name) == made)


def tuned(method: str, category: str) -> tuple[str, ...]:
    """``key=value`` settings that a search on the category's own valid found for a method; most have none.

    They stand in ``configs/datasets/<category>.yaml``, go before all ``--set``, and are written into the run's
    ``config.yaml`` like any other setting.
    """
    path = shipped("datasets", f"{category}.yaml")
    found = read_yaml(path).get("tuned", {}).get(method, []) if path.is_file() else []
    return tuple(found)


def settings(factory: Any, values: dict[str, Any], where: str) -> Any:
    """The validated ``Settings`` of a component class."""
    return _validate(factory.Settings, values, where)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise BenchError(f"--set {override}: write it as key=value, e.g. --set decoder.beams=20")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise BenchError(f"--set {override}: the value is not valid YAML; quote it") from None
    head, *rest = key.strip().split(".")
    sections = [*tree["stages"], "tokenizer", "backbone", "decoder", "dataset", "probe", "prompts"]
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
    for part in rest[:-1]:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise BenchError(f"--set {override}: {part} holds a value, not settings")
    place[rest[-1]] = value


def _validate(settings_class: type, values: dict[str, Any], where: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    names = {f.name for f in dataclasses.fields(settings_class)}
    for key in values:
        if key not in names:
            raise unknown("setting", f"{where}.{key}", [f"{where}.{n}" for n in names])
    try:
        return TypeAdapter(settings_class).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([where, *map(str, first["loc"])])
        raise BenchError(f"setting {place} = {first['input']!r}: {first['msg']}") from None
