"""The run directory: atomic writes, the manifest, what is done and what is left.

Everything in it is complete or absent: files are written beside, synced and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import BenchError

MANIFEST = "manifest.json"
METRICS = "metrics.json"
CONFIG = "config.yaml"
SEMANTIC_IDS = "semantic_ids.json"
LOG = "log.jsonl"
CLOCK = "clock.json"
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and see that it can be written in.

    Raises:
        BenchError: it cannot be; none of those that were made is left.
    """
    made = next((p for p in [*reversed(path.parents), path] if not p.exists()), None)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        if made is not None and made.is_dir():
            shutil.rmtree(made, ignore_errors=True)
        raise BenchError(
            f"{path} cannot be written ({error.strerror}); name a folder that can be, or change its rights"
        ) from None


def check_output(path: str | None) -> None:
    """Refuse an output file that cannot be written, before the work that would be lost.

    Raises:
        BenchError: it is a folder, or its own folder cannot be written in.
    """
    if path:
        if Path(path).is_dir():
            raise BenchError(f"{path} is a folder; name a file")
        make_folder(Path(path).parent)


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is synced and takes its place."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if path.is_dir():
        raise BenchError(f"{path} is a folder; name a file")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise BenchError(f"{path} cannot be written ({error.strerror}); name a place that can be") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it takes its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb+") as opened:
                    os.fsync(opened.fileno())
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, mend: str = "run the method again") -> Any:
    """Read a JSON file of a run.

    Args:
        mend: what its user should do where it cannot be read.

    Raises:
        BenchError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"{path} is missing; {mend}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BenchError(f"{path} is damaged ({error}); {mend}") from None


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
    found: dict[str, dict[float, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            numbers = json.loads(line)
            step = numbers.pop("step")
        except (ValueError, KeyError, AttributeError):
            continue
        for name, value in numbers.items():
            found.setdefault(name, {})[step] = value
    return {name: sorted(values.items()) for name, values in found.items()}


@dataclass
class Store:
    """One run's directory."""

    directory: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, empty before the run has begun."""
        path = self.directory / MANIFEST
        found = read_json(path) if path.exists() else {}
        if not isinstance(found, dict):
            raise BenchError(f"{path} is damaged (no JSON object); run the method again")
        return found

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest."""
        write_json(self.directory / MANIFEST, self.manifest | facts)

    def finish(self, step: str, **facts: Any) -> None:
        """Note a step as done, with facts (seconds, …)."""
        done = self.manifest.get("done", {})
        self.note(done=done | {step: facts})

    def finished(self, step: str) -> dict[str, Any] | None:
        """The facts of a finished step, None while it is not."""
        return self.manifest.get("done", {}).get(step)

    def stage(self, number: int, name: str) -> Path:
        """The directory of a stage (numbered from 1)."""
        return self.directory / "stages" / f"{number}-{name}"

    def rankings(self, stage: str) -> Path:
        """The rankings file of a stage's test decode."""
        return self.directory / "rankings" / f"test-{stage}.parquet"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run against a second process.

        Raises:
            BenchError: another process has it.
        """
        import fcntl

        make_folder(self.directory)
        with open(self.directory / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BenchError(f"another process is at work in {self.directory}; wait for it") from None
            yield
