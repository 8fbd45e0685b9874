"""``bench leaderboard``: the recorded runs of a category as GitHub markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import runs_option, with_plugins

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.command()
@click.option("--category", required=True, metavar="NAME", help="A category with recorded runs.")
@click.option("--protocol", type=click.Choice(["sid", "item", "both"]), default="both", show_default=True)
@click.option("--stages", is_flag=True, help="A row for every stage, not only a method's last.")
@click.option("--output", metavar="FILE", help="Write the markdown to a file.")
@runs_option
@with_plugins
def leaderboard(plugins: Plugins, category: str, protocol: str, stages: bool, output: str | None, runs: str) -> None:
    """The best run of each method (chosen on valid), and the reported numbers apart from them."""
    from harness.store import write_text
    from leaderboard import tables

    protocols = ["sid", "item"] if protocol == "both" else [protocol]
    text = tables.leaderboard(Path(runs), category, protocols, stages)
    if output:
        write_text(Path(output), text)
        click.echo(f"wrote {output}")
    else:
        click.echo(text)
