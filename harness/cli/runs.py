"""``bench status`` and ``bench runs``: the runs that there are, what they are at, and removing them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.common import runs_option

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
json_option = click.option("--json", "as_lines", is_flag=True, help="A line of JSON for each.")


@click.command()
@click.argument("runs", default="runs", metavar="[RUNS]")
@json_option
def status(runs: str, as_lines: bool) -> None:
    """What runs below RUNS (a folder of runs, or one run): stage, step, time left, last numbers, stale locks."""
    import json

    from harness.inventory import shelf
    from harness.inventory import status as inventory
    from harness.progress import duration

    found = shelf.below(Path(runs))
    open_ = [run for run in found if run.state != "finished" or Path(runs) == run.path]
    told = [inventory.of(run) for run in sorted(open_, key=lambda run: (run.state != "running", run.name))]
    if as_lines:
        for one in told:
            click.echo(json.dumps(one, ensure_ascii=False))
        return
    for one in told:
        click.echo(f"{one['run']}  {one['state']}" + (f"  {one['stage']}" if one["stage"] else ""))
        if one["work"]:
            remains = f", about {duration(one['left'])} left of it" if one["left"] is not None else ""
            click.echo(f"    {one['work']}{remains}")
        if one["numbers"]:
            click.echo("    " + ", ".join(f"{name} {value:.4f}" for name, value in one["numbers"].items()))
        if one["said"]:
            click.echo(f"    {one['said']}")
    rest = len(found) - len(open_)
    click.echo(f"{rest:,} finished (bench runs list)" if rest or not found else "no other run")


@click.group()
def runs() -> None:
    """List runs, look at one, and remove what is not needed."""


@runs.command("list")
@runs_option
@json_option
def list_(runs: str, as_lines: bool) -> None:
    """Every run: state, NDCG@10 of its last stage on test, size, age."""
    import json

    from tabulate import tabulate

    from harness.inventory import shelf

    found = shelf.below(Path(runs))
    rows: list[list[Any]] = []
    for run in found:
        metric = run.metric()
        if as_lines:
            facts: dict[str, Any] = {"run": run.name, "path": str(run.path)}
            facts |= {"category": run.category, "method": run.method}
            numbers = {"NDCG@10": metric[1] if metric else None, "protocol": metric[0] if metric else None}
            facts |= {"seed": run.manifest.get("seed"), "state": run.state}
            click.echo(json.dumps({**facts, **numbers, "bytes": run.size, "touched": run.touched}))
            continue
        shown = f"{metric[1]:.4f} {metric[0]}" if metric else ""
        rows.append([run.name, run.state, shown, shelf.bytes_told(run.size), shelf.ago(run.touched)])
    if as_lines:
        return
    click.echo(tabulate(rows, ["run", "state", "NDCG@10", "size", "changed"], "simple", disable_numparse=True))
    click.echo(f"\n{len(found):,} runs, {shelf.bytes_told(sum(run.size for run in found))}, below {runs}")


@runs.command()
@click.argument("run", metavar="RUN")
def show(run: str) -> None:
    """One run: where it stands, what it was made with, what takes room, and which runs need it."""
    from harness.cli.tables import summary
    from harness.inventory import shelf
    from harness.inventory import status as inventory
    from harness.runs import finished
    from harness.runs.run_directory import RunDirectory

    found = shelf.one(Path(run))
    facts = inventory.of(found)
    manifest = found.manifest
    click.echo(f"{found.name}: {found.state}" + (f", {facts['stage']}" if facts["stage"] else ""))
    if facts["said"]:
        click.echo(facts["said"])
    prints = manifest.get("fingerprints") or {}
    for name, value in (
        ("data", str(prints.get("data", ""))[:12]), ("SIDs", str(prints.get("semantic_ids") or "")[:12]),
        ("code", manifest.get("revision", "")), ("started", manifest.get("started")),
        ("ended", manifest.get("finished")), ("pruned", manifest.get("pruned")),
    ):  # fmt: skip
        if value:
            click.echo(f"  {name:<8} {value}")
    parts = sorted(((shelf.size_of(path) if path.is_dir() else path.stat().st_size, path)
                    for path in [*found.path.glob("*"), *found.path.glob("stages/*/*")]
                    if path.name != "stages"), reverse=True)  # fmt: skip
    for size, path in parts[:6]:
        click.echo(f"  {shelf.bytes_told(size):>9}  {path.relative_to(found.path)}")
    for other in shelf.needed_by(shelf.beside(found), found.path):
        click.echo(f"  needed by {other.name}")
    if found.state == "finished":
        click.echo("\n" + summary(finished.metrics(RunDirectory(found.path))))


@runs.command("rm")
@click.argument("given", nargs=-1, required=True, metavar="RUN…")
@click.option("--force", is_flag=True, help="Also where another run loads it.")
@yes_option
def remove(given: tuple[str, ...], force: bool, yes: bool) -> None:
    """Remove runs, whole. One that a process works on is left alone."""
    from harness.inventory import removing

    _do(removing.whole([Path(path) for path in given], force), yes)


@runs.command()
@runs_option
@click.option("--unfinished", is_flag=True, help="Also remove runs that did not finish and that nobody works on.")
@click.option("--older-than", type=click.FloatRange(0), default=0.0, metavar="DAYS", help="Unchanged for so long.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@yes_option
def prune(runs: str, unfinished: bool, older_than: float, dry_run: bool, yes: bool) -> None:
    """Remove the checkpoints of finished runs.

    Such a run is still asked, measured and compared; only --from-run with more epochs has to train from the beginning.
    """
    from harness.inventory import removing, shelf

    _do(removing.unneeded(shelf.below(Path(runs)), unfinished, older_than), yes, dry_run)


def _do(removals: Any, yes: bool, dry: bool = False) -> None:
    from harness.inventory import removing, shelf

    for one in removals:
        what = "whole" if one.whole else "checkpoints"
        click.echo(f"{shelf.bytes_told(one.size):>9}  {one.run.name} ({one.run.state}): {what}")
    size = shelf.bytes_told(sum(one.size for one in removals))
    if not removals:
        click.echo("nothing to remove")
        return
    if dry:
        click.echo(f"{size} would be free")
        return
    if not yes:
        click.confirm(f"Remove {size}?", abort=True)
    for one in removals:
        removing.remove(one)
    click.echo(f"{size} are free")
