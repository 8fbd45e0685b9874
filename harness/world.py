"""The processes of one run: which of them this is, and what they do together.

A run is one process, or several that a launcher started (``bench run --processes``, ``torchrun``, ``accelerate
launch``, ``srun``). All of them go through the same steps. What writes, deletes or decides is done once, by the main
process, and its value *or its error* is given to all, so that none waits for one that is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

from harness.errors import BenchError

T = TypeVar("T")
PEERS = 300.0
"""Seconds that a process waits for the others to start; ``BENCH_PEERS_TIMEOUT`` sets another number."""
LAUNCHED = "BENCH_LAUNCHED"
"""Set where ``bench run --processes`` started this process: it ends with that one, however that ends."""
STEP = timedelta(hours=2)
"""As long as a step of training may wait for another process: it may be writing a large model to a slow disk."""
LONGEST = timedelta(days=7)
"""As long as one process may work while the others wait."""


HEARD = timedelta(seconds=10)
"""As long as a process that fails with the main one waits for it to say why."""
FAILING = timedelta(seconds=5)
"""As long as a process that fails by itself waits to hear whether the main one does too."""
LATER = 2.0
"""Seconds that it waits where the processes have not met yet."""
SAID = "bench/said"


@dataclass(frozen=True)
class Place:
    """A process among those of a run, as its launcher says.

    Attributes:
        rank: its number; 0 is the main one.
        size: how many there are.
        local: its number on this machine, which is that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Place:
        """From the variables of torchrun and accelerate, or of a SLURM step of several tasks.

        Raises:
            BenchError: they do not go together.
        """
        if int(environment.get("WORLD_SIZE", "1")) > 1:
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
            missing = next((n for n in (*names, "MASTER_ADDR", "MASTER_PORT") if n not in environment), None)
            if missing:
                raise BenchError(
                    f"WORLD_SIZE is {environment['WORLD_SIZE']} and {missing} is not set; start bench by torchrun, or "
                    "unset WORLD_SIZE"
                )
            rank, size, local = (int(environment[name]) for name in names)
        elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in environment:
            size, rank = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment["SLURM_PROCID"])
            local = int(environment.get("SLURM_LOCALID", "0"))
        else:
            return cls()
        if not 0 <= rank < size:
            raise BenchError(f"process {rank} of {size}: the launcher's variables do not go together")
        return cls(rank, size, local)


class Shared(BenchError):
    """An error that all processes have: the main one says it."""

    def show(self, file: Any = None) -> None:
        """Nothing: it is said once. A launcher ends all when the first is gone, so this one waits until it is said."""
        world.hear()


