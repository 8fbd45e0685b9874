"""A raw file, looked at: what kind it is by its content, its columns, and its text in blocks of whole lines."""

from __future__ import annotations

import ast
import codecs
import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa

from harness.errors import BenchError

BLOCK = 16 * 2**20
"""Bytes of a text file that are read at once."""
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


def look(path: Path, encoding: str = "utf-8", of: str = "purchase") -> Source:
    """What kind of file it is, by its content; `of` is what a row of it is.

    Raises:
        BenchError: it is missing, empty, or of no kind that is known.
    """
    if encoding.lower().replace("_", "-") in ("utf-8-sig", "utf8-sig"):
        encoding = "utf-8"  # a byte-order mark is taken off whatever is said
    try:
        bytewise = "\n".encode(encoding) == b"\n"
    except LookupError:
        raise BenchError(f"prepare.encoding = {encoding[:40]!r} is no encoding; write utf-8 or latin-1") from None
    if not bytewise:
        raise BenchError(f"prepare.encoding = {encoding[:40]!r} is not read; save {path} as UTF-8 (iconv -t UTF-8)")
    if not path.is_file():
        raise BenchError(f"{path} {'is no file' if path.exists() else 'does not exist'}; name a file of {of}s")
    try:
        with opened(path) as file:
            if file.read(4) == b"PAR1":
                return _parquet(path)
        with opened(path) as file:
            lines = iter(lambda: file.readline(MOST_LINE), b"")
            first = next((line for line in lines if line.removeprefix(BOM).strip()), b"")
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None
    first = first.removeprefix(BOM).strip(b"\r\n")
    if not first.strip(b"\0 \t"):
        raise BenchError(f"{path} is empty; name a file with a row {'an' if of == 'item' else 'a'} {of}")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BenchError(f"{path} is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if b"\0" in first:
        raise BenchError(f"{path} is no text (line 1 holds NUL); give CSV, TSV, JSON lines or Parquet, gzipped or not")
    text = decoded(first, path, 1, encoding)
    if text.lstrip().startswith(("{", "[")):
        return _lines(path, text, encoding)
    delimiter = max("\t,;|", key=text.count)
    if "\r" in text:
        raise BenchError(f"{path} has lines that end in CR alone; write them with LF (dos2unix -c mac)")
    if delimiter not in text and "::" in text:
        raise BenchError(
            f"{path} has :: between its cells; write tabs there, and a first line that names the columns "
            f"(sed 's/::/\\t/g' {path.name})"
        )
    cells = tuple(cell.strip() for cell in next(csv.reader([text], delimiter=delimiter)))
    if _is_row(cells):
        raise BenchError(
            f"{path} line 1 is {text[:60]!r}, which looks like {'an' if of == 'item' else 'a'} {of} and must name the "
            "columns; write their names above it, such as user,item,time"
        )
    source = Source(path, "table", _named(path, cells), delimiter, encoding)
    histories = next((column for column in source.columns if source.typed and "_list:" in column), None)
    if histories:
        raise BenchError(
            f"{path} has a history a row ({histories}), and is no file of {of}s; give the .inter file "
            "that it was made of"
        )
    return source


NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
MOST_NAMED = 10**8
"""Numbers below it may name a column, of a feature or a year; a time does not."""


def _is_row(cells: tuple[str, ...]) -> bool:
    """Whether a first line names nothing: it has a time, a fraction, a date, or numbers alone, not those of places."""
    if any(re.match(r"\d{4}-\d\d-\d\d", cell) for cell in cells):
        return True
    numbers = [float(cell) for cell in cells if NUMBER.fullmatch(cell)]
    if any(abs(number) >= MOST_NAMED or number % 1 for number in numbers):
        return True
    return len(numbers) == len(cells) and numbers != list(range(len(cells)))


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
        raise unreadable(path, error) from None
    return Source(path, "parquet", _named(path, columns))


def _lines(path: Path, first: str, encoding: str) -> Source:
    """JSON lines, or lines of Python dicts as in Amazon's older files."""
    for form, parse in (("json", json.loads), ("dict", ast.literal_eval)):
        try:
            content = parse(first)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(content, dict) and content and all(isinstance(value, list) for value in content.values()):
            raise BenchError(
                f"{path} holds a list a user, as files of sequences do, and no row a purchase; a category's folder of "
                "such files is read as it is: bench data validate"
            )
        if isinstance(content, dict):
            return Source(path, form, tuple(map(str, content)), encoding=encoding)  # type: ignore[arg-type]
    raise BenchError(f"{path} line 1 is no object: {first[:60]!r}; give a JSON object a line, or CSV, TSV, Parquet")


def blocks(source: Source) -> Iterator[tuple[int, bytes]]:
    """``(number of the first line, whole lines)`` of a text in UTF-8, whatever its encoding was.

    Raises:
        BenchError: the file is cut off, or it cannot be read.
    """
    try:
        yield from _blocks(source)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(source.path, error) from None


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
            text = decoded(block, source.path, line, source.encoding)  # also where it is kept as it is
            yield line, block if plain else text.encode()
            line += block.count(b"\n")
    if rest.strip():
        yield line, decoded(rest, source.path, line, source.encoding).encode() + b"\n"


def decoded(text: bytes, path: Path, line: int, encoding: str) -> str:
    """Bytes that begin at a line of a file, as text.

    Raises:
        BenchError: they are of another encoding; says the line.
    """
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        number = line + text[: error.start].count(b"\n")
        mend = (
            "save it as UTF-8, or --set encoding=latin-1" if encoding.lower().startswith("utf") else "name its encoding"
        )
        raise BenchError(f"{path} line {number} is no {encoding} (byte {text[error.start]:#04x}); {mend}") from None


def unreadable(path: Path, error: Exception) -> BenchError:
    """One line for a file that fails to be read."""
    if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)) or "Truncated" in str(error):
        return BenchError(f"{path} is cut off or damaged ({error}); fetch it again")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:160]
    return BenchError(f"{path} cannot be read ({reason}); fetch it again, or name another")
