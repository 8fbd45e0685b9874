"""The sections of a report: each a function of systems and records, and a list of paragraphs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from harness.cli.tables import HR, NDCG, PROTOCOLS, cell, duration, table
from harness.evaluation.measure import BAYES
from harness.evaluation.statistics import paired
from harness.text.plain import Marked, markdown

from .. import reported
from ..record import Record
from ..reported import Reported
from .captions import caption, count, percent, reported_table, title
from .compare import how, paired_table
from .observations import observations
from .systems import Recipe, System

FIGURES = "figures"
SIZES = {
    "users per second": "Decoded users / s", "peak memory GiB": "Memory of the process (GiB)",
    "device memory GiB": "Device memory (GiB)",
}  # fmt: skip
"""What decoding takes, as a record names it and as tables do."""


Pairs = list[tuple[System, Reported]]


def key_observations(shown: Sequence[System], pairs: Pairs) -> list[str]:
    """What can be read from the numbers, a line each."""
    lines = observations(shown, pairs)
    numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
    return ["## Key observations", "Computed from the numbers above.", numbered] if lines else []


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


def file_of(recipe: Recipe, stage: str, several: bool) -> str:
    """The name of a stage's figures; with several recipes that of the recipe is in it."""
    name = f"{recipe.name}-{stage}" if several else stage
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)


def image(name: str, text: str, drawn: set[str]) -> list[str]:
    """A figure, where it was drawn."""
    return [f"![{text}]({FIGURES}/{name}.svg)"] if name in drawn else []


def setup(found: Sequence[Recipe]) -> list[str]:
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
        "Left out or cut": "; ".join(f"{n:,} {why}" for why, n in content.get("left_out", {}).items()) or None,
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


def stage_of(recipe: Recipe, stage: str, several: bool, drawn: set[str]) -> list[str]:
    """A stage's settings, and how its training went."""
    settings = next(s for s in recipe.first.settings["stages"] if s["name"] == stage)
    name = f"{markdown(recipe.name)}: {stage}" if several else stage.upper()
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
            + "".join(f", {markdown(key)} {_fact(value)}" for key, value in facts.items())
            + f"; test decoded in {duration(entry['decode'].get('seconds', 0.0))}"
            + "".join(f", {markdown(k)} {_fact(v)}" for k, v in entry["decode"].items() if k != "seconds")
            + "".join(f"; valid {markdown(k)} {cell(v)}" for k, v in (entry.get("valid") or {}).items())
        )
    parts.append("\n".join(lines))
    if isinstance(importance := (recipe.first.stages[stage].get("train") or {}).get("importance"), dict):
        parts += [
            "What its score goes by: the importance of each feature, as a share.",
            *_most(importance),
        ]
    file = file_of(recipe, stage, several)
    parts += image(f"learning-{file}", f"learning curves of {name}", drawn)
    return parts + image(f"rewards-{file}", f"rewards of {name}", drawn)


def _most(importance: dict[str, Any], most: int = 15) -> list[str]:
    """The features that count most, as a table."""
    known = sorted(((v, k) for k, v in importance.items() if isinstance(v, (int, float))), reverse=True)
    rows = [[markdown(name), f"{value:.1%}"] for value, name in known[:most]]
    return [table(["Feature", "Share"], rows)] if rows else []


def _fact(value: Any) -> str:
    if isinstance(value, float) and abs(value) < 1:
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, (int, float)) else "—" if value is None else markdown(str(value))


def results(shown: Sequence[System], records: Sequence[Record], drawn: set[str]) -> list[str]:
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
                    numbers = record.metrics(protocol, system.stage)
                    rows.append([f"{system.name}, seed {record.seed}", *(numbers.get(c) for c in columns)])
                mean = Marked(f"**{markdown(system.name)}, mean of {len(seeds)}**")
                rows.append([mean, *(system.metric(protocol, c) for c in columns)])
            else:
                rows.append([system.name, *(system.metric(protocol, c) for c in columns)])
            pairs = [system.interval(protocol, c) for c in columns]
            if any(pairs):
                shown_bounds = [f"{p.low:.4f}–{p.high:.4f}" if p else None for p in pairs]
                bounds.append([system.name, system.scope, *shown_bounds])
        optimal = next((r.content[BAYES][protocol] for r in records if protocol in r.content.get(BAYES, {})), None)
        if optimal:
            rows.append([BAYES, *(optimal.get(c) for c in columns)])
        if not rows:
            continue
        parts += [f"### {title(protocol)}", table(["Stage", *columns], rows), caption(records, protocol)]
        parts += image(f"hit-rate-{protocol}", f"HR@K under the {label}", drawn)
        if bounds:
            parts += [
                "95 % intervals, and what they account for:",
                table(["Stage", "Over", *columns], bounds),
                caption(records, protocol),
            ]
    counts = [f"{markdown(system.name)} {system.invalid}" for system in shown if system.invalid is not None]
    return [*parts, f"Invalid predictions (CC): {', '.join(counts)}."] if counts else parts


