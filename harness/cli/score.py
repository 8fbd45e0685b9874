"""``bench score`` and ``bench data export``: what others made, judged here, and what they need for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import (
    category_option,
    data_dir_option,
    debug_mode,
    mlflow_option,
    quiet_option,
    resumable,
    runs_option,
    set_option,
    with_plugins,
)
from harness.cli.data import data

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.command()
@click.argument("rankings", required=False, metavar="[RANKINGS]")
@click.option("--model", "folder", metavar="DIR", help="Decode a language model of this folder in place of a file.")
@category_option
@click.option("--name", required=True, metavar="TEXT", help="What the system is called in tables.")
@click.option("--seen", type=click.Choice(["keep", "drop"]), default="keep", show_default=True,
              help="Whether it may recommend what a user bought before.")  # fmt: skip
@set_option
@data_dir_option
@runs_option
@mlflow_option
@click.option("--no-figures", is_flag=True, help="Draw no figures beside the report.")
@quiet_option
@with_plugins
def score(
    plugins: Plugins, rankings: str | None, folder: str | None, category: str, name: str, seen: str,
    overrides: tuple[str, ...], data_dir: str | None, runs: str, no_mlflow: bool, no_figures: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure and record what another system made: RANKINGS of a category's test samples, or a model.

    RANKINGS is .parquet, .csv, .tsv, .jsonl or .trec, with a row a candidate: user (or sample, as bench data export
    numbers them), item (id or number) or sid, and rank or score. Every test sample needs a ranking. A model's folder is
    in Hugging Face form, and its tokenizer knows the category's SIDs; --set checkpoint.prompts says how it is asked.
    """
    from pathlib import Path

    from harness import api
    from harness.cli.tables import caption_of_run, summary
    from harness.errors import BenchError
    from harness.runs import scoring
    from harness.runs.machine import quieten

    if (rankings is None) == (folder is None):
        raise BenchError("give RANKINGS, a file, or --model DIR, a folder; one of them")

    if not debug_mode():
        quieten()
    common: dict[str, Any] = {
        "data_dir": data_dir, "runs": runs, "mlflow": not no_mlflow, "figures": not no_figures, "quiet": quiet,
        "plugins": plugins,
    }  # fmt: skip
    if folder is not None:
        recipe = scoring.model(Path(folder), name)
        with resumable():
            done = api.run(recipe, category, settings=[*overrides, f"protocol.seen={seen}"], **common)
    else:
        done = api.score(Path(str(rankings)), category, name, seen=seen, settings=overrides, **common)
    click.echo(summary(done.result))
    click.echo(f"\n{caption_of_run(done.manifest)}\nreport: {done.directory / 'report.md'}")


@data.command()
@click.argument("category")
@click.option("--format", "form", default="parquet", show_default=True, metavar="FORM",
              help="parquet, minionerec (CSV), recbole (atomic files), or s3rec (text).")  # fmt: skip
@click.option("--output", required=True, metavar="DIR", help="A folder that is not there yet.")
@set_option
@data_dir_option
@with_plugins
def export(
    plugins: Plugins, category: str, form: str, output: str, overrides: tuple[str, ...], data_dir: str | None
) -> None:
    """Write a category for other tools. What they rank comes back with bench score."""
    from pathlib import Path

    from harness import files
    from harness.cli.data import settings_of
    from harness.data import categories, exporting
    from harness.errors import BenchError, unknown

    if form not in exporting.FORMS:
        raise unknown("format", form, exporting.FORMS, "(--format)")
    target = Path(output)
    if not output.strip() or target.exists():
        raise BenchError(f"--output {output!r} is {'there already' if output.strip() else 'empty'}; name a new folder")
    dataset = categories.read(plugins, category, data_dir, settings_of(overrides))
    with files.made_for(target.absolute().parent), files.replace_folder(target) as folder:
        exporting.FORMS[form](dataset, folder)
    for reason, number in dataset.left_out.items():
        click.echo(f"left out or cut: {number:,} {reason}")
    rows = ", ".join(f"{split} {len(samples):,}" for split, samples in dataset.splits.items())
    click.echo(f"{target}: {category} as {form}; {rows}; fingerprint {dataset.fingerprint[:12]}")
