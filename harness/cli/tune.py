"""``bench tune``: search a method's settings on valid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import (
    LazyPlugins,
    category_option,
    debug_mode,
    resumable,
    search_options,
    set_option,
    with_plugins,
    working_options,
)
from harness.cli.workers import side_by_side, workers_option

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.command()
@click.option("--method", required=True, metavar="NAME", help="A method of bench methods.")
@category_option
@click.option("--trials", default=20, show_default=True, type=click.IntRange(min=1), help="Trials in all.")
@click.option("--space", metavar="FILE", help="YAML of settings and their ranges, in place of the recipe's own.")
@search_options
@click.option("--record", metavar="FILE", help="Also write the search's record (JSON) to this file.")
@workers_option
@set_option
@working_options
@with_plugins
def tune(
    plugins: Plugins, method: str, category: str, trials: int, space: str | None, no_prune: bool, seed: int,
    record: str | None, workers: int, overrides: tuple[str, ...], data_dir: str | None, runs: str, device: str,
    threads: int, no_mlflow: bool, quiet: bool,
) -> None:  # fmt: skip
    """Search a method's settings for the best valid NDCG@10; test is never read.

    The same command again goes on where it was, and counts the trials already done.
    """
    from harness import files
    from harness.cli.tables import setting, table
    from harness.files import read_yaml
    from harness.progress import Progress
    from harness.runs import tuning
    from harness.runs.config import unread
    from harness.runs.machine import prepare_device, quieten
    from harness.world import world

    world.only_one("bench tune")
    files.check_output(record)
    recipe = plugins.get("method", method)
    where = f"{space}" if space else f"method {method}"
    ranges = tuning.check_space(read_yaml(Path(space)) if space else recipe.get("search"), where)
    if not debug_mode():
        quieten()
    progress = Progress(quiet)
    search = tuning.prepared(
        plugins, method, category, seed, overrides, ranges, data_dir, Path(runs), prepare_device(device, threads),
        not no_mlflow,
    )  # fmt: skip
    dataset, directory = search.dataset, search.directory

    def report(entry: dict[str, Any]) -> None:
        valid = f"{value(entry):.4f}" if entry["valid"] else "—"
        settings = " ".join(f"{k}={setting(v)}" for k, v in entry["settings"].items())
        why = f": {entry['error']}" if "error" in entry else ""
        progress.say(f"trial {entry['number']} {entry['state']} {valid} ({entry['seconds']} s) {settings}{why}")

    def value(entry: dict[str, Any]) -> float:
        return search.value(entry["valid"])

    progress.say(f"tune {method} on {category} ({dataset.caption or 'as read'}): valid {search.metric}, {directory}")
    with resumable():
        if workers > 1:
            tuning.begun(search, not no_prune)
            side_by_side(workers, threads, directory / "logs", progress.say, tuning.Watched(search, report))
        outcome = tuning.run(search, trials, not no_prune, report)
    keys = list(ranges)
    ranked = sorted((t for t in outcome["trials"] if t["valid"]), key=lambda t: -value(t))
    rows = [
        [
            t["number"],
            t["state"],
            value(t),
            setting(t["seconds"]),
            *(setting(t["settings"].get(k)) for k in keys),
        ]
        for t in ranked[:10]
    ]
    click.echo(table(["trial", "state", f"valid {search.metric}", "s", *(k.split(".")[-1] for k in keys)], rows))
    best = outcome["best"]["settings"]
    silent = unread(search.config(best))
    click.echo("\nbest: " + " ".join(f"--set {k}={setting(v)}" for k, v in best.items() if k not in silent))
    brought = LazyPlugins.of(click.get_current_context()).files
    again = " ".join(["bench run --config …", *(f"--plugin {file}" for file in brought)])
    click.echo(f"record: {directory / tuning.RECORD}\nrecipe: {directory / 'tuned.yaml'} ({again})")
    if record:
        files.write_json(Path(record), outcome)
        click.echo(f"record: {record}")
