"""A live table of the runs of a suite: what runs at which step, how long it still takes, and how many wait."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.runs.pool import Job
    from harness.runs.suite import Planned

MOST = 12
"""Runs that the table shows."""


class States:
    """Lines that end a run, above a table of those that are at work; the table is drawn again in its place."""

    def __init__(self, planned: Sequence[Planned], write: Callable[[str], None], live: bool):
        """`live`: whether there is a terminal to draw on; `write` takes a line that stays."""
        self.planned, self.write, self.live = planned, write, live
        self._drawn = 0

    def say(self, line: str) -> None:
        """A line that stays."""
        self._clear()
        self.write(line)

    def show(self, running: Sequence[Job], queued: Sequence[Job]) -> None:
        """Draw the table."""
        if not self.live:
            return
        width = shutil.get_terminal_size().columns - 1
        lines = [self._line(job) for job in running[:MOST]]
        done, failed = (sum(bool(getattr(run, what)) for run in self.planned) for what in ("recorded", "problem"))
        lines.append(f"{done} done, {failed} failed, {len(running)} running, {len(queued)} queued")
        self._clear()
        click.echo("\n".join(line[:width] for line in lines), err=True)
        self._drawn = len(lines)

    def _line(self, job: Job) -> str:
        from harness.runs.run_directory import step_of
        from harness.runs.suite import duration

        run = self.planned[job.key]
        left = f", about {duration(max(0.0, run.seconds - job.seconds))} left" if run.seconds > job.seconds else ""
        return f"  {run.shown}: {job.note or step_of(run.directory) or 'starting'}, {duration(job.seconds)}{left}"

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\033[{self._drawn}F\033[J")
            sys.stderr.flush()
            self._drawn = 0

    def __enter__(self) -> States:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
