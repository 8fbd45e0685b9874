"""Rankings that another system made: Parquet, CSV, JSON lines or TREC, by user or sample, of items or SIDs.

They are held to what our own decoders promise: every test sample has one, each candidate is in the catalogue and stands
once. Nothing is dropped: what does not fit is an error that names the row.
"""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.data.dataset import Dataset
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.text import cells
from harness.text.parsing import decode, parse_json

NAMES = {
    "user": ("user", "user_id", "qid", "query_id"),
    "sample": ("sample", "sample_id"),
    "item": ("item", "item_id", "docid", "doc_id", "asin", "parent_asin"),
    "number": ("number", "item_number"),
    "sid": ("sid", "item_sid"),
    "rank": ("rank",),
    "score": ("score",),
}
"""What columns are called."""
LISTS = {
    "item": ("items", "item_ids", "item"),
    "number": ("numbers",),
    "sid": ("sids", "sid"),
    "score": ("scores", "score"),
}
"""What lists of a JSON line are called."""
KNOWN = {name for names in NAMES.values() for name in names}
PLURAL = {name for names in LISTS.values() for name in names} - KNOWN
"""What holds a list wherever it stands; the other names may be of a line a candidate."""
FORMS = "give .parquet, .csv, .tsv, .jsonl or .trec"


def read(path: Path, dataset: Dataset, semantic_ids: SemanticIds | None) -> Rankings:
    """The rankings of a file, in the order of the test samples.

    Samples are told by ``sample``, the number of a row of the test split as ``bench data export`` numbers them, or by
    ``user`` where each user has one. Items are told by the ids of their source or by number.

    Raises:
        BenchError: the file cannot be read, or a row does not fit; one line says which and why.
    """
    table = _table(path)
    key = "sample" if "sample" in table else "user"
    kind = next((name for name in ("item", "number", "sid") if name in table), "item")
    for name in (key, kind):
        if name not in table:
            raise BenchError(
                f"{path} has no column {name} (it has {table.attrs['columns']}); {FORMS}, with a row a candidate: "
                "user or sample, item (or number, or sid), rank or score"
            )
    if "rank" not in table and "score" not in table:
        raise BenchError(f"{path} says neither rank nor score of a candidate; add one of them")
    gap = table[[c for c in (key, kind, "rank", "score") if c in table]].isna().any(axis=1).to_numpy()
    if gap.any():
        raise BenchError(f"{path} row {int(gap.argmax()) + 1} has a gap; every candidate needs all its values")
    rows = _samples(path, table, key, dataset)
    _agree(path, table, rows, dataset)
    if kind == "sid" and semantic_ids is None:
        raise BenchError(f"{path} ranks SIDs, and {dataset.category} comes without any; rank items")
    known = (
        {name: number for number, name in enumerate(semantic_ids.strings)} if kind == "sid" and semantic_ids else
        _item_numbers(dataset, kind)
    )  # fmt: skip
    ids = _candidates(path, table[kind], known, kind, dataset.category)
    return _ranked(path, table, rows, ids, "sid" if kind == "sid" else "item", dataset)


def _table(path: Path) -> pd.DataFrame:
    """The file as columns ``user`` or ``sample``, ``item`` or ``sid``, ``rank``, ``score``, a row a candidate."""
    if not path.is_file():
        raise BenchError(f"{path} {'is no file' if path.exists() else 'does not exist'}; name a file of rankings")
    ending = path.suffix.lower()
    texts: Any = {name: "string" for role in ("user", "item", "sid") for name in NAMES[role]}
    try:
        if ending == ".parquet":
            found = pd.read_parquet(path)
        elif ending in (".csv", ".tsv"):
            found = _of_cells(path, "\t" if ending == ".tsv" else ",", texts)
        elif ending == ".trec":
            columns = ["user", "q0", "item", "rank", "score", "tag"]
            found = pd.read_csv(
                io.StringIO(_text(path)),
                sep=r"\s+",
                names=columns,
                dtype={"user": "string", "item": "string"},
                quoting=3,
                keep_default_na=False,
            )
        elif ending in (".jsonl", ".json"):
            found = _of_lines(path)
        else:
            raise BenchError(f"{path} has the ending '{ending}'; {FORMS}")
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise BenchError(f"{path} cannot be read ({' '.join(str(error).split())[:160]}); {FORMS}") from None
    if not len(found):
        raise BenchError(f"{path} holds no ranking; {FORMS}")
    renamed = {}
    for role, names in NAMES.items():
        there = next((name for name in names if name in found), None)
        if there is not None:
            renamed[role] = found[there]
    made = pd.DataFrame(renamed)
    for role in ("user", "item", "number"):
        if role in made and pd.api.types.is_float_dtype(made[role].dtype) and (made[role] % 1 == 0).all():
            made[role] = made[role].astype("int64")
    made.attrs["columns"] = ", ".join(map(str, found.columns))[:200]
    return made


