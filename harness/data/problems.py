"""What is wrong with data files: each problem with its file, row and mend; of each kind some examples and the count."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import BenchError

EXAMPLES = 20
"""Problems of one kind in one file that are kept; the others are counted."""
MOST = 500  # characters of a text


@dataclass(frozen=True)
class Problem:
    """One finding; `row` counts data rows from 1, None where it concerns the file."""

    severity: str
    file: Path
    row: int | None
    what: str
    mend: str

    def __str__(self) -> str:
        place = f"{self.file}" if self.row is None else f"{self.file} row {self.row}"
        return f"{place}: {self.what}; {self.mend}"


@dataclass
class Problems:
    """Collects problems; errors stop a run, warnings are only listed by ``bench data validate``.

    What one statement of a reader notes of one file is one kind, whatever the texts say.

    Attributes:
        found: the examples that are kept, as they came.
        counts: how many there are in all, by severity, file and kind.
        first: the first of each kind.
    """

    found: list[Problem] = field(default_factory=list)
    counts: Counter[tuple[str, Path, str]] = field(default_factory=Counter)
    first: dict[tuple[str, Path, str], Problem] = field(default_factory=dict)

    def error(self, file: Path, row: int | None, what: str, mend: str) -> None:
        """Note something that makes the data unusable."""
        self._note("error", file, row, what, mend)

    def warn(self, file: Path, row: int | None, what: str, mend: str) -> None:
        """Note something a person should know."""
        self._note("warning", file, row, what, mend)

    def _note(self, severity: str, file: Path, row: int | None, what: str, mend: str) -> None:
        statement = sys._getframe(2)
        kind = (severity, file, f"{statement.f_code.co_filename}:{statement.f_lineno}")
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES:
            problem = Problem(severity, file, row, what[:MOST], mend[:MOST])
            self.found.append(problem)
            self.first.setdefault(kind, problem)

    @property
    def errors(self) -> list[Problem]:
        """The errors among the examples."""
        return [p for p in self.found if p.severity == "error"]

    def number(self, severity: str) -> int:
        """How many errors, or warnings, there are in all."""
        return sum(count for (of, _, _), count in self.counts.items() if of == severity)

    @property
    def further(self) -> list[str]:
        """A line for each kind of which not all are kept."""
        return [
            f"{kind[0]}: {self.first[kind]}: {count - EXAMPLES:,} more of this kind, {count:,} in all"
            for kind, count in self.counts.items()
            if count > EXAMPLES
        ]

    def stop_on_errors(self) -> None:
        """Raise the first error, with the number of further ones.

        Raises:
            BenchError: there is an error.
        """
        if errors := self.errors:
            more = self.number("error") - 1
            tail = f" (and {more:,} more: bench data validate lists them)" if more else ""
            raise BenchError(f"{errors[0]}{tail}")
