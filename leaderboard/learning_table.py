"""Does learning beat counting? The suite ``learning``, category by category: its rows, and what paired tests say.

What ``rerank`` is compared with is chosen by item NDCG@10 on valid: the best counting row, and the best network of item
ids that starts at random; and the memory where a board has it. ``minionerec-counts`` is held against the best counting
row, its own logit without the language model, and ``rerank``; with a dense head it is held against itself without.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.cli.tables import PROTOCOLS, duration, table
from harness.evaluation.statistics import paired
from harness.runs import suite

from .board import Row, build
from .record import Record
from .report.captions import caption
from .report.compare import same_seeds
from .sentences import bullets, together, with_spread

TEXT, RERANK, MEMORY = " (text start)", "rerank", "minionerec-memory"
COUNTS, NO_MODEL = "minionerec-counts", "counts without the model"
HEAD, BY_SID = "counts with a dense head", "counts that rank SIDs"
METRICS = ("HR@10", "NDCG@10")


def all_of(categories: Iterable[Sequence[Record]]) -> dict[str, str]:
    """The table of each category whose records have ``rerank``, and what all of them bear (``says``)."""
    labels = {entry.label for entry in suite.read("learning").entries} | {MEMORY}
    made, said = {}, []
    for records in categories:
        there = [record for record in records if record.label in labels and record.seen == "keep"]
        rows = build(there, ["item"]).rows if there else []
        if any(row.name == RERANK for row in rows):
            category = there[0].category
            made[category.lower()] = learning_table(rows)
            said.append(says(category, rows))
    return made | {"says": "\n".join(said)}


def learning_table(rows: Sequence[Row]) -> str:
    """The rows of a category, the best by item NDCG@10 first, with the time that training took."""
    lines: list[list[Any]] = []
    protocols = [p for p in PROTOCOLS if all(row.system.metric(p, "NDCG@10") is not None for row in rows)]
    for row in sorted(rows, key=lambda row: -(row.system.metric("item", "NDCG@10") or 0.0)):
        line: list[Any] = [row.name, str(len(row.records))]
        for protocol in protocols:
            line += [with_spread(row.system, protocol, metric) for metric in METRICS]
        lines.append([*line, duration(row.cost("train seconds") or 0.0)])
    said = [f"{'SID' if p == 'sid' else p} {metric}" for p in protocols for metric in METRICS]
    ground = [record for row in rows for record in row.records]
    note = "± is the standard deviation over seeds"
    return table(["row", "seeds", *said, "train"], lines) + "\n\n" + caption(ground, "", [note])


def says(category: str, rows: Sequence[Row]) -> str:
    """What the tests of a category say; p corrected over its sentences."""
    named = {row.name: row for row in rows}
    rivals = _rivals(rows)  # the best counting row first
    pairs = [(name.removesuffix(TEXT), name) for name in named if name.endswith(TEXT)]
    pairs += [(rival, RERANK) for rival in rivals if RERANK in named]
    pairs += [(rival, COUNTS) for rival in (*rivals[:1], NO_MODEL, BY_SID, RERANK) if COUNTS in named]
    pairs += [(COUNTS, HEAD)] if HEAD in named else []
    found = {}
    for first, second in pairs:
        for protocol, label in PROTOCOLS.items():
            if first in named:
                for metric in METRICS if second in (RERANK, COUNTS, HEAD) else METRICS[-1:]:
                    one, other = (named[name].system.runs(protocol, (metric,)) for name in (first, second))
                    if one is not None and other is not None:
                        seeds = same_seeds(named[first].system, named[second].system)
                        key = f"{category}, {label}: {second} over {first}", metric
                        found[key] = paired(one, other, seeds)[metric]
    return bullets(together(found))


def _rivals(rows: Sequence[Row]) -> list[str]:
    """What ``rerank`` is held against."""
    groups: Mapping[str, list[Row]] = {
        "counting": [row for row in rows if row.group == "counting"],
        "networks": [row for row in rows if row.group == "traditional" and TEXT not in row.name and row.name != RERANK],
    }
    best = []
    for rows_of in groups.values():
        told = {row.name: value for row in rows_of if (value := _valid(row)) is not None}
        best += [max(told, key=lambda name: told[name])] if told else []
    return [*best, *(row.name for row in rows if row.name == MEMORY)]


def _valid(row: Row) -> float | None:
    """Item NDCG@10 on valid, the mean over seeds; None where a record does not have it."""
    values = [record.valid_by_item for record in row.records]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None
