"""Where a table in text does not fit its header, for one line of error."""

from __future__ import annotations

import csv
import io

LONGEST = 64 * 2**20
"""Characters of a cell that are looked at."""


def uneven(text: str, delimiter: str, width: int, first: int = 1) -> str:
    """The first row that has not `width` cells, in words; "" where all have.

    Args:
        first: the line of the file in which the text begins.
    """
    csv.field_size_limit(LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    for cells in reader:
        if cells and len(cells) != width:
            sign = "tab" if delimiter == "\t" else delimiter
            return (
                f"line {first + reader.line_num - 1} has {len(cells)} cells, the header {width} columns; a {sign} too "
                "many or too few, or the row is cut off"
            )
    return ""
