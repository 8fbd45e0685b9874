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
    from harness.runs.config import RunConfig


@click.group()
def show() -> None:
    """Show one thing in full: a method, any component, or a run."""


@show.command()
@click.argument("name")
@click.option("--memory", is_flag=True, help="Estimate what each fine-tuning stage needs of a device's memory.")
@click.option(
    "--devices", type=click.IntRange(1, 4096), default=1, show_default=True, metavar="N",
    help="With --memory: processes, a device each.",
)  # fmt: skip
@set_option
@with_plugins
def method(plugins: Plugins, name: str, memory: bool, devices: int, overrides: tuple[str, ...]) -> None:
    """The resolved recipe of a method: every setting, its value and its meaning; or the memory that it asks for."""
    from harness.errors import BenchError
    from harness.runs.config import resolve

    recipe = plugins.get("method", name)
    config = resolve(recipe, "-", 0, overrides, plugins)
    if devices > 1 and not memory:
        raise BenchError("--devices goes with --memory")
    if memory:
        click.echo(_memory(config, plugins, devices))
        return
    click.echo(f"{config.method}: {config.summary}")
    if recipe.get("base"):
        click.echo(f"base: {recipe['base']}")
    if recipe.get("reference"):
        click.echo(f"reference: {recipe['reference']}")
    if config.prompts:
        click.echo(f"prompts: {config.prompts}")
    paper = recipe.get("paper") or {}
    parts = [("tokenizer", config.tokenizer), ("backbone", config.backbone)]
    for stage in config.stages:
        parts.append((stage.name, stage.trainer))
        parts += [(f"{stage.name}.parts.{key}", part) for key, part in stage.parts.items() if part.kind != "run"]
    for label, component in [*parts, ("decoder", config.decoder)]:
        if component is not None:
            location = f":{component.location}" if component.location else ""
            _section(f"{label} ({component.kind} {component.name}{location})", label, component.settings, paper)
    _section("probe (valid metric of early stopping)", "probe", config.probe)


def _memory(config: RunConfig, plugins: Plugins, devices: int) -> str:
    """The table of :mod:`harness.language.memory`, and what it takes for granted."""
    import dataclasses

    from harness.cli.tables import table
    from harness.language import memory
    from harness.runs.machine import quieten

    quieten()
    made = config.backbone and plugins.get("backbone", config.backbone.name)(
        config.backbone.settings, config.backbone.location
    )
    stages = memory.of_run(config, made, devices)
    parts = [field.name for field in dataclasses.fields(memory.Stage) if field.name != "name"]
    rows = [[stage.name, *(f"{getattr(stage, part) / 2**30:.2f}" for part in (*parts, "total"))] for stage in stages]
    batches = ", ".join(f"{s.name}.batch={getattr(s.trainer.settings, 'batch', 0)}" for s in config.stages)
    assert config.backbone is not None  # as of_run has made sure
    name = config.backbone.name + (f":{config.backbone.location}" if config.backbone.location else "")
    return (
        f"{table(['stage', *parts, 'total'], rows)}\n\nGiB a device, of {devices}, estimated: {name}, {batches}; "
        "rows as long as the settings allow; before "
        "what the device itself and fragmentation take (count on a tenth more)."
    )


def _show_component(kind: str, plugins: Plugins, name: str) -> None:
    """What a component is: where it comes from, its own words, and its settings with their meaning."""
    import inspect

    from harness.settings import settings, settings_class

    component = plugins.get(kind, name)
    plugin = plugins.owner(kind, name)
    file = inspect.getsourcefile(component)
    own = (
        inspect.cleandoc(vars(component).get("__doc__") or "")
        if isinstance(component, type)
        else inspect.getdoc(component)
    )
    click.echo(f"{kind} {name}: {(own or 'no description of its own').splitlines()[0]}")
    if plugin is not None:
        click.echo(f"plugin {plugin.name} {plugin.version} ({plugin.source}); {file}")
    module = inspect.getdoc(inspect.getmodule(component))
    if module:
        click.echo(f"\n{module}")
    if kind == "metric" or not isinstance(component, type):
        return
    known = settings_class(component, f"{kind} {name}")
    if dataclasses.fields(known):
        _section("settings", kind if kind in ("decoder", "tokenizer", "backbone", "dataset") else name,
                 settings(component, {}, name))  # fmt: skip


def _command(kind: str) -> click.Command:
    @show.command(kind, help=f"A {kind}: where it comes from, what it does, and its settings.")
    @click.argument("name")
    @with_plugins
    def command(plugins: Plugins, name: str) -> None:
        _show_component(kind, plugins, name)

    return command


for _kind in ("dataset", "tokenizer", "embedder", "backbone", "trainer", "decoder", "metric", "reward"):
    _command(_kind)


@show.command()
@click.argument("directory", metavar="RUN")
def run(directory: str) -> None:
    """What a run is: its data, its stages, what each trained (parameters, rows), and its main metrics."""
    from pathlib import Path

    from harness.errors import BenchError
    from harness.runs import run_directory

    folder = run_directory.RunDirectory(Path(directory))
    if not folder.manifest:
        raise BenchError(f"{directory} is not the directory of a run; bench run prints it")
    click.echo("\n".join(_of_run(folder)))


def _of_run(folder: Any) -> list[str]:
    """What is said of a run, line by line."""
    from harness import api
    from harness.cli.tables import summary
    from harness.runs import finished
    from harness.text.plain import line

    manifest, lines = finished.begun(folder), []
    done = manifest.get("done", {})
    lines.append(f"{manifest['method']} on {manifest['category']} ({manifest['caption'] or 'as read'})")
    lines.append(f"seed {manifest['seed']}, code {manifest['revision']}, data {manifest['fingerprints']['data'][:12]}")
    for what, hashed in (manifest["fingerprints"].get("files") or {}).items():
        lines.append(f"{what}: {hashed}")
    if "from" in done:
        lines.append(f"from {done['from']['run']}")
    for name in finished.stage_names(folder):
        facts = done.get(f"{name}/fit")
        if facts is None:
            lines.append(f"\n{name}: not trained yet")
            continue
        lines.append(f"\n{name}: {facts.get('seconds')} s")
        trained = facts.get("trained")
        if trained:
            lines.append(f"  trained {trained['parameters']:,} of {trained['of']:,} parameters:")
            for tensor in trained["tensors"]:
                lines.append(f"    {tensor}")
        else:
            lines.append("  trained parameters: not recorded (none, or a run of an older version)")
        for key, value in facts.items():
            if key not in ("seconds", "trained") and isinstance(value, (int, float, str)):
                lines.append(f"  {key}: {value}")
    # texts of a manifest: a line each, and no more
    lines = ["\n" * said.startswith("\n") + line(said.lstrip("\n")) for said in lines]
    if "run" in done:
        lines.append("\n" + summary(api.load_run(folder.path).result))
    else:
        lines.append("\nnot finished: the same bench run command goes on")
    return lines


def _section(title: str, label: str, settings: Any, paper: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Settings with their meaning; what `paper` says of one stands in place of the brackets of its shared meaning."""
    click.echo(f"\n{title}")
    for field in dataclasses.fields(settings):
        value, meaning = getattr(settings, field.name), field.metadata.get("help", "")
        name = f"{label}.{field.name}"
        if name in paper:
            meaning = f"{re.sub(r' [(][^()]*[)]$', '', meaning)} (its paper: {paper[name]})"
        click.echo(f"  {name} = {value!r}".ljust(44) + f"  {meaning}")
