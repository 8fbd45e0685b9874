"""``bench show method``: a recipe, resolved, with the meaning of every setting."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import set_option, with_plugins

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.group()
def show() -> None:
    """Show one thing in full."""


@show.command()
@click.argument("name")
@set_option
@with_plugins
def method(plugins: Plugins, name: str, overrides: tuple[str, ...]) -> None:
    """The resolved recipe of a method: every setting, its value and its meaning."""
    from harness.config import resolve

    recipe = plugins.get("method", name)
    config = resolve(recipe, "-", 0, overrides, plugins)
    click.echo(f"{config.method}: {config.summary}")
    if recipe.get("reference"):
        click.echo(f"reference: {recipe['reference']}")
    if config.prompts:
        click.echo(f"prompts: {config.prompts}")
    paper = recipe.get("paper") or {}
    parts = [("tokenizer", config.tokenizer), ("backbone", config.backbone)]
    parts += [(stage.name, stage.trainer) for stage in config.stages]
    for label, component in [*parts, ("decoder", config.decoder)]:
        if component is not None:
            location = f":{component.location}" if component.location else ""
            _section(f"{label} ({component.kind} {component.name}{location})", label, component.settings, paper)
    _section("probe (valid metric of early stopping)", "probe", config.probe)


def _section(title: str, label: str, settings: Any, paper: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Settings with their meaning; what `paper` says of one stands in place of the brackets of its shared meaning."""
    click.echo(f"\n{title}")
    for field in dataclasses.fields(settings):
        value, meaning = getattr(settings, field.name), field.metadata.get("help", "")
        name = f"{label}.{field.name}"
        if name in paper:
            meaning = f"{re.sub(r' [(][^()]*[)]$', '', meaning)} (its paper: {paper[name]})"
        click.echo(f"  {name} = {value!r}".ljust(44) + f"  {meaning}")
