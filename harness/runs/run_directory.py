"""The run directory: the manifest, what is done and what is left, a stage's log and clock.

Everything in it is complete or absent (:mod:`harness.files`).
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import BenchError
from harness.files import make_folder, read_json, write_json

MANIFEST = "manifest.json"
METRICS = "metrics.json"
CONFIG = "config.yaml"
SEMANTIC_IDS = "semantic_ids.json"
LOG = "log.jsonl"
CLOCK = "clock.json"


class Clock:
    """Seconds spent on a stage by all processes that worked at it, kept beside it: a kill does not lose them."""

    def __init__(self, stage: Path):
        self.path = stage / CLOCK
        try:
            self.before = float(read_json(self.path)["seconds"])
        except (BenchError, KeyError, TypeError, ValueError):
            self.before = 0.0
        self.started = self.noted = time.monotonic()

    @property
    def seconds(self) -> float:
        """All of them, up to now."""
        return self.before + time.monotonic() - self.started

    def note(self) -> None:
        """Keep them, at most once a second."""
        if time.monotonic() - self.noted > 1:
            self.noted = time.monotonic()
            self.save(self.seconds)

    def save(self, seconds: float) -> None:
        """Keep this number of them."""
        write_json(self.path, {"seconds": round(seconds, 1)})


def append_log(stage: Path, numbers: dict[str, float], step: int) -> None:
    """Add numbers at a step to a stage's log, one JSON line."""
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    with open(stage / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step} | finite) + "\n")


def read_log(stage: Path) -> dict[str, list[tuple[float, float]]]:
    """``{name: [(step, value), …]}`` of a stage's log, by rising step; what a resumed stage logged again counts last.

    A line that was cut off by a kill is passed over.
    """
    path = stage / LOG
    curves: dict[str, dict[float, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            numbers = json.loads(line)
            step = numbers.pop("step")
        except (ValueError, KeyError, AttributeError):
            continue
        for name, value in numbers.items():
            curves.setdefault(name, {})[step] = value
    return {name: sorted(values.items()) for name, values in curves.items()}


@dataclass
class RunDirectory:
    """One run's directory."""

    path: Path

    @property
    def directory(self) -> Path:
        """The path, by its name in older versions."""
        return self.path

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, empty before the run has begun."""
        path = self.path / MANIFEST
        content = read_json(path) if path.exists() else {}
        if not isinstance(content, dict):
            raise BenchError(f"{path} is damaged (no JSON object); run the method again")
        return content

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest."""
        write_json(self.path / MANIFEST, self.manifest | facts)

    def finish(self, step: str, **facts: Any) -> None:
        """Note a step as done, with facts (seconds, …)."""
        done = self.manifest.get("done", {})
        self.note(done=done | {step: facts})

    def finished(self, step: str) -> dict[str, Any] | None:
        """The facts of a finished step, None while it is not."""
        return self.manifest.get("done", {}).get(step)

    def stage(self, number: int, name: str) -> Path:
        """The directory of a stage (numbered from 1)."""
        return self.path / "stages" / f"{number}-{name}"

    def rankings(self, stage: str) -> Path:
        """The rankings file of a stage's test decode."""
        return self.path / "rankings" / f"test-{stage}.parquet"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run against a second process.

        Raises:
            BenchError: another process has it.
        """
        import fcntl

        make_folder(self.path)
        with open(self.path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BenchError(f"another process is at work in {self.path}; wait for it") from None
            yield


Store = RunDirectory
"""The name in older versions."""
