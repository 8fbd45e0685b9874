"""``bench data``: which categories there are, what is in them, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import data_dir_option, quiet_option, set_option, with_plugins

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.group()
def data() -> None:
    """List, fetch, prepare, show and validate categories."""


@data.command("list")
@data_dir_option
@with_plugins
def list_(plugins: Plugins, data_dir: str | None) -> None:
    """List the categories: name, layout, and where each was found."""
    from harness.data import categories
    from harness.text.plain import line

    for category in categories.find(plugins, data_dir):
        click.echo(line(f"{category.name:<32} {category.layout:<12} {category.root or 'embedded (generated)'}"))


@data.command()
@click.argument("category", nargs=-1, metavar="[CATEGORY]…")
@click.option("--output", metavar="DIR", help="A data directory.  [default: the user's cache, which is looked in last]")
@click.option("--force", is_flag=True, help="In place of a folder that is there.")
@quiet_option
@with_plugins
def fetch(plugins: Plugins, category: tuple[str, ...], output: str | None, force: bool, quiet: bool) -> None:
    """Download published splits, check each file against its pinned content, and put them where runs find them.

    Without a name: the list of what can be fetched. BENCH_MIRROR names another host or a folder that holds the files.
    """
    from pathlib import Path

    from harness.cli.tables import table
    from harness.data import categories, fetching, published
    from harness.errors import BenchError
    from harness.progress import Progress

    if not category:
        listed = [[e.name, e.layout, e.size, e.licence] for e in map(published.get, published.known())]
        click.echo(table(["category", "layout", "size", "licence"], listed))
        return
    if output is not None and not output.strip():
        raise BenchError("--output '' is empty; name a folder, or leave it out")
    entries = [published.get(name) for name in category]  # all are known before one is fetched
    root = Path(output) if output else categories.roots(None)[-1]
    for entry in entries:
        folder = fetching.fetch(entry, root, Progress(quiet), force)
        dataset = categories.read(plugins, entry.name, str(root), {})
        rows = ", ".join(f"{name} {len(samples):,}" for name, samples in dataset.splits.items())
        click.echo(f"{folder}: {len(dataset.items):,} items; {rows}; fingerprint {dataset.fingerprint[:12]}")


@data.command()
@click.argument("category")
@set_option
@data_dir_option
@with_plugins
def show(plugins: Plugins, category: str, overrides: tuple[str, ...], data_dir: str | None) -> None:
    """Users, items, rows, histories, repeats, cold targets, SIDs and the fingerprint of a category."""
    from harness.cli.tables import HR, table
    from harness.data import categories, versions

    dataset = categories.read(plugins, category, data_dir, settings_of(overrides))
    facts = dataset.facts()
    click.echo(f"{category} ({dataset.layout} layout{'; ' + dataset.caption if dataset.caption else ''})")
    click.echo(f"users {facts['users']:,}, items {facts['items']:,}\n")
    splits = facts["splits"]
    keys = [key for key in next(iter(splits.values())) if key != "history lengths"]
    click.echo(table(["", *splits], [[key, *(_shown(split[key]) for split in splits.values())] for key in keys]))
    for name, split in splits.items():
        lengths = split["history lengths"]
        click.echo(f"history lengths 1–{len(lengths)} in {name}: {' '.join(map(str, lengths))}")
    for reason, number in dataset.left_out.items():
        click.echo(f"left out or cut: {number:,} {reason}")
    if dataset.given is not None:
        click.echo("\nsemantic IDs: " + ", ".join(f"{k} {v}" for k, v in dataset.given.report().items()))
    if dataset.oracle is not None:
        from harness.evaluation.measure import BAYES, bayes_optimal

        optimal = bayes_optimal(dataset, dataset.given)
        columns = [*HR, "NDCG@10", "MRR"]
        click.echo(f"\n{BAYES} on test:")
        click.echo(table(["protocol", *columns], [[p, *(m[c] for c in columns)] for p, m in optimal.items()]))
    click.echo("")
    for entry in versions.checked(versions.of(dataset, {})):
        click.echo(f"{entry.shown} ({entry.date}): {entry.what}; because: {entry.why}; moves: {entry.moves}")
        if entry.superseded_by:
            click.echo(f"  superseded by {entry.superseded_by}: {entry.reason}")
    click.echo(f"\nfingerprint {dataset.fingerprint}")
    if dataset.given is not None:
        click.echo(f"SIDs        {dataset.given.fingerprint}")


@data.command()
@click.argument("category")
@set_option
@data_dir_option
@with_plugins
def validate(plugins: Plugins, category: str, overrides: tuple[str, ...], data_dir: str | None) -> None:
    """Check a category's files; every problem with file and row. Exit code 2 where there is an error."""
    import sys

    from harness.data import categories
    from harness.data.problems import Problems
    from harness.errors import BenchError, shown

    problems = Problems()
    try:
        dataset = categories.read(plugins, category, data_dir, settings_of(overrides), problems)
    except BenchError:
        if not problems.errors:
            raise
        dataset = None
    for problem in problems.found:
        click.echo(shown(f"{problem.severity}: {problem}"))
    for line in problems.further:
        click.echo(shown(line))
    rows = ", ".join(f"{n} {len(s):,}" for n, s in dataset.splits.items()) if dataset else "not usable"
    click.echo(f"{category}: {rows}; {problems.number('error'):,} errors, {problems.number('warning'):,} warnings")
    if problems.errors:
        sys.exit(2)


def settings_of(overrides: tuple[str, ...], prefix: str = "dataset") -> dict[str, Any]:
    """Settings from ``--set items=5000`` or, with its prefix, ``--set dataset.items=5000``."""
    from harness.errors import BenchError
    from harness.text.parsing import parse_yaml

    example = "dataset.items=5000" if prefix == "dataset" else "core_users=5"
    values = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise BenchError(f"--set {override}: write it as key=value, e.g. --set {example}")
        try:
            values[key.strip().removeprefix(f"{prefix}.")] = parse_yaml(value)
        except ValueError as error:
            raise BenchError(f"--set {override[:80]}: {error}") from None
    return values


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
