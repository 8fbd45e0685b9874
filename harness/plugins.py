"""The plugin manager: finds plugins, loads them, and says who registered what.

Sources, in order: the built-ins, installed packages (entry-point group ``bench``), what ``BENCH_PLUGINS`` names, and
``--plugin``. All calls go through pluggy. It knows nothing about what plugins do.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import click
import pluggy

from harness import hookspecs
from harness.builtin import HOME
from harness.checks import names
from harness.errors import BenchError, unknown
from harness.guards import Offer, guard, offering
from harness.sources import Source, entry_points, load_source
from harness.version import __version__

ENTRY_POINT_GROUP = "bench"
ENVIRONMENT_VARIABLE = "BENCH_PLUGINS"
BUILT_IN = "built-in"
BUILT_INS = (
    "plugins.datasets",
    "plugins.tokenizers",
    "plugins.embedders",
    "plugins.backbones",
    "plugins.decoders",
    "plugins.external",
    "plugins.metrics",
    "plugins.minionerec",
    "plugins.memory",
    "plugins.lcrec",
    "plugins.bigrec",
    "plugins.d3",
    "plugins.sdpo",
    "baselines",
    "leaderboard",
)
"""Packages of :mod:`harness.builtin`."""
KINDS = {
    "dataset": "bench_datasets",
    "tokenizer": "bench_tokenizers",
    "embedder": "bench_embedders",
    "backbone": "bench_backbones",
    "trainer": "bench_trainers",
    "decoder": "bench_decoders",
    "metric": "bench_metrics",
    "reward": "bench_rewards",
    "method": "bench_methods",
}
OBSERVERS = ("bench_loaded", "bench_run_started", "bench_stage_finished", "bench_run_finished")
"""Lifecycle hooks: what fails in them never fails a run."""
GONE = {
    "bench_analyses": "register it under bench_metrics, as a function of one value that has rankings, samples, train, "
    "items and semantic_ids (docs/plugins.md)"
}
"""Hooks of older versions, and what to do in their place."""
CORE_METRICS = {
    "sid": "harness.evaluation.metrics:sid_protocol",
    "item": "harness.evaluation.metrics:item_protocol",
    "ranks": "harness.evaluation.metrics:ranks",
}
"""The core's own: every comparison stands on them."""


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: its name, version, where it comes from, and the distribution that brought it (or nothing)."""

    name: str
    version: str
    source: str
    module: Any
    distribution: str = ""

    @property
    def built_in(self) -> bool:
        """Whether it comes with the harness."""
        return self.source == BUILT_IN


CORE = Plugin("harness", __version__, BUILT_IN, None)


@dataclass(eq=False)
class Plugins:
    """What the loaded plugins offer, by kind and name."""

    manager: pluggy.PluginManager
    loaded: list[Plugin] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    """Built-ins whose folder is not there."""
    _registries: dict[str, dict[str, tuple[Any, Plugin]]] = field(default_factory=dict)

    def registry(self, kind: str) -> dict[str, tuple[Any, Plugin]]:
        """``{name: (component or its "module:attribute", plugin)}`` of one kind of :data:`KINDS`.

        Raises:
            BenchError: two plugins registered the same name, or a hook did not return what it must.
        """
        if kind not in self._registries:
            registered: dict[str, tuple[Any, Plugin]] = {}
            if kind == "metric":
                registered = {name: (place, CORE) for name, place in CORE_METRICS.items()}
            for offered, plugin in self._offers(KINDS[kind]):
                for name, component in _components(kind, offered, plugin).items():
                    if name in registered:
                        first = registered[name][1]
                        raise BenchError(
                            f"{kind} '{name}' is registered by both {first.name} ({first.source}) and "
                            f"{plugin.name} ({plugin.source}); rename it in one of them"
                        )
                    registered[name] = (component, plugin)
            if kind == "method":  # a built-in whose base was deleted with its folder is deleted too
                registered = {
                    n: (r, p) for n, (r, p) in registered.items() if not p.built_in or r.get("base", n) in registered
                }
            self._registries[kind] = registered
        return self._registries[kind]

    def reported(self) -> list[tuple[Any, Plugin]]:
        """Paths of files with published numbers, and who brought each (``bench_reported``)."""
        brought = []
        for offered, plugin in self._offers("bench_reported"):
            if not isinstance(offered, (list, tuple)):
                raise BenchError(f"{_place(plugin)}: bench_reported must return a list of paths, not {offered!r:.60}")
            brought += [(path, plugin) for path in offered]
        return brought

    def _offers(self, hook: str) -> list[tuple[Any, Plugin]]:
        """What each plugin returned from a registration hook, in the order of loading."""
        order = {plugin.name: number for number, plugin in enumerate(self.loaded)}
        by_name = {plugin.name: plugin for plugin in self.loaded}
        results = getattr(self.manager.hook, hook)()
        if not isinstance(results, list):
            names = [i.plugin_name for i in getattr(self.manager.hook, hook).get_hookimpls() if _wraps(i)]
            raise BenchError(
                f"plugin {' or '.join(names)}: its wrapper of {hook} must return a list, what the hook's "
                f"implementations returned, not {type(results).__name__}"
            )
        wrappers = [i.plugin_name for i in getattr(self.manager.hook, hook).get_hookimpls() if _wraps(i)]
        offers = []
        for result in results:
            offer = result if isinstance(result, Offer) else Offer(result, wrappers[-1] if wrappers else "?")
            offers.append((offer.content, by_name[offer.plugin]))
        return sorted(offers, key=lambda offer: order[offer[1].name])

    def get(self, kind: str, name: str) -> Any:
        """The component of that kind and name, or a :class:`BenchError` with the nearest names."""
        registry = self.registry(kind)
        if name not in registry:
            mend = f"(bench {'methods' if kind == 'method' else 'plugins'} lists them)"
            if self.absent:
                mend += f"; not there: the built-in {', '.join(self.absent)}"
            raise unknown(kind, name, registry, mend)
        component, plugin = registry[name]
        if kind == "method":
            return self._whole(component, plugin)
        if not isinstance(component, str):
            return component
        module, _, attribute = component.partition(":")
        if module.startswith("."):
            module = plugin.module.__package__ + (module if len(module) > 1 else "")
        try:
            return getattr(importlib.import_module(module), attribute)
        except BenchError:
            raise
        except Exception as error:  # whatever a plugin's module does when it is imported
            reason = f"{type(error).__name__}: {error}"
            raise BenchError(f"{kind} '{name}' of {_place(plugin)} cannot be imported: {reason}") from error

    def _whole(self, recipe: dict[str, Any], plugin: Plugin) -> dict[str, Any]:
        """A recipe with what it has from its base."""
        from harness.recipes import with_base

        def find(name: str) -> dict[str, Any]:
            known = self.registry("method")
            if name not in known:
                error = unknown("base", name, known)
                raise BenchError(f"recipe {recipe['name']} of {_place(plugin)}: {error.message}")
            return known[name][0]

        return with_base(recipe, find)

    def owner(self, kind: str, name: str) -> Plugin | None:
        """The plugin that a component comes from; None where there is no such component."""
        return self.registry(kind).get(name, (None, None))[1]

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call a lifecycle hook; an observer or a wrapper that fails is reported and passed over."""
        try:
            getattr(self.manager.hook, hook)(**arguments)
        except Exception as error:  # only pluggy itself is left to fail
            click.echo(f"Warning: {hook} failed: {type(error).__name__}: {error}", err=True)


