"""Two systems on the same test samples: paired differences, by segment, and the samples that changed most.

It computes from target ranks; the samples' histories and titles come from the dataset, where it is at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.cli.tables import PROTOCOLS, table
from harness.data.dataset import Dataset
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError, unknown
from harness.evaluation.segments import segmentations
from harness.evaluation.statistics import CLAIMS, Paired, Runs, holm, paired
from harness.evaluation.target_ranks import METRICS

from ..collected import finished_below
from ..record import Record, load
from .captions import caption, title
from .systems import System, recipes, same_versions

PAIRED = ("Difference", "95 %", "p", "p (Holm)", "Wins", "Losses", "Ties")
HOW = "paired over test samples; intervals and p over {}; Holm's correction over the metrics"
OF_RUNS = "one seed: this says which of these runs is better, not which method"
SEGMENT_METRIC = "NDCG@10"
HISTORY = 3  # items of a history that are shown
TITLE = 50  # characters of a title that are shown


@dataclass(frozen=True)
class Changed:
    """A test sample whose result changed: what was bought, what was to be found, and how well each system found it."""

    user: str
    history: list[str]
    target: str
    first: float
    second: float


@dataclass(frozen=True)
class Comparison:
    """All that is said of two systems, second against first.

    Attributes:
        protocols: ``{protocol: {metric: Paired}}``.
        seeds: of each seed that both have, the same (only where there are several).
        segments: ``{protocol: {segmentation: {segment: Paired of NDCG@10}}}``, corrected over all segments.
        gained: samples that the second finds better, most first, by NDCG@10 under the last protocol.
        lost: samples that it finds worse.
        left_out: what could not be compared, and why.
    """

    first: System
    second: System
    protocols: dict[str, dict[str, Paired]]
    seeds: dict[int, dict[str, dict[str, Paired]]] = field(default_factory=dict)
    segments: dict[str, dict[str, dict[str, Paired]]] = field(default_factory=dict)
    gained: list[Changed] = field(default_factory=list)
    lost: list[Changed] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values, with what it rests on; without samples, which are the data's own."""

        def plain(tests: dict[str, Paired]) -> dict[str, Any]:
            def known(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
                return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in pairs}

            return {name: dataclasses.asdict(result, dict_factory=known) for name, result in tests.items()}

        records = [*self.first.recipe.records, *self.second.recipe.records]
        content = records[0].content
        return {
            "first": self.first.name,
            "second": self.second.name,
            "category": records[0].category,
            "caption": content["caption"],
            "fingerprints": content["fingerprints"],
            "seeds of the first": [record.seed for record in self.first.recipe.records],
            "seeds of the second": [record.seed for record in self.second.recipe.records],
            "revisions": sorted({record.content["revision"] for record in records}),
            "protocols": {name: plain(tests) for name, tests in self.protocols.items()},
            "by seed": {
                str(seed): {name: plain(tests) for name, tests in protocols.items()}
                for seed, protocols in self.seeds.items()
            },
            "segments": {
                protocol: {name: plain(parts) for name, parts in divisions.items()}
                for protocol, divisions in self.segments.items()
            },
        }


def side(given: str) -> System:
    """``RUN[:STAGE]``: a run directory, a record, or a folder of runs of one recipe (its seeds are averaged).

    Raises:
        BenchError: there is no such run or stage, or the folder holds runs of several recipes.
    """
    path, stage = Path(given), ""
    if not path.exists() and ":" in given:
        head, _, stage = given.rpartition(":")
        path = Path(head)
    if not path.exists():
        raise BenchError(f"{path} does not exist; give a run directory, a record (.json), or a folder of one's seeds")
    several = path.is_dir() and not (path / "manifest.json").exists()
    one = recipes(finished_below(path) if several else [load(path)])
    if len(one) > 1:
        names = ", ".join(f"{recipe.name} ({recipe.first.place.name}, …)" for recipe in one)
        raise BenchError(f"{path} holds runs of several recipes: {names}; give the directory of one run")
    recipe = one[0]
    if stage and stage not in recipe.stages:
        raise unknown("stage", stage, recipe.stages, f"of {path}")
    stage = stage or recipe.stages[-1]
    name = recipe.name if stage == recipe.stages[-1] else f"{recipe.name} {stage}"
    return System(name, recipe, stage)


