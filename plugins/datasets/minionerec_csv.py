"""The MiniOneRec layout: train/valid/test CSVs, info text, index and item JSON (arXiv 2510.24431).

``train/<category>[_5_2016-10-2018-11].csv`` with the columns user_id, history_item_id, item_id and,
where there are SIDs, history_item_sid and item_sid; lists stand as literals in the cells.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from harness.data.dataset import MAX_HISTORY, Dataset, Items, Samples
from harness.data.problems import Problems
from harness.data.reading import (
    REGENERATE,
    check_leakage,
    check_order,
    check_repeats,
    folders,
    parse_literal,
    read_index,
    read_items,
)
from harness.data.semantic_ids import SemanticIds, parse_sid
from harness.settings import setting

SPLITS = ("train", "valid", "test")
_SUFFIX = r"(?:_\d+_\d{4}-\d{1,2}-\d{4}-\d{1,2})?"
_MOST = 50  # problems listed a file
_UNREAD = [-1]  # a history with an error of its own; the errors stop the run
_DIGITS = 19  # longer numbers are no item ids


@dataclass(frozen=True)
class MiniOneRecSettings:
    """Settings of the layout."""

    max_history: Annotated[int, Ge(1)] = setting(MAX_HISTORY, "longest history allowed, in items")


class MiniOneRecReader:
    """Reads the public benchmark's own files."""

    Settings = MiniOneRecSettings

    def __init__(self, settings: MiniOneRecSettings):
        self.settings = settings

    @staticmethod
    def categories(root: Path | None) -> list[str]:
        """Categories with a CSV in a ``train`` folder."""
        if root is None:
            return []
        names = []
        for folder in folders(root):
            for path in sorted(folder.glob("train/*.csv")):
                match = re.fullmatch(rf"(.+?){_SUFFIX}\.csv", path.name)
                if match:
                    names.append(match[1])
        return names

    def read(self, root: Path | None, category: str, problems: Problems) -> Dataset:
        """The dataset, with the checks that ``bench data validate`` lists."""
        assert root is not None
        folder = next(f for f in folders(root) if self._file(f / "train", category, ".csv"))
        items = self._items(folder, category, problems)
        index_path = folder / "index" / f"{category}.index.json"
        given = read_index(index_path, len(items), problems) if index_path.exists() else None
        files, splits = {}, {}
        for name in SPLITS:
            path = self._file(folder / name, category, ".csv")
            files[name] = path or folder / name / f"{category}.csv"
            if path is None:
                problems.error(files[name], None, "the file is missing", REGENERATE)
            else:
                splits[name] = self._samples(path, len(items), given, problems)
        if "test" in splits:
            check_repeats(splits["test"], files["test"], problems)
        problems.stop_on_errors()
        check_leakage(splits, files, problems)
        check_order(splits, files, problems)
        return Dataset(category, items, splits["train"], splits["valid"], splits["test"], "minionerec", given)

    @staticmethod
    def _file(folder: Path, category: str, ending: str) -> Path | None:
        pattern = re.compile(re.escape(category) + _SUFFIX + re.escape(ending))
        matching = sorted(p for p in folder.glob(f"{category}*{ending}") if pattern.fullmatch(p.name))
        return matching[0] if matching else None

    def _items(self, folder: Path, category: str, problems: Problems) -> Items:
        """Texts from ``index/<category>.item.json``, or titles from ``info/<category>.txt``."""
        texts = folder / "index" / f"{category}.item.json"
        info = self._file(folder / "info", category, ".txt")
        items = read_items(texts, problems) if texts.exists() else None
        if info is not None:
            titles = self._info(info, problems)
            if items is None:
                items = Items(titles, [""] * len(titles), [""] * len(titles), [""] * len(titles))
            elif len(titles) != len(items):
                problems.error(info, None, f"has {len(titles)} items, {texts.name} {len(items)}", REGENERATE)
        if items is None:
            problems.error(texts, None, "no item texts: neither this file nor an info text is there", REGENERATE)
        problems.stop_on_errors()
        assert items is not None
        return items

    @staticmethod
    def _info(path: Path, problems: Problems) -> list[str]:
        titles = []
        for row, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            cells = line.split("\t")
            if len(cells) < 3 or cells[-1].strip() != str(row):
                problems.error(path, row + 1, "is not 'SID, title, item id' with ids 0, 1, 2, …", REGENERATE)
                break
            try:
                parse_sid(cells[0])
            except ValueError as error:
                problems.error(path, row + 1, str(error), REGENERATE)
                break
            titles.append("\t".join(cells[1:-1]))
        return titles

    def _samples(self, path: Path, n_items: int, given: SemanticIds | None, problems: Problems) -> Samples:
        import pandas as pd

        empty = Samples.build([], [], [], self.settings.max_history)
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            problems.error(path, None, f"not a readable CSV ({str(error).strip()})", f"it may be cut off: {REGENERATE}")
            return empty
        for column in ("user_id", "history_item_id", "item_id"):
            if column not in table.columns:
                problems.error(path, None, f"lacks the column {column}", REGENERATE)
                return empty
        if not len(table):
            problems.error(path, None, "the split is empty", "every split needs at least one row")
            return empty
        table = table.fillna("")
        histories = self._histories(path, table["history_item_id"].tolist(), n_items, problems)
        targets = self._ids(path, table["item_id"].tolist(), n_items, problems)
        if given is not None and {"history_item_sid", "item_sid"} <= set(table.columns):
            self._check_sids(path, table, histories, targets, given, problems)
        return Samples.build(table["user_id"].tolist(), histories, targets, self.settings.max_history)

    def _histories(self, path: Path, cells: list[str], n_items: int, problems: Problems) -> list[list[int]]:
        try:  # all cells at once: a list of ids is JSON too
            rows = json.loads("[" + ",".join(cells) + "]")
            if len(rows) != len(cells):
                raise ValueError
        except (ValueError, RecursionError):
            rows = [self._literal(path, i, cell, problems) for i, cell in enumerate(cells)]
        limit = self.settings.max_history
        for i, row in enumerate(rows):
            if row is None:
                rows[i] = _UNREAD
                continue
            if len(problems.errors) >= _MOST:
                rows[i] = _UNREAD  # from here on: the errors that were noted stop the run
                continue
            if not isinstance(row, list) or not all(type(item) is int for item in row):
                problems.error(path, i + 1, f"history_item_id {cells[i][:60]} is not a list of item ids", REGENERATE)
                rows[i] = _UNREAD
            elif not 1 <= len(row) <= limit:
                rows[i] = _UNREAD
                problems.error(
                    path, i + 1, f"history has {len(row)} items, allowed are 1–{limit}", f"keep the last {limit}"
                )
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
                if len(problems.errors) < _MOST:
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
            if not in_range or len(problems.errors) >= _MOST:
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
