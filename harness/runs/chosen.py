"""Components that a configuration or a setting names, with validated settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import BenchError, unknown
from harness.quantising.collisions import REPAIRS
from harness.runs import overrides as overrides_
from harness.settings import settings
from harness.settings import unread as silent_settings

if TYPE_CHECKING:
    from harness.plugins import Plugins


@dataclass(frozen=True)
class Component:
    """A named component with validated settings."""

    kind: str
    name: str
    settings: Any
    location: str | None = None
    """What stands behind the colon of a backbone or an embedder, e.g. the path in ``hf:PATH``."""
    made: dict[str, dict[str, Component | None]] = dataclasses.field(default_factory=dict)
    """Components that a setting of a tokenizer names, by setting and name."""

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
            located = self.kind in ("backbone", "embedder")
            return factory(self.settings, self.location) if located else factory(self.settings)
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
class SidSettings:
    """What is done with semantic IDs once they are made.

    Attributes:
        repair: of collisions (:mod:`harness.quantising.collisions`).
        figures: the embedder in whose vectors their quality is told; empty: the tokenizer's own. It changes no result.
    """

    repair: str = "none"
    figures: str = ""

    def as_dict(self) -> dict[str, str]:
        """What is set."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value != getattr(SidSettings, key)}


def tokenizer_of(name: str, overrides: Iterable[str], plugins: Plugins) -> tuple[Component, SidSettings]:
    """A tokenizer by its name with ``key=value`` settings (``tokenizer.`` before a key changes nothing), and the rest.

    Raises:
        BenchError: there is none of that name, or a setting is unknown, wrong, or not read.
    """
    tree: dict[str, Any] = {"stages": {}, "tokenizer": {"name": name}}
    for override in overrides:
        overrides_.apply(tree, f"tokenizer.{override.removeprefix('tokenizer.')}")
    sids = sids_of(tree)
    component = component_of("tokenizer", tree["tokenizer"], plugins)
    silent = silent_settings(component.settings)
    if silent:
        key, when = next(iter(silent.items()))
        raise BenchError(f"tokenizer.{key} is read only where {when}; leave it out")
    return component, sids


def component_of(kind: str, given: Any, plugins: Plugins) -> Component:
    """A component by its name (``NAME`` or ``NAME:LOCATION``), or by a mapping with its name and settings.

    Raises:
        BenchError: there is none of that name, or a setting is unknown or wrong; for those that a setting names too.
    """
    given = {"name": given} if isinstance(given, str) else dict(given)
    name, _, location = str(given.pop("name", "")).partition(":")
    factory = plugins.get(kind, name)
    chosen = settings(factory, given, kind)
    made = made_of(kind, chosen, plugins) if kind == "tokenizer" else {}
    return Component(kind, name, chosen, location or None, made)


def made_of(where: str, chosen: Any, plugins: Plugins) -> dict[str, dict[str, Component | None]]:
    """The components that settings name, by setting and name."""
    return {
        field.name: named(f"{where}.{field.name}", field.metadata["components"], getattr(chosen, field.name), plugins)
        for field in dataclasses.fields(chosen)
        if field.metadata.get("components") and getattr(chosen, field.name) not in field.metadata["instead"]
    }


def sids_of(tree: dict[str, Any]) -> SidSettings:
    """What is done with semantic IDs once they are made: keys beside the tokenizer's own settings, taken out of them.

    Raises:
        BenchError: there is no such repair.
    """
    tokenizer = tree.get("tokenizer")
    if not isinstance(tokenizer, dict):
        return SidSettings()
    own = {key: tokenizer.pop(key) for key in ("repair", "figures") if key in tokenizer}
    how = own["repair"] = own.get("repair") or "none"
    if how not in REPAIRS:
        raise unknown("repair", str(how), REPAIRS, "(tokenizer.repair)")
    return SidSettings(str(how), str(own.get("figures") or ""))


def named(where: str, kind: str, given: Any, plugins: Plugins) -> dict[str, Component | None]:
    """The components that a setting names: a name, or names with a weight or settings (a ``weight`` among them).

    An embedder's name may have a location, as in ``npy:PATH``.
    """
    wanted = {given: {}} if given and isinstance(given, str) else dict(given or {})
    components: dict[str, Component | None] = {}
    for name, value in wanted.items():
        values = {key: v for key, v in value.items() if key != "weight"} if isinstance(value, dict) else {}
        own, _, location = name.partition(":") if kind == "embedder" else (name, "", "")
        factory = plugins.get(kind, own)
        if isinstance(factory, type):
            components[name] = Component(kind, own, settings(factory, values, f"{where}.{name}"), location or None)
        elif values:
            raise BenchError(f"{where}.{name}: this {kind} has no settings but its weight")
        else:
            components[name] = Component(kind, name, None)
    return components
