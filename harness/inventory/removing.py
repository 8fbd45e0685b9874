"""Removing runs, and what finished runs no longer need. Nothing that a process works on is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BenchError
from harness.files import sweep
from harness.runs.run_directory import PRUNED, TOKENIZER, RunDirectory

from .shelf import Shelved, beside, needed_by, size_of

CHECKPOINTS = ("stages/*/checkpoints", "stages/*/*checkpoint*.safetensors", f"{TOKENIZER}/*checkpoint*")
"""What training goes on from. A finished run is asked, measured and built upon without it."""


@dataclass(frozen=True)
class Removal:
    """What is to go.

    Attributes:
        whole: whether the run goes, or its checkpoints alone.
        size: bytes.
    """

    run: Shelved
    whole: bool
    size: int


def whole(paths: Sequence[Path], force: bool = False) -> list[Removal]:
    """The removal of runs.

    Raises:
        BenchError: one is no run, is being worked on, or is needed by another that stays (`force` removes it).
    """
    runs = [_one(path) for path in paths]
    going = {run.path.resolve() for run in runs}
    for run in runs:
        if run.state == "running":
            raise BenchError(f"{run.path} is in use by {run.process or 'a process'}; stop it first")
        others = [other for other in needed_by(beside(run), run.path) if other.path.resolve() not in going]
        if others and not force:
            raise BenchError(
                f"{run.path} is needed by {others[0].path}, which loads it; --force removes it all the same"
            )
    return [Removal(run, True, run.size) for run in runs]


def _one(path: Path) -> Shelved:
    from .shelf import one

    if path.is_symlink():
        raise BenchError(f"{path} is a link; name the run's own folder")
    return one(path)


def unneeded(runs: Sequence[Shelved], unfinished: bool, older_than: float) -> list[Removal]:
    """What can go of runs: checkpoints of the finished, and with `unfinished` runs that nobody works on, whole.

    Args:
        older_than: days since anything in a run changed.
    """
    found, before = [], time.time() - older_than * 86400
    for run in runs:
        linked = any(path.is_symlink() for path in (run.path, *run.path.parents[:2]))
        if linked or run.state in ("running", "damaged") or run.touched > before:
            continue
        if run.state == "finished":
            size = sum(size_of(path) if path.is_dir() else path.stat().st_size for path in _checkpoints(run.path))
            if size:
                found.append(Removal(run, False, size))
        elif unfinished and not needed_by(runs, run.path):
            found.append(Removal(run, True, run.size))
    return found


def _checkpoints(folder: Path) -> list[Path]:
    found = {path for pattern in CHECKPOINTS for path in folder.glob(pattern)}
    return sorted(path for path in found if not path.is_symlink())


def remove(removal: Removal) -> None:
    """Remove it. A run goes at once: it is renamed first, so that no half of it is ever found.

    Raises:
        BenchError: a process has begun to work on it in between.
    """
    path = removal.run.path
    if path.is_symlink():
        raise BenchError(f"{path} is a link; name the run's own folder")
    path, run = path.resolve(), RunDirectory(path.resolve())
    if removal.whole:
        with run.lock():
            _still(removal, run)
            gone = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            os.rename(path, gone)
        shutil.rmtree(gone)
        for folder, named in ((path.parent, removal.run.method), (path.parent.parent, removal.run.category)):
            with contextlib.suppress(OSError):  # not empty, or somebody else's by now
                if folder.name == named:
                    folder.rmdir()
        return
    with run.lock():
        _still(removal, run)
        run.note(**{PRUNED: time.strftime("%Y-%m-%dT%H:%M:%S%z")})  # first: half of a checkpoint is none
        for place in _checkpoints(path):
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        sweep(path)


def _still(removal: Removal, run: RunDirectory) -> None:
    """The run is in the state that was shown: while a question waits, another process may go on with it.

    Raises:
        BenchError: it is not.
    """
    now = Shelved.at(run.path)
    if bool(now.fault) != bool(removal.run.fault) or now.finished != removal.run.finished:
        raise BenchError(f"{run.path} has changed since it was looked at; look again (bench runs list)")
