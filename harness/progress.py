"""How far work has come: bars on a terminal, a line a minute elsewhere, and a note in the run's folder.

The note (:data:`JOURNAL`) is what ``bench status`` reads: it is written every few seconds while a run works, and it is
gone when the work is.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

JOURNAL = "progress.json"
NOTED_EVERY = 3.0
"""Seconds between two notes."""
TOLD_EVERY = 60.0
"""Seconds between two lines where no bar is drawn."""
AT_ONCE = 1.0
"""Steps counted in a bar's first seconds are those of an earlier process: they tell nothing of the speed."""


class Bar:
    """One piece of work.

    Attributes:
        n: how much is done, of `total` (0: it is not known how much there is).
    """

    def __init__(self, progress: Progress, shown: Any, total: int, label: str, unit: str):
        self.progress, self.total, self.label, self.unit = progress, int(total), label, unit
        self.n = self.before = 0
        self.values: dict[str, str] = {}
        self.begun = self.told = time.monotonic()
        self._shown = shown

    def update(self, n: float = 1) -> None:
        """Count `n` more as done."""
        now = time.monotonic()
        if not self.n and now - self.begun < AT_ONCE and n > 1:
            self.before = int(n)  # resumed
        self.n += int(n)
        self._shown.update(n)
        self.progress.tick(now)

    def set_postfix(self, refresh: bool = True, **values: str) -> None:
        """The newest numbers, shown beside the bar."""
        self.values = {name: str(value) for name, value in values.items()}
        self._shown.set_postfix(refresh=refresh, **values)

    def as_dict(self) -> dict[str, Any]:
        """What the note says of it."""
        seconds = round(time.monotonic() - self.begun, 1)
        return {
            "label": self.label, "unit": self.unit, "done": self.n, "total": self.total, "before": self.before,
            "seconds": seconds, "numbers": self.values,
        }  # fmt: skip

    def line(self) -> str:
        """``sft: step 120 of 400, 2.1 min, about 5 min left; loss 1.2``."""
        return told(self.as_dict())


class Progress:
    """Bars for work of over two seconds; on a pipe a line a minute; with `quiet`, nothing.

    Attributes:
        journal: the file that the note goes to; None: none is written.
    """

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.journal: Path | None = None
        self._bars: list[Bar] = []
        self._noted = 0.0

    @contextmanager
    def bar(self, total: int, label: str, unit: str = "it") -> Iterator[Bar]:
        """A bar with ``update(n)`` and ``set_postfix(**values)``; it appears after two seconds."""
        from tqdm import tqdm

        hidden = self.quiet or not sys.stderr.isatty()
        with tqdm(
            total=total, desc=label, unit=unit, delay=2, disable=hidden, leave=False, dynamic_ncols=True
        ) as shown:
            made = Bar(self, shown, total, label, unit)
            self._bars.append(made)
            try:
                yield made
            finally:
                self._bars.remove(made)

    def over(self, values: Iterable[Any], total: int, label: str, unit: str = "it") -> Iterator[Any]:
        """The values, one step of a bar each."""
        with self.bar(total, label, unit) as bar:
            for value in values:
                yield value
                bar.update(1)

    def say(self, line: str) -> None:
        """A line for the person at the terminal (stderr; results go to stdout)."""
        if not self.quiet:
            click.echo(line, err=True)

    @contextmanager
    def noted(self, journal: Path) -> Iterator[None]:
        """Keep a note of the work within; a disk that is full or read-only costs the note alone."""
        self.journal = journal
        try:
            yield
        finally:
            self.journal = None
            with contextlib.suppress(OSError):
                journal.unlink(missing_ok=True)

    def tick(self, now: float) -> None:
        """Write what is due."""
        bar = self._bars[-1] if self._bars else None
        if bar is None:
            return
        if not self.quiet and now - bar.told >= TOLD_EVERY and not sys.stderr.isatty():
            bar.told = now
            self.say(bar.line())
        if self.journal is not None and now - self._noted >= NOTED_EVERY:
            self._noted = now
            content = {"at": round(time.time(), 1), "pid": os.getpid(), "host": socket.gethostname()}
            _write(self.journal, content | {"bars": [one.as_dict() for one in self._bars]})


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def left(bar: dict[str, Any]) -> float | None:
    """Seconds that a bar has left at its speed so far; None where that is not known."""
    done = bar["done"] - bar["before"]
    if bar["total"] <= 0 or done <= 0 or bar["seconds"] < AT_ONCE:
        return None
    return max(0.0, (bar["total"] - bar["done"]) * bar["seconds"] / done)


def duration(seconds: float) -> str:
    """``8 s``, ``21.4 min``, ``9.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def told(bar: dict[str, Any]) -> str:
    """A bar in words."""
    of = f" of {bar['total']:,}" if bar["total"] > 0 else ""
    parts = [f"{bar['label']}: {bar['unit']} {bar['done']:,}{of}", duration(bar["seconds"])]
    if (remains := left(bar)) is not None:
        parts.append(f"about {duration(remains)} left")
    numbers = ", ".join(f"{name} {value}" for name, value in bar["numbers"].items())
    return ", ".join(parts) + (f"; {numbers}" if numbers else "")