def _text(path: Path) -> str:
    """The text of a file, a byte-order mark or none.

    Raises:
        BenchError: it is of another encoding; says at which line.
    """
    content = path.read_bytes()
    try:
        return decode(content)
    except ValueError as error:
        raise BenchError(f"{path}: {error}") from None


def _of_cells(path: Path, delimiter: str, types: dict[str, Any]) -> pd.DataFrame:
    """CSV or TSV; every row has as many cells as the header.

    Raises:
        BenchError: one has not; says which.
    """
    text = _text(path)
    header = next(csv.reader([text.partition("\n")[0].rstrip("\r")], delimiter=delimiter), [])
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise BenchError(f"{path} has the column {twice!r:.60} twice; leave one of them out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(text), sep=delimiter, dtype=types, index_col=False, keep_default_na=False, na_values=[""]
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning):
        if what := cells.uneven(text, delimiter, len(header)):
            raise BenchError(f"{path} {what}") from None
        raise


def _of_lines(path: Path) -> pd.DataFrame:
    """JSON lines: a line a sample with lists, or a line a candidate."""
    columns: dict[str, list[Any]] = {}
    first: set[str] = set()
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            content = parse_json(line)
        except ValueError as error:
            raise BenchError(f"{path} row {number} is not valid JSON ({str(error)[:100]}); mend it") from None
        if not isinstance(content, dict):
            raise BenchError(f"{path} row {number} is no object; write one a sample, with its items")
        _as_the_first(path, number, content, first)
        lists = {
            role: value
            for role, names in LISTS.items()
            if isinstance(value := next((content[name] for name in names if name in content), None), list)
        }
        if not any(name in content for role in ("user", "sample") for name in NAMES[role]):
            raise BenchError(f"{path} row {number} names no user and no sample; write one of them in each line")
        if not lists:
            for name, value in content.items():
                if name in KNOWN:
                    columns.setdefault(name, []).append(value)
            continue
        n = len(next(iter(lists.values())))
        if any(len(values) != n for values in lists.values()):
            raise BenchError(f"{path} row {number} has {' and '.join(f'{len(v)} {k}s' for k, v in lists.items())}")
        for role in ("user", "sample"):
            value = next((content[name] for name in NAMES[role] if name in content), None)
            if value is not None:
                columns.setdefault(role, []).extend([value] * n)
        for role, values in lists.items():
            columns.setdefault(role, []).extend(values)
        if "score" not in lists:
            columns.setdefault("rank", []).extend(range(1, n + 1))
    return pd.DataFrame(columns)


def _as_the_first(path: Path, number: int, content: dict[str, Any], first: set[str]) -> None:
    """Refuse a line that holds other things than the first one, a null, or a text in place of a list."""
    there = content.keys() & {*KNOWN, *(name for names in LISTS.values() for name in names)}
    if not first:
        first |= there
    for name in sorted(there):
        if content[name] is None:
            raise BenchError(f"{path} row {number}: {name} is null; every line needs all its values")
        if name in PLURAL and not isinstance(content[name], list):
            raise BenchError(f"{path} row {number}: {name} is {str(content[name])[:40]!r}; write a list, best first")
    if there != first:
        lacking, more = sorted(first - there), sorted(there - first)
        what = f"lacks {lacking[0]}" if lacking else f"has {more[0]} besides"
        raise BenchError(f"{path} row {number} {what}, unlike the lines before it; write the same in each")


def _samples(path: Path, table: pd.DataFrame, key: str, dataset: Dataset) -> np.ndarray:
    """The test sample of each row of the table ``[rows]``."""
    test = dataset.test
    if key == "user":
        names = test.users.tolist()
        number = {name: row for row, name in enumerate(names)}
        if len(number) < len(names):
            twice = next(name for row, name in enumerate(names) if number[name] != row)
            raise BenchError(
                f"{path} tells samples by user, and user {twice} has several in {dataset.category}; tell them by "
                "sample, as bench data export numbers them"
            )
        found = table["user"].astype(str).map(number)
    else:
        assert test.rows is not None
        place = {int(row): at for at, row in enumerate(np.argsort(np.argsort(test.rows)))}
        found = pd.to_numeric(table["sample"], errors="coerce").map(place)
    lost = found.isna().to_numpy()
    if lost.any():
        row = int(lost.argmax())
        raise BenchError(
            f"{path} row {row + 1}: {key} {str(table[key].iloc[row])[:40]!r} is none of the {len(test):,} of test"
        )
    rows = found.to_numpy().astype(np.int64)
    without = np.bincount(rows, minlength=len(test)) == 0
    if without.any():
        sample = int(without.argmax())
        raise BenchError(
            f"{path} has no ranking for {int(without.sum()):,} of {len(test):,} test samples, such as that of user "
            f"{test.users[sample]}; rank them all: a sample without one would be left out of the mean"
        )
    return rows


