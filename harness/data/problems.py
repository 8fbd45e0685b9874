"""What is wrong with data files: each problem with its file, row and mend."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import BenchError


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
    """Collects problems; errors stop a run, warnings are only listed by ``bench data validate``."""

    found: list[Problem] = field(default_factory=list)

    def error(self, file: Path, row: int | None, what: str, mend: str) -> None:
        """Note something that makes the data unusable."""
        self.found.append(Problem("error", file, row, what, mend))

    def warn(self, file: Path, row: int | None, what: str, mend: str) -> None:
        """Note something a person should know."""
        self.found.append(Problem("warning", file, row, what, mend))

    @property
    def errors(self) -> list[Problem]:
        """The errors among the problems."""
        return [p for p in self.found if p.severity == "error"]

    def stop_on_errors(self) -> None:
        """Raise the first error, with the number of further ones.

        Raises:
            BenchError: there is an error.
        """
        if self.errors:
            more = len(self.errors) - 1
            tail = f" (and {more} more: bench data validate lists them)" if more else ""
            raise BenchError(f"{self.errors[0]}{tail}")
