"""A board as one self-contained HTML page: no network, sortable, filterable, every row unfolding to its run.

The page's data stands in it as JSON with ``<`` escaped, and its script makes text nodes of it, never markup.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from harness.cli.tables import PROTOCOLS

from . import effort, pairs, pareto
from .board import COLUMNS, GROUP_TITLES, Board, Row
from .formats import SPREAD, mark, under
from .overview import main_table
from .record import Record
from .report import figures
from .report.captions import caption
from .report.sections import beyond_cells, beyond_names, reported_pairs
from .report.systems import System


def html(boards: Sequence[Board], draw: bool = True) -> str:
    """The page of one or several categories.

    Args:
        draw: whether to draw the figures.
    """
    content = {"columns": COLUMNS, "categories": [_category(board, draw) for board in boards]}
    data = json.dumps(content, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"STYLE": _asset("page.css"), "STATIC": _static(boards), "DATA": data, "SCRIPT": _asset("page.js")}
    page = _asset("page.html")
    for name, text in parts.items():
        head, _, tail = page.partition(f"@{name}@")
        page = head + text + tail
    return page


def _asset(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


def _category(board: Board, draw: bool) -> dict[str, Any]:
    reported = [
        {"kind": "reported", "name": row.method, "group": "reported", "groupTitle": "Reported", "source": row.source,
         "what": row.what, "metrics": {"sid": row.metrics}, "problems": row.problems}
        for row in board.reported
    ]  # fmt: skip
    return {
        "name": board.title,
        "tables": {
            table.protocol: {
                "counting": table.counting if table.versus_counting else "",
                "baseline": table.baseline if table.versus_baseline else "",
                "caption": under(board, table).strip("*"),
            }
            for table in board.tables
        },
        "rows": [_row(row, board) for row in board.rows] + reported,
        "pairs": pairs.of(board),
        "figures": _figures(board) if draw else [],
    }


def _row(row: Row, board: Board) -> dict[str, Any]:
    first, names = row.records[0], beyond_names([row.system])
    protocols = [table.protocol for table in board.tables if any(r.name == row.name for r in table.rows)]
    fields: dict[str, Any] = {
        "kind": "measured",
        "name": row.name,
        "mark": "†" if row.effort.converged is False else "",
        "effort": list(zip(effort.HEADERS, row.effort.cells(), strict=True)),
        "versions": _versions(row),
        "group": row.group,
        "groupTitle": GROUP_TITLES[row.group],
        "summary": first.settings.get("summary") or "",
        "note": next((r.mixed for t in board.tables for r in t.rows if r.name == row.name and r.mixed), ""),
        "seeds": [record.seed for record in row.records],
        "metrics": {p: {c: row.system.metric(p, c) for c in COLUMNS} for p in protocols},
        "marks": _marks(row, board),
        "spread": {p: {c: row.spread(p, c) for c in SPREAD} for p in protocols},
        "cost": {name: row.cost(name) for name in ("train seconds", "parameters")},
        "invalid": row.system.invalid,
        "ground": _ground(row),
        "runs": [_run(record, row.system.stage) for record in row.records],
        "stages": [
            {"name": stage, "levels": levels}  # means over the row's seeds, as its metrics and segments are
            for stage in row.system.recipe.stages
            if (levels := System(row.name, row.system.recipe, stage).levels)
        ],
        "segments": row.system.segments,
        "beyond": list(zip(names, beyond_cells(row.system, names), strict=True)),
        "settings": _flat(first.settings),
    }
    for key in ("counting", "baseline"):
        fields[key] = {}
        for table in board.tables:
            result = (table.versus_counting if key == "counting" else table.versus_baseline).get(row.name)
            if result:
                fields[key][table.protocol] = [result.difference, result.p, result.significant]
    return fields


def _marks(row: Row, board: Board) -> dict[str, dict[str, str]]:
    """``{protocol: {metric: "best" or "second"}}``, as the other forms mark them."""
    by_protocol: dict[str, dict[str, str]] = {}
    for table in board.tables:
        for own in (r for r in table.rows if r.name == row.name):
            values = {column: own.system.metric(table.protocol, column) for column in COLUMNS}
            marks = {c: mark(value, c, own, table) for c, value in values.items() if value is not None}
            by_protocol[table.protocol] = {column: text for column, text in marks.items() if text}
    return by_protocol


def _ground(row: Row) -> str:
    first = row.records[0].content
    hardware = ", ".join(f"{k} {v}" for k, v in first["hardware"].items())
    versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items())
    return f"{caption(row.records).strip('*')} Hardware: {hardware}. Versions: {versions}."


def _versions(row: Row) -> list[tuple[str, str | None]]:
    """What the runs stand on, by name and version; several where the runs differ, None where a record is older."""
    found: dict[str, list[str | None]] = {}
    for record in row.records:
        content = record.content
        ground = content.get("ground") or {}
        for name in ("dataset", "split", "protocol"):
            told = ground.get(name)
            found.setdefault(name.capitalize(), []).append(f"{told['name']} {told['version']}" if told else None)
        found.setdefault("Code", []).append(content.get("revision"))
        for library, title in (("torch", "PyTorch"), ("transformers", "Transformers")):
            found.setdefault(title, []).append(content["versions"].get(library))
    return [(name, ", ".join(dict.fromkeys(v for v in values if v)) or None) for name, values in found.items()]


def _run(record: Record, stage: str) -> dict[str, Any]:
    return {
        "seed": record.seed,
        "metrics": {p: {c: record.metrics(p, stage).get(c) for c in SPREAD} for p in PROTOCOLS},
        "intervals": {p: {c: record.interval(p, c, stage) for c in SPREAD} for p in PROTOCOLS},
        "cost": record.cost,
    }


def _flat(settings: dict[str, Any], prefix: str = "") -> list[list[str]]:
    """Settings as ``[dotted name, value]`` pairs; stages by their names."""
    lines: list[list[str]] = []
    for key, value in settings.items():
        if key in ("summary", "name", "group", "category", "seed") and not prefix:
            continue
        if key == "stages" and isinstance(value, list):
            for stage in value:
                lines += _flat({k: v for k, v in stage.items() if k != "name"}, f"{stage['name']}.")
        elif isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", {}):
            lines.append([prefix + key, str(value)])
    return lines


def _figures(board: Board) -> list[dict[str, str]]:
    """The category's figures as SVG, in base64."""
    systems = [row.system for row in board.rows if not row.mixed]
    levelled = sorted((s for s in systems if s.levels), key=lambda s: -(s.metric("sid", "NDCG@10") or 0.0))
    with figures.style():
        drawn = []
        for protocol in [table.protocol for table in board.tables]:
            label = PROTOCOLS[protocol]
            drawn += [
                (f"HR@K of the best rows, {label}", protocol, figures.hit_rates(systems, protocol)),
                (f"Quality against cost, {label}", protocol, figures.cost(systems, protocol)),
                (f"HR@10 by segment, the four best rows, {label}", protocol, figures.segments(systems, protocol)),
            ]
        drawn.append(("Cumulative level accuracy of the best rows", "sid", figures.levels(levelled[:3])))
        first = {system.name: (system, row) for system, row in reversed(reported_pairs(systems))}
        gaps = sorted(first.values(), key=lambda pair: -(pair[0].metric("sid", "NDCG@10") or 0.0))
        drawn.append(("Gap to the reported scores", "sid", figures.discrepancy(gaps)))
        made = [
            {"title": title, "protocol": protocol, "svg": _svg(figure)}
            for title, protocol, figure in drawn
            if figure is not None
        ]
    if front := pareto.svg(board):
        title = "NDCG@10 over seconds of training, and the front that no row of the same cost or less beats"
        encoded = base64.b64encode(front.encode()).decode()
        made.insert(0, {"title": title, "protocol": main_table(board).protocol, "svg": encoded})
    return made


def _svg(figure: Any) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return base64.b64encode(out.getvalue()).decode("ascii")


def _static(boards: Sequence[Board]) -> str:
    """What a browser without scripts shows: the main metrics of every row."""
    parts = ["<p>Sorting and unfolding need JavaScript; the main numbers are here.</p>"]
    for board in boards:
        columns = [(t.protocol, metric) for t in board.tables for metric in SPREAD]
        head = "".join(f"<th>{PROTOCOLS[p].split()[0]} {metric}</th>" for p, metric in columns)
        lines = [f"<h2>{escape(board.title)}</h2><table><tr><th>Method</th>{head}</tr>"]
        for row in board.rows:
            values = [row.system.metric(*column) for column in columns]
            cells = "".join(f"<td>{'—' if value is None else f'{value:.4f}'}</td>" for value in values)
            lines.append(f"<tr><td>{escape(row.name)}</td>{cells}</tr>")
        parts.append("\n".join(lines) + "</table>")
    return "\n".join(parts)
