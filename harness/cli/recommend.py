"""``bench recommend``: what a trained model recommends after a history, or to every user of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import data_dir_option, debug_mode, quiet_option, with_plugins

if TYPE_CHECKING:
    from harness.plugins import Plugins


def trained_options(function: Any) -> Any:
    """Which trained model: ``--run``, ``--stage``, ``--device``."""
    function = click.option(
        "--device", default="cpu", show_default=True, metavar="NAME", help="cpu, cuda, mps, or auto."
    )(function)  # fmt: skip
    function = click.option("--stage", default="", metavar="NAME", help="Which stage's model.  [default: the last]")(
        function
    )
    return click.option(
        "--run", "directory", required=True, metavar="DIR",
        help="A finished run's folder, or an exported MLflow model.",
    )(function)  # fmt: skip


seen_option = click.option(
    "--seen", type=click.Choice(["keep", "drop"]), help="Whether what is in the history may come again.  "
    "[default: as the run did]",
)  # fmt: skip


@click.command()
@trained_options
@click.option("--history", metavar="TEXT", help="Ids or titles, oldest first: 'a | b'; ids alone also 'a, b'.")
@click.option("--input", "source", metavar="FILE", help="Users with histories: .jsonl, .csv, .tsv or .parquet.")
@click.option("--output", metavar="FILE", help="Where the recommendations of --input go: the same forms.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), metavar="N", help="Items each.")
@seen_option
@click.option("--skip-unknown", is_flag=True, help="With --input: leave out what is no item, counted.")
@click.option("--json", "as_lines", is_flag=True, help="Print JSON.")
@data_dir_option
@quiet_option
@with_plugins
def recommend(
    plugins: Plugins, directory: str, stage: str, device: str, history: str | None, source: str | None,
    output: str | None, k: int, seen: str | None, skip_unknown: bool, as_lines: bool, data_dir: str | None, quiet: bool,
) -> None:  # fmt: skip
    """Recommend items after a history, by the model of a finished run."""
    from harness.errors import BenchError
    from harness.progress import Progress
    from harness.serving.recommender import Recommender

    if (history is None) == (source is None):
        raise BenchError("give --history 'ID | ID', or --input FILE with --output FILE")
    if (source is None) != (output is None):
        raise BenchError("--input and --output belong together: users in, recommendations out")
    if source is not None:
        from harness.serving import user_files

        user_files.ending(Path(source), "--input")
        user_files.ending(Path(str(output)), "--output")
    made = Recommender.load(directory, stage=stage, data_dir=data_dir, device=on(device), plugins=plugins, quiet=quiet)
    progress = Progress(quiet)
    if source is not None:
        done = user_files.answer_file(Path(source), Path(str(output)), made, k, seen or "", skip_unknown, progress)
        progress.say(
            f"{done.users:,} users, {done.unknown:,} unknown items left out, {done.empty:,} empty histories "
            "(answered with what was bought most)"
        )
        click.echo(output)
        return
    found = [made.catalogue.item_of(name) for name in made.catalogue.parse(history or "")]
    for _, said in found:
        if said:
            progress.say(said)
    answer = made.answer([item for item, _ in found], k, seen or "")
    if as_lines:
        from harness.serving.recommender import as_json

        asked = [made.catalogue.id(item) for item, _ in found]
        click.echo(as_json({"model": made.told(), "history": asked, **made.plain(answer)}))
        return
    _print(made, answer, [item for item, _ in found])


def on(device: str) -> str:
    """The torch device; torch is not imported for a plain CPU."""
    from harness.runs.machine import prepare_device, quieten

    if not debug_mode():
        quieten()
    return device if device == "cpu" else prepare_device(device)


def _print(made: Any, answer: Any, history: list[int]) -> None:
    from tabulate import tabulate

    from harness.text import plain

    after = ", ".join(made.catalogue.told(item) for item in history[-3:])
    click.echo(f"{made.told()}; after {after or 'an empty history'}\n")
    found = made.plain(answer)
    named, with_sids = any(one["title"] for one in found["items"]), any("sid" in one for one in found["items"])
    headers = ["", "item", *(["title"] if named else []), "score", *(["SID"] if with_sids else [])]
    rows = []
    for one in found["items"]:
        title = plain.line(one["title"])
        shown = [title[:70] + ("…" if len(title) > 70 else "")] if named else []
        sid = [one["sid"]] if with_sids else []
        rows.append([str(one["rank"]), plain.line(one["id"]), *shown, f"{one['score']:.4f}", *sid])
    click.echo(tabulate(rows, headers, tablefmt="simple", disable_numparse=True))
    if "note" in found:
        click.echo(f"\n{found['note']}")
