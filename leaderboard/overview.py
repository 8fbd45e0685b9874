"""Boards of several categories in one table: the best of counting, of what is trained, and of what is published."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cli.tables import table
from harness.text import plain
from harness.text.plain import Marked

from .board import Board, Row, Table
from .reported import Reported, published_samples

METRIC = "NDCG@10"
COUNTING = "counting"
SAYS = (
    "One protocol a category: SIDs where the published tables rank SIDs (MiniOneRec's categories), else items. "
    "Published rows are as their sources give them: of their own code, and often of other histories. "
    "Below means a smaller NDCG@10."
)


def overview(boards: Sequence[Board], folder: str = "") -> list[str]:
    """A table with a line a category, and which published rows fall below the best counting baseline.

    Args:
        folder: where a page of each category stands, for links; empty: they follow in the same file.
    """
    lines, below = [], []
    kept = {board.category for board in boards if board.seen == "keep"}
    for board in (board for board in boards if board.seen == "keep" or board.category not in kept):
        found = main_table(board)
        counting = best_row([row for row in found.rows if row.group == COUNTING], found)
        trained = best_row(trained_here(found), found)
        published = [row for row in board.reported if METRIC in row.metrics and not row.problems]
        best = max(published, key=lambda row: row.metrics[METRIC], default=None)
        lines.append(
            [
                Marked(f"[{plain.markdown(board.category)}]({folder}/{board.category}.md)") if folder else board.title,
                found.protocol if found.protocol == "item" else "SID",
                *_shown(counting, found),
                *_shown(trained, found),
                f"{best.method} ({best.source})" if best else None,
                best.metrics[METRIC] if best else None,
            ]
        )
        if counting is not None and published:
            below.append(_below(board, counting, found, published))
    headers = [
        "Category",
        "Protocol",
        "Best counting",
        METRIC,
        "Best trained here",
        f"{METRIC} ",
        "Best published",
        f"{METRIC}  ",
    ]
    parts = ["## Overview", table(headers, lines), SAYS]
    return [*parts, "\n".join(below)] if below else parts


def main_table(board: Board) -> Table:
    """The table that published rows are of."""
    wanted = "sid" if published_samples(board.category) else "item"
    return next((one for one in board.tables if one.protocol == wanted), board.tables[0])


def trained_here(found: Table) -> list[Row]:
    """The rows of what was trained by this harness: neither counted, nor made elsewhere."""
    return [row for row in found.rows if row.group != COUNTING and not row.made_elsewhere]


def best_row(rows: Sequence[Row], found: Table) -> Row | None:
    """The row with the highest NDCG@10 of a table; None where there is none."""
    return max(rows, key=lambda row: row.system.metric(found.protocol, METRIC) or 0.0, default=None)


def _shown(row: Row | None, found: Table) -> list[object]:
    return [row.name, row.system.metric(found.protocol, METRIC)] if row is not None else [None, None]


def _below(board: Board, counting: Row, found: Table, published: Sequence[Reported]) -> str:
    """``- **Beauty**: below skip-markov (0.0483) 30 of 34 published rows: …``."""
    bound = counting.system.metric(found.protocol, METRIC) or 0.0
    under = sorted((row for row in published if row.metrics[METRIC] < bound), key=lambda row: -row.metrics[METRIC])
    named = ", ".join(f"{plain.markdown(r.method)} {r.metrics[METRIC]:.4f} ({plain.markdown(r.source)})" for r in under)
    said = f"{len(under)} of {len(published)} published rows" + (f": {named}" if named else "")
    notes = str(counting.records[0].content.get("caption") or "").split("; ")
    rebuilt = next((f" Here {plain.markdown(note)}." for note in notes if "reconstructed" in note), "")
    name = plain.markdown(board.title)
    return f"- **{name}**: below {plain.markdown(counting.name)} ({bound:.4f}) {said}.{rebuilt}"
