"""The report: the replication log's whole document, and more, from the records of one or several runs.

It computes from records and the stages' logs alone, and asks no plugin.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from harness import files
from harness.cli.tables import PROTOCOLS
from harness.errors import BenchError
from harness.runs.run_directory import RunDirectory, read_log
from harness.text import plain

from ..record import Record
from . import figures, sections, sid_section
from .captions import caption
from .sections import FIGURES, Pairs, reported_pairs
from .systems import Recipe, recipes, same_versions, systems


def write(records: Sequence[Record], folder: Path, draw: bool = True) -> list[Path]:
    """Write ``report.md`` and its figures into a folder; returns the files.

    Args:
        records: of one category and split.
        draw: whether to draw the figures.

    Raises:
        BenchError: the records are of different categories, data or SIDs.
    """
    shown = recipes(records)
    same_ground(records)
    pairs = reported_pairs(systems(shown))
    drawn: list[Path] = []
    if draw:
        with figures.style():
            for name, draw_it in _figures(shown, pairs).items():
                with passed_over(f"figure {name} of {folder}"):
                    drawn += figures.save({name: draw_it()}, folder / FIGURES)
    there = {path.stem for path in drawn}
    path = folder / "report.md"
    files.write_text(path, markdown(shown, pairs, there))
    return [path, *drawn]


def write_for(directory: Path, draw: bool) -> None:
    """Write the report of a run that has just finished."""
    write([Record.of_run(directory)], directory, draw)


@contextlib.contextmanager
def passed_over(what: str) -> Iterator[None]:
    """What fails within is named and left out: a report without one figure or table is better than none."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        click.echo(f"Warning: {what} could not be made ({reason}); bench report makes it later", err=True)


def same_ground(records: Sequence[Record]) -> None:
    """Records that share a table must be of one category, one split, one protocol and one set of SIDs.

    Raises:
        BenchError: they are not; it names two that differ.
    """
    first = records[0]
    same_versions(records)
    for record in records:
        for what, a, b in (
            ("categories", first.category, record.category),
            ("data", first.data, record.data),
            ("semantic IDs", first.sids, record.sids),
        ):
            if a != b:
                raise BenchError(
                    f"{first.place} and {record.place} are of different {what} ({str(a)[:24]}, {str(b)[:24]}); their "
                    "numbers do not compare"
                )


def markdown(found: Sequence[Recipe], pairs: Pairs, drawn: set[str]) -> str:
    """The whole document.

    Args:
        drawn: names of figures that stand in the folder ``figures`` beside it.
    """
    records = [record for recipe in found for record in recipe.records]
    shown = systems(found)
    names = ", ".join(plain.markdown(recipe.name) for recipe in found)
    parts = [f"# {names} on {plain.markdown(records[0].category)}"]
    parts += [
        plain.markdown(record.settings["summary"])
        for record in (r.first for r in found)
        if record.settings.get("summary")
    ]
    several = len(found) > 1
    stages = [(recipe, stage) for recipe in found for stage in recipe.stages]
    made: dict[str, Callable[[], list[str]]] = {
        "Setup": lambda: ["## Setup", *sections.setup(found), caption(records)],
        "Semantic IDs": lambda: sid_section.section(found, drawn),
        "stages": lambda: [
            part for recipe, stage in stages for part in sections.stage_of(recipe, stage, several, drawn)
        ],
        "Full results": lambda: sections.results(shown, records, drawn),
        "What each stage changes": lambda: sections.stage_differences(shown, records),
        "Reported scores": lambda: sections.reported_scores(records[0].category),
        "Discrepancy analysis": lambda: sections.discrepancy(pairs, records, drawn),
        "Per-level analysis": lambda: sections.per_level(shown, records, pairs, drawn),
        "Segments": lambda: sections.by_segment(shown, records, drawn),
        "Beyond accuracy": lambda: sections.beyond(shown, records),
        "Cost": lambda: sections.costs(found, records, drawn),
        "Key observations": lambda: sections.key_observations(shown, pairs),
    }
    for name, make in made.items():
        with passed_over(f"the report's section {name}"):
            parts += make()
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(found: Sequence[Recipe], pairs: Pairs) -> dict[str, Callable[[], Any]]:
    """What draws each figure, by file name; it gives None where a run has nothing to draw."""
    shown = systems(found)
    last = [system for system in shown if system.is_last]
    drawn: dict[str, Callable[[], Any]] = {}
    for protocol in PROTOCOLS:
        drawn[f"hit-rate-{protocol}"] = partial(figures.hit_rates, shown, protocol)
        drawn[f"segments-{protocol}"] = partial(figures.segments, last, protocol)
        drawn[f"cost-{protocol}"] = partial(figures.cost, last, protocol)
    drawn["levels"] = partial(figures.levels, shown)
    drawn["discrepancy"] = partial(figures.discrepancy, sections.of_last_stages(pairs))
    if len(found) == 1:
        drawn[sid_section.NAME] = partial(sid_section.figure, found[0].first)
    for recipe in found:
        for number, stage in enumerate(recipe.stages, start=1):
            if recipe.first.place.is_dir():
                log = read_log(RunDirectory(recipe.first.place).stage(number, stage))
                facts = recipe.first.stages[stage].get("train") or {}
                best = facts.get("best epoch", facts.get("best step"))  # item-id models log by epoch
                name = sections.file_of(recipe, stage, len(found) > 1)
                drawn[f"learning-{name}"] = partial(figures.learning, stage, log, best)
                drawn[f"rewards-{name}"] = partial(figures.rewards, stage, log)
    return drawn
