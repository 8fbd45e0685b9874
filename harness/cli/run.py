"""``bench run``: one method on one category."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import (
    category_option,
    data_dir_option,
    debug_mode,
    device_options,
    mlflow_option,
    prepare_device,
    quiet_option,
    quieten,
    resumable,
    runs_option,
    set_option,
    with_plugins,
)

if TYPE_CHECKING:
    from harness.plugins import Plugins


SEED = 42


@click.command()
@click.option("--method", metavar="NAME", help="A method of bench methods.")
@click.option("--config", metavar="FILE", help="A recipe file instead of a method (e.g. a run's config.yaml).")
@category_option
@click.option("--seed", type=int, help="Random seed of the run.  [default: that of --config FILE, else 42]")
@click.option("--tokenizer", metavar="NAME", help="Where semantic IDs come from: given, rqkmeans, …")
@set_option
@data_dir_option
@runs_option
@click.option("--from-run", metavar="DIR", help="Go on from a finished run's checkpoints (with a --set that differs).")
@click.option("--anew", is_flag=True, help="With --from-run: the first stage that differs starts from its beginning.")
@device_options
@mlflow_option
@click.option("--no-figures", is_flag=True, help="Draw no figures beside the report (bench report draws them later).")
@quiet_option
@with_plugins
def run(
    plugins: Plugins, method: str | None, config: str | None, category: str, seed: int | None, tokenizer: str | None,
    overrides: tuple[str, ...], data_dir: str | None, runs: str, from_run: str | None, anew: bool, device: str,
    threads: int, no_mlflow: bool, no_figures: bool, quiet: bool,
) -> None:  # fmt: skip
    """Train, decode and measure a method; the same command again goes on where it was.

    Everything is recorded under runs/<category>/<method>/ and in MLflow.
    """
    from harness import pipeline
    from harness.config import resolve, tuned
    from harness.data import catalogue
    from harness.errors import BenchError
    from harness.progress import Progress
    from harness.record import Record
    from harness.report.tables import caption, summary
    from harness.store import Store
    from harness.tracking import Tracker

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BenchError("a run is one process so far; start bench itself, not through a launcher of several processes")
    if (method is None) == (config is None):
        raise BenchError("give --method NAME (bench methods lists them) or --config FILE")
    overrides = (f"tokenizer={tokenizer}", *overrides) if tokenizer else overrides
    found: tuple[str, ...] = ()
    if config:
        recipe, kept = _recipe(config)
    else:
        recipe, kept = plugins.get("method", str(method)), None
        found = tuned(str(method), category)
    chosen_seed = next(value for value in (seed, kept, SEED) if value is not None)
    resolved = resolve(recipe, category, chosen_seed, overrides, plugins, tuned=found)
    dataset = catalogue.read(plugins, category, data_dir, resolved.dataset)
    progress = Progress(quiet)
    if anew and not from_run:
        raise BenchError("--anew says how to go on from a run; give --from-run DIR too")
    origin = pipeline.Origin(Path(from_run), anew) if from_run else None
    directory = pipeline.directory(Path(runs), resolved, dataset, origin, plugins)
    if not debug_mode():
        quieten()
    chosen = prepare_device(device, threads)
    this = pipeline.Run(
        resolved,
        dataset,
        plugins,
        Store(directory),
        progress,
        chosen,
        Tracker(Path(runs), not no_mlflow),
        not no_figures,
    )
    progress.say(
        f"{resolved.method} on {category} ({dataset.caption or 'as read'}), seed {resolved.seed} → {directory}"
    )
    with resumable():
        result = pipeline.execute(this, origin)
    click.echo(summary(result))
    click.echo(f"\n{caption([Record.of_run(directory)])}\nreport: {directory / 'report.md'}")


def _recipe(file: str) -> tuple[dict[str, Any], Any]:
    """A recipe and its seed (None: it names none), also from a run's resolved ``config.yaml``."""
    from harness.config import read_recipe, read_yaml

    content = read_yaml(Path(file))
    recipe = {k: v for k, v in content.items() if k not in ("category", "seed") and v not in (None, "")}
    return read_recipe(recipe), content.get("seed")
