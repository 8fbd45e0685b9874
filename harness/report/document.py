"""The report: the replication log's whole document, and more, from the records of one or several runs.

It computes from records and the stages' logs alone, and asks no plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness import reported, store
from harness.errors import BenchError
from harness.measure import BAYES
from harness.record import Record
from harness.report import figures
from harness.report.compare import HOW, paired_table
from harness.report.observations import observations
from harness.report.systems import Recipe, System, recipes, systems
from harness.report.tables import (
    HR,
    NDCG,
    PROTOCOLS,
    caption,
    cell,
    count,
    duration,
    percent,
    reported_table,
    table,
    title,
)
from harness.reported import Reported
from harness.statistics import paired
from harness.store import Store

FIGURES = "figures"
Pairs = list[tuple[System, Reported]]


def write(records: Sequence[Record], folder: Path, draw: bool = True) -> list[Path]:
    """Write ``report.md`` and its figures into a folder; returns the files.

    Args:
        records: of one category and split.
        draw: whether to draw the figures.

    Raises:
        BenchError: the records are of different categories, data or SIDs.
    """
    found = recipes(records)
    same_ground(records)
    pairs = reported_pairs(systems(found))
    drawn: list[Path] = []
    if draw:
        with figures.style():
            drawn = figures.save(_figures(found, pairs), folder / FIGURES)
    there = {path.stem for path in drawn}
    path = folder / "report.md"
    store.write_text(path, markdown(found, pairs, there))
    return [path, *drawn]


def same_ground(records: Sequence[Record]) -> None:
    """Records that share a table must be of one category, one split and one set of SIDs.

    Raises:
        BenchError: they are not; it names two that differ.
    """
    first = records[0]
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
    names = ", ".join(recipe.name for recipe in found)
    parts = [f"# {names} on {records[0].category}"]
    parts += [record.settings["summary"] for record in (r.first for r in found) if record.settings.get("summary")]
    parts += ["## Setup", *_setup(found), caption(records)]
    for recipe in found:
        for stage in recipe.stages:
            parts += _stage(recipe, stage, len(found) > 1, drawn)
    parts += _results(shown, records, drawn)
    parts += _stage_differences(shown, records)
    parts += _reported(records[0].category)
    parts += _discrepancy(pairs, records, drawn)
    parts += _levels(shown, records, pairs, drawn)
    parts += _segments(shown, records, drawn)
    parts += _cost(found, records, drawn)
    lines = observations(shown, pairs)
    if lines:
        parts += ["## Key observations", "Computed from the numbers above."]
        parts.append("\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1)))
    return "\n\n".join(part for part in parts if part) + "\n"


def reported_pairs(found: Sequence[System]) -> Pairs:
    """Each system with the reported rows of its method and stage: the paper's first, as the files list them."""
    pairs: Pairs = []
    for system in found:
        recipe = system.recipe
        family = recipe.first.settings.get("reported")
        if family and recipe.first.metrics("sid"):
            pairs += [
                (system, row)
                for row in reported.rows(recipe.first.category)
                if row.family == family and (row.stage or recipe.stages[-1]) == system.stage
            ]
    return pairs


def _figures(found: Sequence[Recipe], pairs: Pairs) -> dict[str, Any]:
    """Every figure by file name; None where a run has nothing to draw."""
    shown = systems(found)
    last = [system for system in shown if system.is_last]
    drawn: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        drawn[f"hit-rate-{protocol}"] = figures.hit_rates(shown, protocol)
        drawn[f"segments-{protocol}"] = figures.segments(last, protocol)
        drawn[f"cost-{protocol}"] = figures.cost(last, protocol)
    drawn["levels"] = figures.levels(shown)
    drawn["discrepancy"] = figures.discrepancy(_main(pairs))
    for recipe in found:
        for number, stage in enumerate(recipe.stages, start=1):
            if recipe.first.place.is_dir():
                log = store.read_log(Store(recipe.first.place).stage(number, stage))
                facts = recipe.first.stages[stage].get("train") or {}
                best = facts.get("best step", facts.get("best epoch"))  # item-id models log by epoch
                name = _file(recipe, stage, len(found) > 1)
                drawn[f"learning-{name}"] = figures.learning(stage, log, best)
                drawn[f"rewards-{name}"] = figures.rewards(stage, log)
    return drawn


