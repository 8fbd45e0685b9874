"""The command line: one file a command group, each a thin call into the harness."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from harness.cli import (
    allocator,
    export,
    mlflow,
    plugin,
    plugins,
    prepare,
    recommend,
    run,
    runs,
    score,
    serve,
    show,
    sids,
    tune,
)
from harness.cli.common import LazyPlugins, plugin_options
from harness.errors import BenchError, shown
from harness.version import __version__
from harness.world import FAILING, LAUNCHED, LOST_CODE, Shared, lost_another, world

FULL = ("no space left on device", "disk is full", "disk quota exceeded")
"""How libraries say it that give no number."""


class Bench(click.Group):
    """The group, with the commands that plugins add."""

    def invoke(self, ctx: click.Context) -> Any:
        """The command. What several processes fail at alike is said by the main one, which ends the others."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.exceptions.Abort, Shared):
            raise
        except Exception as error:
            if world.rank and not lost_another(error) and world.hear(FAILING):
                raise Shared(str(error)) from None
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Own commands, then those of plugins."""
        LazyPlugins.of(ctx).add_commands(self)
        return list(self.commands)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Look among the own commands first, so that they need no plugin."""
        if name not in self.commands:
            LazyPlugins.of(ctx).add_commands(self, name)
        return self.commands.get(name)


@click.group(cls=Bench, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bench")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@plugin_options
@click.pass_context
def cli(ctx: click.Context, debug: bool, **_: object) -> None:
    """Benchmark generative and sequential recommenders: one split, one protocol, one record.

    Start with: bench run --method minionerec --category Synthetic
    """


COMMANDS = (
    run.run, tune.tune, prepare.data, score.score, plugins.methods, show.show, plugins.plugins, plugin.plugin,
    sids.sids, mlflow.mlflow, recommend.recommend, serve.serve, export.export, runs.status, runs.runs,
)  # fmt: skip
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """The console script ``bench``."""
    if sys.platform == "win32":
        sys.exit("Error: bench holds runs by POSIX file locks, which Windows has not; use WSL (docs/stability.md)")
    allocator.keep()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character of a title or a name
    try:
        if world.size == 1:  # of several, one that waits for another in a library could not leave in order
            with contextlib.suppress(ValueError):  # not in the main thread, where no signal arrives
                signal.signal(signal.SIGTERM, _ended)
    except BenchError as error:
        error.show()
        sys.exit(error.exit_code)
    try:
        cli()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        if lost_another(error):
            if not os.environ.get(LAUNCHED):  # else the process that started this one says which it was
                click.echo(f"Error: process {world.rank} lost another one, which says why; start all again", err=True)
            sys.exit(LOST_CODE)
        elif place := full_disk(error):
            click.echo(shown(f"Error: {place}; free space and run the same command again, which goes on"), err=True)
        elif isinstance(error, MemoryError):
            click.echo("Error: there is not enough memory for this; take smaller batches, beams or sizes", err=True)
        elif isinstance(error, RecursionError):
            click.echo("Error: the input is nested too deeply; flatten it (bench --debug … shows where)", err=True)
        else:
            try:
                line = shown(" ".join(str(error).split()))[:500]
            except Exception:  # of a plugin, whose error cannot even say what it is
                line = "without words"
            click.echo(f"Error: {type(error).__name__}: {line} (bench --debug … shows where)", err=True)
        sys.exit(1)
    finally:
        world.speak()


def _ended(number: int, frame: FrameType | None) -> None:
    """Leave in order where a scheduler or ``kill`` asks: what runs below is stopped, what is half made is removed."""
    signal.signal(number, signal.SIG_DFL)  # a second one ends at once
    sys.exit(128 + number)


def full_disk(error: BaseException | None) -> str:
    """Whether a fault is that of a full disk: which, what is free, and what is needed; empty where it is not."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error).lower() for words in FULL):
            break
        error = error.__cause__ or error.__context__
    if error is None:
        return ""
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    words = dict(zip(sys.argv, sys.argv[1:], strict=False))
    place = Path(str(named or words.get("--runs") or words.get("--output") or ".")).resolve()
    folder = next(path for path in (place, *place.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free / 2**20
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    return f"the disk is full ({place}): {free:.0f} MiB are free, and {folder} holds {held:.0f} MiB so far"
