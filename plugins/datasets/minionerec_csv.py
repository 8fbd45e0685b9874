"""The MiniOneRec layout: train/valid/test CSVs, info text, index and item JSON (arXiv 2510.24431).

``train/<category>[_5_2016-10-2018-11].csv`` with the columns user_id, history_item_id, item_id and,
where there are SIDs, history_item_sid and item_sid; lists stand as literals in the cells.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from harness.data.dataset import MAX_HISTORY, Dataset, Items, Samples
from harness.data.problems import Problems
from harness.data.reading import (
    OWN,
    REGENERATE,
    USERS,
    check_leakage,
    check_order,
    check_repeats,
    folder_of,
    folders,
    is_user,
    parse_literal,
    read_index,
    read_items,
    read_text,
)
from harness.data.semantic_ids import SemanticIds, parse_sid
from harness.settings import setting

SPLITS = ("train", "valid", "test")
_SUFFIX = r"(?:_\d+_\d{4}-\d{1,2}-\d{4}-\d{1,2})?"
_UNREAD = [-1]  # a history with an error of its own; the errors stop the run
_DIGITS = 19  # longer numbers are no item ids
_FLAT_LIST = re.compile(r"\s*\[[^\[\]]*\]\s*")
_COLUMNS = ("user_id", "history_item_id", "item_id")
_WIDEST = 2**24  # characters of a cell


@dataclass(frozen=True)
class MiniOneRecSettings:
    """Settings of the layout."""

    max_history: Annotated[int, Ge(1), Le(10_000)] = setting(MAX_HISTORY, "longest history allowed, in items")


class MiniOneRecReader:
    """Reads the public benchmark's own files."""

    Settings = MiniOneRecSettings
    kept_in_columns = True

    def __init__(self, settings: MiniOneRecSettings):
        self.settings = settings

    @staticmethod
    def categories(root: Path | None) -> list[str]:
        """Categories with a CSV in a ``train``, ``valid`` or ``test`` folder; reading says which is missing."""
        if root is None:
            return []
        names = []
        for folder in folders(root):
            for path in (path for split in SPLITS for path in sorted(folder.glob(f"{split}/*.csv"))):
                match = re.fullmatch(rf"(.+?){_SUFFIX}\.csv", path.name)
                if match and match[1] not in names:
                    names.append(match[1])
        return names

    def read(self, root: Path | None, category: str, problems: Problems) -> Dataset:
        """The dataset, with the checks that ``bench data validate`` lists."""
        assert root is not None
        there = (f for f in folders(root) if any(self._files(f / split, category, ".csv") for split in SPLITS))
        folder = folder_of(there, category, problems)
        files = {name: self._file(folder / name, category, ".csv", problems) for name in SPLITS}
        items, info = self._items(folder, category, problems)
        index_path = folder / "index" / f"{category}.index.json"
        given = read_index(index_path, len(items), problems) if index_path.exists() else None
        if info is not None and given is not None:
            self._compare_sids(*info, index_path, given, problems)
        splits = {}
        for name, path in files.items():
            if path is None:
                problems.error(folder / name / f"{category}.csv", None, "the file is missing", REGENERATE)
            else:
                splits[name] = self._samples(path, len(items), given, problems)
        found = {name: path for name, path in files.items() if path is not None}
        if "test" in splits:
            check_repeats(splits["test"], found["test"], problems)
        problems.stop_on_errors()
        check_leakage(splits, found, problems)
        check_order(splits, found, problems)
        return Dataset(category, items, splits["train"], splits["valid"], splits["test"], "minionerec", given)

    @staticmethod
    def _files(folder: Path, category: str, ending: str) -> list[Path]:
        pattern = re.compile(re.escape(category) + _SUFFIX + re.escape(ending))
        return sorted(p for p in folder.glob(f"*{ending}") if pattern.fullmatch(p.name))

    def _file(self, folder: Path, category: str, ending: str, problems: Problems) -> Path | None:
        """The file of a category; of several none is taken."""
        matching = self._files(folder, category, ending)
        if len(matching) > 1:
            names = ", ".join(path.name for path in matching)
            problems.error(folder, None, f"holds {len(matching)} files of {category}: {names}", "leave one of them")
        return matching[0] if matching else None

    def _items(
        self, folder: Path, category: str, problems: Problems
    ) -> tuple[Items, tuple[Path, list[str]] | None]:  # fmt: skip
        """Texts from ``index/<category>.item.json``, or titles from ``info/<category>.txt``, and that one's SIDs."""
        texts = folder / "index" / f"{category}.item.json"
        info = self._file(folder / "info", category, ".txt", problems)
        items = read_items(texts, problems) if texts.exists() else None
        if info is not None:
            sids, titles = self._info(info, problems)
            if items is None:
                items = Items(titles, [""] * len(titles), [""] * len(titles), [""] * len(titles))
            elif len(titles) != len(items):
                if not problems.number("error"):  # else it was not read to its end
                    problems.error(info, None, f"has {len(titles)} items, {texts.name} {len(items)}", REGENERATE)
            else:
                self._compare(info, texts, titles, items.titles, problems)
        if items is None and not problems.number("error"):
            problems.error(texts, None, "no item texts: neither this file nor an info text is there", REGENERATE)
        problems.stop_on_errors()
        assert items is not None
        return items, None if info is None else (info, sids)

    @staticmethod
    def _compare(info: Path, texts: Path, titles: list[str], others: list[str], problems: Problems) -> None:
        """Warn of items that the two files name differently; white space does not count."""
        for item, (title, other) in enumerate(zip(titles, others, strict=True)):
            if title != other and "".join(title.split()) != "".join(other.split()):
                what = f"names item {item} '{title[:60]}', {texts.name} '{other[:60]}'"
                problems.warn(info, item + 1, what, f"{texts.name} is used; see that the files belong together")

    @staticmethod
    def _compare_sids(info: Path, sids: list[str], index: Path, given: SemanticIds, problems: Problems) -> None:
        """Warn of items that the info text gives another SID than the index."""
        for item, said in enumerate(sids[: given.n_items]):
            if said != given.string_of_item(item):
                what = f"gives item {item} the SID {said[:60]}, {index.name} {given.string_of_item(item)}"
                problems.warn(info, item + 1, what, f"{index.name} is used; see that the files belong together")

    @staticmethod
    def _info(path: Path, problems: Problems) -> tuple[list[str], list[str]]:
        """The SIDs and titles of an info text."""
        sids: list[str] = []
        titles: list[str] = []
        for row, line in enumerate(_lines(read_text(path, problems) or "")):
            cells = line.split("\t")
            if len(cells) < 3 or cells[-1].strip() != str(row):
                problems.error(path, row + 1, "is not 'SID, title, item id' with ids 0, 1, 2, …", REGENERATE)
                break
            try:
                parse_sid(cells[0])
            except ValueError as error:
                problems.error(path, row + 1, str(error), REGENERATE)
                break
            sids.append(cells[0])
            titles.append("\t".join(cells[1:-1]))
        return sids, titles

    def _samples(self, path: Path, n_items: int, given: SemanticIds | None, problems: Problems) -> Samples:
        table = _table(path, problems)
        if table is None:
            return Samples.build([], [], [], self.settings.max_history)
        users = table["user_id"]
        for row, user in enumerate(users):
            if not is_user(user):
                users[row] = user = user[:20].strip("\0")
                what = f"has the user_id '{user}…'" if user.strip() else "has no user_id"
                problems.error(path, row + 1, what, f"every row needs its user ({USERS}): {REGENERATE}")
        histories = self._histories(path, table["history_item_id"], n_items, problems)
        targets = self._ids(path, table["item_id"], n_items, problems)
        if given is not None and {"history_item_sid", "item_sid"} <= set(table):
            self._check_sids(path, table, histories, targets, given, problems)
        return Samples.build(users, histories, targets, self.settings.max_history)

    def _histories(self, path: Path, cells: list[str], n_items: int, problems: Problems) -> list[list[int]]:
        try:  # all cells at once: a list of ids is JSON too, where each cell is one list and nothing else
            if not all(_FLAT_LIST.fullmatch(cell) for cell in cells):
                raise ValueError
            rows = json.loads("[" + ",".join(cells) + "]")
        except (ValueError, RecursionError):
            rows = [self._literal(path, i, cell, problems) for i, cell in enumerate(cells)]
        limit = self.settings.max_history
        for i, row in enumerate(rows):
            if row is None:
                rows[i] = _UNREAD
                continue
            if not isinstance(row, list) or not all(type(item) is int for item in row):
                what = f"history_item_id '{cells[i][:60]}' is not a list of item ids"
                problems.error(path, i + 1, what, "item ids are numbers from 0, not ASINs or titles: " + OWN)
                rows[i] = _UNREAD
            elif not 1 <= len(row) <= limit:
                rows[i] = _UNREAD
                mend = f"keep the last {limit}" if row else "leave the row out: nothing is known before its target"
                problems.error(path, i + 1, f"history has {len(row)} items, allowed are 1–{limit}", mend)
            elif min(row) < 0 or max(row) >= n_items:
                bad = min(row) if min(row) < 0 else max(row)
                rows[i] = _UNREAD
                problems.error(
                    path, i + 1, f"history item {bad} is out of range 0–{n_items - 1}", "index and CSV must fit"
                )
        return rows

    @staticmethod
    def _literal(path: Path, row: int, cell: str, problems: Problems) -> Any:
        try:
            return parse_literal(cell)
        except ValueError as error:
            problems.error(path, row + 1, f"history_item_id {error}", f"the file may be cut off: {REGENERATE}")
            return None

    @staticmethod
    def _ids(path: Path, cells: list[str], n_items: int, problems: Problems) -> list[int]:
        targets = []
        for i, cell in enumerate(cells):
            text = cell.strip()
            value = int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else -1
            if not 0 <= value < n_items:
                what = f"item_id {cell[:60] or '(empty)'} is not in 0–{n_items - 1}"
                mend = f"the row may be cut off, or index and CSV do not fit: {REGENERATE}"
                problems.error(path, i + 1, what, mend)
                value = -1
            targets.append(value)
        return targets

    @staticmethod
    def _check_sids(
        path: Path, table: Any, histories: list[list[int]], targets: list[int], given: SemanticIds, problems: Problems
    ) -> None:
        """SID cells must parse; where they differ from the index, the index counts and a warning says so."""
        strings = np.array(given.strings, dtype=object)[given.of_item]
        for i, (cell, last) in enumerate(zip(table["history_item_sid"], table["item_sid"], strict=True)):
            in_range = all(0 <= item < given.n_items for item in [*histories[i], targets[i]])
            if not in_range:
                continue
            if last == strings[targets[i]] and cell == repr([strings[item] for item in histories[i]]):
                continue
            try:
                parsed = parse_literal(cell)
                for sid in [*parsed, last]:
                    parse_sid(sid)
            except (ValueError, TypeError) as error:
                problems.error(path, i + 1, f"SIDs do not parse: {error}", "SIDs look like <a_1><b_2><c_3>")
                continue
            if [*parsed, last] != [strings[item] for item in [*histories[i], targets[i]]]:
                problems.warn(path, i + 1, "SIDs differ from the index", "the index is used")


