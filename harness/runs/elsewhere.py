"""A run of a suite as another machine of a cluster does it: what travels there, and what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.runs import provenance
from harness.runs.pool import GOES_ON, problem_of
from harness.runs.steps import step_of
from harness.version import __version__

NOT_BROUGHT = {"checkpoints", ".lock"}
STOPPING = 20.0
"""Seconds that a run has to end in order when it is called off."""
LONGEST_LOG = 2**20


@dataclass(frozen=True)
class Work:
    """A run as it travels.

    Attributes:
        key: its job's.
        words: its command, without the interpreter.
        root: the runs folder, as the suite's machine calls it.
        folder: its run directory below `root`.
        log: its log below `root`.
        token: a file below `root` that holds its own name: who reads that sees the same folder; "": each its own.
        here: where the suite was started, for paths in settings.
        version: of the harness, and its revision.
        environment: variables of this project.
    """

    key: Any
    words: tuple[str, ...]
    root: str
    folder: str
    log: str
    token: str
    here: str
    version: tuple[str, str]
    environment: dict[str, str]


@dataclass
class Ended:
    """How it went: its problem or "", and from a folder of its own what it made, as an archive, and its log."""

    problem: str
    seconds: float = 0.0
    archive: bytes = b""
    log: bytes = b""


class Lost(Exception):
    """A run ended without a word of its own, or says that it goes on where it was: it is begun anew."""


class Board:
    """Where runs elsewhere say how far they are."""

    def __init__(self) -> None:
        self.said: dict[Any, tuple[float, str]] = {}

    def note(self, key: Any, seconds: float, text: str) -> None:
        """Of a run, by its job's key."""
        self.said[key] = (seconds, text)

    def read(self) -> dict[Any, tuple[float, str]]:
        """Of all."""
        return self.said


def run_here(work: Work, sources: list[Any], board: Any) -> Ended:
    """The task: one run, in a process of its own that ends with this one.

    Args:
        sources: references to the archives of runs that it reads.

    Raises:
        Lost: it ended without a word of its own.
    """
    import ray

    own = (__version__, provenance.revision())
    if own != work.version:
        return Ended(
            f"{socket.gethostname()} has version {own[0]} at {own[1]}, the suite's machine {work.version[0]} at "
            f"{work.version[1]}; bring them to the same"
        )
    token = Path(work.root, work.token)
    shared = bool(work.token) and token.is_file() and token.read_text(encoding="utf-8") == work.token
    root = Path(work.root) if shared else _own_root(work.root, ray.get_runtime_context().get_node_id())
    for source in [] if shared else ray.get(sources):
        unpacked(source, root, root)
    words = [_moved(word, work.root, str(root)) for word in work.words]
    log, folder = root / work.log, root / work.folder
    files.make_folder(log.parent)
    started = time.monotonic()
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, *words], stdout=file, stderr=subprocess.STDOUT, env=os.environ | work.environment,
            preexec_fn=_ends_with_its_worker, cwd=work.here if Path(work.here).is_dir() else root,
        )  # fmt: skip
    try:
        said = 0.0
        while process.poll() is None:
            if time.monotonic() - said >= 1:
                said = time.monotonic()
                board.note.remote(
                    work.key, said - started, f"{step_of(folder) or 'starting'} on {socket.gethostname()}"
                )
            time.sleep(0.1)
    except BaseException:  # it is called off
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING / 2)
        process.kill()
        raise
    problem, by_itself = problem_of(process.returncode, log)
    if not by_itself or GOES_ON in problem:
        raise Lost(f"{problem} on {socket.gethostname()}")
    ended = Ended(problem, time.monotonic() - started)
    if not shared:
        ended.log = log.read_bytes()[-LONGEST_LOG:]
        if not problem:
            ended.archive = packed(folder, root)
            shutil.rmtree(folder, ignore_errors=True)
    return ended


def _own_root(root: str, machine: str) -> Path:
    """The runs folder of a machine that does not see that of the suite: the same one for each try."""
    base = Path(os.environ.get("BENCH_CLUSTER_FOLDER") or Path.home() / ".cache" / "genrec-bench" / "cluster")
    own = base / hashlib.sha256(f"{root}\0{machine}".encode()).hexdigest()[:16] / "runs"
    files.make_folder(own)
    return own.resolve()


def _moved(word: str, before: str, root: str) -> str:
    """A word of a command; a path below one folder is that below another."""
    return root + word[len(before) :] if word == before or word.startswith(before + os.sep) else word


def packed(folder: Path, root: Path) -> bytes:
    """A run directory as an archive, without what only its machine needs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for path in _parts(folder):
            archive.add(path, path.resolve().relative_to(root.resolve()))
    return out.getvalue()


def _parts(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not NOT_BROUGHT & set(path.relative_to(folder).parts):
            yield path


def unpacked(archive: bytes, root: Path, folder: Path) -> None:
    """Put an archive's files below `root`, all of them into `folder`."""
    files.make_folder(root)
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        for member in found.getmembers():
            if not (member.isfile() and (root / member.name).resolve().is_relative_to(folder)):
                raise tarfile.TarError(f"{member.name[:80]} does not belong there")
        found.extractall(root, filter="data")


def _ends_with_its_worker() -> None:
    """The system ends a run whose Ray worker is gone: it is begun anew elsewhere, and two would be at it."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
