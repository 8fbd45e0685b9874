"""Raw files as Arrow batches: JSON lines, Python-dict lines, CSV, TSV, RecBole's atomic files, Parquet; gzipped or not.

A batch has the rows of the file in order. What is no row of the format is an error with file and line.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa

from harness.errors import BenchError

BLOCK = 16 * 2**20
"""Bytes of a text file that are read at once."""
ROWS = 2**17
"""Rows of a Parquet file that are read at once."""
MOST_LINE = 64 * 2**20
BOM = b"\xef\xbb\xbf"
Form = Literal["json", "dict", "table", "parquet"]


@dataclass(frozen=True)
class Source:
    """A raw file, looked at.

    Attributes:
        form: how its rows stand there.
        columns: their names, as in the file.
        delimiter: between the cells of a table.
        encoding: of a text.
    """

    path: Path
    form: Form
    columns: tuple[str, ...]
    delimiter: str = ","
    encoding: str = "utf-8"

    @property
    def names(self) -> dict[str, str]:
        """``{plain name: name in the file}``: RecBole's types (``user_id:token``) are no part of a name."""
        return {column.partition(":")[0] if self.typed else column: column for column in self.columns}

    @property
    def typed(self) -> bool:
        """Whether the header names types, as RecBole's does."""
        kinds = ("token", "token_seq", "float", "float_seq")
        return self.form == "table" and all(column.rpartition(":")[2] in kinds for column in self.columns)


def opened(path: Path) -> IO[bytes]:
    """A file as bytes, decompressed where it is gzipped."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else open(path, "rb")  # type: ignore[return-value]


def look(path: Path, encoding: str = "utf-8") -> Source:
    """What kind of file it is, by its content.

    Raises:
        BenchError: it is missing, empty, or of no kind that is known.
    """
    try:
        "".encode(encoding)
    except LookupError:
        raise BenchError(f"prepare.encoding = {encoding[:40]!r} is no encoding; write utf-8 or latin-1") from None
    if not path.is_file():
        raise BenchError(f"{path} {'is no file' if path.exists() else 'does not exist'}; name a file of purchases")
    try:
        with opened(path) as file:
            if file.read(4) == b"PAR1":
                return _parquet(path)
        with opened(path) as file:
            lines = iter(lambda: file.readline(MOST_LINE), b"")
            first = next((line for line in lines if line.removeprefix(BOM).strip()), b"")
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None
    first = first.removeprefix(BOM).strip(b"\r\n")
    if not first.strip(b"\0 \t"):
        raise BenchError(f"{path} is empty; name a file with a row a purchase")
    if b"\0" in first:
        raise BenchError(f"{path} is no text (line 1 holds NUL); give CSV, TSV, JSON lines or Parquet, gzipped or not")
    text = _decoded(first, path, 1, encoding)
    if text.lstrip().startswith(("{", "[")):
        return _lines(path, text, encoding)
    delimiter = max("\t,;|", key=text.count)
    if "\r" in text:
        raise BenchError(f"{path} has lines that end in CR alone; write them with LF (dos2unix -c mac)")
    columns = _named(path, tuple(cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))))
    return Source(path, "table", columns, delimiter, encoding)


def _named(path: Path, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Columns, each with a name of its own.

    Raises:
        BenchError: two have one name, or one has none.
    """
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None or not all(columns):
        what = f"the column {twice!r:.60} twice" if twice else "a column without a name"
        raise BenchError(f"{path} has {what}; the first line names the columns, each once")
    return columns


def _parquet(path: Path) -> Source:
    import pyarrow.parquet as pq

    try:
        columns = tuple(pq.ParquetFile(path).schema_arrow.names)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None
    return Source(path, "parquet", _named(path, columns))


def _lines(path: Path, first: str, encoding: str) -> Source:
    """JSON lines, or lines of Python dicts as in Amazon's older files."""
    for form, parse in (("json", json.loads), ("dict", ast.literal_eval)):
        try:
            content = parse(first)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(content, dict):
            return Source(path, form, tuple(map(str, content)), encoding=encoding)  # type: ignore[arg-type]
    raise BenchError(f"{path} line 1 is no object: {first[:60]!r}; give a JSON object a line, or CSV, TSV, Parquet")


def batches(source: Source, columns: list[str], ratings: str = "") -> Iterator[tuple[int, pa.RecordBatch]]:
    """``(number of the first row, batch)``, rows counted from 1; a column that a row does not have is null there.

    `ratings` is the column whose numbers may be no whole ones.

    Raises:
        BenchError: a line is no row, the file is cut off, or it cannot be read.
    """
    found = _json(source, columns, ratings) if source.form == "json" else OTHERS[source.form](source, columns)
    row = 1
    try:
        for batch in found:
            yield row, batch
            row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(source.path, error) from None


