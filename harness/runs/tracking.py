"""Logging a run to MLflow while it goes on.

MLflow mirrors the run directory, which is the record. Where the store fails it is said once, the run goes on, and
``bench mlflow sync`` brings the mirror up to date.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import click

from harness.errors import BenchError, shown
from harness.runs.config import RunConfig
from harness.runs.mirror import Mirror, run_name, tags_of
from harness.runs.mlflow_store import Store, Unavailable
from harness.runs.run_directory import RunDirectory


class Tracked(Protocol):
    """What a tracker sees of a run (:class:`harness.runs.run.Run`)."""

    config: RunConfig
    directory: RunDirectory


class Tracker:
    """Logs a run to MLflow; with ``enabled`` off it logs nothing.

    Args:
        root: the runs directory; the local store lies beside it.
        suffix: behind the category in the experiment's name.
    """

    def __init__(self, root: Path, enabled: bool = True, suffix: str = ""):
        self.root, self.enabled, self.suffix = root, enabled, suffix
        self._mirror: Mirror | None = None
        self._stage = ""

    @contextlib.contextmanager
    def run(self, run: Tracked, *_: Any) -> Iterator[None]:
        """The MLflow run of a run, ended as finished, failed or killed. A run that is all there is left alone."""
        self._open(run)
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self._close(status)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The nested run of a stage."""
        self._stage = name
        self._do(lambda mirror: mirror.running(mirror.stage(name)))
        try:
            yield
        except BaseException:
            self._do(lambda mirror: mirror.end("FAILED", [name]))
            raise
        self._do(lambda mirror: mirror.end("FINISHED", [name]))
        self._stage = ""

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log numbers of the current stage at a step."""
        if name := self._stage:
            curves = {key: [(float(step), value)] for key, value in numbers.items()}
            self._do(lambda mirror: mirror.points(mirror.stage(name), curves))

    def stage_result(self, metrics: Mapping[str, Any]) -> None:
        """Log a stage's metrics."""
        if name := self._stage:
            self._do(lambda mirror: mirror.result(name, metrics))

    def _open(self, run: Tracked) -> None:
        if not self.enabled:
            return
        mirror = Mirror(Store(self.root, say=_warn), run.directory, self.suffix)
        if mirror.store.failed or (run.directory.finished("run") is not None and mirror.complete):
            return  # what failed a moment ago in this process was said then
        self._mirror = mirror

        def begin(mirror: Mirror) -> None:
            mirror.store.open()
            manifest = run.directory.manifest
            name = run_name(manifest, self.suffix)
            mirror.begin(manifest["category"], name, tags_of(run.directory), run.config.as_dict())
            mirror.running(mirror.run)

        self._do(begin)

    def _close(self, status: str) -> None:
        def close(mirror: Mirror) -> None:
            mirror.whole(status) if status == "FINISHED" and not self.suffix else mirror.end(status)

        self._do(close)
        self._mirror = None

    def _do(self, work: Callable[[Mirror], None]) -> None:
        """Something with the mirror; where the store fails, it is said once, and nothing more is logged."""
        if self._mirror is None:
            return
        try:
            work(self._mirror)
        except Unavailable as error:
            self._leave(f"MLflow at {self._mirror.store.address} failed ({error})")
        except BenchError as error:
            self._leave(f"MLflow: {error.message}")
        except Exception as error:  # the mirror is not the judge of the run
            self._leave(f"MLflow at {self._mirror.store.address} failed ({type(error).__name__}: {error})")

    def _leave(self, reason: str) -> None:
        self._mirror = None
        _warn(f"{reason}; the run goes on without, and bench mlflow sync brings it up to date later")


def _warn(line: str) -> None:
    """Said in spite of ``--quiet``: it is no progress."""
    click.echo(f"Warning: {shown(line)}", err=True)
