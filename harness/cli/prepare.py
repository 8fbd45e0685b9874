"""``bench data prepare``: a split from raw files."""

from __future__ import annotations

from typing import Any

import click

from harness.cli.common import quiet_option, set_option
from harness.cli.data import data


@data.command()
@click.argument("interactions", nargs=-1, metavar="[FILE]…")
@click.option("--name", metavar="NAME", help="What the category is called.  [default: the first file's name]")
@click.option("--items", multiple=True, metavar="FILE", help="A table of items: ids, titles and more (repeatable).")
@click.option("--recipe", default="", metavar="NAME", help="Published rules by name; --set changes one of them.")
@click.option("--user", metavar="COLUMN", help="The column of users.  [default: one of a known name]")
@click.option("--item", metavar="COLUMN", help="The column of items.  [default: one of a known name]")
@click.option(
    "--time", metavar="COLUMN", help="The column of times.  [default: one of a known name, or the file's order]"
)
@click.option("--rating", metavar="COLUMN", help="The column of ratings.  [default: one of a known name]")
@click.option("--split", metavar="KIND", help="leave-one-out, time, or times.  [default: leave-one-out]")
@click.option("--core", type=click.IntRange(0), metavar="N", help="core_users and core_items.  [default: 0]")
@set_option
@click.option("--output", default="data", show_default=True, metavar="DIR", help="The data directory that gets it.")
@click.option("--force", is_flag=True, help="In place of a category that is there.")
@quiet_option
def prepare(
    interactions: tuple[str, ...], name: str | None, items: tuple[str, ...], recipe: str, overrides: tuple[str, ...],
    core: int | None, output: str, force: bool, quiet: bool, **given: str | None,
) -> None:  # fmt: skip
    """Make a category of raw files: CSV, TSV, JSON lines, Parquet, RecBole's atomic files, gzipped or not.

    A FILE is a path, or an address that is downloaded once and kept with its checksum. Without one: the recipes and the
    settings. What was left out and why stands in split.yaml beside the result, and in every record of it.
    """
    import shlex
    from pathlib import Path

    from harness.cli.data import settings_of
    from harness.data import raw_files
    from harness.errors import BenchError
    from harness.preparation import asked, preparing
    from harness.progress import Progress

    if not interactions:
        _explain()
        return
    values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if core is not None:
        values |= {"core_users": core, "core_items": core}
    made = asked.asked(recipe, values | settings_of(overrides, "prepare"))
    progress = Progress(quiet)
    paths = [raw_files.local(file, progress) for file in interactions]
    tables = [raw_files.local(file, progress) for file in items]
    name = name if name is not None else paths[0].name.partition(".")[0]
    if output.strip() == "":
        raise BenchError("--output is empty; name a folder")
    done = preparing.prepare(name, paths, tables, made, recipe, Path(output), force, progress)
    found = done.manifest
    for reason, number in found["left out"].items():
        click.echo(f"left out or cut: {number:,} {reason}")
    kept = ", ".join(f"{number:,} {what}" for what, number in found["kept"].items())
    samples = ", ".join(f"{split} {number:,}" for split, number in found["samples"].items())
    click.echo(f"{done.folder}: {kept}; {samples}; rules {found['recipe']} {found['version']}")
    click.echo(f"times: {found['times']}")
    where = "" if Path(output) == Path("data") else f" --data-dir {shlex.quote(output)}"
    click.echo(f"next: bench run --method skip-markov --category {shlex.quote(name)}{where}")


def _explain() -> None:
    """The recipes, and the settings with their defaults."""
    import dataclasses

    from harness.preparation import asked

    click.echo("Recipes (--recipe NAME):")
    for recipe in asked.known().values():
        settings = ", ".join(f"{key}={value}" for key, value in recipe.values.items())
        click.echo(f"  {recipe.name}\n    {recipe.what}\n    {settings}")
    click.echo("\nSettings (--set KEY=VALUE):")
    for field in dataclasses.fields(asked.Preparation):
        click.echo(
            f"  {field.name:<15} {field.metadata['help']}  [{field.default if field.default != '' else 'empty'}]"
        )
