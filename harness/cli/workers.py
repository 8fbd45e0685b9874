"""``--workers N`` of a search: this command again in N processes, which share its trials."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from harness.cli.common import share_of_cores, without
from harness.errors import BenchError
from harness.runs.pool import Here, Job

FILES = ("--workers", "--record", "--output")
"""Options that are this process's own."""

workers_option = click.option(
    "--workers", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N",
    help="Processes that share the trials on this machine, each with its share of the cores.",
)  # fmt: skip


def side_by_side(
    workers: int, threads: int, logs: Path, say: Callable[[str], None], watch: Callable[[], None], lenient: bool = False
) -> None:
    """Run this command in so many processes, to their end; what is left to say is this one's.

    Args:
        threads: of each; 0: its share of the cores.
        logs: the folder of their output.
        watch: called about once a second, and at the end.
        lenient: whether a worker may fail: what it failed at is then found again, and said, by this process.

    Raises:
        BenchError: all of them failed; what the first one said.
    """
    words = sys.argv[1:]
    for option in FILES:
        words = without(words, option)
    if not threads:
        words += ["--threads", str(share_of_cores(workers))]
    command = [sys.executable, "-P", "-m", "harness", *words, *(() if "--quiet" in words else ("--quiet",))]
    problems: list[str] = []

    def ended(job: Job, problem: str) -> None:
        if problem and not lenient:
            problems.append(problem)
            say(f"worker {job.key}: {problem}")

    jobs = [Job(number, command, logs / f"worker-{number}.log") for number in range(1, workers + 1)]
    Here(workers).work_off(jobs, ended, lambda running, queued: watch())
    watch()
    if len(problems) == workers:
        raise BenchError(problems[0])
