"""``bench leaderboard``: recorded runs as tables: markdown, CSV, LaTeX, JSON, or a page."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import categories_option, runs_option

BOARDS = "boards"
"""The folder of pages beside an overview."""
FORMATS = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".json": "json", ".html": "html"}


@click.command()
@categories_option
@runs_option
@click.option("--results", metavar="DIR", help="Read records that bench results export wrote, not run directories.")
@click.option("--data", default="", metavar="HEX", help="Only runs on the data whose fingerprint begins so.")
@click.option("--protocol", type=click.Choice(["sid", "item", "both"]), default="both", show_default=True)
@click.option("--format", "form", type=click.Choice(list(FORMATS.values())), help="[default: by --output, or markdown]")
@click.option("--stages", is_flag=True, help="A row for every stage, not only a method's last.")
@click.option("--allow-mixed", is_flag=True, help="Let runs on different data or SIDs stand in one table, marked.")
@click.option("--strict", is_flag=True, help="A damaged run or record is an error; else it is named and left out.")
@click.option("--output", metavar="FILE", help="Write to a file (.md, .csv, .tex, .json or .html).")
@click.option("--pages", is_flag=True, help="With --output FILE.md: an overview there, a page a category in boards/.")
def leaderboard(
    category: tuple[str, ...], runs: str, results: str | None, data: str, protocol: str, form: str | None,
    stages: bool, allow_mixed: bool, strict: bool, output: str | None, pages: bool,
) -> None:  # fmt: skip
    """Compare what is recorded: a row a method, means over seeds, tests against hybrid and the best baseline.

    Of a method with several recorded settings the one with the best valid NDCG@10 is shown. Reported numbers stand
    apart from measured ones.
    """
    from harness.errors import BenchError, unknown
    from harness.files import write_text

    from .. import board, collected, formats, page

    if output and form is None and Path(output).suffix not in FORMATS:
        raise BenchError(f"--output {output}: end it in {', '.join(FORMATS)}, or give --format")
    form = form or (FORMATS[Path(output).suffix] if output else "markdown")
    if pages and (form != "markdown" or not output):
        raise BenchError("--pages writes markdown beside a file; give --output FILE.md")
    if results:
        gathered = [collected.collect_files(Path(results), strict)]
        records = gathered[0].records
        known = sorted({r.category for r in records})
        for name in category:
            if name not in known:
                raise unknown("category", name, known, f"in {results}")
        records = [r for r in records if not category or r.category in category]
    else:
        gathered = [collected.collect_runs(Path(runs), name, strict) for name in category or ("",)]
        records = [record for one in gathered for record in one.records]
    collected.say_damaged([line for one in gathered for line in one.damaged])
    if data:
        known = sorted({r.data[:12] for r in records})
        records = [r for r in records if r.data.startswith(data.lower())]
        if not records:
            raise unknown("data fingerprint", data, known, "(of the runs here)")
    protocols = ["sid", "item"] if protocol == "both" else [protocol]
    boards = board.boards(records, protocols, stages, allow_mixed)
    writers = {
        "markdown": formats.markdown, "csv": formats.comma_separated, "latex": formats.latex,
        "json": formats.as_json, "html": page.html,
    }  # fmt: skip
    if pages:
        found = formats.pages(boards, BOARDS)
        for name, text in found.items():
            write_text(Path(str(output)).parent / BOARDS / name if name else Path(str(output)), text)
        click.echo(f"wrote {output}: " + "; ".join(formats.summary_line(b) for b in boards))
        return
    text = writers[form](boards)
    if output:
        write_text(Path(output), text)
        click.echo(f"wrote {output}: " + "; ".join(formats.summary_line(b) for b in boards))
    else:
        click.echo(text, nl=False)