def compare(
    first: System, second: System, dataset: Dataset | None, most: int = 5, only: Sequence[str] = ()
) -> Comparison:
    """Compare two systems on the same test samples.

    Args:
        dataset: the category, for segments and samples; None: neither.
        most: how many samples to list that gained, and that lost.
        only: the metrics that are compared, and corrected, together; without any, all of them.

    Raises:
        BenchError: they were run on different data or versions, share no protocol, or a metric is unknown.
    """
    for name in only:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    if first.name == second.name:
        last = f" {second.stage}" if first.stage != second.stage else f" ({second.recipe.first.place.name})"
        first = dataclasses.replace(first, name=f"{first.name} ({first.recipe.first.place.name})")
        second = dataclasses.replace(second, name=second.name + last)
    a, everyone = first.recipe.first, [*first.recipe.records, *second.recipe.records]
    b = next((record for record in everyone if record.data != a.data), second.recipe.first)
    if a.data != b.data:
        raise BenchError(
            f"{a.place} ({a.category}, data {a.data[:12]}) and {b.place} ({b.category}, data {b.data[:12]}) were run "
            "on different data; their samples do not pair"
        )
    same_versions(everyone)
    sids = [{record.seed: record.sids for record in system.recipe.records} for system in (first, second)]
    same_sids = len({record.sids for record in everyone}) == 1 or sids[0] == sids[1]
    left_out = []
    values: dict[str, tuple[Runs, Runs]] = {}
    for protocol, label in PROTOCOLS.items():
        if protocol == "sid" and not same_sids:
            shown = ", ".join(sorted({(record.sids or "none")[:12] for record in everyone}))
            left_out.append(f"{label}: the semantic IDs differ ({shown})")
            continue
        one, other = first.runs(protocol), second.runs(protocol)
        if one is not None and other is not None:
            values[protocol] = one, other
    if not values:
        raise BenchError(f"{a.place} and {b.place} share no protocol: {'; '.join(left_out) or 'no target ranks'}")

    together = same_seeds(first, second)

    def tested(one: Runs, other: Runs) -> dict[str, Paired]:
        return paired(_narrowed(one, only), _narrowed(other, only), together and one.seeds == other.seeds)

    compared = Comparison(first, second, {p: tested(*pair) for p, pair in values.items()}, left_out=left_out)
    shared = {r.seed for r in first.recipe.records} & {r.seed for r in second.recipe.records}
    if len(shared) > 1:
        for seed in sorted(shared):
            compared.seeds[seed] = {
                p: tested(_of_seed(first, seed, one), _of_seed(second, seed, other))
                for p, (one, other) in values.items()
            }
    if dataset is not None:
        _samples(compared, values, dataset, most)
    return compared


def markdown(found: Comparison) -> str:
    """The comparison as tables."""
    first, second = found.first.name, found.second.name
    records: list[Record] = [*found.first.recipe.records, *found.second.recipe.records]
    parts = [f"# {second} against {first}"]
    for protocol, results in found.protocols.items():
        parts += [
            f"## {title(protocol)}",
            paired_table(first, second, results),
            caption(records, protocol, [how(results)]),
        ]
    if found.seeds:
        rows = [
            [seed, PROTOCOLS[protocol].split()[0], name, r.first, r.second, f"{r.difference:+.4f}", _interval(r)]
            for seed, protocols in found.seeds.items()
            for protocol, results in protocols.items()
            for name, r in results.items()
            if name in ("HR@10", "NDCG@10") or len(results) < 4
        ]
        headers = ["Seed", "Protocol", "Metric", first, second, "Difference", "95 %"]
        parts += ["## By seed", table(headers, rows), caption(records)]
    for protocol, divisions in found.segments.items():
        rows = [
            [name, label, r.wins + r.losses + r.ties, r.first, r.second, f"{r.difference:+.4f}", _interval(r),
             f"{r.p:.3g}", f"{r.corrected:.3g}", r.wins, r.losses]
            for name, labels in divisions.items()
            for label, r in labels.items()
        ]  # fmt: skip
        headers = ["Segment", "", "Samples", first, second, *PAIRED[:-1]]
        note = f"{SEGMENT_METRIC}; Holm's correction over all segments"
        parts += [f"## {SEGMENT_METRIC} by segment, {PROTOCOLS[protocol]}", table(headers, rows)]
        parts.append(caption(records, protocol, [note]))
    for heading, samples in (("gained", found.gained), ("lost", found.lost)):
        if samples:
            rows = [[s.user, " → ".join(map(_short, s.history)), _short(s.target), s.first, s.second] for s in samples]
            parts += [
                f"## Samples that {heading} most",
                table(["User", "History (its end)", "Target", first, second], rows),
                caption(records, list(found.protocols)[-1], [f"{SEGMENT_METRIC} of each sample"]),
            ]
    parts += [f"Not compared: {line}." for line in found.left_out]
    return "\n\n".join(parts) + "\n"


