"""Does the tokenizer matter? One model over the SIDs of several tokenizers: metrics beside the figures of the SIDs.

And which figure goes with the metric: rank correlation over the tokenizers (Spearman 1904).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.cli.tables import table
from harness.evaluation.statistics import paired

from .record import Record
from .report.captions import caption
from .report.compare import same_seeds
from .report.sid_section import quality_of
from .report.systems import Recipe, System
from .sentences import difference, with_spread

METRICS = (("sid", "NDCG@10"), ("item", "HR@10"), ("item", "NDCG@10"))
JUDGED = ("item", "NDCG@10")
FIGURES = {
    "perplexity of codes": "perplexity",
    "items on a shared SID": "shared",
    "ceiling of item HR@1": "ceiling",
    "first code shared with the 10 nearest": "neighbours",
    "categories told by the first code": "categories",
    "unexplained variance": "unexplained",
}
"""The figures shown, and what their columns are called; of those by level the first level's."""
COUNTED = ("perplexity of codes", "items on a shared SID")
LEAST = 5
"""Tokenizers from which on a rank correlation is told."""


def rows_of(records: Sequence[Record]) -> list[System]:
    """Records of one model on one category: a system a tokenizer, the best by item NDCG@10 first."""
    by_label: dict[str, list[Record]] = {}
    for record in records:
        by_label.setdefault(record.label, []).append(record)
    found = [
        System(label.partition(" ")[2] or label, Recipe(label, tuple(sorted(ones, key=lambda r: r.seed))), stage)
        for label, ones in by_label.items()
        for stage in [list(ones[0].stages)[-1]]
    ]
    return sorted(found, key=lambda system: -(system.metric(*JUDGED) or 0.0))


def figure(system: System, name: str) -> float | None:
    """A figure of a row's SIDs, the mean over seeds; None where one does not tell."""
    found = [quality_of(record).get(name) for record in system.recipe.records]
    values = [float(value[0] if isinstance(value, list) else value) for value in found if value is not None]
    return statistics.fmean(values) if values and len(values) == len(found) else None


def tokenizer_table(records: Sequence[Record]) -> str:
    """The table of one model on one category, and its caption."""
    systems = rows_of(records)
    told = [name for name in FIGURES if any(figure(system, name) is not None for system in systems)]
    rows: list[list[Any]] = []
    for system in systems:
        row: list[Any] = [system.name, str(len(system.recipe.records))]
        row += [with_spread(system, protocol, name) or None for protocol, name in METRICS]
        rows.append([*row, *(_shown(name, figure(system, name)) for name in told)])
    headers = ["SIDs", "seeds", *(f"{'SID' if p == 'sid' else p} {name}" for p, name in METRICS)]
    note = "± is the standard deviation over seeds; figures of the first level where a level has one"
    ground = [record for system in systems for record in system.recipe.records]
    return table([*headers, *(FIGURES[name] for name in told)], rows) + "\n\n" + caption(ground, "", [note])


def _shown(name: str, value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}" if name in COUNTED else f"{value:.3f}"


def says(records: Sequence[Record]) -> str:
    """What the rows of one model bear: the best against the worst and against permuted ones, and the correlations."""
    systems = rows_of(records)
    if len(systems) < 2:
        return ""
    best, worst = systems[0], systems[-1]
    method, category = best.recipe.first.method, best.recipe.first.category
    where = f"{category}, {method}"
    lines = [f"{where}: item NDCG@10 is highest over the SIDs of {best.name} and lowest over those of {worst.name}."]
    named = {system.name: system for system in systems}
    others = dict.fromkeys([worst.name, *(name for name in ("given", "permuted", "random") if name in named)])
    for name in others:
        if name != best.name:
            one, other = (system.runs("item", ("NDCG@10",)) for system in (named[name], best))
            if one is not None and other is not None:
                pair = paired(one, other, same_seeds(named[name], best))["NDCG@10"]
                lines.append(f"{where}, item protocol: {best.name} over {name}: {difference(pair)}.")
    lines += correlations(systems, where)
    return "\n".join(f"- {line}" for line in lines)


def correlations(systems: Sequence[System], where: str) -> list[str]:
    """Spearman's rank correlation of each figure with item NDCG@10, over the tokenizers; nothing for a handful."""
    from scipy.stats import permutation_test, rankdata

    told = []
    for name, called in FIGURES.items():
        pairs = [
            (found, value)
            for system in systems
            if (found := figure(system, name)) is not None and (value := system.metric(*JUDGED)) is not None
        ]
        if len(pairs) >= LEAST and len({found for found, _ in pairs}) > 1:
            figures, values = (rankdata(side) - (len(pairs) + 1) / 2 for side in zip(*pairs, strict=True))
            scale = float(np.sqrt((figures**2).sum() * (values**2).sum()))
            rank = permutation_test(  # exact for up to eight tokenizers
                (figures,), lambda x, axis, values=values, scale=scale: (x * values).sum(axis) / scale,
                permutation_type="pairings", vectorized=True, n_resamples=50_000, rng=0,
            )  # fmt: skip
            told.append((abs(rank.statistic), f"{called} {rank.statistic:+.2f} (p {rank.pvalue:.2g}, n {len(pairs)})"))
    if not told:
        return []
    listed = "; ".join(line for _, line in sorted(told, reverse=True))
    return [f"{where}: rank correlation with item NDCG@10 over the tokenizers, p not corrected: {listed}."]
