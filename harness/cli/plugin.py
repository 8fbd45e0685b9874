"""``bench plugin``: begin a plugin, and hold it to what plugins promise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from harness.cli.common import LazyPlugins, with_plugins

if TYPE_CHECKING:
    from harness.plugins import Plugins

KIND_NAMES = ("method", "baseline", "tokenizer", "embedder", "decoder", "metric", "reward", "dataset", "backbone")


@click.group()
def plugin() -> None:
    """Begin a plugin, and check it."""


@plugin.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KIND_NAMES), required=True, help="What the plugin offers.")
@click.option("--output", default=".", show_default=True, metavar="DIR", help="The folder that the package goes in.")
@with_plugins
def new(plugins: Plugins, name: str, kind: str, output: str) -> None:
    """Write a package with pyproject.toml, one working component, its test and a README."""
    from pathlib import Path

    from harness.kit.scaffold import USES, scaffold

    target = scaffold(name, kind, Path(output), plugins)
    use = USES[kind].replace("PROJECT_FOLDER", str(target)).replace("NAME", name)
    click.echo(f"wrote {target}\nnext: bench plugin check {target}\n      {use}")


@plugin.command()
@click.argument("source", metavar="FILE_OR_PACKAGE")
@click.option("--only", metavar="TEXT", default="", help="Only checks whose name holds this text.")
@with_plugins
def check(plugins: Plugins, source: str, only: str) -> None:
    """Run the conformance suite over what a plugin registers; SOURCE is a file, a folder or a module.

    Components are made small and run on a generated category: it takes seconds. Exit code 2: a promise is broken.
    """
    import time

    from harness.errors import BenchError
    from harness.runs.machine import quieten
    from harness.runs.rehearsal import last_own_frame
    from harness.testing import plugin_checks

    quieten()
    beside = LazyPlugins.of(click.get_current_context()).files
    checks = [check for check in plugin_checks(source, beside=beside) if only in check.label]
    if not checks:
        raise BenchError(f"{source} registers nothing that could be checked; its hooks need @hookimpl")
    broken = 0
    for one in checks:
        started = time.monotonic()
        try:
            one.run()
        except Exception as error:
            broken += 1
            place = last_own_frame(error)
            where = f" ({place[0]}, line {place[1]})" if place else ""
            reason = error.message if isinstance(error, BenchError) else f"{type(error).__name__}: {error}{where}"
            click.echo(f"FAIL {one.label}: {' '.join(reason.split())}")
        else:
            click.echo(f"ok   {one.label} ({time.monotonic() - started:.1f} s)")
    click.echo(f"{len(checks)} checks, {broken} broken")
    if broken:
        sys.exit(2)
