"""Raw files as Arrow batches: JSON lines, Python-dict lines, CSV, TSV, RecBole's atomic files, Parquet; gzipped or not.

A batch has the rows of the file in order. What is no row of the format is an error with file and line.
"""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from harness.errors import BenchError
from harness.preparation import delimited
from harness.preparation.raw_source import Source, blocks, decoded, unreadable

ROWS = 2**17
"""Rows of a Parquet file that are read at once."""


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
        raise unreadable(source.path, error) from None


def _of_parquet(source: Source, columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    yield from pq.ParquetFile(source.path).iter_batches(ROWS, columns=columns)


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
            text = str(
                int(value) if isinstance(value, float) and value.is_integer() else value
            )  # as the columns' reader
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
        text = decoded(one, source.path, number, "utf-8")
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


OTHERS = {"dict": _dicts, "table": delimited.read, "parquet": _of_parquet}