def load(files: Iterable[str] = (), strict: bool = False, built_ins_only: bool = False) -> Plugins:
    """Load all plugins.

    Args:
        files: files, folders and packages given with ``--plugin``.
        built_ins_only: leave out all that does not come with the harness.
        strict: a third-party plugin that cannot be loaded is an error, not a warning.

    Raises:
        BenchError: one of ``files`` cannot be loaded, or (strict) any plugin cannot.
    """
    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    wanted, blocked = _environment()
    for name in BUILT_INS:
        if name in blocked:
            continue
        if not (HOME / name.replace(".", "/") / "__init__.py").is_file():
            plugins.absent.append(name)  # a built-in whose folder was deleted leaves a working harness
            continue
        module = importlib.import_module(f"harness.builtin.{name}")
        _register(plugins, Plugin(name, __version__, BUILT_IN, module))
    if built_ins_only:
        return plugins
    for entry in entry_points(ENTRY_POINT_GROUP):
        if entry.name not in blocked:
            with _Guard(plugins, f"{entry.name} (package {entry.distribution})", strict):
                _register(plugins, Plugin(
                    entry.name, entry.version, f"package {entry.distribution}", entry.load(), entry.distribution
                ))  # fmt: skip
    seen: set[Any] = set()
    for given, origin, must in [*((n, ENVIRONMENT_VARIABLE, strict) for n in wanted), *((f, "", True) for f in files)]:
        with _Guard(plugins, f"{given} ({origin or '--plugin'})", must):
            for source in load_source(given):
                if source.key not in seen:
                    seen.add(source.key)
                    _register(plugins, _of_source(plugins, source, origin))
    plugins.notify("bench_loaded", plugins=plugins)
    return plugins


