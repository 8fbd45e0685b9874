"""Every two rows of a board against each other, paired by test sample: for the page, where a reader picks two."""

from __future__ import annotations

from itertools import combinations

from harness.evaluation.statistics import CLAIMS, paired

from .board import Board
from .report.compare import same_seeds

TESTED = ("HR@10", "NDCG@10")
MOST = 40
"""Rows up to which all pairs are made."""

Pairs = dict[str, dict[str, dict[str, dict[str, list[float | str]]]]]


def of(board: Board) -> Pairs:
    """``{protocol: {row: {other: {metric: [difference, low, high, verdict]}}}}``, each two rows once; empty: too many.

    Not corrected for how many pairs there are: a reader who picks the best of many is told so on the page.
    """
    found: Pairs = {}
    for table in board.tables:
        rows = {row.name: row.system for row in table.rows if not row.mixed}
        if len(rows) > MOST:
            continue
        runs = {name: system.runs(table.protocol, TESTED) for name, system in rows.items()}
        of_protocol = found.setdefault(table.protocol, {})
        for one, other in combinations(rows, 2):
            first, second = runs[one], runs[other]
            if first is None or second is None or first.n != second.n:
                continue
            tests = paired(second, first, same_seeds(rows[one], rows[other]))
            of_protocol.setdefault(one, {})[other] = {
                metric: [
                    *(round(value, 5) for value in (test.difference, test.low, test.high)),
                    ("beyond chance" if test.significant else "within chance")
                    if test.scope in CLAIMS
                    else "of these runs alone: one seed is no claim of the methods",
                ]
                for metric, test in tests.items()
            }
    return found
