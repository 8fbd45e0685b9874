"""``bench serve``: a local page on which a trained model answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.common import data_dir_option, quiet_option, with_plugins
from harness.cli.recommend import on, trained_options

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.command()
@trained_options
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--port", default=8765, show_default=True, metavar="N", help="Which port; 0: any that is free.")
@data_dir_option
@quiet_option
@with_plugins
def serve(
    plugins: Plugins, directory: str, stage: str, device: str, host: str, port: int, data_dir: str | None, quiet: bool
) -> None:
    """Type a history, and see what is recommended, by which semantic IDs and beams."""
    from harness.serving.recommender import Recommender
    from harness.serving.server import Server

    made = Recommender.load(directory, stage=stage, data_dir=data_dir, device=on(device), plugins=plugins, quiet=quiet)
    with Server(made, host, port) as server:
        click.echo(f"{made.told()}: {server.address}  (Ctrl-C ends it)")
        if not server.local and not quiet:
            click.echo(f"everyone who reaches {host} can ask it; there is no password", err=True)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            click.echo()
