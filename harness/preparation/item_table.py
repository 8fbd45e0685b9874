"""The item table: which items a title rule leaves, and the texts of those that are kept."""

from __future__ import annotations

import ast
import html
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from harness.data.dataset import Items
from harness.errors import BenchError
from harness.preparation import raw
from harness.preparation.asked import Preparation
from harness.preparation.purchases import KNOWN, column
from harness.preparation.raw_source import Source, blocks

TEXTS = {
    "title": ("title", "name", "movie_title", "item_name"),
    "description": ("description", "text"),
    "brand": ("brand", "store"),
    "categories": ("categories", "category", "genres", "genre", "class"),
}
"""Names that columns have in the public files."""
MOST_WORDS = 20
YEAR = "release_year:token"
MARKUP = "<span id"
MOST_TEXT = 100_000
"""Characters of a text that are kept."""


@dataclass(frozen=True)
class Table:
    """Files of items, looked at."""

    sources: list[Source]
    chosen: list[dict[str, str]]
    made: Preparation

    @classmethod
    def of(cls, sources: list[Source], made: Preparation) -> Table:
        """Find the columns."""
        chosen = []
        for source in sources:
            free = source.form in ("json", "dict")  # only the first row was seen: others may have what it lacks
            found = {"id": column(source, "item_id", made.item_id, (*KNOWN["item"], "id"))}
            for role, names in TEXTS.items():
                wanted = made.title if role == "title" else ""
                needed = role == "title" and made.titles == "clean" and not free
                found[role] = column(source, role, wanted, names, needed)
            if not free and not any(found[role] for role in TEXTS):
                there = ", ".join(source.names)[:200]
                raise BenchError(
                    f"{source.path} has no column of a known name for texts ({', '.join(TEXTS)}); name that of titles: "
                    f"--set title=, of {there}"
                )
            chosen.append(found)
        return cls(sources, chosen, made)

    def _rows(self, roles: tuple[str, ...]) -> Iterator[tuple[Source, int, dict[str, Any]]]:
        """``(file, row, {role: value})``."""
        for source, chosen in zip(self.sources, self.chosen, strict=True):
            free = source.form in ("json", "dict")
            names = {role: chosen[role] for role in roles if chosen[role] or free}
            if source.form in ("json", "dict"):
                parse = json.loads if source.form == "json" else ast.literal_eval
                for line, block in blocks(source):
                    for number, row in raw.records(source, line, block, parse):
                        yield source, number, {role: _first(row, name, role) for role, name in names.items()}
                continue
            year = [YEAR] if YEAR in source.columns and "title" in roles else []
            for first, batch in raw.batches(source, [*names.values(), *year]):
                for number, row in enumerate(batch.to_pylist(), start=first):
                    yield source, number, {role: row[name] for role, name in names.items()} | _year(source, row)

    def wanted(self, left_out: Counter[str]) -> pa.Array:
        """The ids of the items whose title is clean; counts the others by what is wrong with it."""
        ids: dict[str, None] = {}
        for source, number, row in self._rows(("id", "title")):
            item = _id(row["id"], source, number)
            reason = fault(clean(plain(row.get("title"))))
            if reason:
                left_out[f"items of the table {reason}"] += 1
            else:
                ids[item] = None
        return pa.array(list(ids), pa.string())

    def texts(self, ids: list[str], left_out: Counter[str]) -> Items:
        """The texts of items, in that order; those that the table lacks have none."""
        place = {item: number for number, item in enumerate(ids)}
        columns = {role: [""] * len(ids) for role in TEXTS}
        seen = bytearray(len(ids))
        twice, other = 0, ""
        for source, number, row in self._rows(("id", *TEXTS)):
            item = _id(row["id"], source, number)
            at, other = place.get(item), other or item
            if at is None:
                continue
            if seen[at]:
                twice += 1
                continue
            seen[at] = 1
            for role, kept in columns.items():
                value = row.get(role)
                kept[at] = categories(value, self.made.first_category) if role == "categories" else plain(value)
            if row.get("year") and columns["title"][at]:
                columns["title"][at] += f" ({row['year']})"
            if self.made.titles == "clean":
                columns["title"][at] = clean(columns["title"][at])
        if ids and not any(seen):
            raise self._of_others(ids[0], other)
        if twice:
            left_out["rows of the item table whose item stands there before: the first counts"] += twice
        if lacking := len(ids) - sum(seen):
            left_out["items that the item table lacks: they have no text"] += lacking
        if untitled := sum(there and not title for there, title in zip(seen, columns["title"], strict=True)):
            left_out["items without a title in the item table"] += untitled
        return Items(columns["title"], columns["description"], columns["brand"], columns["categories"], ids)

    def _of_others(self, ours: str, theirs: str) -> BenchError:
        """The tables have none of the items that are bought."""
        files = ", ".join(str(source.path) for source in self.sources)
        if not theirs:
            return BenchError(f"{files} names columns and holds no item; give the items' file, or leave --items out")
        return BenchError(
            f"{files} holds none of the items that are bought: an id there is {theirs!r:.40}, of a "
            f"purchase {ours!r:.40}; name the column of ids (--set item_id=), or give the table of this catalogue"
        )


def _first(row: dict[str, Any], name: str, role: str) -> Any:
    """A value by the name that the first row has, or by another that is known."""
    if name:
        return row.get(name)
    return next((row[other] for other in TEXTS[role] if other in row), None)


def _year(source: Source, row: dict[str, Any]) -> dict[str, Any]:
    """The year of a film, which RecBole's files hold beside the title."""
    return {"year": row[YEAR]} if YEAR in row else {}


def _id(value: Any, source: Source, number: int) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or value != value or isinstance(value, (bool, list, dict)) or not str(value).strip():
        raise BenchError(f"{source.path} row {number} has no item id ({str(value)[:40]}); mend the row, or take it out")
    return str(value)


def plain(value: Any) -> str:
    """A text field as one text: lists joined, absent and NaN as nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or isinstance(value, dict):
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(filter(None, map(plain, value)))
    text = str(value).strip()[:MOST_TEXT].replace("\0", " ").encode("utf-8", "replace").decode()
    return "" if text.lower() == "nan" else text


def categories(value: Any, first: bool) -> str:
    """Categories joined by commas, each once; lists of paths (Amazon 2014) are taken apart.

    Args:
        first: whether the first of a path is kept.
    """
    if not isinstance(value, (list, tuple)):
        return plain(value)
    paths = value if any(isinstance(part, (list, tuple)) for part in value) else [value]
    paths = [path if isinstance(path, (list, tuple)) else [] if path is None else [path] for path in paths]
    names = [plain(name) for path in paths for name in (path if first else path[1:])]
    return ", ".join(dict.fromkeys(filter(None, names)))


def clean(title: str) -> str:
    """A title as MiniOneRec has it: entities decoded, blanks and outer quotes stripped."""
    return html.unescape(title).strip().strip("\"'").strip()


def fault(title: str) -> str:
    """What leaves an item out under the rule ``clean``; "": nothing."""
    if not title:
        return "without a title"
    if MARKUP in title:
        return "whose title holds markup"
    if len(title) == 1:
        return "whose title is one character"
    return f"whose title has more than {MOST_WORDS} words" if len(title.split()) > MOST_WORDS else ""
