"""What a stranger sees first: the README's two tables and its picture of the way that data take."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from harness.cli.tables import duration, table
from harness.text.plain import Marked

from .board import Board, Row
from .overview import COUNTING, METRIC, best_row, main_table, trained_here

SHOWN = ("sasrec", "tiger", "minionerec", "hybrid", "minionerec-memory", "rerank")
"""Rows of the first table."""
STEPS = (
    ("data", "catalogue, histories", "bench_datasets"),
    ("semantic IDs", "one for each item", "bench_tokenizers"),
    ("training", "SFT, then GRPO; or any stages", "bench_trainers"),
    ("decoding", "50 constrained beams", "bench_decoders"),
    ("metrics", "HR, NDCG, by level, intervals", "bench_metrics"),
    ("record", "report, board, MLflow", "bench_run_finished"),
)
"""The way of a run: what, of what, and the hook by which a plugin takes its place."""
BOX, GAP, HIGH = 148, 22, 96


def results(rows: Sequence[Row], category: str) -> str:
    """A handful of rows by the SID protocol."""
    lines: list[list[Any]] = []
    for row in (row for row in rows if row.name in SHOWN):
        values = [row.system.metric("sid", metric) or 0.0 for metric in ("HR@10", METRIC)]
        train = duration(row.cost("train seconds") or 0.0)
        lines.append([row.name, *(f"{value:.4f}" for value in values), train, str(len(row.records))])
    lines.sort(key=lambda line: line[2])
    caption = rows[0].records[0].content["caption"]
    said = f"SID protocol, test; {category}, {caption}: rows compare with each other alone"
    return table(["Method", "HR@10", "NDCG@10", "Training", "Seeds"], lines) + f"\n\n*{said}.*"


def families(boards: Sequence[Board]) -> str:
    """A line a category: the best of counting, the best published row, and how many of those stand below."""
    lines: list[list[Any]] = []
    for board in (board for board in boards if board.seen == "keep"):
        found = main_table(board)
        counting = best_row([row for row in found.rows if row.group == COUNTING], found)
        trained = best_row(trained_here(found), found)
        published = [row.metrics[METRIC] for row in board.reported if METRIC in row.metrics and not row.problems]
        if counting is None:
            continue
        bound = counting.system.metric(found.protocol, METRIC) or 0.0
        below = f"{sum(value < bound for value in published)} of {len(published)}" if published else None
        best = trained.system.metric(found.protocol, METRIC) if trained is not None else None
        name = Marked(f"[{board.category}](leaderboard/boards/{board.category}.md)")
        lines.append([name, f"{counting.name} {bound:.4f}", f"{trained.name} {best:.4f}" if trained else None,
                      max(published, default=None), below])  # fmt: skip
    return table(["NDCG@10", "Best counting", "Best trained", "Best published", "Published below counting"], lines)


def picture() -> str:
    """The way of a run as SVG, for white and black pages alike."""
    width = len(STEPS) * BOX + (len(STEPS) - 1) * GAP + 2
    title = "A run: " + ", ".join(name for name, _, _ in STEPS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HIGH + 30}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="#7a7a7a"><title>{escape(title)}</title>'
    ]
    for number, (name, what, hook) in enumerate(STEPS):
        x, middle = 1 + number * (BOX + GAP), 1 + number * (BOX + GAP) + BOX / 2
        parts.append(
            f'<rect x="{x}" y="1" width="{BOX}" height="{HIGH - 26}" rx="8" fill="none" stroke="#1f9d61" '
            f'stroke-width="1.5"/><text x="{middle:g}" y="30" text-anchor="middle" font-size="15" fill="#1f9d61">'
            f"{escape(name)}</text>"
        )
        for line, text in enumerate(_two(what)):
            parts.append(f'<text x="{middle:g}" y="{48 + 14 * line}" text-anchor="middle">{escape(text)}</text>')
        parts.append(
            f'<text x="{middle:g}" y="{HIGH}" text-anchor="middle" font-family="monospace" font-size="11">'
            f"{escape(hook)}</text>"
        )
        if number:
            tip, y = x - 3, (HIGH - 26) / 2
            parts.append(f'<path d="M{tip - GAP + 6} {y:g} H{tip} m-5 -4 l5 4 l-5 4" fill="none" stroke="#7a7a7a"/>')
    said = "Test targets are read by the metrics alone. Each box is a plugin hook."
    parts.append(f'<text x="{width / 2:g}" y="{HIGH + 24}" text-anchor="middle">{said}</text></svg>')
    return "\n".join(parts) + "\n"


def _two(text: str) -> list[str]:
    """A text in one or two lines that fit a box."""
    if len(text) <= 22:
        return [text]
    words, first = text.split(), ""
    while words and len(first) + len(words[0]) < 18:
        first = f"{first} {words.pop(0)}".strip()
    return [first, " ".join(words)]
