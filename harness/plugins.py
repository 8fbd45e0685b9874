"""The plugin manager: finds plugins, loads them, and says who registered what.

Sources, in order: the built-ins, installed packages (entry-point group ``bench``), the files and
modules of ``BENCH_PLUGINS``, and ``--plugin FILE``. It knows nothing about what plugins do.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pluggy

from harness import __version__, hookspecs
from harness.errors import BenchError, unknown

ENTRY_POINT_GROUP = "bench"
ENVIRONMENT_VARIABLE = "BENCH_PLUGINS"
BUILT_INS = (
    "harness.data",
    "plugins.tokenizers",
    "plugins.backbones",
    "plugins.decoders",
    "plugins.metrics",
    "plugins.minionerec",
    "plugins.lcrec",
    "plugins.bigrec",
    "plugins.d3",
    "plugins.sdpo",
    "baselines",
)
KINDS = {
    "dataset": "bench_datasets",
    "tokenizer": "bench_tokenizers",
    "backbone": "bench_backbones",
    "trainer": "bench_trainers",
    "decoder": "bench_decoders",
    "metric": "bench_metrics",
    "analysis": "bench_analyses",
    "reward": "bench_rewards",
    "method": "bench_methods",
}


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: its name, version, and where it comes from."""

    name: str
    version: str
    source: str
    module: Any


@dataclass
class Plugins:
    """What the loaded plugins offer, by kind and name."""

    manager: pluggy.PluginManager
    loaded: list[Plugin] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    _registries: dict[str, dict[str, tuple[Any, Plugin]]] = field(default_factory=dict)

    def registry(self, kind: str) -> dict[str, tuple[Any, Plugin]]:
        """``{name: (component or its "module:attribute", plugin)}`` of one kind of :data:`KINDS`.

        Raises:
            BenchError: two plugins registered the same name, or a hook did not return what it must.
        """
        if kind not in self._registries:
            found: dict[str, tuple[Any, Plugin]] = {}
            for plugin in self.loaded:
                for name, component in self._offers(plugin, kind).items():
                    if name in found:
                        first = found[name][1]
                        raise BenchError(
                            f"{kind} '{name}' is registered by both {first.name} ({first.source}) and "
                            f"{plugin.name} ({plugin.source}); rename it in one of them"
                        )
                    found[name] = (component, plugin)
            self._registries[kind] = found
        return self._registries[kind]

    def _offers(self, plugin: Plugin, kind: str) -> dict[str, Any]:
        function = getattr(plugin.module, KINDS[kind], None)
        if function is None:
            return {}
        try:
            offered = function()
            if kind == "method":
                from harness.config import read_recipe

                recipes = [read_recipe(recipe) for recipe in offered]
                offered = {recipe["name"]: recipe for recipe in recipes}
            return dict(offered)
        except Exception as error:
            if plugin.source == "built-in" or isinstance(error, BenchError):
                raise
            raise BenchError(
                f"plugin {plugin.name} ({plugin.source}) fails in {KINDS[kind]}: {type(error).__name__}: {error}"
            ) from error

    def get(self, kind: str, name: str) -> Any:
        """The component of that kind and name, or a :class:`BenchError` with the nearest names."""
        registry = self.registry(kind)
        if name not in registry:
            raise unknown(kind, name, registry, f"(bench {'methods' if kind == 'method' else 'plugins'} lists them)")
        component, plugin = registry[name]
        if not isinstance(component, str):
            return component
        module, _, attribute = component.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise BenchError(f"{kind} '{name}' of plugin {plugin.name} cannot be imported: {error}") from error

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call a lifecycle hook on every plugin; a failing observer is reported and passed over."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                implementation.function(**{name: arguments[name] for name in implementation.argnames})
            except Exception as error:
                click.echo(
                    f"Warning: plugin {implementation.plugin_name} failed in {hook}: {type(error).__name__}: {error}",
                    err=True,
                )


def load(files: Iterable[str] = (), strict: bool = False) -> Plugins:
    """Load all plugins.

    Args:
        files: Python files given with ``--plugin``.
        strict: a third-party plugin that cannot be loaded is an error, not a warning.

    Raises:
        BenchError: a file of ``files`` cannot be loaded, or (strict) any plugin cannot.
    """
    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    wanted, blocked = _environment()
    for name in BUILT_INS:
        if name in blocked or importlib.util.find_spec(name) is None:
            continue  # a built-in plugin whose folder was deleted leaves a working harness
        _register(plugins, Plugin(name, __version__, "built-in", importlib.import_module(name)))
    for entry_point in sorted(metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
        if entry_point.name in blocked:
            continue
        distribution = entry_point.dist.name if entry_point.dist else "?"
        version = entry_point.dist.version if entry_point.dist else "?"
        with _Guard(plugins, f"{entry_point.name} (package {distribution})", strict):
            _register(plugins, Plugin(entry_point.name, version, f"package {distribution}", entry_point.load()))
    for name in wanted:
        with _Guard(plugins, f"{name} ({ENVIRONMENT_VARIABLE})", strict):
            module = _from_file(name) if name.endswith(".py") else importlib.import_module(name)
            _register(plugins, Plugin(_name(module, name), _version(module), f"{ENVIRONMENT_VARIABLE} {name}", module))
    for file in files:
        with _Guard(plugins, f"{file} (--plugin)", strict=True):
            module = _from_file(file)
            _register(plugins, Plugin(_name(module, file), _version(module), f"file {file}", module))
    return plugins


class _Guard:
    """Turns the failure of a third-party plugin into a warning, or into an error where strict."""

    def __init__(self, plugins: Plugins, label: str, strict: bool):
        self.plugins, self.label, self.strict = plugins, label, strict

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if error is None or isinstance(error, KeyboardInterrupt):
            return False
        reason = error.message if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        line = f"plugin {self.label} cannot be loaded: {reason}".replace("\n", " ")
        if self.strict:
            raise BenchError(line) from error
        self.plugins.broken.append(line)
        click.echo(f"Warning: {line}; skipped (--strict-plugins makes this an error)", err=True)
        return True


def _register(plugins: Plugins, plugin: Plugin) -> None:
    names = [n for n in dir(plugin.module) if n.startswith("bench_")]
    for name in names:
        if not hasattr(hookspecs, name):
            raise unknown("hook", name, [n for n in dir(hookspecs) if n.startswith("bench_")])
    if any(plugin.name == other.name for other in plugins.loaded):
        raise BenchError(f"a plugin named '{plugin.name}' is loaded already")
    plugins.manager.register(plugin.module, name=plugin.name)
    plugins.manager.check_pending()
    plugins.loaded.append(plugin)


def _environment() -> tuple[list[str], set[str]]:
    """``BENCH_PLUGINS``: comma-separated files and modules to load; ``-NAME`` keeps a plugin out."""
    names = [n.strip() for n in os.environ.get(ENVIRONMENT_VARIABLE, "").split(",") if n.strip()]
    return [n for n in names if not n.startswith("-")], {n[1:] for n in names if n.startswith("-")}


def _from_file(file: str) -> ModuleType:
    path = Path(file)
    if not path.is_file():
        raise BenchError(f"plugin file {file} does not exist; give --plugin the path of a Python file")
    name = f"bench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BenchError(f"plugin file {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _name(module: ModuleType, source: str) -> str:
    return Path(source).stem if source.endswith(".py") else module.__name__


def _version(module: ModuleType) -> str:
    return str(getattr(module, "__version__", "-"))
