"""A run of a suite as another machine of a cluster does it: what travels there, and what comes back."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import io
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import BenchError
from harness.runs import provenance
from harness.runs.locks import held
from harness.runs.pool import problem_of
from harness.runs.run_directory import LOCK, METRICS, RunDirectory, step_of
from harness.version import __version__

NOT_BROUGHT = {"checkpoints", LOCK}
STOPPING = 20.0
"""Seconds that a run has to end in order when it is called off."""
LONGEST_LOG = 2**20
TRIES = 4
"""How often a run is begun in all, where its process or its machine is lost."""
_SYSTEM = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
"""Loaded before there are threads: a process that has just been made may load nothing."""


@dataclass(frozen=True)
class Work:
    """A run as it travels.

    Attributes:
        key: its job's.
        words: its command, without the interpreter.
        root: the runs folder, as the suite's machine calls it.
        folder: its run directory below `root`.
        log: its log below `root`.
        reads: run directories below `root` that it goes on from.
        token: a file below `root` that holds its own name: who reads that sees the same folder; "": each its own.
        here: where the suite was started, for paths in settings.
        gpus: whether it is given one.
        version: of the harness, and its revision.
        environment: variables of this project.
    """

    key: Any
    words: tuple[str, ...]
    root: str
    folder: str
    log: str
    reads: tuple[str, ...]
    token: str
    here: str
    gpus: bool
    version: tuple[str, str]
    environment: dict[str, str]


@dataclass
class Ended:
    """How it went.

    Attributes:
        problem: "" where it succeeded.
        lacks: runs that it goes on from and that are not here: they are to be sent.
        archive: what it made in a folder of its own machine.
        log: that folder's log.
        node: that machine, by Ray's name; "" where the folder is the suite's own.
    """

    problem: str = ""
    seconds: float = 0.0
    lacks: tuple[str, ...] = ()
    archive: bytes = b""
    log: bytes = b""
    node: str = ""


class Lost(Exception):
    """A run ended without a word of its own: it is begun anew.

    Attributes:
        log: the end of what it wrote on a machine of its own.
    """

    def __init__(self, why: str, log: bytes = b""):
        super().__init__(why, log)
        self.why, self.log = why, log

    def __str__(self) -> str:
        return self.why


@dataclass
class Board:
    """Where runs elsewhere say how far they are, and how often each was begun."""

    said: dict[Any, tuple[float, str]] = field(default_factory=dict)
    begun: dict[Any, int] = field(default_factory=dict)

    def begin(self, key: Any) -> int:
        """How often the run of a job was begun, this time counted."""
        self.begun[key] = self.begun.get(key, 0) + 1
        return self.begun[key]

    def note(self, key: Any, seconds: float, text: str) -> None:
        """Of a run, by its job's key."""
        self.said[key] = (seconds, text)

    def read(self) -> dict[Any, tuple[float, str]]:
        """Of all."""
        return self.said


def run_here(work: Work, sources: dict[str, Any], board: Any) -> Ended:
    """The task: one run, in a process of its own that ends with this one.

    Args:
        sources: references to the archives of runs that it goes on from, as far as they were asked for.

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
    root = Path(work.root) if shared else own_root(work.root)
    lacks = [] if shared else [name for name in work.reads if not (root / name / METRICS).is_file()]
    if any(name not in sources for name in lacks):
        return Ended(lacks=tuple(lacks))
    for name in lacks:
        with held(root / ".sources.lock", str(root), math.inf):
            if not (root / name / METRICS).is_file():
                unpacked(_had(sources[name]), root / name)
    if _had(board.begin.remote(work.key)) > TRIES:
        raise Lost(f"it takes its machine with it, as one does that needs more memory than there is; see {work.log}")
    ended = _run(work, root, board)
    if not shared:
        ended.node = ray.get_runtime_context().get_node_id()
    return ended


def _had(ref: Any) -> Any:
    """A value of the cluster's.

    Raises:
        Lost: the machine that had it is gone.
    """
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        raise Lost(f"{type(error).__name__} of Ray") from None


def _run(work: Work, root: Path, board: Any) -> Ended:
    log, folder = root / work.log, root / work.folder
    files.make_folder(log.parent)
    words = [_moved(word, work.root, str(root)) for word in work.words]
    variables = os.environ | work.environment | ({} if work.gpus else {"CUDA_VISIBLE_DEVICES": ""})
    started = time.monotonic()
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, *words], stdout=file, stderr=subprocess.STDOUT, env=variables,
            preexec_fn=functools.partial(_ends_with, os.getpid()),
            cwd=work.here if Path(work.here).is_dir() else root,
        )  # fmt: skip
    try:
        noted = 0.0
        while process.poll() is None:
            if time.monotonic() - noted >= 1:
                noted = time.monotonic()
                how_far = f"{step_of(folder) or 'starting'} on {socket.gethostname()}"
                board.note.remote(work.key, noted - started, how_far)
            time.sleep(0.1)
    except BaseException:  # it is called off
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING / 2)
        process.kill()
        raise
    problem, by_itself = problem_of(process.returncode, log)
    own = root != Path(work.root)
    said = log.read_bytes()[-LONGEST_LOG:] if own else b""
    if not by_itself:
        raise Lost(f"{problem} on {socket.gethostname()}", said)
    if not problem and not (folder / METRICS).is_file():
        problem = f"{socket.gethostname()} made it in another folder than {work.folder}: its data or files are others"
    ended = Ended(problem, time.monotonic() - started)
    if own:
        ended.log, ended.archive = said, b"" if problem else packed(folder)
    return ended


def clear_here(root: str, folders: list[str]) -> None:
    """The task: remove runs from this machine that are where the suite is; not one that a process is at work on."""
    own = own_root(root)
    for name in folders:
        with contextlib.suppress(BenchError, OSError), RunDirectory(own / name).lock():
            shutil.rmtree(own / name)


def own_root(root: str) -> Path:
    """The runs folder of a machine that does not see that of the suite: the same one for each try."""
    base = Path(os.environ.get("BENCH_CLUSTER_FOLDER") or Path.home() / ".cache" / "genrec-bench" / "cluster")
    own = base / hashlib.sha256(root.encode()).hexdigest()[:16] / "runs"
    files.make_folder(own)
    return own


def _moved(word: str, before: str, root: str) -> str:
    """A word of a command; a path below one folder is that below another."""
    return root + word[len(before) :] if word == before or word.startswith(before + os.sep) else word


def packed(folder: Path) -> bytes:
    """A run directory as an archive, without what only its machine needs; links are what they point to."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1, dereference=True) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not NOT_BROUGHT & set(name.parts):
                archive.add(path, name)
    return out.getvalue()


def unpacked(archive: bytes, folder: Path) -> None:
    """Put an archive in place of a run directory, whole or not at all.

    Raises:
        tarfile.TarError: it holds something else than files of that directory.
        BenchError: a process is at work on the directory.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        for member in found.getmembers():
            if not (member.isfile() and (folder / member.name).resolve().is_relative_to(folder.resolve())):
                raise tarfile.TarError(f"{member.name[:80]} does not belong there")
        with RunDirectory(folder).lock(), files.replace_folder(folder) as made:
            found.extractall(made, filter="data")


def _ends_with(worker: int) -> None:
    """The system ends a run whose Ray worker is gone: it is begun anew elsewhere, and two would be at it."""
    if _SYSTEM is not None:
        _SYSTEM.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != worker:  # it went in between
            os._exit(1)
