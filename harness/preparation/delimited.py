"""CSV and its kin as Arrow batches; a row that does not fit its header is an error with its line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

import pyarrow as pa

from harness.errors import BenchError
from harness.preparation.raw_source import MOST_LINE, Source, blocks, decoded
from harness.text import cells


def read(source: Source, columns: list[str]) -> Iterator[pa.RecordBatch]:
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
                reader.ReadOptions(
                    column_names=list(source.columns), block_size=max(2**20, len(skipped)), use_threads=False,
                ),
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
        if not _quoted(source, kept) or not _is_open(source, kept):
            yield line, kept
            kept = b""
        elif len(kept) > MOST_LINE:
            raise _open(source, line, kept)
    if kept:
        raise _open(source, line, kept)


def _is_open(source: Source, block: bytes) -> bool:
    """Whether a block ends within a quoted cell. A quote inside a cell that none opens is a sign as others are."""
    cell = rb"(?:^|\n|" + re.escape(source.delimiter.encode()) + rb')"[^"]*(?:""[^"]*)*("?)'
    return any(not match[1] for match in re.finditer(cell, block))


def _open(source: Source, line: int, text: bytes) -> BenchError:
    """Where a quote is opened that is never closed: the last row goes on to the end."""
    csv.field_size_limit(2 * MOST_LINE)
    reader = csv.reader(io.StringIO(decoded(text, source.path, line, "utf-8"), newline=""), delimiter=source.delimiter)
    begins = ends = 0
    for _ in reader:
        begins, ends = ends, reader.line_num
    return BenchError(
        f"{source.path}: the row that begins in line {line + begins} opens a quote that is never closed; close it, or "
        "the file is cut off"
    )


def _bad_row(source: Source, first: int, block: bytes, error: Exception) -> BenchError:
    """Which row of a table does not fit its header."""
    text = decoded(block, source.path, first, "utf-8")
    if what := cells.uneven(text, source.delimiter, len(source.columns), first):
        return BenchError(f"{source.path} {what}")
    return BenchError(
        f"{source.path} behind line {first} cannot be read ({' '.join(str(error).split())[:120]}); mend it"
    )