class World:
    """The processes of this run; before :meth:`start`, and where there is one, each method is its plain self."""

    def __init__(self, environment: Mapping[str, str] = os.environ):
        self._environment = environment
        self._group: Any = None
        self._store: Any = None
        self._alone = 0
        self.nodes: list[str] = []
        """The machines, by name."""

    @cached_property
    def place(self) -> Place:
        """Which process this is."""
        return Place.of(self._environment)

    @property
    def together(self) -> bool:
        """Whether there are others, and they are at the same place of the work."""
        return self._group is not None and not self._alone

    @property
    def rank(self) -> int:
        """This process's number."""
        return self.place.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self.place.size

    @property
    def main(self) -> bool:
        """Whether this one writes, logs and speaks."""
        return self.place.rank == 0

    def start(self) -> None:
        """Meet the others.

        Raises:
            BenchError: they do not come, or their address is taken.
        """
        if self.size == 1 or self._group is not None:
            return
        import torch
        import torch.distributed as dist

        _slurm_address()
        _ends_with_its_launcher()
        wait = _patience(os.environ.get("BENCH_PEERS_TIMEOUT", ""))
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        gpus = torch.cuda.is_available()
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        try:
            if not dist.is_initialized():
                found = dist.rendezvous("env://", self.rank, self.size, timeout=timedelta(seconds=wait))
                store, rank, size = next(iter(found))
                dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=STEP)
                store.set_timeout(STEP)
                self._store = store
            self._group = dist.new_group(backend="gloo", timeout=LONGEST)
            self.nodes = sorted(set(self._gathered(socket.gethostname())))
        except Exception as error:
            line = " ".join(str(error).split())[:160]
            raise BenchError(
                f"process {self.rank} of {self.size} on {socket.gethostname()} did not meet the others at {where} "
                f"within {wait:.0f} s ({line}); start all of them, and let that port be free"
            ) from None

    def only_one(self, what: str) -> None:
        """Refuse what works in one process alone.

        Raises:
            BenchError: there are several.
        """
        if self.size > 1:
            raise BenchError(f"{what} is one process; start it without a launcher of several")

    def stop(self) -> None:
        """Part from the others."""
        if self._group is not None:
            import torch.distributed as dist

            self._group = None
            if dist.is_initialized():
                dist.destroy_process_group()

    def speak(self) -> None:
        """Tell the others that the main process has said its error."""
        if self.main and self._store is not None:
            with contextlib.suppress(RuntimeError):  # none is left to hear it
                self._store.set(SAID, "1")

    def hear(self, wait: timedelta = HEARD) -> bool:
        """Whether the main process says an error within a while; False in that one.

        Before they have met, that one's end is all that there is to wait for: the launcher ends the others with it.
        """
        if self.main:
            return False
        if self._store is None:
            time.sleep(LATER)
            return False
        try:
            self._store.wait([SAID], wait)
        except RuntimeError:
            return False
        return True

    def once(self, work: Callable[[], T]) -> T:
        """Done by the main process alone; its value goes to all, and so does its error.

        Raises:
            Shared: what a :class:`BenchError` of the main process says, in each of the others.
        """
        if not self.together:
            return work()
        value: Any = None
        error: BaseException | None = None
        if self.main:
            self._alone += 1
            try:
                value = work()
            except BaseException as raised:
                error = raised
            finally:
                self._alone -= 1
        told = self._broadcast((value, _shown(error)) if self.main else None)
        if error is not None:
            raise error
        if told[1] is not None:
            raise Shared(told[1])
        found: T = told[0]
        return found

    def agreed(self, work: Callable[[], T]) -> T:
        """Done by every process; where one fails, all do, with the error of the first.

        Raises:
            BenchError: the first one's; the main process has it as its own, the others as :class:`Shared`.
        """
        if not self.together:
            return work()
        value: Any = None
        error: BaseException | None = None
        try:
            value = work()
        except Exception as raised:
            error = raised
        errors = self._gathered(_shown(error))
        first = next((rank for rank, line in enumerate(errors) if line is not None), None)
        if first is None:
            found: T = value
            return found
        if self.main:
            if error is not None:
                raise error
            raise BenchError(f"process {first}: {errors[first]}")
        raise Shared(str(errors[first]))

    def same(self, what: str, value: str) -> None:
        """Refuse to go on where processes differ in something.

        Raises:
            BenchError: names a process that differs, and its machine.
        """
        if not self.together:
            return
        found = self._gathered((value, socket.gethostname()))
        other = next((rank for rank, (theirs, _) in enumerate(found) if theirs != found[0][0]), None)
        if other is not None:
            line = (
                f"{what} of process {other} on {found[other][1]} is {found[other][0][:24]}, that of process 0 on "
                f"{found[0][1]} {found[0][0][:24]}; bring the machines to the same"
            )
            raise BenchError(line) if self.main else Shared(line)

    def wait(self) -> None:
        """Until all are here."""
        if self.together:
            import torch.distributed as dist

            dist.barrier(self._group)

    def share(self, n: int) -> range:
        """This process's part of n pieces of work."""
        return range(self.rank, n, self.size) if self.together else range(n)

    def collected(self, parts: list[T]) -> list[T]:
        """What all processes have made, the parts of process 0 first; the same list in each."""
        return [part for theirs in self._gathered(parts) for part in theirs] if self.together else parts

    def _gathered(self, value: Any) -> list[Any]:
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self._group)
        return found

    def _broadcast(self, value: Any) -> Any:
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]


LOST = (
    "gloo/transport", "Connection closed by peer", "Connection reset by peer", "remote process exited",
)  # fmt: skip
"""How torch's backends say that another process is gone."""
LOST_CODE = 75
"""The exit code of a process that another one left behind."""


def lost_another(error: BaseException) -> bool:
    """Whether an error says no more than that another process of the run is gone, which says why itself."""
    return world.size > 1 and isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)


def _shown(error: BaseException | None) -> str | None:
    """An error as the other processes hear it."""
    if error is None:
        return None
    return error.message if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"


def _patience(given: str) -> float:
    """Seconds to wait for the others.

    Raises:
        BenchError: what is given is no number above 0.
    """
    try:
        seconds = float(given or PEERS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 10**6:
        raise BenchError(f"BENCH_PEERS_TIMEOUT is {given[:20]!r}; set it to a number of seconds")
    return seconds


def _ends_with_its_launcher() -> None:
    """Where ``bench run --processes`` started this process, the system ends it when that one is gone."""
    if os.environ.get(LAUNCHED) and sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _slurm_address() -> None:
    """Where the processes of a SLURM step meet: on its first node, at a port of the job's own."""
    if "WORLD_SIZE" in os.environ or "SLURM_PROCID" not in os.environ:
        return
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURMD_NODENAME") or "127.0.0.1"
    job = os.environ.get("SLURM_JOB_ID", "0")
    os.environ.setdefault("MASTER_ADDR", first_of(nodes))
    os.environ.setdefault("MASTER_PORT", str(20_000 + int(job if job.isdigit() else "0") % 20_000))
    os.environ["RANK"], os.environ["WORLD_SIZE"] = os.environ["SLURM_PROCID"], os.environ["SLURM_STEP_NUM_TASKS"]
    os.environ["LOCAL_RANK"] = os.environ.get("SLURM_LOCALID", "0")


def first_of(nodes: str) -> str:
    """The first host of a SLURM list, such as ``node[03-05,9],other``."""
    found = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes.strip())
    return f"{found[1]}{found[2] or ''}" if found else nodes


world = World()
"""The processes of this run."""
