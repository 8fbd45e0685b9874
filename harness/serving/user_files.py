"""Files of users in, files of recommendations out: read, answered and written piece by piece.

In: ``.jsonl`` (``{"user": …, "history": [ids]}``), ``.csv``, ``.tsv`` or ``.parquet`` with the columns ``user`` and
``history`` (ids parted by spaces or ``|``, in Parquet also a list), or ``user`` and ``item`` with a row a purchase,
oldest first, the rows of a user together. Out: ``.jsonl``, or a row a recommendation. ``bench score`` reads both back.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness import files
from harness.errors import BenchError
from harness.progress import Progress
from harness.text.parsing import parse_json
from harness.text.plain import line

from .catalogue import Catalogue, names_of
from .recommender import Recommender, as_json

FORMS = (".jsonl", ".csv", ".tsv", ".parquet")
AT_ONCE = 512
"""Users answered together."""
COLUMNS = ("user", "rank", "item", "title", "score", "sid")
MOST_LINE = 4 * 2**20
"""Characters of one line."""


class User(NamedTuple):
    """One user of a file.

    Attributes:
        row: where it begins, from 1, the header not counted.
    """

    row: int
    name: str
    history: list[str]


class Done(NamedTuple):
    """What was answered.

    Attributes:
        unknown: names in histories that are no items and were left out.
        empty: users whose history was empty (or became so): they have the most bought items.
    """

    users: int
    unknown: int
    empty: int


def ending(path: Path, option: str) -> str:
    """The form of a file by its ending.

    Raises:
        BenchError: it is none of ours.
    """
    if path.suffix.lower() not in FORMS:
        raise BenchError(f"{option} {path} has the ending '{path.suffix}'; give {', '.join(FORMS)}")
    return path.suffix.lower()


def answer_file(
    source: Path, target: Path, recommender: Recommender, k: int, seen: str, skip_unknown: bool, progress: Progress
) -> Done:  # fmt: skip
    """Answer every user of a file; the output is written whole or not at all.

    Args:
        skip_unknown: leave out what is no item, counted, in place of an error.

    Raises:
        BenchError: a row cannot be read, or names something unknown; says which row.
    """
    form = ending(target, "--output")
    if target.exists() and source.exists() and target.samefile(source):
        raise BenchError(f"--output {target} is the file of --input; name another")
    users, counted = read(source), [0, 0, 0]
    files.check_output(str(target))
    with files.replace_file(target) as path, progress.bar(0, "recommend", "user") as bar:
        with open(path, "w", encoding="utf-8", newline="") as file:
            sink = _Parquet(path) if form == ".parquet" else _Lines(file) if form == ".jsonl" else _Cells(file, form)
            while group := list(itertools.islice(users, AT_ONCE)):
                histories = [_items(user, source, recommender.catalogue, skip_unknown, counted) for user in group]
                counted[0] += len(group)
                counted[2] += sum(not history for history in histories)
                for user, answer in zip(group, recommender.answers(histories, k, seen), strict=True):
                    sink.add(user.name, recommender.plain(answer))
                sink.flush()
                bar.update(len(group))
            sink.close()
        if not counted[0]:
            raise BenchError(f"{source} holds no user; nothing was written")
    return Done(*counted)


def _items(user: User, source: Path, catalogue: Catalogue, skip: bool, counted: list[int]) -> list[int]:
    found = []
    for name in user.history:
        item = catalogue.named(name)
        if item is None and not skip:
            try:
                catalogue.item_of(name)
                mend = "titles are searched for in --history alone; give its id"
            except BenchError as error:
                mend = error.message
            raise BenchError(f"{source} row {user.row}: {mend} (--skip-unknown leaves such items out)")
        counted[1] += item is None
        found += [] if item is None else [item]
    return found


def read(path: Path) -> Iterator[User]:
    """The users of a file, one after another.

    Raises:
        BenchError: it is missing, of no known form, or a row does not fit; when that row is reached.
    """
    form = ending(path, "--input")
    if not path.is_file():
        raise BenchError(f"--input {path} {'is no file' if path.exists() else 'does not exist'}; name a file of users")
    by_row = {".jsonl": _of_lines, ".parquet": _of_parquet}.get(form)
    return by_row(path) if by_row else _of_cells(path, "\t" if form == ".tsv" else ",")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        for row in itertools.count(1):
            try:
                text = file.readline(MOST_LINE)
            except UnicodeDecodeError:
                raise BenchError(f"{path} line {row} is not UTF-8; save the file as UTF-8") from None
            if not text:
                return
            if len(text) >= MOST_LINE:
                raise BenchError(f"{path} line {row} is longer than {MOST_LINE:,} characters; give a line a user")
            yield row, text


def _of_lines(path: Path) -> Iterator[User]:
    for row, text in _lines(path):
        if not text.strip():
            continue
        try:
            content = parse_json(text)
        except ValueError as error:
            raise BenchError(f"{path} line {row} is no JSON ({error}); write {{'user': …, 'history': [ids]}}") from None
        if not isinstance(content, dict) or "history" not in content:
            raise BenchError(f"{path} line {row} has no history; write {{'user': …, 'history': [ids]}}")
        yield User(row, _user(path, row, content.get("user", row)), _names(path, row, content["history"]))


def _names(path: Path, row: int, found: object) -> list[str]:
    try:
        return names_of(found)
    except BenchError as error:
        raise BenchError(f"{path} row {row}: {error.message}") from None


def _of_cells(path: Path, delimiter: str) -> Iterator[User]:
    csv.field_size_limit(MOST_LINE)
    rows = csv.reader((text for _, text in _lines(path)), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        table = (_as_dict(path, number, header, cells) for number, cells in enumerate(rows, start=1) if cells)
        yield from _users(path, header, table)
    except csv.Error as error:
        raise BenchError(f"{path} line {rows.line_num} is no row of cells ({error}); mend the quotes") from None


def _as_dict(path: Path, row: int, header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise BenchError(f"{path} row {row} has {len(cells)} cells, and the header {len(header)}")
    return dict(zip(header, cells, strict=True))


def _of_parquet(path: Path) -> Iterator[User]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(8192) for row in batch.to_pylist())
            yield from _users(path, file.schema_arrow.names, rows)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise BenchError(f"{path} is no Parquet file of UTF-8 texts ({' '.join(str(error).split())[:100]})") from None


def _users(path: Path, header: list[str], rows: Iterable[dict[str, Any]]) -> Iterator[User]:
    if "user" not in header or not {"history", "item"} & set(header):
        raise BenchError(
            f"{path} has the columns {', '.join(header)[:120]}; it needs user and history, or user and item"
        )
    if len(set(header)) < len(header):
        raise BenchError(f"{path} names a column twice ({', '.join(header)[:120]})")
    if "history" in header:
        for number, row in enumerate(rows, start=1):
            found = row["history"]
            if isinstance(found, str):  # ids with spaces are parted by | alone
                found = [one.strip() for one in found.split("|") if one.strip()] if "|" in found else found.split()
            yield User(number, _user(path, number, row["user"]), _names(path, number, found or []))
        return
    done: set[str] = set()
    numbered = enumerate(rows, start=1)
    for user, group in itertools.groupby(numbered, key=lambda entry: _user(path, entry[0], entry[1]["user"])):
        purchases = list(group)
        if user in done:
            raise BenchError(f"{path} row {purchases[0][0]}: user {user[:40]!r} stands apart; sort the file by user")
        done.add(user)
        gap = next((number for number, row in purchases if row["item"] in (None, "")), 0)
        if gap:
            raise BenchError(f"{path} row {gap} has no item")
        yield User(purchases[0][0], user, _names(path, purchases[0][0], [row["item"] for _, row in purchases]))


def _user(path: Path, row: int, name: object) -> str:
    if name is None or not str(name).strip():
        raise BenchError(f"{path} row {row} has no user")
    return str(name)


def _rows(user: str, answer: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for one in answer["items"]:
        yield user, one["rank"], one["id"], one["title"], one["score"], one.get("sid", "")


class _Lines:
    """JSON lines: a user with items and scores, a line each."""

    def __init__(self, file: Any):
        self.file = file

    def add(self, user: str, answer: dict[str, Any]) -> None:
        items = answer["items"]
        content = {"user": user, "items": [one["id"] for one in items], "scores": [one["score"] for one in items]}
        more = {"titles": [one["title"] for one in items], **({"note": answer["note"]} if "note" in answer else {})}
        self.file.write(as_json(content | more) + "\n")

    def flush(self) -> None:
        """Nothing is held back."""

    close = flush


class _Cells:
    """CSV or TSV: a row a recommendation. A title that a spreadsheet would compute begins with an apostrophe.

    Users and ids stand as they are: they are read back.
    """

    def __init__(self, file: Any, form: str):
        self.writer = csv.writer(file, delimiter="\t" if form == ".tsv" else ",", lineterminator="\n")
        self.writer.writerow(COLUMNS)

    def add(self, user: str, answer: dict[str, Any]) -> None:
        for row in _rows(user, answer):
            title = line(row[3])
            self.writer.writerow((*row[:3], f"'{title}" if title[:1] in tuple("=+-@") else title, *row[4:]))

    def flush(self) -> None:
        """Nothing is held back."""

    close = flush


class _Parquet:
    """Parquet: a row a recommendation, a row group a piece."""

    def __init__(self, path: Path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = (pa.string(), pa.int32(), pa.string(), pa.string(), pa.float64(), pa.string())
        self.schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
        self.writer = pq.ParquetWriter(path, self.schema, compression="zstd")
        self.rows: list[tuple[Any, ...]] = []

    def add(self, user: str, answer: dict[str, Any]) -> None:
        self.rows += _rows(user, answer)

    def flush(self) -> None:
        import pyarrow as pa

        columns = list(zip(*self.rows, strict=True)) or [()] * len(COLUMNS)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
        self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows = []

    def close(self) -> None:
        self.writer.close()