def _agree(path: Path, table: pd.DataFrame, rows: np.ndarray, dataset: Dataset) -> None:
    """Refuse a row that names its user or its item twice, and not the same."""
    said: dict[str, pd.Series] = {}
    if "sample" in table and "user" in table:
        said["user"] = pd.Series(dataset.test.users[rows], dtype="string")
    if "item" in table and "number" in table:
        numbers = table["item"].astype(str).map(_item_numbers(dataset, "item"))
        said["number"] = numbers.astype("Int64").astype("string")  # of an unknown item none, which is refused later
    for name, by in (("user", "sample"), ("number", "item")):
        if name not in said:
            continue
        own = table[name].astype("string").reset_index(drop=True)
        differ = (own != said[name].reset_index(drop=True)).fillna(False).to_numpy(dtype=bool)
        if differ.any():
            row = int(differ.argmax())
            raise BenchError(
                f"{path} row {row + 1}: {by} {str(table[by].iloc[row])[:40]!r} is {name} {said[name].iloc[row]!r:.60}, "
                f"and the row says {str(own[row])[:40]!r}; leave one of the two columns out, or mend it"
            )


def _item_numbers(dataset: Dataset, kind: str) -> dict[str, int]:
    """Item numbers by the id of the source; by number where a column says so, and where items have no ids."""
    names = dataset.items.ids if kind == "item" else []
    return {name: number for number, name in enumerate(names or map(str, range(len(dataset.items))))}


def _candidates(path: Path, column: pd.Series, known: dict[str, int], kind: str, category: str) -> np.ndarray:
    found = column.astype(str).map(known)
    lost = found.isna().to_numpy()
    if lost.any():
        row = int(lost.argmax())
        raise BenchError(
            f"{path} row {row + 1}: {kind} {str(column.iloc[row])[:60]!r} is none of {category}'s {len(known):,}"
        )
    return found.to_numpy().astype(np.int64)


def _ranked(
    path: Path, table: pd.DataFrame, rows: np.ndarray, ids: np.ndarray, kind: Any, dataset: Dataset
) -> Rankings:
    """Lists of unequal length as one array, filled up with nobody."""
    n = len(dataset.test)
    numbers = {
        name: pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
        for name in ("rank", "score")
        if name in table
    }
    for name, values in numbers.items():
        if not np.isfinite(values).all():
            row = int((~np.isfinite(values)).argmax())
            raise BenchError(f"{path} row {row + 1}: {name} {str(table[name].iloc[row])[:40]!r} is no finite number")
    scores = numbers["score"] if "score" in numbers else -numbers["rank"]
    ranks = numbers.get("rank", -scores)
    order = np.lexsort((np.arange(len(rows)), ranks, rows))
    rows, ids, scores = rows[order], ids[order], scores[order]
    pairs = np.unique(np.column_stack([rows, ids]), axis=0)
    if len(pairs) < len(rows):
        again = pd.DataFrame({"row": rows, "id": ids}).duplicated().to_numpy()
        at = int(order[again.argmax()])
        raise BenchError(f"{path} row {at + 1}: ranks a candidate a second time for the same sample; leave it out")
    sizes = np.bincount(rows, minlength=n)
    place = np.arange(len(rows)) - np.repeat(np.r_[0, np.cumsum(sizes)[:-1]], sizes)
    rising = (place[1:] > 0) & (np.diff(scores) > 0)
    if rising.any():
        at = int(order[int(rising.argmax()) + 1])
        raise BenchError(
            f"{path} row {at + 1}: scores rise along the ranks; best comes first, and the largest score is best"
        )
    width = int(sizes.max())
    table_ids = np.full((n, width), -1, dtype=np.int32)
    table_scores = np.full((n, width), -np.inf)
    table_ids[rows, place], table_scores[rows, place] = ids, scores
    return Rankings(kind, table_ids, table_scores)
