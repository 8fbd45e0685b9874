"""Bring MLflow up to date with run directories, which are the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import BenchError
from harness.runs import mirror
from harness.runs.mlflow_store import Store, Unavailable
from harness.runs.run_directory import RunDirectory


@dataclass
class Synced:
    """What came of it.

    Attributes:
        address: of the store.
        done: runs that are up to date.
        left: a line for each that was left out.
    """

    address: str
    done: int = 0
    left: list[str] = field(default_factory=list)


def sync(root: Path, folders: Sequence[Path], patience: float, say: Callable[[str], None]) -> Synced:
    """Log what is missing of some runs below a runs folder, and end those that a kill left running.

    Nothing is logged twice. A run that a process is at work on is left alone.

    Args:
        patience: seconds that a store may take to answer.

    Raises:
        BenchError: the store does not answer.
    """
    store = Store(root, patience=patience, say=say)
    found = Synced(store.address)
    try:
        store.open()
        for path in folders:
            folder = RunDirectory(path)
            if folder.in_use:
                found.left.append(f"{path}: a process is at work in it")
                continue
            try:
                with folder.lock():
                    if folder.finished("begin") is None:
                        found.left.append(f"{path}: it has not begun")
                        continue
                    mirror.Mirror(store, folder).whole("FINISHED" if folder.finished("run") is not None else "KILLED")
                    found.done += 1
            except BenchError as error:
                found.left.append(error.format_message())
    except Unavailable as error:
        raise BenchError(
            f"MLflow at {store.address} failed ({error}); {found.done} of {len(folders)} runs are up to date"
        ) from None
    return found
