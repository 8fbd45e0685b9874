"""Markdown tables, how numbers are written in them, and what must stand under each."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cli import tables
from harness.cli.tables import PROTOCOLS, table
from harness.data import versions
from harness.text.plain import markdown

from ..record import Record
from ..reported import Reported, published_samples


def percent(value: float | None) -> str | None:
    """A share as the replication log writes it, 24.40%."""
    return None if value is None else f"{value:.2%}"


def count(number: float) -> str | None:
    """Parameters: ``1.59 M``."""
    if not number:
        return None
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.2f} M"


def title(protocol: str) -> str:
    """A protocol's name at the beginning of a line."""
    name = PROTOCOLS[protocol]
    return name[0].upper() + name[1:]


def caption(records: Sequence[Record], protocol: str = "", notes: Sequence[str] = ()) -> str:
    """What stands under a table: protocol, category and split, fingerprints, seeds, code."""
    return tables.caption(
        [record.category for record in records], [record.content["caption"] for record in records],
        [record.data for record in records], [record.sids for record in records],
        [record.seed for record in records], [record.content["revision"] for record in records],
        [PROTOCOLS[protocol]] if protocol else [],
        [*stands_on(records), *notes, *tables.code_notes([record.content for record in records])],
    )  # fmt: skip


def stands_on(records: Sequence[Record]) -> list[str]:
    """The versions of data, split and protocol, and what is to be said of old ones."""
    shown = list(dict.fromkeys(versions.caption(record.ground) for record in records))
    entries = {entry for record in records for entry in versions.checked(record.ground) if entry.superseded_by}
    old = [
        f"{entry.shown} is superseded by {entry.superseded_by}: {entry.reason}"
        for entry in sorted(entries, key=lambda entry: entry.shown)
    ]
    return [*filter(None, shown), *old]


def _ground(rows: Sequence[Reported]) -> str:
    """What reported rows are of."""
    if rows and published_samples(rows[0].category):
        return "SID protocol, the published train split"
    return "their own code, split and histories, as the files of leaderboard/reported say"


def reported_table(rows: Sequence[Reported], columns: Sequence[str]) -> list[str]:
    """Reported rows as a table, those that cannot be true marked, and under it why."""
    shown = [
        [f"{r.method} ‡" if r.problems else r.method, r.source, *(r.metrics.get(c) for c in columns)] for r in rows
    ]
    wrong = [f"- ‡ {markdown(r.method)} ({markdown(r.source)}): {'; '.join(r.problems)}." for r in rows if r.problems]
    return [
        f"As their sources give them ({_ground(rows)}); not measured here.",
        table(["Method", "Source", *columns], shown),
        *(["Cannot be true as printed:\n\n" + "\n".join(wrong)] if wrong else []),
    ]
