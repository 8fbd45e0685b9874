"""``bench run``: one method on one category."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import (
    category_option,
    data_dir_option,
    debug_mode,
    device_options,
    fetch_option,
    mlflow_option,
    quiet_option,
    resumable,
    runs_option,
    set_option,
    with_plugins,
)

if TYPE_CHECKING:
    from harness.plugins import Plugins


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
@click.option(
    "--anew",
    "--restart",
    "anew",
    is_flag=True,
    help="With --from-run: the first stage that differs starts from its beginning.",
)
@click.option(
    "--redo",
    default="",
    metavar="STAGE",
    help="Train this stage (or tokenizer) anew, and all after it; changed: whatever was made by other code.",
)
@click.option("--keep", is_flag=True, help="Take results that other code made, and mark the record.")
@fetch_option
@click.option("--strict", is_flag=True, help="Refuse what the data does not allow where a stage would do without it.")
@click.option("--wait", is_flag=True, help="Wait where another process is at work on the same run.")
@click.option(
    "--processes", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N",
    help="Processes on this machine, one a GPU. Across machines start bench with torchrun, accelerate or srun.",
)  # fmt: skip
@device_options
@mlflow_option
@click.option("--no-figures", is_flag=True, help="Draw no figures beside the report (bench report draws them later).")
@quiet_option
@with_plugins
def run(
    plugins: Plugins, method: str | None, config: str | None, category: str, seed: int | None, tokenizer: str | None,
    overrides: tuple[str, ...], data_dir: str | None, runs: str, from_run: str | None, anew: bool, redo: str,
    keep: bool, strict: bool, wait: bool, processes: int, device: str, threads: int, no_mlflow: bool, no_figures: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Train, decode and measure a method; the same command again goes on where it was.

    Everything is recorded under runs/<category>/<method>/ and in MLflow.
    """
    from harness import api
    from harness.cli.tables import caption_of_run, summary
    from harness.errors import BenchError
    from harness.runs.machine import quieten
    from harness.world import world

    if (method is None) == (config is None):
        raise BenchError("give --method NAME (bench methods lists them) or --config FILE")
    if processes > 1 and world.size == 1:
        from harness.cli.launch import launch

        sys.exit(launch(processes))
    if not debug_mode():
        quieten()
    with resumable():
        done = api.run(
            method if method is not None else Path(str(config)), category, seed=seed,
            settings=[f"tokenizer={tokenizer}", *overrides] if tokenizer else overrides, data_dir=data_dir, runs=runs,
            from_run=from_run, anew=anew, redo=redo, keep=keep, wait=wait, device=device, threads=threads,
            mlflow=not no_mlflow, figures=not no_figures, quiet=quiet, plugins=plugins, strict=strict,
        )  # fmt: skip
    world.stop()
    if not world.main:
        return
    click.echo(summary(done.result))
    report = done.directory / "report.md"
    click.echo(f"\n{caption_of_run(done.manifest)}\nreport: {report if report.exists() else 'none was written'}")
