"""Arrays that took long to make, kept by what they were made of: the second time they are read.

A key says all that could matter, so an entry is never stale. What is damaged is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.data.read_cache import OFF
from harness.errors import BenchError

SUMS = "sums.json"


class ContentCache:
    """Arrays of one kind, the newest of them.

    Attributes:
        folder: where they are kept; None: nothing is.
    """

    def __init__(self, home: Path, kind: str, most: int = 24):
        self.folder = None if os.environ.get(OFF) == "0" else home / f".{kind}"
        self.most = most

    def get(self, key: Any) -> np.ndarray | None:
        """What was kept under a key; None where nothing was, or it is damaged."""
        if self.folder is None or not (entry := self.folder / named(key)).is_dir():
            return None
        try:
            content = json.loads((entry / SUMS).read_text())
            path = entry / "array.npy"
            if files.sha256(path) != content["array.npy"]:
                raise ValueError("it was changed")
            found: np.ndarray = np.load(path, allow_pickle=False)
            os.utime(entry)
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(entry, ignore_errors=True)
            return None
        return found

    def keep(self, key: Any, array: np.ndarray) -> None:
        """Write it, where that is possible; the oldest go."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError, BenchError):
            with files.replace_folder(self.folder / named(key)) as entry:
                np.save(entry / "array.npy", array, allow_pickle=False)
                (entry / SUMS).write_text(json.dumps({"array.npy": files.sha256(entry / "array.npy")}))
            files.keep_newest(self.folder, self.most)


def named(key: Any) -> str:
    """The name of an entry: a hash of its key, which is plain values."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:32]