def _file(recipe: Recipe, stage: str, several: bool) -> str:
    name = f"{recipe.name}-{stage}" if several else stage
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)


def _image(name: str, text: str, drawn: set[str]) -> list[str]:
    return [f"![{text}]({FIGURES}/{name}.svg)"] if name in drawn else []


def _setup(found: Sequence[Recipe]) -> list[str]:
    """What all runs share, then what they differ in, a column a recipe."""
    facts = [_facts(recipe) for recipe in found]
    keys = list(dict.fromkeys(key for one in facts for key in one))
    same = [key for key in keys if len({one.get(key) for one in facts}) == 1]
    parts = [table(["Setup", ""], [[key, facts[0][key]] for key in same if facts[0].get(key)])]
    differ = [key for key in keys if key not in same]
    if differ:
        headers = ["Setup", *(recipe.name for recipe in found)]
        if len(found) > 4:  # many columns are no table: a row a recipe then
            parts.append(table(["Run", *differ], [[r.name, *map(f.get, differ)] for r, f in zip(found, facts)]))
        else:
            parts.append(table(headers, [[key, *(one.get(key) for one in facts)] for key in differ]))
    return parts


def _facts(recipe: Recipe) -> dict[str, Any]:
    record = recipe.first
    content, settings, sids = record.content, record.settings, record.content.get("semantic_ids")
    return {
        "Category": f"{record.category} ({content['items']:,} items)",
        "Data": content["caption"] or "as read",
        "Rows (train / valid / test)": " / ".join(f"{content['rows'][s]:,}" for s in ("train", "valid", "test")),
        "Backbone": _named(settings["backbone"]),
        "Parameters": count(record.cost.get("parameters") or 0),
        "Prompts": settings.get("prompts") or None,
        "Semantic IDs": (
            f"{sids['source']}, {sids['levels']} levels, {sids['distinct SIDs']:,} distinct, "
            f"{sids['items on a shared SID']} items on a shared SID"
            if sids
            else None
        ),
        "Decoder": _named(settings["decoder"]),
        "Seeds": ", ".join(str(r.seed) for r in recipe.records),
        "Hardware": ", ".join(f"{k} {v}" for k, v in content["hardware"].items()),
        "Versions": ", ".join(f"{k} {v}" for k, v in content["versions"].items()),
        "Code": ", ".join(sorted({r.content["revision"] for r in recipe.records})),
    }


def _named(component: dict[str, Any] | None) -> str | None:
    if component is None:
        return None
    settings = ", ".join(f"{k} {v}" for k, v in component.items() if k != "name")
    return f"{component['name']} ({settings})" if settings else component["name"]


def _stage(recipe: Recipe, stage: str, several: bool, drawn: set[str]) -> list[str]:
    """A stage's settings, and how its training went."""
    settings = next(s for s in recipe.first.settings["stages"] if s["name"] == stage)
    name = f"{recipe.name}: {stage}" if several else stage.upper()
    rows = [[key, str(value)] for key, value in settings.items() if key not in ("name", "trainer")]
    parts = [f"### {name}", f"Trainer `{settings['trainer']}`."]
    if rows:
        parts += [table(["Parameter", "Value"], rows), caption(recipe.records)]
    lines = []
    for record in recipe.records:
        entry = record.stages[stage]
        train = entry.get("train") or {}
        facts = {k: v for k, v in train.items() if k != "seconds" and not isinstance(v, (dict, list))}
        trained = train.get("trained") or {}
        if trained and trained["parameters"] < trained["of"]:
            facts["trained parameters"] = trained["parameters"]
        lines.append(
            f"- seed {record.seed}: trained in {duration((entry.get('train') or {}).get('seconds', 0.0))}"
            + "".join(f", {key} {_fact(value)}" for key, value in facts.items())
            + f"; test decoded in {duration(entry['decode'].get('seconds', 0.0))}"
            + "".join(f", {k} {_fact(v)}" for k, v in entry["decode"].items() if k != "seconds")
            + "".join(f"; valid {k} {cell(v)}" for k, v in (entry.get("valid") or {}).items())
        )
    parts.append("\n".join(lines))
    file = _file(recipe, stage, several)
    parts += _image(f"learning-{file}", f"learning curves of {name}", drawn)
    return parts + _image(f"rewards-{file}", f"rewards of {name}", drawn)


