"""``bench show``: a recipe, resolved, with the meaning of every setting; or a run, with what it trained."""

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


@show.command()
@click.argument("directory", metavar="RUN")
def run(directory: str) -> None:
    """What a run is: its data, its stages, what each trained (parameters, rows), and its main metrics."""
    from pathlib import Path

    from harness import recorded, store
    from harness.errors import BenchError
    from harness.report.tables import summary

    keep = store.Store(Path(directory))
    manifest = keep.manifest
    if not manifest:
        raise BenchError(f"{directory} is not the directory of a run; bench run prints it")
    done = manifest.get("done", {})
    click.echo(f"{manifest['method']} on {manifest['category']} ({manifest['caption'] or 'as read'})")
    click.echo(f"seed {manifest['seed']}, code {manifest['revision']}, data {manifest['fingerprints']['data'][:12]}")
    for what, hashed in (manifest["fingerprints"].get("files") or {}).items():
        click.echo(f"{what}: {hashed}")
    if "from" in done:
        click.echo(f"from {done['from']['run']}")
    for name in recorded.stage_names(keep):
        facts = done.get(f"{name}/fit")
        if facts is None:
            click.echo(f"\n{name}: not trained yet")
            continue
        click.echo(f"\n{name}: {facts.get('seconds')} s")
        trained = facts.get("trained")
        if trained:
            click.echo(f"  trained {trained['parameters']:,} of {trained['of']:,} parameters:")
            for tensor in trained["tensors"]:
                click.echo(f"    {tensor}")
        else:
            click.echo("  trained parameters: not recorded (none, or a run of an older version)")
        for key, value in facts.items():
            if key not in ("seconds", "trained") and isinstance(value, (int, float, str)):
                click.echo(f"  {key}: {value}")
    if "run" in done:
        click.echo("\n" + summary(store.read_json(keep.directory / store.METRICS)))
    else:
        click.echo("\nnot finished: the same bench run command goes on")


def _section(title: str, label: str, settings: Any, paper: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Settings with their meaning; what `paper` says of one stands in place of the brackets of its shared meaning."""
    click.echo(f"\n{title}")
    for field in dataclasses.fields(settings):
        value, meaning = getattr(settings, field.name), field.metadata.get("help", "")
        name = f"{label}.{field.name}"
        if name in paper:
            meaning = f"{re.sub(r' [(][^()]*[)]$', '', meaning)} (its paper: {paper[name]})"
        click.echo(f"  {name} = {value!r}".ljust(44) + f"  {meaning}")
