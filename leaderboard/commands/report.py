"""``bench report`` and ``bench compare``: what recorded runs say, alone and against each other."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import data_dir_option, with_plugins

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option(
    "--output", metavar="DIR", help="Where report.md and figures/ go.  [default: the run; report/ for several]"
)
@click.option("--no-figures", is_flag=True, help="Write the text alone.")
def report(runs: tuple[str, ...], output: str | None, no_figures: bool) -> None:
    """Write the experiment log of recorded runs: setup, stages, results, discrepancies, levels, segments, figures.

    RUN is a run directory, or a record that bench results export wrote. Runs that differ by seed only are averaged.
    """
    from harness.runs.run_directory import MANIFEST, RunDirectory

    from ..record import load
    from ..report import document

    records = [load(Path(run)) for run in runs]
    folder = Path(output or (records[0].place if len(records) == 1 and records[0].place.is_dir() else "report"))
    own = (folder / MANIFEST).exists()  # only the holder of a run's lock changes anything in it
    with RunDirectory(folder).lock() if own else contextlib.nullcontext():
        written = document.write(records, folder, not no_figures)
    click.echo(f"wrote {written[0]}" + (f" and {len(written) - 1} figures" if len(written) > 1 else ""))


@click.command()
@click.argument("first", metavar="RUN[:STAGE]")
@click.argument("second", metavar="RUN[:STAGE]")
@click.option("--metric", multiple=True, metavar="NAME", help="Only this metric (repeatable); corrected among these.")
@click.option("--samples", default=5, show_default=True, metavar="N", help="Samples to list that gained and that lost.")
@click.option("--output", metavar="FILE", help="Write the comparison to a file, as JSON or (.md) markdown.")
@data_dir_option
@with_plugins
def compare(
    plugins: Plugins, first: str, second: str, metric: tuple[str, ...], samples: int, output: str | None,
    data_dir: str | None,
) -> None:  # fmt: skip
    """Compare the second RUN with the first on the same test samples: intervals, tests, segments, changed samples.

    RUN is a run directory, a record, or a folder with the seeds of one recipe, which are averaged sample by sample.
    """
    from harness.data import categories
    from harness.errors import BenchError
    from harness.files import write_json, write_text

    from ..report import compare as comparison

    if output and Path(output).suffix not in (".json", ".md"):
        raise BenchError(f"--output {output}: name a file that ends in .json or .md")
    a, b = comparison.side(first), comparison.side(second)
    record = a.recipe.first
    here = categories.read_if_here(plugins, record.category, data_dir, record.settings.get("dataset") or {})
    dataset = here if here is not None and here.fingerprint == record.data else None
    compared = comparison.compare(a, b, dataset, samples, metric)
    if dataset is None:
        compared.left_out.append(f"segments and samples: the data of {record.category} as it was run is not here")
    text = comparison.markdown(compared)
    if output:
        path = Path(output)
        write_json(path, compared.as_json()) if path.suffix == ".json" else write_text(path, text)
        click.echo(f"wrote {output}")
    else:
        click.echo(text)
