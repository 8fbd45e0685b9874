"""What commands share: the options for plugins, and loading them once, when first needed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from harness.world import LAUNCHED, world

if TYPE_CHECKING:
    from harness.plugins import Plugins


def without(words: list[str], option: str) -> list[str]:
    """A command's words without an option and its value."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == option:
            skip = True
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def share_of_cores(processes: int) -> int:
    """Threads of each of so many processes of this machine."""
    return max(1, (os.cpu_count() or 1) // processes)


@dataclass
class LazyPlugins:
    """The plugins of this invocation, loaded on first use."""

    files: tuple[str, ...] = ()
    strict: bool = False
    _loaded: Plugins | None = None
    _given: tuple[tuple[str, ...], bool] = ((), False)
    _commands: int = 0

    @classmethod
    def of(cls, ctx: click.Context) -> LazyPlugins:
        """The invocation's, kept at the root context."""
        root = ctx.find_root()
        if root.obj is None:
            root.obj = cls()
        return root.obj

    def load(self) -> Plugins:
        """All plugins, or a :class:`~harness.errors.BenchError`."""
        if self._loaded is None or self._given != (self.files, self.strict):
            from harness import plugins

            self._given = (self.files, self.strict)
            self._loaded = plugins.load(self.files, self.strict)
        return self._loaded

    def add_commands(self, group: click.Group, name: str = "") -> None:
        """Let plugins add their commands: the built-ins first, and the others where `name` is none of those.

        Options that say which plugins to load may stand behind the command's name, which must be known first.
        """
        from harness import plugins

        if not self._commands:
            self._commands = 1
            plugins.load(built_ins_only=True).manager.hook.bench_commands(cli=group)
        if self._commands == 1 and (not name or name not in group.commands):
            self._commands = 2
            loaded = self.load()
            own = [plugin.module for plugin in loaded.loaded if plugin.built_in]
            loaded.manager.subset_hook_caller("bench_commands", remove_plugins=own)(cli=group)


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    lazy = LazyPlugins.of(ctx)
    if parameter.name == "plugin":
        lazy.files += tuple(v for v in value if v not in lazy.files)
    elif value:
        lazy.strict = True
    return value


def plugin_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--plugin FILE`` and ``--strict-plugins``, before or after the command's name."""
    function = click.option(
        "--strict-plugins", is_flag=True, is_eager=True, expose_value=False, callback=_remember,
        help="A plugin that cannot be loaded is an error.",
    )(function)  # fmt: skip
    return click.option(
        "--plugin", multiple=True, metavar="SOURCE", is_eager=True, expose_value=False, callback=_remember,
        help="Load a plugin from a file, a folder or a module (repeatable).",
    )(function)  # fmt: skip


def debug_mode() -> bool:
    """Whether ``bench --debug`` was given."""
    return bool(click.get_current_context().find_root().params.get("debug"))


def with_plugins(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command gets the loaded plugins as its first argument, and the options for them."""
    import functools

    @functools.wraps(function)
    @click.pass_context
    def wrapped(ctx: click.Context, /, **arguments: Any) -> Any:
        return function(LazyPlugins.of(ctx).load(), **arguments)

    return plugin_options(wrapped)


data_dir_option = click.option(
    "--data-dir", metavar="DIR", help="Where data is looked for first (then $BENCH_DATA, ./data, the user cache)."
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. decoder.beams=20 (repeatable).",
)


def _category(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    from harness.checks import names

    for name in value if isinstance(value, tuple) else [value]:
        names.checked_category(name, "--category")
    return value


category_option = click.option(
    "--category", required=True, metavar="NAME", callback=_category, help="A category of bench data list."
)
categories_option = click.option(
    "--category", multiple=True, metavar="NAME", callback=_category, help="A category (repeatable).  [default: all]"
)
runs_option = click.option("--runs", default="runs", show_default=True, metavar="DIR", help="Where runs are recorded.")
mlflow_option = click.option("--no-mlflow", is_flag=True, help="Do not log to MLflow.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress.")


def _fetching(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from harness.data import fetching

        os.environ[fetching.FETCH] = "1"  # a suite's processes have it too


fetch_option = click.option(
    "--fetch", is_flag=True, expose_value=False, callback=_fetching,
    help="Fetch the category where it is known and not here (BENCH_FETCH=1).",
)  # fmt: skip


def device_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--device`` and ``--threads``."""
    function = click.option(
        "--threads", type=click.IntRange(0, 4096), default=0, metavar="INTEGER",
        help="CPU threads.  [default: as many as there are cores]",
    )(function)  # fmt: skip
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or mps.")(function)


def working_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where data and runs are, on what it works, and what it tells: of every command that trains."""
    for option in (quiet_option, mlflow_option, device_options, runs_option, data_dir_option):
        function = option(function)
    return function


def search_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--no-prune`` and ``--seed`` of searches."""
    seed_help = "Random seed of the search and of each trial."
    function = click.option("--seed", default=42, show_default=True, help=seed_help)(function)
    return click.option("--no-prune", is_flag=True, help="Train every trial to its end.")(function)


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """An interrupt ends the command with exit code 130 and says that the same one goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if world.main and LAUNCHED not in os.environ:  # else the process that started this one says it
            click.echo("\nInterrupted; the same command goes on where it was.", err=True)
        sys.exit(130)