def _of_parquet(source: Source, columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    yield from pq.ParquetFile(source.path).iter_batches(ROWS, columns=columns)


def blocks(source: Source) -> Iterator[tuple[int, bytes]]:
    """``(number of the first line, whole lines)`` of a text in UTF-8, whatever its encoding was.

    Raises:
        BenchError: the file is cut off, or it cannot be read.
    """
    try:
        yield from _blocks(source)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(source.path, error) from None


def _blocks(source: Source) -> Iterator[tuple[int, bytes]]:
    line, rest = 1, b""
    plain = source.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii")
    with opened(source.path) as file:
        while chunk := file.read(BLOCK):
            if line == 1 and not rest:
                chunk = chunk.removeprefix(BOM)
                blank = len(chunk) - len(chunk.lstrip(b"\r\n"))
                line, chunk = 1 + chunk[:blank].count(b"\n"), chunk[blank:]
            whole, newline, left = chunk.rpartition(b"\n")
            if not newline:
                rest += chunk
                if len(rest) > MOST_LINE:
                    raise BenchError(
                        f"{source.path} line {line} has over {MOST_LINE // 2**20} MB; it is no file of rows"
                    )
                continue
            block, rest = rest + whole + newline, left
            text = _decoded(block, source.path, line, source.encoding)  # also where it is kept as it is
            yield line, block if plain else text.encode()
            line += block.count(b"\n")
    if rest.strip():
        yield line, _decoded(rest, source.path, line, source.encoding).encode() + b"\n"


def _json(source: Source, columns: list[str], ratings: str) -> Iterator[pa.RecordBatch]:
    """JSON lines by Arrow's reader; where it finds a fault, line by line, to say which it is."""
    import pyarrow.json as reader

    schema = pa.schema([(column, pa.string()) for column in columns])
    kinds: dict[str, pa.DataType] = {}
    for line, block in blocks(source):
        _keys_once(source, line, block, columns)
        if not kinds:
            kinds = _kinds(block.split(b"\n", 1)[0], columns, ratings)
            schema = pa.schema(list(kinds.items()))
        options = reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        try:
            table = reader.read_json(
                io.BytesIO(block), reader.ReadOptions(block_size=max(2**20, len(block) // 8)), options
            )
        except pa.ArrowException:
            table = pa.Table.from_batches([_slowly(source, line, block, columns, json.loads)])
        yield from table.combine_chunks().to_batches()


def _keys_once(source: Source, line: int, block: bytes, columns: list[str]) -> None:
    """Refuse an object that has one of its columns twice: the readers would take the last without a word.

    Objects are looked at one by one only where a block names a column more often than it has lines.
    """
    rows = block.count(b"\n")
    named = ((f'"{column}":'.encode(), f'"{column}" :'.encode()) for column in columns)
    if all(block.count(close) + block.count(apart) <= rows for close, apart in named):
        return

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if name in columns and names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the key {twice!r:.60} stands twice")
        return dict(pairs)

    for number, one in enumerate(block.split(b"\n"), start=line):
        try:
            json.loads(one, object_pairs_hook=once) if one.strip() else None
        except ValueError as error:
            if "stands twice" in str(error):
                raise BenchError(f"{source.path} line {number}: {error} in one object; leave one of them") from None


def _kinds(first: bytes, columns: list[str], ratings: str) -> dict[str, pa.DataType]:
    """Arrow's types by the first row: whole numbers stay whole, ratings are any numbers, all else is text."""
    content = json.loads(first)

    def kind(column: str) -> pa.DataType:
        value = content.get(column)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return pa.string()
        return pa.float64() if column == ratings or isinstance(value, float) else pa.int64()

    return {column: kind(column) for column in columns}


def _dicts(source: Source, columns: list[str]) -> Iterator[pa.RecordBatch]:
    for line, block in blocks(source):
        yield _slowly(source, line, block, columns, ast.literal_eval)


def _slowly(source: Source, line: int, block: bytes, columns: list[str], parse: Any) -> pa.RecordBatch:
    """A block row by row.

    Raises:
        BenchError: a line is no object, or a value is neither text nor number; says which.
    """
    cells: dict[str, list[str | None]] = {column: [] for column in columns}
    for number, row in records(source, line, block, parse):
        for column, kept in cells.items():
            value = row.get(column)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
                raise BenchError(
                    f"{source.path} line {number}: {column} is {str(value)[:40]!r}; give a text or a number"
                )
            if value is None or value != value:  # NaN is nothing
                kept.append(None)
                continue
            text = str(value)
            if not text.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise BenchError(f"{source.path} line {number}: {column} holds half a character (a lone surrogate)")
            kept.append(text)
    return pa.record_batch([pa.array(kept, pa.string()) for kept in cells.values()], names=columns)


def records(source: Source, line: int, block: bytes, parse: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(line, object)`` of each line that is not blank.

    Raises:
        BenchError: a line is none.
    """
    for number, one in enumerate(block.split(b"\n"), start=line):
        if not one.strip():
            continue
        text = _decoded(one, source.path, number, "utf-8")
        try:
            row = parse(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise BenchError(
                f"{source.path} line {number} is no object ({str(error).splitlines()[0][:80]}): {text.strip()[:60]!r}; "
                "the file may be cut off: fetch it again, or take the line out"
            ) from None
        if not isinstance(row, dict):
            raise BenchError(f"{source.path} line {number} is no object: {text.strip()[:60]!r}; give an object a line")
        yield number, row


def _table(source: Source, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """CSV and its kin by Arrow's reader, all cells as text, an empty one as null."""
    import pyarrow.csv as reader

    header, first = True, 0
    for line, block in _cells_whole(source):
        skipped = block.split(b"\n", 1)[1] if header else block
        first = line + 1 if header else line
        header = False
        if not skipped.strip():
            continue
        try:
            table = reader.read_csv(
                io.BytesIO(skipped),
                reader.ReadOptions(column_names=list(source.columns), block_size=max(2**20, len(skipped))),
                reader.ParseOptions(
                    delimiter=source.delimiter, newlines_in_values=True,
                    quote_char='"' if _quoted(source, skipped) else False,
                ),
                reader.ConvertOptions(
                    include_columns=columns, column_types={column: pa.string() for column in columns},
                    null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=True,
                ),
            )  # fmt: skip
        except pa.ArrowException as error:
            raise _bad_row(source, first, skipped, error) from None
        yield from table.combine_chunks().to_batches()


def _quoted(source: Source, block: bytes) -> bool:
    """Whether quotes hold cells: one opens a cell somewhere. RecBole's files have none."""
    opens = rb"(^|\n|" + re.escape(source.delimiter.encode()) + rb')"'
    return not source.typed and re.search(opens, block) is not None


def _cells_whole(source: Source) -> Iterator[tuple[int, bytes]]:
    """Blocks that end where no quote is open."""
    kept, line = b"", 1
    for number, block in blocks(source):
        line = number if not kept else line
        kept += block
        if kept.count(b'"') % 2 == 0 or not _quoted(source, kept):
            yield line, kept
            kept = b""
        elif len(kept) > MOST_LINE:
            raise BenchError(f"{source.path}: a quote that is opened behind line {line} is never closed; close it")
    if kept:
        raise BenchError(
            f"{source.path}: a quote that is opened behind line {line} is never closed; the file may be cut off"
        )


def _bad_row(source: Source, first: int, block: bytes, error: Exception) -> BenchError:
    """Which row of a table does not fit its header."""
    text = _decoded(block, source.path, first, "utf-8")
    csv.field_size_limit(MOST_LINE)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=source.delimiter)
    for cells in reader:
        if cells and len(cells) != len(source.columns):
            number = first + reader.line_num - 1
            sign = "tab" if source.delimiter == "\t" else source.delimiter
            return BenchError(
                f"{source.path} line {number} has {len(cells)} cells, the header {len(source.columns)} columns; a "
                f"{sign} too many or too few, or the row is cut off"
            )
    return BenchError(
        f"{source.path} behind line {first} cannot be read ({' '.join(str(error).split())[:120]}); mend it"
    )


def _decoded(text: bytes, path: Path, line: int, encoding: str) -> str:
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        number = line + text[: error.start].count(b"\n")
        mend = (
            "save it as UTF-8, or --set encoding=latin-1" if encoding.lower().startswith("utf") else "name its encoding"
        )
        raise BenchError(f"{path} line {number} is no {encoding} (byte {text[error.start]:#04x}); {mend}") from None


def _unreadable(path: Path, error: Exception) -> BenchError:
    """One line for a file that fails to be read."""
    if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)) or "Truncated" in str(error):
        return BenchError(f"{path} is cut off or damaged ({error}); fetch it again")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:160]
    return BenchError(f"{path} cannot be read ({reason}); fetch it again, or name another")


OTHERS = {"dict": _dicts, "table": _table, "parquet": _of_parquet}
