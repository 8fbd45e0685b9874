"""``bench plugins`` and ``bench methods``: what is there, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.common import with_plugins

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.command()
@with_plugins
def plugins(plugins: Plugins) -> None:
    """List every plugin: version, source, and what it registers."""
    from harness.plugins import CORE, KINDS

    for plugin in (CORE, *plugins.loaded):
        click.echo(f"{plugin.name} {plugin.version} ({plugin.source})")
        for kind in KINDS:
            names = [name for name, (_, owner) in plugins.registry(kind).items() if owner is plugin]
            if names:
                click.echo(f"  {kind + 's:':<12} {', '.join(names)}")
    for name in plugins.absent:
        click.echo(f"not there: the built-in {name} (its folder is missing)")
    for line in plugins.broken:
        click.echo(f"broken: {line}")


@click.command()
@with_plugins
def methods(plugins: Plugins) -> None:
    """List the methods, a line each."""
    from harness.recipes import GROUPS

    recipes = [recipe for recipe, _ in plugins.registry("method").values()]
    width = max((len(recipe["name"]) for recipe in recipes), default=0)
    for recipe in sorted(recipes, key=lambda r: GROUPS.index(r.get("group", "ours"))):
        click.echo(f"{recipe['name']:<{width}}  {recipe.get('summary', '')}")
