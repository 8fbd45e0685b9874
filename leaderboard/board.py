"""The leaderboard of one category: recorded runs as rows, what may stand in one table, and who is better than whom.

It computes no metric, only means over seeds and paired tests from the target ranks of records; how a table looks is
:mod:`leaderboard.formats`'.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from harness.cli.tables import PROTOCOLS
from harness.data import versions
from harness.errors import BenchError
from harness.evaluation.measure import BAYES
from harness.evaluation.statistics import ALPHA, CLAIMS, holm, paired
from harness.recipes import GROUPS

from . import effort, reported
from .record import Record
from .report.compare import same_seeds
from .report.systems import Recipe, System, recipes

COLUMNS = (
    "HR@1", "HR@3", "HR@5", "HR@10", "HR@20", "HR@50", "NDCG@3", "NDCG@5", "NDCG@10", "NDCG@20", "NDCG@50", "MRR",
)  # fmt: skip
TESTED = "NDCG@10"
COUNTING = "hybrid"
"""The counting baseline that every row is tested against."""
OUTSIDE = ("external", "checkpoint")
"""Trainers that train nothing: what ``bench score`` records."""
GROUP_TITLES = {
    "counting": "Counting", "traditional": "Traditional", "generative": "Generative", "llm": "LLM-based",
    "ours": "Ours", "community": "Community",
}  # fmt: skip


@dataclass(frozen=True)
class Against:
    """A row against another: the difference of NDCG@10, and its p corrected over the table's rows.

    Attributes:
        p: None where the records bear no claim: one seed of a method that is not deterministic, or unknown users.
        scope: what the test accounts for.
    """

    difference: float
    p: float | None
    scope: str = ""

    @property
    def significant(self) -> bool:
        """Whether it is beyond chance at 5 %."""
        return self.p is not None and self.p < ALPHA


@dataclass(frozen=True)
class Row:
    """A row: the runs of one recipe, or one stage of them.

    Attributes:
        system: the numbers.
        mixed: what sets it apart from the table's other rows (only with mixed tables).
    """

    system: System
    mixed: str = ""

    @property
    def name(self) -> str:
        """Its name in tables."""
        return self.system.name

    @property
    def group(self) -> str:
        """One of :data:`harness.recipes.GROUPS`."""
        return self.system.recipe.first.group

    @property
    def made_elsewhere(self) -> bool:
        """Whether ``bench score`` recorded it: nothing was trained here."""
        return any(stage.get("trainer") in OUTSIDE for record in self.records for stage in record.settings["stages"])

    @property
    def records(self) -> tuple[Record, ...]:
        """Its runs."""
        return self.system.recipe.records

    @cached_property
    def effort(self) -> effort.Effort:
        """What was spent on it."""
        return effort.of(self.records)

    def spread(self, protocol: str, metric: str) -> float | None:
        """The standard deviation over seeds; None for one seed."""
        values = self.system.values(protocol, metric)
        return statistics.stdev(values) if len(values) > 1 else None

    def cost(self, name: str) -> float | None:
        """A cost, the mean over seeds."""
        values = [record.cost.get(name) for record in self.records]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None


@dataclass
class Table:
    """One protocol's table.

    Attributes:
        absent: rows that lack the protocol, since they were run without semantic IDs.
        best: of each column, the best and the second-best value (at the digits that are shown).
        counting: the row of the counting baseline `hybrid`: the one labelled so, else the first of that method.
        versus_counting: of each row's name, it against that counting baseline.
        versus_baseline: it against the best baseline.
        baseline: that baseline's name: the best NDCG@10 among the rows that are neither ours nor counting.
        optimal: the Bayes-optimal row, where the data is generated.
    """

    protocol: str
    rows: list[Row]
    absent: list[str] = field(default_factory=list)
    best: dict[str, tuple[float, float]] = field(default_factory=dict)
    counting: str = ""
    versus_counting: dict[str, Against] = field(default_factory=dict)
    versus_baseline: dict[str, Against] = field(default_factory=dict)
    baseline: str = ""
    optimal: dict[str, float] = field(default_factory=dict)


@dataclass
class Board:
    """The leaderboard of a category.

    Attributes:
        passed_over: recipes that another one of the same label was chosen before, with their valid NDCG@10.
        seen: whether what a user bought before may be recommended (``keep``, ``drop``): two boards of one category.
    """

    category: str
    tables: list[Table]
    reported: tuple[reported.Reported, ...]
    passed_over: list[str]
    seen: str = "keep"

    @property
    def title(self) -> str:
        """The category, and what else its rows stand on that has a board of its own."""
        return self.category + (", bought items dropped" if self.seen == "drop" else "")

    @cached_property
    def rows(self) -> list[Row]:
        """Every row, once."""
        return list({row.name: row for table in self.tables for row in table.rows}.values())

    @property
    def records(self) -> list[Record]:
        """Every run, once."""
        return list({id(record): record for row in self.rows for record in row.records}.values())


def shown_value(value: float) -> float:
    """A metric as every form shows it: four digits, rounded once."""
    return float(f"{value:.4f}")


def boards(
    records: Sequence[Record], protocols: Sequence[str], stages: bool = False, mixed: bool = False
) -> list[Board]:
    """A board a category, categories by name, and one more where bought items are dropped; see :func:`build`."""
    together: dict[tuple[str, bool], list[Record]] = {}
    for record in records:
        together.setdefault((record.category, record.seen == "drop" and not mixed), []).append(record)
    return [build(of_one, protocols, stages, mixed) for _, of_one in sorted(together.items(), key=lambda one: one[0])]


def build(records: Sequence[Record], protocols: Sequence[str], stages: bool = False, mixed: bool = False) -> Board:
    """The board of one category's records.

    Of several recipes with one label the one with the best NDCG@10 on valid is shown; test has no say. Recipes whose
    valid metrics do not mean the same are all shown, each under a name of its own.

    Args:
        stages: a row for every stage, not only the last.
        mixed: let rows of different data, SIDs or protocols stand in one table, marked.

    Raises:
        BenchError: rows that do not compare, and `mixed` is not set.
    """
    chosen, passed_over = _choose(recipes(records))
    chosen.sort(key=lambda recipe: GROUPS.index(recipe.first.group))  # within a group as they came
    rows = [
        Row(System(_name(recipe, stage, stages), recipe, stage))
        for recipe in chosen
        for stage in (recipe.stages if stages else recipe.stages[-1:])
    ]
    tables = [_table(protocol, rows, mixed) for protocol in protocols]
    tables = [table for table in tables if table.rows]
    if not tables:
        raise BenchError(f"no run of {records[0].category} has the {' or '.join(PROTOCOLS[p] for p in protocols)}")
    category, seen = records[0].category, records[0].seen if not mixed else "keep"
    return Board(category, tables, reported.rows(category) if seen == "keep" else (), passed_over, seen)


def _name(recipe: Recipe, stage: str, stages: bool) -> str:
    return f"{recipe.name} {stage}" if stages and len(recipe.stages) > 1 else recipe.name


def _choose(found: Sequence[Recipe]) -> tuple[list[Recipe], list[str]]:
    """Of each label the recipe with the best valid NDCG@10 (mean over seeds), and what was passed over.

    Recipes of one label are chosen among only where their valid metrics are of the same samples, and of the same
    semantic IDs or by item; else all of them stay.
    """
    by_label: dict[str, list[Recipe]] = {}
    for recipe in found:
        by_label.setdefault(recipe.first.label, []).append(recipe)
    chosen, passed_over = [], []
    for label, candidates in by_label.items():
        valid, how = _valid(candidates)
        if len(candidates) == 1:
            chosen.append(Recipe(label, candidates[0].records))
        elif not valid:
            chosen += candidates
        else:
            ordered = sorted(candidates, key=lambda recipe: valid[recipe.name], reverse=True)
            chosen.append(Recipe(label, ordered[0].records))
            passed_over += [f"{recipe.name} (valid {how} {valid[recipe.name]:.4f})" for recipe in ordered[1:]]
    return chosen, passed_over


def _valid(candidates: Sequence[Recipe]) -> tuple[dict[str, float], str]:
    """``{recipe: valid NDCG@10, mean over seeds}`` and which protocol it is of; empty where they do not compare."""
    records = [record for recipe in candidates for record in recipe.records]
    probes = [{record.probe for record in recipe.records} for recipe in candidates]
    if any(probe != probes[0] for probe in probes):
        return {}, ""
    sids = [{record.sids for record in recipe.records} for recipe in candidates]
    numbers = {TESTED: [r.valid for r in records]} if all(s == sids[0] for s in sids) else {}
    numbers[f"{TESTED} by item"] = [r.valid_by_item for r in records]
    for how, values in numbers.items():
        if None not in values:
            of = dict(zip(map(id, records), values, strict=True))
            return {c.name: statistics.fmean(of[id(r)] or 0.0 for r in c.records) for c in candidates}, how
    return {}, ""


def _table(protocol: str, rows: Sequence[Row], mixed: bool) -> Table:
    shown, absent = _comparable(protocol, rows, mixed)
    table = Table(protocol, shown, absent)
    for column in COLUMNS:
        own = [row.system.metric(protocol, column) for row in shown if not row.mixed]
        values = sorted({shown_value(value) for value in own if value is not None})
        if values:
            table.best[column] = (values[-1], values[-2] if len(values) > 1 else values[-1])
    known = [row for row in shown if row.system.recipe.first.method == COUNTING and not row.mixed]
    counting = next((row for row in known if row.system.recipe.first.label == COUNTING), known[0] if known else None)
    rivals = [row for row in shown if row.group not in ("counting", "ours") and not row.mixed]
    baseline = max(rivals, key=lambda row: row.system.metric(protocol, TESTED) or 0.0, default=None)
    systems = {row.name: row.system for row in shown if not row.mixed}
    if counting is not None:
        table.counting, table.versus_counting = counting.name, _against(counting.name, systems, protocol)
    if baseline is not None:
        table.baseline, table.versus_baseline = baseline.name, _against(baseline.name, systems, protocol)
    there = [record.content.get(BAYES, {}).get(protocol) for row in shown if not row.mixed for record in row.records]
    table.optimal = next((optimum for optimum in there if optimum), {}) if all(there) else {}
    return table


def _comparable(protocol: str, rows: Sequence[Row], mixed: bool) -> tuple[list[Row], list[str]]:
    """The rows that may stand in one table, and those that lack the protocol; others are an error, or marked.

    The ground is what most runs stand on, so that one odd run is the odd one.

    Raises:
        BenchError: rows of different data or SIDs; it names them.
    """

    def ground(record: Record) -> tuple[str, str | None]:
        return record.data, record.sids if protocol == "sid" else None

    there, absent = [], []
    for row in rows:
        lacks = not all(record.metrics(protocol, row.system.stage) for record in row.records)
        absent.append(row.name) if lacks else there.append(row)
    grounds = [ground(record) for row in there for record in row.records]
    usual = max(dict.fromkeys(grounds), key=grounds.count, default=("", None))
    older = _older(there, mixed)
    shown, odd = [], []
    for row in there:
        data, sids = next((g for g in map(ground, row.records) if g != usual), usual)
        reason = ""
        if data != usual[0]:
            reason = f"data {data[:12]}, not {usual[0][:12]}"
        elif sids != usual[1]:
            reason = f"SIDs {(sids or 'none')[:12]}, not {(usual[1] or 'none')[:12]}"
        if not reason and row.name in older:
            reason = older[row.name]
        elif reason:
            odd.append(f"{row.name} ({row.records[0].place}: {reason})")
        shown.append(Row(row.system, reason))
    if odd and not mixed:
        way = "--allow-mixed marks them"
        if any(": data " in line for line in odd):
            way = f"--data {usual[0][:12]} shows those that do, {way}; keep trial runs apart with --runs DIR"
        if all("SIDs" in line for line in odd):
            way += ", --protocol item compares them by item"
        raise BenchError(
            f"{rows[0].records[0].category}, {PROTOCOLS[protocol]}: {len(odd)} of {len(there)} rows do not compare "
            f"with the others: {'; '.join(odd)} ({way})"
        )
    return shown, absent


def _older(rows: Sequence[Row], mixed: bool) -> dict[str, str]:
    """Rows that stand on another version of one thing than the newest here, or on other declared settings.

    Returns:
        What sets each apart, by name.

    Raises:
        BenchError: there are some, and `mixed` is not set; a version that is not known.
    """
    grounds = [(row.name, record.ground) for row in rows for record in row.records]
    for _, ground in grounds:
        versions.checked(ground)
    apart: dict[str, str] = {}
    for kind in versions.KINDS:
        named = [(name, ground[kind]) for name, ground in grounds if ground.get(kind)]
        latest = max((own["version"] for _, own in named), default=0)
        there = [own for _, own in named if own["version"] == latest]
        newest: dict[str, Any] = max(there, key=there.count, default={})  # of one version the settings that most have
        for name, own in named:
            if reason := versions.differs({kind: own}, {kind: newest}).get(kind, ""):
                apart.setdefault(name, reason)
    if apart and not mixed:
        lines = "; ".join(f"{name} ({reason})" for name, reason in apart.items())
        raise BenchError(
            f"{rows[0].records[0].category}: {len(apart)} of {len(rows)} rows stand on another version or setting than "
            f"the others: {lines} ({versions.MEND}, --allow-mixed marks them)"
        )
    return apart


def _against(name: str, systems: dict[str, System], protocol: str) -> dict[str, Against]:
    """Every other row against the named one, p corrected over the rows that a claim can be made of."""
    runs = {other: system.runs(protocol, (TESTED,)) for other, system in systems.items()}
    base = runs.pop(name)
    if base is None or TESTED not in base.values:
        return {}
    tests = {
        other: paired(base, values, same_seeds(systems[name], systems[other]))[TESTED]
        for other, values in runs.items()
        if values is not None and TESTED in values.values and values.n == base.n
    }
    claims = [other for other, test in tests.items() if test.scope in CLAIMS]
    corrected = dict(zip(claims, holm(np.array([tests[other].p for other in claims])).tolist(), strict=True))
    return {other: Against(test.difference, corrected.get(other), test.scope) for other, test in tests.items()}