def _fact(value: Any) -> str:
    if isinstance(value, float) and abs(value) < 1:
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, (int, float)) else "—" if value is None else str(value)


def _results(shown: Sequence[System], records: Sequence[Record], drawn: set[str]) -> list[str]:
    """HR and NDCG by stage, seeds apart and as a mean, with intervals, under each protocol."""
    parts = ["## Full results"]
    columns = [*HR, *NDCG, "MRR"]
    for protocol, label in PROTOCOLS.items():
        rows: list[list[Any]] = []
        bounds: list[list[Any]] = []
        for system in shown:
            if system.metric(protocol, "MRR") is None:
                continue
            seeds = system.recipe.records
            if len(seeds) > 1:
                for record in seeds:
                    found = record.metrics(protocol, system.stage)
                    rows.append([f"{system.name}, seed {record.seed}", *(found.get(c) for c in columns)])
                rows.append(
                    [f"**{system.name}, mean of {len(seeds)}**", *(system.metric(protocol, c) for c in columns)]
                )
            else:
                rows.append([system.name, *(system.metric(protocol, c) for c in columns)])
            pairs = [system.interval(protocol, c) for c in columns]
            if any(pairs):
                bounds.append([system.name, *(f"{p[0]:.4f}–{p[1]:.4f}" if p else None for p in pairs)])
        optimal = next((r.content[BAYES][protocol] for r in records if protocol in r.content.get(BAYES, {})), None)
        if optimal:
            rows.append([BAYES, *(optimal.get(c) for c in columns)])
        if not rows:
            continue
        parts += [f"### {title(protocol)}", table(["Stage", *columns], rows), caption(records, protocol)]
        parts += _image(f"hit-rate-{protocol}", f"HR@K under the {label}", drawn)
        if bounds:
            parts += [
                "95 % intervals over test samples (bootstrap; over several seeds, the mean of their bounds):",
                table(["Stage", *columns], bounds),
                caption(records, protocol),
            ]
    counts = [f"{system.name} {system.invalid}" for system in shown if system.invalid is not None]
    return [*parts, f"Invalid predictions (CC): {', '.join(counts)}."] if counts else parts


def _stage_differences(shown: Sequence[System], records: Sequence[Record]) -> list[str]:
    """Each stage against the one before it, paired over test samples."""
    parts: list[str] = []
    for before, after in pairwise(shown):
        if before.recipe is not after.recipe:
            continue
        for protocol in PROTOCOLS:
            first, second = before.samples(protocol), after.samples(protocol)
            if not first or not second:
                continue
            parts += [
                f"### {after.name} against {before.name}, {PROTOCOLS[protocol]}",
                paired_table(before.name, after.name, paired(first, second)),
                caption(records, protocol, [HOW]),
            ]
    return ["## What each stage changes", *parts] if parts else []


def _reported(category: str) -> list[str]:
    """Reported scores of the category."""
    rows = reported.rows(category)
    if not rows:
        return []
    return ["## Reported scores", *reported_table(rows, ["HR@3", "HR@5", "HR@10", "NDCG@3", "NDCG@5", "NDCG@10"])]


def _main(pairs: Pairs) -> Pairs:
    """The last stages with their reported rows: what a figure shows."""
    return [(system, row) for system, row in pairs if system.is_last]


