"""``report.md``: a run's tables in the form of the replication log, written from its record alone."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

from harness import reported
from harness.measure import BAYES
from harness.ranks import CUTOFFS

HR = [f"HR@{k}" for k in CUTOFFS]
NDCG = [f"NDCG@{k}" for k in CUTOFFS]
PROTOCOLS = {"sid": "SID protocol", "item": "item protocol"}
_TEXT = ("name", "trainer")


def table(headers: list[str], rows: list[list[Any]]) -> str:
    """A GitHub markdown table; floats get four digits."""
    shown = [[_cell(value) for value in row] for row in rows]
    align = ["right" if all(_numeric(row[i]) for row in rows) and i else "left" for i in range(len(headers))]
    return tabulate(shown, headers=headers, tablefmt="github", colalign=align if shown else None, disable_numparse=True)


def _numeric(value: Any) -> bool:
    digits = str(value).strip("*+-%").replace(".", "").replace(",", "")
    return value is None or isinstance(value, (int, float)) or digits.isdigit()


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def caption(manifest: dict[str, Any]) -> str:
    """What stands under every table: data, fingerprint, seed, code."""
    prints = manifest["fingerprints"]
    parts = [
        f"{manifest['category']}: {manifest['caption'] or 'as read'}",
        f"data {prints['data'][:12]}",
        f"SIDs {prints['semantic_ids'][:12]}" if prints["semantic_ids"] else "no SIDs",
        f"seed {manifest['seed']}",
        f"code {manifest['revision']}",
    ]
    return "; ".join(parts)


def results(result: dict[str, Any], protocol: str) -> str:
    """The full results by stage, and the Bayes-optimal row where it is known."""
    found = {name.upper(): stage.get(protocol) for name, stage in result["stages"].items()}
    found[BAYES] = result.get(BAYES, {}).get(protocol)
    rows = [[name, *(metrics.get(c) for c in [*HR, *NDCG, "MRR"])] for name, metrics in found.items() if metrics]
    return table(["Stage", *HR, *NDCG, "MRR"], rows)


def summary(result: dict[str, Any]) -> str:
    """The terminal's table at the end of a run: both protocols at the main cutoffs."""
    columns = ["HR@1", "HR@5", "HR@10", "HR@50", "NDCG@10"]
    rows = []
    stages = dict(result["stages"]) | ({BAYES: result[BAYES]} if BAYES in result else {})
    for name, stage in stages.items():
        for protocol, label in PROTOCOLS.items():
            if protocol in stage:
                rows.append([name, label.split()[0], *(stage[protocol].get(c) for c in columns), stage.get("invalid")])
    return table(["stage", "protocol", *columns, "CC"], rows)


def markdown(config: dict[str, Any], manifest: dict[str, Any], result: dict[str, Any]) -> str:
    """The whole report."""
    stages = result["stages"]
    under = f"*{caption(manifest)}.*"
    parts = [f"# {config['name']} on {config['category']}", config["summary"], "## Setup", _setup(config, manifest)]
    for stage in config["stages"]:
        parts += [f"### Stage {stage['name']}", _stage(stage, stages[stage["name"]])]
    parts.append("## Full results")
    for protocol, label in PROTOCOLS.items():
        if any(protocol in stage for stage in stages.values()):
            parts += [f"### {label[0].upper()}{label[1:]}", results(result, protocol), under]
    invalid = ", ".join(f"{name} {stage['invalid']}" for name, stage in stages.items() if "invalid" in stage)
    parts.append(f"Invalid predictions (CC): {invalid}.")
    parts += _reported(config, stages, under)
    parts += _levels(stages, under)
    return "\n\n".join(part for part in parts if part) + "\n"


