"""Does the tokenizer matter? One model over the SIDs of several tokenizers: metrics beside the figures of the SIDs.

And which figure goes with the metric: rank correlation over the tokenizers (Spearman 1904).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.cli.tables import table
from harness.text import plain

from .record import Record
from .report.captions import caption
from .report.sid_section import quality_of

METRICS = (("sid", "HR@10"), ("sid", "NDCG@10"), ("item", "HR@10"), ("item", "NDCG@10"))
JUDGED = ("item", "NDCG@10")
FIGURES = {
    "codes used": "codes, level 1",
    "perplexity of codes": "perplexity, level 1",
    "items on a shared SID": "items on a shared SID",
    "ceiling of item HR@1": "ceiling of item HR@1",
    "first code shared with the 10 nearest": "neighbours agree",
    "categories told by the first code": "categories told",
    "unexplained variance": "unexplained variance",
}
"""The figures shown, and what their columns are called; of those by level the first level's."""
LEAST = 5
"""Tokenizers from which on a rank correlation is told."""


@dataclass(frozen=True)
class Line:
    """A tokenizer's runs."""

    label: str
    records: tuple[Record, ...]

    def metric(self, protocol: str, name: str) -> float | None:
        """The mean over seeds."""
        values = [record.metrics(protocol).get(name) for record in self.records]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known and len(known) == len(values) else None

    def spread(self, protocol: str, name: str) -> float | None:
        """The standard deviation over seeds; None for one seed."""
        values = [record.metrics(protocol).get(name, 0.0) for record in self.records]
        return statistics.stdev(values) if len(values) > 1 else None

    def figure(self, name: str) -> float | None:
        """A figure of its SIDs, the mean over seeds."""
        found = [quality_of(record).get(name) for record in self.records]
        values = [float(value[0] if isinstance(value, list) else value) for value in found if value is not None]
        return statistics.fmean(values) if values and len(values) == len(found) else None


def lines_of(records: Sequence[Record]) -> list[Line]:
    """Records of one model on one category, a line a label, the best by item NDCG@10 first."""
    by_label: dict[str, list[Record]] = {}
    for record in records:
        by_label.setdefault(record.label, []).append(record)
    found = [Line(label, tuple(sorted(ones, key=lambda r: r.seed))) for label, ones in by_label.items()]
    return sorted(found, key=lambda line: -(line.metric(*JUDGED) or 0.0))


def tokenizer_table(records: Sequence[Record]) -> str:
    """The table of one model on one category, its caption, and what the rank correlations are."""
    lines = lines_of(records)
    rows: list[list[Any]] = []
    for line in lines:
        row: list[Any] = [line.label, str(len(line.records))]
        for protocol, name in METRICS:
            value, spread = line.metric(protocol, name), line.spread(protocol, name)
            row.append(None if value is None else f"{value:.4f}" + (f" ± {spread:.4f}" if spread is not None else ""))
        rows.append([*row, *(_shown(name, line.figure(name)) for name in FIGURES)])
    headers = ["SIDs", "Seeds", *(f"{'SID' if p == 'sid' else p} {name}" for p, name in METRICS), *FIGURES.values()]
    note = "± is the standard deviation over seeds; figures of the first level where a level has one"
    parts = [table(headers, rows), caption([record for line in lines for record in line.records], "", [note])]
    told = correlations(lines)
    return "\n\n".join([*parts, *([told] if told else [])])


def _shown(name: str, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:,.0f}" if name in ("codes used", "items on a shared SID", "perplexity of codes") else f"{value:.3f}"


def correlations(lines: Sequence[Line]) -> str:
    """Spearman's rank correlation of each figure with item NDCG@10, over the tokenizers; nothing for a handful."""
    from scipy.stats import spearmanr

    told = []
    for name, called in FIGURES.items():
        pairs = [
            (figure, value)
            for line in lines
            if (figure := line.figure(name)) is not None and (value := line.metric(*JUDGED)) is not None
        ]
        if len(pairs) >= LEAST and len({figure for figure, _ in pairs}) > 1:
            found = spearmanr(*zip(*pairs, strict=True))
            told.append(f"{plain.markdown(called)} {found.statistic:+.2f} (p {found.pvalue:.2f}, n {len(pairs)})")
    return f"Rank correlation with item NDCG@10, over the tokenizers: {'; '.join(told)}." if told else ""