def _discrepancy(pairs: Pairs, records: Sequence[Record], drawn: set[str]) -> list[str]:
    """Absolute and relative gaps to every reported row of the same method and stage."""
    if not pairs:
        return []
    parts = [
        "## Discrepancy analysis",
        "SID protocol. *In interval*: the reported value lies in the 95 % interval here.",
    ]
    for system, row in pairs:
        rows = []
        for name, theirs in row.metrics.items():
            here, bounds = system.metric("sid", name), system.interval("sid", name)
            if here is not None:
                inside = None if bounds is None else "yes" if bounds[0] <= theirs <= bounds[1] else "no"
                relative = f"{(here - theirs) / theirs:+.1%}" if theirs else None
                rows.append([name, theirs, here, f"{here - theirs:+.4f}", relative, inside])
        if rows:
            parts += [
                f"### {system.name} against {row.method} ({row.source})",
                table(["Metric", "Reported", "Here", "Gap", "Relative", "In interval"], rows),
                caption(records, "sid"),
            ]
    return parts + _image("discrepancy", "gap to the reported scores, by metric", drawn)


def _levels(shown: Sequence[System], records: Sequence[Record], pairs: Pairs, drawn: set[str]) -> list[str]:
    """Independent and cumulative accuracy by level and the drop-off, reported ones beside where a source has them."""
    known: dict[str, dict[str, Any]] = {s.name: s.levels for s in shown if s.levels}
    if not known:
        return []
    known |= {f"{row.method} ({row.source})": row.levels for _, row in pairs if row.levels}
    under = caption(records, "sid")
    parts = ["## Per-level analysis"]
    for kind, heading, meaning in (
        ("independent", "Independent per-level hit rate", "Any prediction of the top K, each level by itself."),
        ("cumulative", "Cumulative level accuracy", "Any single prediction of the top K, levels from the first on."),
    ):
        parts += [f"### {heading}", meaning]
        for name, levels in known.items():
            if levels.get(kind):
                columns = list(next(iter(levels[kind].values())))
                rows = [[k, *row.values()] for k, row in levels[kind].items()]
                parts += [f"**{name}**", table(["K", *columns], rows), under if name in {s.name for s in shown} else ""]
    parts += _image("levels", "cumulative level accuracy by K", drawn)
    steps = list(next(iter(known.values()))["drop-off"])
    rows = [[step, *(percent(levels["drop-off"].get(step)) for levels in known.values())] for step in steps]
    return [*parts, "### Drop-off (top 1)", table(["Transition", *known], rows), under]


def _segments(shown: Sequence[System], records: Sequence[Record], drawn: set[str]) -> list[str]:
    """Metrics by segment of the last stages, item protocol and (where there is one) SID protocol."""
    last = [s for s in shown if s.is_last and s.segments]
    if not last:
        return []
    parts = ["## Segments"]
    for protocol in PROTOCOLS:
        there = [s for s in last if s.metric(protocol, "HR@10") is not None]
        rows = []
        for name, labels in there[0].segments.items() if there else ():
            for label, part in labels.items():
                row: list[Any] = [name, label, f"{part['n']:,.0f}"]
                for system in there:
                    found = system.segments.get(name, {}).get(label, {}).get(protocol) or {}
                    row += [found.get("HR@10"), found.get("NDCG@10")]
                rows.append(row)
        if rows:
            headers = ["Segment", "", "Samples", *(f"{s.name} {m}" for s in there for m in ("HR@10", "NDCG@10"))]
            parts += [f"### {title(protocol)}", table(headers, rows), caption(records, protocol)]
            parts += _image(f"segments-{protocol}", f"HR@10 by segment, {PROTOCOLS[protocol]}", drawn)
    return parts


def _cost(found: Sequence[Recipe], records: Sequence[Record], drawn: set[str]) -> list[str]:
    """Seconds, memory and parameters of each recipe, where several are compared."""
    if len(found) < 2:
        return []
    rows = []
    for recipe in found:
        cost = [record.cost for record in recipe.records]
        rows.append(
            [recipe.name, duration(sum(c["train seconds"] for c in cost) / len(cost)),
             duration(sum(c.get("decode seconds") or 0.0 for c in cost) / len(cost)),
             max((c.get("peak memory GiB") or 0.0 for c in cost), default=0.0), count(cost[0].get("parameters") or 0)]
        )  # fmt: skip
    parts = ["## Cost", table(["Run", "Train", "Decode", "Peak memory (GiB)", "Parameters"], rows), caption(records)]
    protocol = "sid" if records[0].metrics("sid") else "item"
    return parts + _image(f"cost-{protocol}", "HR@10 over minutes of training", drawn)
