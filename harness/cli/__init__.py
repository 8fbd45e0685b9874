"""The command line: one file a command group, each a thin call into the harness."""

from __future__ import annotations

import errno
import sys

import click

from harness.cli import data, plugin, plugins, run, show, tune
from harness.cli.common import LazyPlugins, plugin_options
from harness.version import __version__


class Bench(click.Group):
    """The group, with the commands that plugins add."""

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


for command in (run.run, tune.tune, data.data, plugins.methods, show.show, plugins.plugins, plugin.plugin):
    cli.add_command(command)


def main() -> None:
    """The console script ``bench``."""
    try:
        cli()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            click.echo(
                f"Error: the disk is full ({error.filename}); free space and run the same command again", err=True
            )
        else:
            line = " ".join(str(error).split())[:500]
            click.echo(f"Error: {type(error).__name__}: {line} (bench --debug … shows where)", err=True)
        sys.exit(1)
