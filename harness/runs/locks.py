"""Locks on files: one process works on a thing, others are told which, or wait. A killed process lets go of its."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from harness.errors import BenchError
from harness.files import make_folder

NOBODY = "another process"
"""Who holds a lock that names nobody."""
PROBED = 0.3
"""Seconds in which a holder that is not named may be no more than :func:`is_held` looking (``bench status``)."""
BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def held(
    path: Path, what: str, wait: float = 0.0, say: Callable[[str], None] = lambda line: None, after: float = 0.0
) -> Iterator[None]:
    """Hold a lock file.

    Args:
        what: what it is the lock of, for the message.
        wait: seconds to wait where another process has it; infinity: as long as it takes.
        say: told once whom it waits for, when it has waited for `after` seconds.

    Raises:
        BenchError: another process has it (named by process id and host), or the file system has no locks.
    """
    file = _taken(path, what, wait, say, after)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.truncate(0)
        file.close()


def _taken(path: Path, what: str, wait: float, say: Callable[[str], None], after: float) -> IO[str]:
    """The lock file, locked, and still the one that stands at its path: a holder may remove the folder it is in."""
    begun, said, gone = time.monotonic(), False, 0
    while True:
        make_folder(path.parent)
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
            file = open(number, "r+", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            if isinstance(error, FileNotFoundError) and gone < 100:
                gone += 1  # the folder went away in between
                time.sleep(0.01)
                continue
            if error.errno == errno.ELOOP:
                raise BenchError(f"{path} is a link, and a lock is a file; remove the link") from None
            raise BenchError(f"{path} cannot be written ({error.strerror}); name a place that can be") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _stands_at(file, path):
                file.seek(0)
                file.truncate(0)
                with contextlib.suppress(OSError):  # a full disk: it is held all the same
                    file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
                    file.flush()
                return file
            file.close()
            continue
        except OSError as error:
            who = _holder(file)
            file.close()
            if error.errno not in BUSY:
                raise BenchError(f"{path} cannot be locked ({error.strerror}); use a file system with locks") from None
        waited = time.monotonic() - begun
        if waited >= wait and (who != NOBODY or waited >= PROBED):
            raise BenchError(f"{what} is in use by {who}; wait for it (--wait does), or stop it")
        if not said and waited >= after:
            say(f"{what} is in use by {who}; waiting for it")
            said = True
        time.sleep(0.05)


def _stands_at(file: IO[str], path: Path) -> bool:
    try:
        here, there = os.fstat(file.fileno()), os.stat(path)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _holder(file: IO[str]) -> str:
    named = _named(file)
    return f"process {named[0]} on {named[1]}" if named else NOBODY


def _named(file: IO[str]) -> tuple[int, str] | None:
    """The process and host that a lock file names."""
    try:
        file.seek(0)
        facts = json.loads(file.read(200))
        return int(facts["pid"]), str(facts["host"])[:60]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def left_by(path: Path) -> tuple[int, str] | None:
    """Process and host that a lock file names: who holds it, or, where nobody does, who was killed with it."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), encoding="utf-8") as file:
            return _named(file)
    except OSError:
        return None


def is_held(path: Path) -> bool:
    """Whether a process holds a lock file now."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in BUSY
    return False
