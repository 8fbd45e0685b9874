"""Runs below a folder: what each is, in which state, and how much it holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness.errors import BenchError
from harness.files import read_json, read_yaml
from harness.runs import locks
from harness.runs.run_directory import CONFIG, LOCK, MANIFEST, METRICS, RunDirectory
from harness.runs.run_files import Config, Metrics

State = Literal["finished", "running", "stopped", "killed", "damaged"]


@dataclass(frozen=True)
class Shelved:
    """A run's folder.

    Attributes:
        fault: why it cannot be read; empty where it can.
    """

    path: Path
    manifest: dict[str, Any]
    fault: str

    @classmethod
    def at(cls, path: Path) -> Shelved:
        """The run in a folder, readable or not."""
        try:
            return cls(path, RunDirectory(path).manifest, "")
        except BenchError as error:
            return cls(path, {}, error.format_message())

    @property
    def name(self) -> str:
        """``category/method/seed42-…``: what its folder says."""
        return "/".join(self.path.resolve().parts[-3:])

    @property
    def category(self) -> str:
        """Its category."""
        return str(self.manifest.get("category") or self.path.resolve().parts[-3])

    @property
    def method(self) -> str:
        """Its method."""
        return str(self.manifest.get("method") or self.path.resolve().parts[-2])

    @cached_property
    def state(self) -> State:
        """``running``: a process holds it. ``killed``: one did, and could not say good-bye. ``stopped``: neither."""
        if locks.is_held(self.path / LOCK):
            return "running"
        if self.fault:
            return "damaged"
        if self.finished:
            return "finished"
        return "killed" if locks.left_by(self.path / LOCK) else "stopped"

    @property
    def finished(self) -> bool:
        """Whether its manifest says that it is whole."""
        return "run" in self.manifest.get("done", {})

    @property
    def process(self) -> str:
        """Who holds it, or was killed with it: ``process 12 on host``; empty where nobody is named."""
        named = locks.left_by(self.path / LOCK)
        return f"process {named[0]} on {named[1]}" if named else ""

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return size_of(self.path)

    @property
    def touched(self) -> float:
        """When anything in it changed last, in seconds since 1970."""
        times = [0.0]
        for path in [self.path, *self.path.glob("*"), *self.path.glob("stages/*/*")]:
            try:
                times.append(path.stat().st_mtime)
            except OSError:  # it went away in between
                continue
        return max(times)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """``config.yaml``; empty where there is none that can be read."""
        try:
            return read_yaml(self.path / CONFIG, Config)
        except BenchError:
            return {}

    def metric(self, name: str = "NDCG@10") -> tuple[str, float] | None:
        """A finished run's metric on test and its protocol, of the last stage; None where there is none."""
        if self.state != "finished":
            return None
        try:
            stages = read_json(self.path / METRICS, schema=Metrics)["stages"]
        except BenchError:
            return None
        last = stages[list(stages)[-1]]
        found = next((protocol for protocol in ("sid", "item") if name in (last.get(protocol) or {})), None)
        return (found, last[found][name]) if found else None


def below(root: Path) -> list[Shelved]:
    """The runs below a folder of runs, by category, method and name; a run's own folder gives that run.

    Raises:
        BenchError: the folder is not there.
    """
    if not root.is_dir():
        raise BenchError(f"{root} is no folder; name that of the runs (bench run makes ./runs)")
    if (root / MANIFEST).exists():
        return [Shelved.at(root)]
    return [Shelved.at(path.parent) for path in sorted(root.glob(f"*/*/seed*/{MANIFEST}"))]


def one(path: Path) -> Shelved:
    """The run of one folder.

    Raises:
        BenchError: it holds none.
    """
    if not (path / MANIFEST).is_file():
        raise BenchError(f"{path} is not the directory of a run; bench runs list names them")
    return Shelved.at(path)


def beside(run: Shelved) -> list[Shelved]:
    """The runs below the folder that a run lies in by category and method; none where it lies otherwise."""
    parents = run.path.resolve().parents
    return below(parents[2]) if len(parents) > 2 else []


def size_of(path: Path) -> int:
    """Bytes of a folder's files; links count as themselves."""
    return sum(entry.stat(follow_symlinks=False).st_size for entry in _entries(path))


def _entries(path: Path) -> Iterator[Any]:
    try:
        entries = list(os.scandir(path))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))
            else:
                entry.stat(follow_symlinks=False)
                yield entry
        except OSError:  # it went away in between
            continue


def bytes_told(number: float) -> str:
    """``812 KiB``, ``3.4 MiB``, ``1.2 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def ago(moment: float) -> str:
    """``3 min ago``, ``5 days ago``."""
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def needed_by(runs: Iterable[Shelved], path: Path) -> list[Shelved]:
    """The runs whose settings name a run's folder (``run:DIR``, or ``run: DIR``): they are made of it.

    A relative place is taken from where the command runs, and from beside the runs' folder.
    """
    wanted, found = path.resolve(), []
    for run in runs:
        home = run.path.resolve().parents
        bases = [Path.cwd(), *([home[3]] if len(home) > 3 else [])]
        places = {(base / place).resolve() for place in _places(run.settings) for base in bases}
        if run.path.resolve() != wanted and wanted in places:
            found.append(run)
    return found


def _places(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _places(key)
            yield from _places(f"run:{each}" if key == "run" and isinstance(each, str) else each)
    elif isinstance(value, list):
        for each in value:
            yield from _places(each)
    elif isinstance(value, str) and value.startswith("run:"):
        yield value.removeprefix("run:")
