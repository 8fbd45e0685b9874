"""Quality against cost: NDCG@10 over seconds of training, a point a row, and the front that no other row beats.

A row is on the front where none that takes as long or less is better. Times are those of each record's own hardware.
A row whose training was elsewhere, in whole or in a part, has no time here and is no point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from harness.cli.tables import PROTOCOLS, duration

from .board import GROUP_TITLES, Board, Row
from .overview import METRIC, main_table

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 56
LEAST = 1.0
"""Seconds; what is faster stands here."""
COLOURS = {
    "counting": "#8a8a8a", "traditional": "#3b7dd8", "generative": "#c2571a", "llm": "#8e5bbf", "ours": "#1f9d61",
    "community": "#b8860b",
}  # fmt: skip
"""A colour a group, told apart on white and on black."""


class Point(NamedTuple):
    """A row: its name and group, seconds of training, NDCG@10."""

    name: str
    group: str
    seconds: float
    value: float


def points_of(board: Board) -> list[Point]:
    """The rows of a board's main protocol."""
    found = main_table(board)
    points = []
    for row in found.rows:
        value, seconds = row.system.metric(found.protocol, METRIC), row.cost("train seconds")
        if value is not None and seconds is not None and not row.mixed and not _elsewhere(row):
            points.append(Point(row.name, row.group, max(seconds, LEAST), value))
    return points


def _elsewhere(row: Row) -> bool:
    """Whether something that the row stands on was trained outside of its run."""
    stages = [stage for record in row.records for stage in record.settings["stages"]]
    parts = [part for stage in stages for part in dict(stage.get("parts") or {}).values()]
    recorded = any(isinstance(part, str) and part.startswith("run:") for part in parts)
    return recorded or row.made_elsewhere


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats at their cost, from the fastest on."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda one: (one.seconds, -one.value)):
        if not kept or point.value > kept[-1].value:
            kept.append(point)
    return kept


def svg(board: Board) -> str:
    """The picture, for white and black pages alike; empty where there are fewer than two rows."""
    points = points_of(board)
    if len(points) < 2:
        return ""
    best = front(points)
    slowest, highest = max(p.seconds for p in points), max(p.value for p in points)
    decades = max(1, math.ceil(math.log10(slowest / LEAST) - 1e-9))
    step = _step(highest)
    top = math.ceil(highest / step + 1e-9) * step

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(seconds / LEAST) / decades

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    protocol = PROTOCOLS[main_table(board).protocol]
    title = f"{board.title}: {METRIC} ({protocol}) over seconds of training"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        f'font-size="12" fill="#7a7a7a"><title>{escape(title)}</title>',
        f'<text x="{LEFT}" y="20">{escape(title)}</text>',
    ]
    for power in range(decades + 1):
        at = x(LEAST * 10**power)
        parts.append(_line(at, TOP, at, HEIGHT - BOTTOM, "0.25"))
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10**power:,} s</text>')
    for number in range(round(top / step) + 1):
        at = y(number * step)
        parts.append(_line(LEFT, at, WIDTH - RIGHT, at, "0.25"))
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{number * step:.2f}</text>')
    path = f"M{x(best[0].seconds):.1f} {y(best[0].value):.1f}"
    path += "".join(f" H{x(p.seconds):.1f} V{y(p.value):.1f}" for p in best[1:]) + f" H{WIDTH - RIGHT:.1f}"
    parts.append(f'<path d="{path}" fill="none" stroke="#7a7a7a" stroke-dasharray="5 4"/>')
    for p in points:
        said = escape(f"{p.name}: {p.value:.4f}, {duration(p.seconds)}")
        parts.append(
            f'<circle cx="{x(p.seconds):.1f}" cy="{y(p.value):.1f}" r="5" fill="{COLOURS[p.group]}">'
            f"<title>{said}</title></circle>"
        )
    for p in best:
        parts.append(f'<text x="{x(p.seconds) + 7:.1f}" y="{y(p.value) - 7:.1f}">{escape(p.name)}</text>')
    there = [group for group in COLOURS if any(p.group == group for p in points)]
    for number, group in enumerate(there):
        at = TOP + 16 * number
        parts.append(f'<circle cx="{WIDTH - RIGHT + 20}" cy="{at}" r="5" fill="{COLOURS[group]}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 32}" y="{at + 4}">{GROUP_TITLES[group]}</text>')
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 12}">Dashed: the front, which no row of the same cost or less beats. Up to '
        f"{LEAST:g} s stands at {LEAST:g} s.</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _line(x1: float, y1: float, x2: float, y2: float, opacity: str) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="#7a7a7a" stroke-opacity="{opacity}"/>'


def _step(highest: float) -> float:
    """A round distance of the lines that leaves eight of them at most."""
    return next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if highest / step <= 8), 0.5)