def _setup(config: dict[str, Any], manifest: dict[str, Any]) -> str:
    sids = manifest["semantic_ids"]
    rows = [
        ["Category", f"{config['category']} ({manifest['items']:,} items)"],
        ["Data", manifest["caption"] or "as read"],
        ["Rows (train / valid / test)", " / ".join(f"{manifest['rows'][s]:,}" for s in ("train", "valid", "test"))],
        ["Backbone", _named(config["backbone"])],
        [
            "Semantic IDs",
            f"{sids['source']}, {sids['levels']} levels, {sids['distinct SIDs']:,} distinct" if sids else None,
        ],
        ["Decoder", _named(config["decoder"])],
        ["Seed", config["seed"]],
        ["Hardware", ", ".join(f"{k} {v}" for k, v in manifest["hardware"].items())],
        ["Versions", ", ".join(f"{k} {v}" for k, v in manifest["versions"].items())],
        ["Code", manifest["revision"]],
    ]
    return table(["Setup", ""], [row for row in rows if row[1] is not None])


def _named(component: dict[str, Any] | None) -> str | None:
    if component is None:
        return None
    settings = ", ".join(f"{k} {v}" for k, v in component.items() if k != "name")
    return f"{component['name']} ({settings})" if settings else component["name"]


def _stage(stage: dict[str, Any], result: dict[str, Any]) -> str:
    settings = table(["Parameter", "Value"], [[k, str(v)] for k, v in stage.items() if k not in _TEXT])
    facts = [f"{k}: {_fact(v)}" for k, v in (result.get("train") or {}).items()]
    facts += [f"decode {k}: {_fact(v)}" for k, v in (result.get("decode") or {}).items()]
    valid = ", ".join(f"{k} {_cell(v)}" for k, v in (result.get("valid") or {}).items())
    lines = [f"- {fact}" for fact in [*facts, f"valid: {valid}" if valid else ""] if fact]
    return settings + "\n\n" + "\n".join(lines)


def _fact(value: Any) -> str:
    if isinstance(value, float) and abs(value) < 1:
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, (int, float)) else "—" if value is None else str(value)


def _reported(config: dict[str, Any], stages: dict[str, Any], under: str) -> list[str]:
    """Reported scores of the category, and the gap to this method's own reported row."""
    rows = reported.rows(config["category"])
    if not rows:
        return []
    columns = ["HR@3", "HR@5", "HR@10", "NDCG@3", "NDCG@5", "NDCG@10"]
    parts = ["## Reported scores", "As their sources give them; not measured here."]
    parts.append(
        table(
            ["Method", "Source", *columns], [[r.method, r.source, *(r.metrics.get(c) for c in columns)] for r in rows]
        )
    )
    own = next((r for r in rows if config.get("reported") and r.method == config["reported"]), None)
    last, metrics = list(stages.items())[-1]
    if own is None or "sid" not in metrics:
        return parts
    gaps = []
    for name, paper in own.metrics.items():
        here = metrics["sid"].get(name)
        if here is not None:
            gaps.append([name, paper, here, f"{here - paper:+.4f}", f"{(here - paper) / paper:+.1%}"])
    parts += [
        "## Discrepancy analysis",
        f"{own.method} as reported by {own.source} against stage {last} here (SID protocol).",
    ]
    return [*parts, table(["Metric", "Reported", "Here", "Gap", "Relative"], gaps), under]


def _levels(stages: dict[str, Any], under: str) -> list[str]:
    known = {name: stage["levels"] for name, stage in stages.items() if "levels" in stage}
    if not known:
        return []
    parts = [
        "## Per-level analysis",
        "### Independent per-level hit rate",
        "Any prediction of the top K, each level by itself.",
    ]
    for kind, title in (("independent", ""), ("cumulative", "### Cumulative level accuracy")):
        if title:
            parts += [title, "Any single prediction of the top K, levels from the first on."]
        for name, levels in known.items():
            columns = list(next(iter(levels[kind].values())))
            parts += [
                f"**{name.upper()}**",
                table(["K", *columns], [[k, *row.values()] for k, row in levels[kind].items()]),
            ]
    steps = list(next(iter(known.values()))["drop-off"])
    rows = [[step, *(_percent(levels["drop-off"][step]) for levels in known.values())] for step in steps]
    return [*parts, "### Drop-off (top 1)", table(["Transition", *(name.upper() for name in known)], rows), under]


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.2%}"