def _of_source(plugins: Plugins, source: Source, origin: str) -> Plugin:
    """The plugin of a file, folder or module; another of its name is told apart by its folder."""
    taken = {plugin.name for plugin in plugins.loaded}
    name = source.name if source.name not in taken else source.longer_name
    names.checked(source.name, "plugin", source.given)
    version = str(getattr(source.module, "__version__", source.version))
    return Plugin(name, version, f"{origin or source.what} {source.given}", source.module, source.distribution)


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
        line = f"plugin {self.label} cannot be loaded: {' '.join(reason.split())}"
        if self.strict:
            raise BenchError(line) from error
        self.plugins.broken.append(line)
        click.echo(f"Warning: {line}; skipped (--strict-plugins makes this an error)", err=True)
        return True


def _register(plugins: Plugins, plugin: Plugin) -> None:
    """Hand a plugin to pluggy, its hooks guarded; nothing of it stays where it is refused."""
    manager, module = plugins.manager, plugin.module
    if any(plugin.name == other.name for other in plugins.loaded):
        raise BenchError(f"a plugin named '{plugin.name}' is loaded already")
    known = [name for name in dir(hookspecs) if name.startswith("bench_")]
    for name in dir(module):
        member = getattr(module, name)
        options = getattr(member, "bench_impl", None)
        hook = (options or {}).get("specname") or name
        if options is None and not (name.startswith("bench_") and inspect.isfunction(member)):
            continue
        if hook in GONE:
            raise BenchError(f"{hook} is no hook any more: {GONE[hook]}")
        if hook not in known:
            raise unknown("hook", hook, known)
        if options is None:
            raise BenchError(f"{name} lacks @hookimpl above it (from harness import hookimpl)")
    manager.register(module, name=plugin.name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        manager.unregister(module)
        raise
    for caller in manager.get_hookcallers(module) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin is module:
                observes = caller.name in OBSERVERS
                wrap = guard if observes or _wraps(implementation) else offering
                guarded = wrap(implementation, caller.name, _place(plugin), observes)
                implementation.function = guarded  # type: ignore[misc]
    plugins.loaded.append(plugin)


def _components(kind: str, offered: Any, plugin: Plugin) -> dict[str, Any]:
    """What a plugin offers of a kind, its form checked; a method is a recipe under its name."""
    hook = KINDS[kind]
    if kind == "method":
        from harness.recipes import read_recipe

        if not isinstance(offered, (list, tuple)):
            raise BenchError(f"{_place(plugin)}: {hook} must return a list of recipes, not {offered!r:.60}")
        default = "ours" if plugin.built_in else "community"
        try:
            recipes = [read_recipe(recipe, default) for recipe in offered]
        except BenchError as error:
            raise BenchError(f"{_place(plugin)}: {error.message}") from error
        return {recipe["name"]: recipe for recipe in recipes}
    if not isinstance(offered, dict) or not all(isinstance(name, str) for name in offered):
        raise BenchError(f"{_place(plugin)}: {hook} must return a dict of names, not {offered!r:.60}")
    for name, component in offered.items():
        fits = ":" in component if isinstance(component, str) else callable(component)
        if not fits:
            raise BenchError(
                f"{_place(plugin)}: {hook} gives {component!r:.60} for '{name}'; give a class or function, or its "
                'place as "package.module:Name"'
            )
    return dict(offered)


def _place(plugin: Plugin) -> str:
    """A plugin as messages name it: its name and where its code stands."""
    file = getattr(plugin.module, "__file__", None)
    return f"plugin {plugin.name} ({plugin.source if plugin.built_in or not file else file})"


def _wraps(implementation: Any) -> bool:
    return bool(implementation.wrapper or implementation.hookwrapper)


def _environment() -> tuple[list[str], set[str]]:
    """``BENCH_PLUGINS``: comma-separated files, folders and modules to load; ``-NAME`` keeps a plugin out."""
    names = [n.strip() for n in os.environ.get(ENVIRONMENT_VARIABLE, "").split(",") if n.strip()]
    return [n for n in names if not n.startswith("-")], {n[1:] for n in names if n.startswith("-")}
