"""Runs in processes of their own: jobs, what each waits for, and the pool that works them off on this machine.

It starts, watches and stops processes; what they are to do stands in their commands, and what they did in their
folders and logs. :mod:`harness.runs.cluster` is the other pool.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness import files

PATIENCE = 15.0
"""Seconds that a process has to end in order when it is asked to, before it is killed."""
TICK = 0.2

Watch = Callable[[Sequence["Job"], Sequence["Job"]], None]
"""Called about once a second with the jobs that run and those that are queued."""
Done = Callable[["Job", str], None]
"""Called with each job that ended and what it failed at; one whose source failed ends without a start."""


@dataclass
class Job:
    """A process to be.

    Attributes:
        key: what it is the job of, for the caller.
        command: its words.
        log: the file that gets its output.
        waits_for: keys of jobs that must have succeeded before.
        folder: the run directory that it makes, where it makes one.
        reads: run directories that it reads.
        started: when it began, by this machine's clock; 0 before.
        seconds: how long it has run, or took.
        note: how far it is, where it says so from elsewhere.
    """

    key: Any
    command: Sequence[str]
    log: Path
    waits_for: Sequence[Any] = ()
    folder: Path | None = None
    reads: Sequence[Path] = ()
    started: float = 0.0
    seconds: float = 0.0
    note: str = ""


class Pool(Protocol):
    """Where jobs are worked off."""

    workers: int
    """How many run at a time."""

    def work_off(self, jobs: Sequence[Job], ended: Done, watch: Watch) -> None:
        """Run all jobs, in their order as far as what they wait for allows.

        Whatever ends this (an interrupt, a signal, an error) ends the processes too, which go on with the same command.
        """


@dataclass
class Queue:
    """Jobs in their order, each behind what it waits for."""

    waiting: list[Job]
    _open: set[Any] = field(default_factory=set)
    _failed: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.waiting = list(self.waiting)
        self._open = {job.key for job in self.waiting}

    def ready(self, most: int, ended: Done) -> list[Job]:
        """At most so many jobs that may start, which are then no longer here; those whose source failed end."""
        taken: list[Job] = []
        for job in list(self.waiting):
            if any(key in self._failed for key in job.waits_for):
                self.waiting.remove(job)
                self.over(job, "the run that it goes on from failed", ended)
            elif len(taken) < most and not any(key in self._open for key in job.waits_for):
                self.waiting.remove(job)
                taken.append(job)
        return taken

    def over(self, job: Job, problem: str, ended: Done) -> None:
        """A job has ended: those that wait for it may start, or end with it."""
        self._open.discard(job.key)
        if problem:
            self._failed.add(job.key)
        ended(job, problem)


def problem_of(code: int, log: Path) -> tuple[str, bool]:
    """What an ended process failed at, "" where it succeeded; and whether it has said so itself, in its log."""
    if code == 0:
        return "", True
    if code < 0:
        return f"killed by signal {-code}; see {log}", False
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return (errors[-1], True) if errors else (f"exit {code}; see {log}", False)


@dataclass
class Here:
    """Processes of this machine, so many at a time."""

    workers: int = 1

    def work_off(self, jobs: Sequence[Job], ended: Done, watch: Watch) -> None:
        """See :meth:`Pool.work_off`."""
        queue, running = Queue(list(jobs)), dict[Any, tuple[Job, subprocess.Popen[bytes]]]()
        watched = 0.0
        try:
            while queue.waiting or running:
                for job in queue.ready(self.workers - len(running), ended):
                    running[job.key] = job, _started(job)
                for job, process in list(running.values()):
                    job.seconds = time.monotonic() - job.started
                    if process.poll() is not None:
                        del running[job.key]
                        queue.over(job, problem_of(process.returncode, job.log)[0], ended)
                if time.monotonic() - watched >= 1:
                    watch([job for job, _ in running.values()], queue.waiting)
                    watched = time.monotonic()
                if running:
                    time.sleep(TICK)
        finally:
            _stopped(process for _, process in running.values())


def _started(job: Job) -> subprocess.Popen[bytes]:
    """A job's process; its output goes to the log."""
    files.make_folder(job.log.parent)
    job.started = time.monotonic()
    with open(job.log, "wb") as file:
        return subprocess.Popen(list(job.command), stdout=file, stderr=subprocess.STDOUT)


def _stopped(running: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, and kill those that do not."""
    processes = list(running)
    for process in processes:
        process.terminate()
    until = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