def _lines(text: str) -> list[str]:
    """The lines of a text, ended by a line feed or its kin; other breaks may stand in titles."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _table(path: Path, problems: Problems) -> dict[str, list[str]] | None:
    """The columns of a CSV, each row with as many cells as the header; None where it cannot be used."""
    text = read_text(path, problems)
    if text is None:
        return None
    csv.field_size_limit(_WIDEST)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    before = problems.number("error")
    try:
        header = next(reader, [])
        for column in {**dict.fromkeys(_COLUMNS), **dict.fromkeys(header)}:
            if header.count(column) != 1:
                there = ", ".join(cell[:30] for cell in header)[:160] or "nothing"
                lacks = f"lacks the column {column}; its first line holds {there}"
                what = f"has the column {column[:60]} twice" if column in header else lacks
                problems.error(path, None, what, OWN)
                return None
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                what = f"has {len(row)} cells, the header {len(header)} columns"
                problems.error(path, len(rows) + 1, what, f"a comma too many, or the row is cut off: {REGENERATE}")
                row = (row + [""] * len(header))[: len(header)]
            rows.append(row)
    except csv.Error as error:
        what = f"not a readable CSV (line {reader.line_num}: {error})"
        problems.error(path, None, what, f"it may be cut off: {REGENERATE}")
        return None
    if not rows:
        problems.error(path, None, "the split is empty", "every split needs at least one row")
        return None
    if problems.number("error") > before:
        return None
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
