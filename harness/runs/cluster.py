"""The pool of a Ray cluster: each run is a process on one of its machines, begun anew where that machine is lost.

A run on a machine that sees the runs folder writes into it, so that another machine goes on where it was. One that does
not has a folder of its own there, and what it made is brought back, without checkpoints. What a run says of itself is
final; what happens to its machine is not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import os
import secrets
import signal
import socket
import sys
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import BenchError
from harness.runs import provenance
from harness.runs.elsewhere import STOPPING, TRIES, Board, Ended, Lost, Work, clear_here, packed, run_here, unpacked
from harness.runs.pool import Done, Job, Queue, Watch
from harness.version import __version__

AWAY = 20.0
"""Seconds that the cluster may be silent before it is taken for gone; Ray itself ends this process after a minute."""


@dataclass(frozen=True)
class Needs:
    """What each run is given: cores, and GPUs (a run of a suite is on one; a part of one is shared)."""

    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def of(cls, text: str) -> Needs:
        """From ``cpus=4,gpus=1``.

        Raises:
            BenchError: it is of another form, or asks for more GPUs than a run uses.
        """
        found: dict[str, float] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, _, value = part.partition("=")
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            if name not in ("cpus", "gpus") or name in found or not 0 <= number <= 4096:
                raise BenchError(f"--needs {text}: '{part}' is none of cpus=NUMBER, gpus=NUMBER; e.g. cpus=4,gpus=1")
            found[name] = number
        needs = cls(**found)
        if needs.gpus > 1:
            raise BenchError(f"--needs {text}: a run of a suite uses one GPU; set gpus=1, or less to share one")
        if needs.cpus > 1 and needs.cpus != int(needs.cpus):
            raise BenchError(f"--needs {text}: above 1, cpus are whole; set cpus={int(needs.cpus)}")
        if not needs.cpus and not needs.gpus:
            raise BenchError(f"--needs {text}: a run needs something; set cpus=1")
        return needs

    @property
    def resources(self) -> dict[str, float]:
        """As Ray names them."""
        return {"CPU": self.cpus, "GPU": self.gpus}


class Cluster:
    """See :class:`harness.runs.pool.Pool`."""

    def __init__(self, address: str, needs: Needs, root: Path, own_folders: bool = False):
        """Connect to it.

        Args:
            address: ``auto`` (the one that this machine is part of), ``HOST:PORT``, or ``ray://HOST:PORT``.
            root: the runs folder.
            own_folders: whether runs write to folders of their machines also where those see `root`.

        Raises:
            BenchError: Ray is not installed, nothing answers there, or no machine of it has what a run needs.
        """
        if importlib.util.find_spec("ray") is None:
            raise BenchError("--cluster needs Ray; pip install 'genrec-bench[cluster]'")
        self.address, self.needs, self.root, self.own_folders = address, needs, Path(os.path.abspath(root)), own_folders
        if address != "auto":
            _must_answer(address)
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray

        handler = signal.getsignal(signal.SIGTERM)
        try:
            with contextlib.redirect_stdout(sys.stderr), _without_stderr():  # where it says that it is told to be quiet
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, namespace="bench")
        except Exception as error:
            line = " ".join(str(error).split())[:160]
            raise BenchError(
                f"--cluster {address}: no Ray cluster answers ({line}); start one (ray start --head), or give its "
                "HOST:PORT"
            ) from None
        finally:
            with contextlib.suppress(ValueError):  # not in the main thread, where no signal arrives
                signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which ends without order
        self._head = "" if address.startswith("ray://") else ray.get_runtime_context().gcs_address
        self.workers = self._room()

    def _room(self) -> int:
        """How many runs the cluster holds, were it empty."""
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = {name: number for name, number in self.needs.resources.items() if number}
        room = sum(int(min(there.get(name, 0.0) / n for name, n in asked.items()) + 1e-9) for there in alive)
        if not room:
            most = {name: max((there.get(name, 0.0) for there in alive), default=0.0) for name in ("CPU", "GPU")}
            ray.shutdown()
            raise BenchError(
                f"--needs cpus={self.needs.cpus:g},gpus={self.needs.gpus:g}: no machine of the cluster has that (at "
                f"most {most['CPU']:g} CPUs, {most['GPU']:g} GPUs); ask for less, or start one first"
            )
        return room

    def work_off(self, jobs: Sequence[Job], ended: Done, watch: Watch) -> None:
        """See :meth:`harness.runs.pool.Pool.work_off`; as many at a time as the cluster has room for.

        Raises:
            BenchError: the cluster has gone away.
        """
        import ray
        from ray.exceptions import RaySystemError

        token = self.root / f".cluster-{secrets.token_hex(8)}"
        files.write_text(token, token.name)
        work = {job.key: self._work(job, "" if self.own_folders else token.name) for job in jobs}
        remote: Any = ray.remote  # its types know lists of exceptions not
        board = remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board).remote()
        again = {"max_retries": TRIES - 1, "retry_exceptions": [Lost]}
        task = remote(num_cpus=self.needs.cpus, num_gpus=self.needs.gpus, **again)(run_here)
        queue, refs, sent = Queue(list(jobs)), dict[Any, Job](), dict[str, Any]()
        brought: dict[str, set[str]] = {}  # runs that are here now, by the machine where they were made
        away = watched = 0.0

        def start(job: Job, lacking: Sequence[str] = ()) -> None:
            try:
                for name in lacking:
                    if name not in sent:
                        sent[name] = ray.put(packed(self.root / name))
            except (OSError, ray.exceptions.RayError) as error:
                return queue.over(job, f"the run that it goes on from cannot be sent ({error})", ended)
            sources = {name: sent[name] for name in lacking}
            refs[task.options(name=f"bench {job.log.stem}").remote(work[job.key], sources, board)] = job

        try:
            while queue.waiting or refs:
                for job in queue.ready(len(jobs), ended):
                    start(job)
                for ref in ray.wait(list(refs), timeout=0.5)[0] if refs else []:
                    job = refs.pop(ref)
                    found = self._found(ref)
                    if found.lacks and not found.problem:
                        start(job, found.lacks)
                        continue
                    problem = self._brought(job, found)
                    if found.node and not problem:
                        own = work[job.key]
                        brought.setdefault(found.node, set()).update((own.folder, *(set(own.reads) & set(sent))))
                    queue.over(job, problem, ended)
                if not self._head or _listens(self._head):
                    away = 0.0
                elif time.monotonic() - (away := away or time.monotonic()) > AWAY:
                    raise self._gone()
                if time.monotonic() - watched >= 1:
                    _look(board, refs.values())
                    running = [job for job in refs.values() if job.started]
                    watch(running, [*queue.waiting, *(job for job in refs.values() if not job.started)])
                    watched = time.monotonic()
            _clear(brought, str(self.root))
        except BrokenPipeError:  # of this process's own output
            raise
        except (ConnectionError, RaySystemError):
            raise self._gone() from None
        finally:
            token.unlink(missing_ok=True)
            self._part(list(refs))

    def _work(self, job: Job, token: str) -> Work:
        """A job as it travels: what it names of this machine is named by its whole path."""
        assert job.folder is not None
        words = [str(word) for word in job.command[1:]]
        for number, (name, value) in enumerate(itertools.pairwise(words), start=1):
            if name in ("--runs", "--from-run", "--plugin", "--data-dir"):
                words[number] = os.path.abspath(value)
            elif name == "--threads" and value == "0":
                words[number] = str(max(1, int(self.needs.cpus)))

        def below(path: Path) -> str:
            return os.path.relpath(os.path.abspath(path), self.root)

        return Work(
            job.key, tuple(words), str(self.root), below(job.folder), below(job.log),
            tuple(below(folder) for folder in job.reads), token, os.getcwd(), self.needs.gpus > 0,
            (__version__, provenance.revision()),
            {name: value for name, value in os.environ.items() if name.startswith("BENCH_")},
        )  # fmt: skip

    def _found(self, ref: Any) -> Ended:
        """How a task ended; what became of its machine is a problem too.

        Raises:
            BenchError: the cluster has gone away.
        """
        import ray

        try:
            found: Ended = ray.get(ref)
            return found
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, Lost):
                return Ended(f"lost {TRIES} times, last: {cause}", log=cause.log)
            return Ended(f"a machine of the cluster cannot run it ({' '.join(str(cause).split())[-200:]})")
        except ray.exceptions.LocalRayletDiedError:
            raise self._gone() from None
        except ray.exceptions.RayError as error:
            if self._head and not _listens(self._head):
                raise self._gone() from None
            return Ended(f"lost {TRIES} times, last: {type(error).__name__} of Ray")

    def _brought(self, job: Job, found: Ended) -> str:
        """Put what a run made into the runs folder; returns its problem."""
        job.seconds = found.seconds or job.seconds
        if found.log:
            files.make_folder(job.log.parent)
            job.log.write_bytes(found.log)
        if found.archive and job.folder is not None:
            try:
                unpacked(found.archive, job.folder)
            except (tarfile.TarError, zlib.error, EOFError, OSError, BenchError) as error:
                return f"what it made on another machine cannot be put into {job.folder} ({error})"
        return found.problem

    def _part(self, refs: list[Any]) -> None:
        """End what runs, in order where there is time, and part from the cluster."""
        import ray

        if self._head and not _listens(self._head):
            return  # nobody is there to be told
        with contextlib.suppress(Exception):
            for ref in refs:
                ray.cancel(ref, force=False)
            if refs:
                ray.wait(refs, num_returns=len(refs), timeout=1.5 * STOPPING)
        with contextlib.suppress(Exception):
            ray.shutdown()

    def _gone(self) -> BenchError:
        gone = f"the cluster at {self.address} went away"
        return BenchError(f"{gone}; what was finished is kept, and the same command goes on")


def _look(board: Any, jobs: Iterable[Job]) -> None:
    """What the runs say of themselves."""
    import ray

    with contextlib.suppress(ray.exceptions.RayError):  # its machine is lost: it is begun anew, and they say it again
        said = ray.get(board.read.remote(), timeout=1.0)
        for job in jobs:
            if job.key in said:
                job.seconds, job.note = said[job.key]
                job.started = job.started or time.monotonic()


def _clear(brought: dict[str, set[str]], root: str) -> None:
    """Remove what is brought from the machines where it was made; one that is gone has nothing to remove."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote
    with contextlib.suppress(ray.exceptions.RayError):
        refs = [
            remote(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))(clear_here).remote(
                root, sorted(folders)
            )
            for node, folders in brought.items()
        ]
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=STOPPING)


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep what compiled code writes off the terminal."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _must_answer(address: str) -> None:
    """Ray waits long where nothing listens.

    Raises:
        BenchError: nothing does, or it is no address.
    """
    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BenchError(f"--cluster {address[:80]}: give auto, HOST:PORT, or ray://HOST:PORT")
    if not _listens(place):
        raise BenchError(f"--cluster {address}: nothing answers there; start one (ray start --head), or name its place")


def _listens(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), 5.0):
            return True
    except OSError:
        return False
