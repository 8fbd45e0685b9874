"""``bench export``: a trained model for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import data_dir_option, with_plugins
from harness.cli.recommend import on

if TYPE_CHECKING:
    from harness.plugins import Plugins


@click.command()
@click.argument("form", metavar="FORMAT")
@click.argument("run", metavar="DIR")
@click.option("--output", metavar="FOLDER", help="Where it goes.  [default: METHOD-CATEGORY-FORMAT]")
@click.option("--stage", default="", metavar="NAME", help="Which stage's model.  [default: the last]")
@click.option("--log", "runs", metavar="RUNS", help="Log the MLflow model to the store of this runs folder too.")
@data_dir_option
@with_plugins
def export(
    plugins: Plugins, form: str, run: str, output: str | None, stage: str, runs: str | None, data_dir: str | None
) -> None:
    """Write the model of a finished run as FORMAT: mlflow (any method), hf (language models), onnx (item ids).

    The data themselves are not in it: items with their texts and how often each was bought are, and nobody's history.
    """
    from harness.errors import unknown
    from harness.serving import exports
    from harness.serving.recommender import Recommender

    if form not in exports.FORMATS:
        raise unknown("format", form, exports.FORMATS)
    made = Recommender.load(run, stage=stage, data_dir=data_dir, device=on("cpu"), plugins=plugins)
    target = Path(output or f"{made.method}-{made.catalogue.category}-{form}")
    said = exports.export(form, made, target, Path(runs) if runs else None)
    click.echo(f"{target}: {made.told()}; {said}")
