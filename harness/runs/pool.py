"""Runs in processes of their own, several at a time on this machine.

It starts, watches and stops processes; what they are to do stands in their commands, and what they did in their
folders and logs.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import files

PATIENCE = 15.0
"""Seconds that a process has to end in order when it is asked to, before it is killed."""
TICK = 0.2


@dataclass
class Job:
    """A process to be.

    Attributes:
        key: what it is the job of, for the caller.
        command: its words.
        log: the file that gets its output.
        waits_for: keys of jobs that must have succeeded before.
        process: once it is started.
    """

    key: Any
    command: Sequence[str]
    log: Path
    waits_for: Sequence[Any] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    seconds: float = field(default=0.0)
    """How long it has run, or took."""

    def start(self) -> None:
        """Start it; its output goes to the log."""
        files.make_folder(self.log.parent)
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen(list(self.command), stdout=file, stderr=subprocess.STDOUT)
        self.started = time.monotonic()

    @property
    def problem(self) -> str:
        """What an ended process failed at: its own line where it left one; "" where it succeeded."""
        assert self.process is not None
        code = self.process.returncode
        if code == 0:
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
        how = f"killed by signal {-code}" if code < 0 else f"exit {code}"
        return errors[-1] if errors else f"{how}; see {self.log}"


def work_off(
    jobs: Sequence[Job], workers: int, ended: Callable[[Job, str], None],
    watch: Callable[[Sequence[Job], Sequence[Job]], None],
) -> None:  # fmt: skip
    """Run all jobs, at most `workers` at a time, in their order as far as what they wait for allows.

    Whatever ends this (an interrupt, a signal, an error) ends the processes too, which go on with the same command.

    Args:
        ended: called with each job that ended and what it failed at; one whose source failed ends without a start.
        watch: called about once a second with the jobs that run and those that are queued.
    """
    queued, running, failed = list(jobs), list[Job](), set[Any]()
    open_keys = {job.key for job in jobs}
    watched = 0.0
    try:
        while queued or running:
            for job in list(queued):
                if any(key in failed for key in job.waits_for):
                    queued.remove(job)
                    open_keys.discard(job.key)
                    failed.add(job.key)
                    ended(job, "the run that it goes on from failed")
                elif len(running) < workers and not any(key in open_keys for key in job.waits_for):
                    queued.remove(job)
                    running.append(job)
                    job.start()
            for job in list(running):
                job.seconds = time.monotonic() - job.started
                if job.process is not None and job.process.poll() is not None:
                    running.remove(job)
                    open_keys.discard(job.key)
                    if problem := job.problem:
                        failed.add(job.key)
                    ended(job, problem)
            if time.monotonic() - watched >= 1:
                watch(running, queued)
                watched = time.monotonic()
            if running:
                time.sleep(TICK)
    finally:
        _stopped(running)


def _stopped(jobs: Sequence[Job]) -> None:
    """Ask processes to end, and kill those that do not."""
    processes = [job.process for job in jobs if job.process is not None]
    for process in processes:
        process.terminate()
    until = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