def stage_differences(shown: Sequence[System], records: Sequence[Record]) -> list[str]:
    """Each stage against the one before it, paired over test samples."""
    parts: list[str] = []
    for before, after in pairwise(shown):
        if before.recipe is not after.recipe:
            continue
        for protocol in PROTOCOLS:
            first, second = before.runs(protocol), after.runs(protocol)
            if first is None or second is None:
                continue
            results = paired(first, second, together=True)
            parts += [
                f"### {markdown(after.name)} against {markdown(before.name)}, {PROTOCOLS[protocol]}",
                paired_table(before.name, after.name, results),
                caption(records, protocol, [how(results)]),
            ]
    return ["## What each stage changes", *parts] if parts else []


def reported_scores(category: str) -> list[str]:
    """Reported scores of the category."""
    rows = reported.rows(category)
    if not rows:
        return []
    return ["## Reported scores", *reported_table(rows, ["HR@3", "HR@5", "HR@10", "NDCG@3", "NDCG@5", "NDCG@10"])]


def of_last_stages(pairs: Pairs) -> Pairs:
    """The last stages with their reported rows: what a figure shows."""
    return [(system, row) for system, row in pairs if system.is_last]


def discrepancy(pairs: Pairs, records: Sequence[Record], drawn: set[str]) -> list[str]:
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
                inside = None if bounds is None else "yes" if bounds.low <= theirs <= bounds.high else "no"
                relative = f"{(here - theirs) / theirs:+.1%}" if theirs else None
                rows.append([name, theirs, here, f"{here - theirs:+.4f}", relative, inside])
        if rows:
            parts += [
                f"### {markdown(system.name)} against {markdown(row.method)} ({markdown(row.source)})",
                table(["Metric", "Reported", "Here", "Gap", "Relative", "In interval"], rows),
                caption(records, "sid"),
            ]
    return parts + image("discrepancy", "gap to the reported scores, by metric", drawn)


def per_level(shown: Sequence[System], records: Sequence[Record], pairs: Pairs, drawn: set[str]) -> list[str]:
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
                parts += [
                    f"**{markdown(name)}**",
                    table(["K", *columns], rows),
                    under if name in {s.name for s in shown} else "",
                ]
    parts += image("levels", "cumulative level accuracy by K", drawn)
    steps = list(next(iter(known.values()))["drop-off"])
    rows = [[step, *(percent(levels["drop-off"].get(step)) for levels in known.values())] for step in steps]
    return [*parts, "### Drop-off (top 1)", table(["Transition", *known], rows), under]


def by_segment(shown: Sequence[System], records: Sequence[Record], drawn: set[str]) -> list[str]:
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
                    numbers = system.segments.get(name, {}).get(label, {}).get(protocol) or {}
                    row += [numbers.get("HR@10"), numbers.get("NDCG@10")]
                rows.append(row)
        if rows:
            headers = ["Segment", "", "Samples", *(f"{s.name} {m}" for s in there for m in ("HR@10", "NDCG@10"))]
            parts += [f"### {title(protocol)}", table(headers, rows), caption(records, protocol)]
            parts += image(f"segments-{protocol}", f"HR@10 by segment, {PROTOCOLS[protocol]}", drawn)
    return parts


def beyond_names(shown: Sequence[System]) -> list[str]:
    """What was measured beyond accuracy of any of them."""
    return list(dict.fromkeys(name for system in shown for name in system.beyond))


def beyond_cells(system: System, names: Sequence[str]) -> list[str | None]:
    """A system's values of these names, as cells."""
    return [quantity(system.beyond.get(name)) for name in names]


def quantity(value: float | None) -> str | None:
    """A share with four digits, a size with one, a large one with none."""
    return None if value is None else f"{value:.4f}" if value < 10 else f"{value:,.{1 if value < 1000 else 0}f}"


def beyond(shown: Sequence[System], records: Sequence[Record]) -> list[str]:
    """What the lists are like beyond accuracy, a row a stage."""
    there = [system for system in shown if system.beyond]
    if not there:
        return []
    names = beyond_names(there)
    rows = [[system.name, *beyond_cells(system, names)] for system in there]
    return [
        "## Beyond accuracy",
        "Of the first ten items of each list; docs/reports.md has the formulas.",
        table(["Stage", *names], rows),
        caption(records),
    ]


def costs(found: Sequence[Recipe], records: Sequence[Record], drawn: set[str]) -> list[str]:
    """Seconds, memory and parameters of each recipe, where several are compared."""
    if len(found) < 2:
        return []
    rows = []
    for recipe in found:
        cost = [record.cost for record in recipe.records]
        rows.append(
            [recipe.name, duration(sum(c["train seconds"] for c in cost) / len(cost)),
             duration(sum(c.get("decode seconds") or 0.0 for c in cost) / len(cost)),
             *(quantity(max((c[key] for c in cost if c.get(key) is not None), default=None)) for key in SIZES),
             count(cost[0].get("parameters") or 0)]
        )  # fmt: skip
    headers = ["Run", "Train", "Decode", *SIZES.values(), "Parameters"]
    parts = ["## Cost", table(headers, rows), caption(records)]
    protocol = "sid" if records[0].metrics("sid") else "item"
    return parts + image(f"cost-{protocol}", "HR@10 over minutes of training", drawn)
