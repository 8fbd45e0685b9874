"""The run directory: the manifest, what is done and what is left, a stage's log and clock.

Everything in it is complete or absent (:mod:`harness.files`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import BenchError
from harness.files import read_json, sweep, write_json
from harness.runs.locks import held, is_held
from harness.text.parsing import parse_json

MANIFEST = "manifest.json"
METRICS = "metrics.json"
CONFIG = "config.yaml"
SEMANTIC_IDS = "semantic_ids.json"
TOKENIZER = "tokenizer"
"""The folder of a tokenizer that trains: its checkpoints while it does, and its log."""
LOG = "log.jsonl"
CLOCK = "clock.json"
LOCK = ".lock"
PRUNED = "pruned"
"""In the manifest of a run whose checkpoints were removed: when."""
DAMAGED = "delete the run's folder and run the method again"


class Clock:
    """Seconds spent on a stage by all processes that worked at it, kept beside it: a kill does not lose them."""

    def __init__(self, stage: Path):
        from harness.runs.run_files import ClockFile

        self.path = stage / CLOCK
        try:
            self.before = float(read_json(self.path, schema=ClockFile)["seconds"])
        except BenchError:  # none yet, or damaged: seconds are lost, no result
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
    path = stage / LOG
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise BenchError(f"{path} is no file of its own; remove it, and the same command goes on")
    with open(path, "ab+") as file:
        torn = file.tell() and file.seek(-1, os.SEEK_END) is not None and file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + json.dumps({"step": step} | finite).encode() + b"\n")


def read_log(stage: Path) -> dict[str, list[tuple[float, float]]]:
    """``{name: [(step, value), …]}`` of a stage's log, by rising step; what a resumed stage logged again counts last.

    A line that was cut off by a kill is passed over.
    """
    path = stage / LOG
    curves: dict[str, dict[float, float]] = {}
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    for line in lines:
        try:
            numbers = parse_json(line.decode("utf-8"))
        except ValueError:
            continue
        step = numbers.pop("step", None) if isinstance(numbers, dict) else None
        if not isinstance(step, (int, float)) or isinstance(step, bool) or step < 0:
            continue
        for name, value in numbers.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
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
        if not path.exists():
            return {}
        from harness.runs.run_files import Manifest

        content: dict[str, Any] = read_json(path, DAMAGED, Manifest)
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
    def lock(self, wait: bool = False, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
        """Hold the run against a second process; only the holder changes or removes anything in it.

        What a killed process left half-written beside its files is removed first.

        Args:
            wait: wait for another process that has it; `say` is told whom for.

        Raises:
            BenchError: another process has it; names its process id and host.
        """
        with held(self.path / LOCK, str(self.path), math.inf if wait else 0.0, say):
            sweep(self.path)
            yield

    @property
    def in_use(self) -> bool:
        """Whether a process holds the run now."""
        return is_held(self.path / LOCK)


Store = RunDirectory
"""The name in older versions."""


def step_of(directory: Path) -> str:
    """The stage that a run is at, and its last logged step; "" where nothing is logged yet."""
    try:
        logs = sorted(directory.glob("stages/*/log.jsonl"), key=lambda path: path.stat().st_mtime)
        if not logs:
            return ""
        with open(logs[-1], "rb") as file:
            file.seek(max(0, logs[-1].stat().st_size - 4096))
            lines = [line for line in file.read().splitlines() if line.endswith(b"}")]
    except OSError:  # the run has just begun anew
        return ""
    try:
        step = json.loads(lines[-1])["step"]
    except (IndexError, ValueError, KeyError, TypeError):
        return logs[-1].parent.name
    return f"{logs[-1].parent.name}, step {step}"