def paired_table(first: str, second: str, results: dict[str, Paired]) -> str:
    """A row a metric."""
    rows = [
        [name, r.first, r.second, f"{r.difference:+.4f}", _interval(r), f"{r.p:.3g}", f"{r.corrected:.3g}", r.wins,
         r.losses, r.ties]
        for name, r in results.items()
    ]  # fmt: skip
    return table(["Metric", first, second, *PAIRED], rows)


def _interval(result: Paired) -> str | None:
    """The bounds of the difference; None where one user says nothing of others."""
    if np.isnan(result.low):
        return None
    return f"{result.low:+.4f} to {result.high:+.4f}"


def _short(text: str) -> str:
    return text if len(text) <= TITLE else text[: TITLE - 1].rstrip() + "…"


def how(results: Mapping[str, Paired]) -> str:
    """What intervals and p-values account for."""
    scope = next(iter(results.values())).scope
    return HOW.format(scope) if scope in CLAIMS or scope == "rows only" else f"{HOW.format('users')}; {OF_RUNS}"


def same_seeds(first: System, second: System) -> bool:
    """Whether a seed of the one belongs to one of the other: stages of the same runs, or of runs gone on from them."""
    ours, theirs = first.recipe.records, second.recipe.records
    if [record.seed for record in ours] != [record.seed for record in theirs]:
        return False
    if first.recipe is second.recipe or all(a.result == b.result for a, b in zip(ours, theirs, strict=True)):
        return True
    return all(_shares_a_stage(a, b) for a, b in zip(ours, theirs, strict=True))


def _shares_a_stage(one: Record, other: Record) -> bool:
    """Whether both begin with the same trained stage."""
    a, b = (next(iter(record.stages.values())).get("rankings") for record in (one, other))
    return a is not None and a == b


def _narrowed(runs: Runs, only: Sequence[str]) -> Runs:
    return runs.of([name for name in runs.values if name in only]) if only else runs


def _of_seed(system: System, seed: int, runs: Runs) -> Runs:
    """One seed's values."""
    place = [record.seed for record in system.recipe.records].index(seed)
    return Runs({name: values[[place]] for name, values in runs.values.items()}, runs.users, runs.deterministic)


def _samples(
    comparison: Comparison,
    values: dict[str, tuple[Runs, Runs]],
    dataset: Dataset,
    most: int,
) -> None:
    """Segments and changed samples; ranks are in canonical order, and so are the samples here."""
    if not all(SEGMENT_METRIC in side.values for pair in values.values() for side in pair):
        comparison.left_out.append(f"segments and samples: they are of {SEGMENT_METRIC}, and a run here ranks fewer")
        return
    test = dataset.test.take(dataset.test.order)
    semantic_ids: SemanticIds | None = dataset.given
    if semantic_ids is not None and semantic_ids.fingerprint != comparison.first.recipe.first.sids:
        semantic_ids = None
    together = same_seeds(comparison.first, comparison.second)
    divisions = segmentations(test, dataset.train, len(dataset.items), semantic_ids)
    for protocol, (first, second) in values.items():
        keys, parts = [], []
        for division in divisions:
            for number, label in enumerate(division.labels):
                rows = division.of_sample == number
                if rows.any():
                    keys.append((division.name, label))
                    one, other = (side.of([SEGMENT_METRIC]).take(rows) for side in (first, second))
                    parts.append(paired(one, other, together and one.seeds == other.seeds)[SEGMENT_METRIC])
        by_name: dict[str, dict[str, Paired]] = {}
        for (name, label), result in zip(keys, _corrected(parts), strict=True):
            by_name.setdefault(name, {})[label] = result
        comparison.segments[protocol] = by_name
    means = [{name: value.mean(axis=0) for name, value in side.values.items()} for side in list(values.values())[-1]]
    first, second = means
    change = second[SEGMENT_METRIC] - first[SEGMENT_METRIC]
    fine = second["MRR"] - first["MRR"]  # tells apart what NDCG@10 does not
    order = np.lexsort((-fine, -change))

    def listed(rows: np.ndarray) -> list[Changed]:
        return [
            Changed(
                str(test.users[row]),
                [dataset.items.titles[item] for item in test.histories.items[row][: test.histories.lengths[row]]][
                    -HISTORY:
                ],
                dataset.items.titles[test.targets[row]],
                float(first[SEGMENT_METRIC][row]),
                float(second[SEGMENT_METRIC][row]),
            )
            for row in rows.tolist()
        ]

    comparison.gained.extend(listed(order[:most][change[order[:most]] > 0]))
    worst = order[::-1][:most]
    comparison.lost.extend(listed(worst[change[worst] < 0]))


def _corrected(parts: Sequence[Paired]) -> list[Paired]:
    corrected = holm(np.array([part.p for part in parts]))
    return [dataclasses.replace(part, corrected=float(p)) for part, p in zip(parts, corrected, strict=True)]
