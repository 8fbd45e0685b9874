"""Markdown tables, how numbers are written in them, and what must stand under each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from harness.measure import BAYES
from harness.ranks import CUTOFFS
from harness.record import Record
from harness.reported import Reported

HR = [f"HR@{k}" for k in CUTOFFS]
NDCG = [f"NDCG@{k}" for k in CUTOFFS]
PROTOCOLS = {"sid": "SID protocol", "item": "item protocol"}


def table(headers: list[str], rows: list[list[Any]]) -> str:
    """A GitHub markdown table; floats get four digits."""
    shown = [[cell(value) for value in row] for row in rows]
    align = ["right" if all(_numeric(row[i]) for row in rows) and i else "left" for i in range(len(headers))]
    return tabulate(shown, headers=headers, tablefmt="github", colalign=align if shown else None, disable_numparse=True)


def _numeric(value: Any) -> bool:
    if value is None or isinstance(value, (int, float)):
        return True
    digits = str(value).replace("<ins>", "").replace("</ins>", "").replace("±", "").replace(" ", "").strip("*+-−%–")
    return not digits or digits.replace(".", "").replace(",", "").isdigit()


def cell(value: Any) -> str:
    """A value as a table's cell."""
    if value is None:
        return "—"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\r", " ").replace("\n", " ")


def percent(value: float | None) -> str | None:
    """A share as the replication log writes it, 24.40%."""
    return None if value is None else f"{value:.2%}"


def duration(seconds: float) -> str:
    """``8 s``, ``21.4 min``, ``9.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count(number: float) -> str | None:
    """Parameters: ``1.59 M``."""
    if not number:
        return None
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.2f} M"


def title(protocol: str) -> str:
    """A protocol's name at the beginning of a line."""
    name = PROTOCOLS[protocol]
    return name[0].upper() + name[1:]


def short(fingerprints: Sequence[str | None]) -> str:
    """Fingerprints, shortened, each once."""
    return ", ".join(sorted({f[:12] for f in fingerprints if f})) or "none"


def caption(records: Sequence[Record], protocol: str = "", notes: Sequence[str] = ()) -> str:
    """What stands under a table: protocol, category and split, fingerprints, seeds, code."""
    captions = sorted({record.content["caption"] or "as read" for record in records})
    parts = [
        *([PROTOCOLS[protocol]] if protocol else []),
        f"{', '.join(sorted({record.category for record in records}))}: {' / '.join(captions)}",
        f"data {short([record.data for record in records])}",
        f"SIDs {short([record.sids for record in records])}",
        f"seed{'s' if len({r.seed for r in records}) > 1 else ''} "
        + ", ".join(str(seed) for seed in sorted({record.seed for record in records})),
        f"code {', '.join(sorted({record.content['revision'] for record in records}))}",
        *notes,
    ]
    return f"*{'; '.join(parts)}.*"


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


def reported_table(rows: Sequence[Reported], columns: Sequence[str]) -> list[str]:
    """Reported rows as a table, those that cannot be true marked, and under it why."""
    shown = [
        [f"{r.method} ‡" if r.problems else r.method, r.source, *(r.metrics.get(c) for c in columns)] for r in rows
    ]
    wrong = [f"- ‡ {r.method} ({r.source}): {'; '.join(r.problems)}." for r in rows if r.problems]
    return [
        "As their sources give them (SID protocol, the published train split); not measured here.",
        table(["Method", "Source", *columns], shown),
        *(["Cannot be true as printed:\n\n" + "\n".join(wrong)] if wrong else []),
    ]
