"""Fetching a published split: download, check, convert, and put in place as a whole.

Nothing is seen of a category that did not come whole; what was downloaded of it stays, and the next call goes on there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import files
from harness.data import conversions
from harness.data.download import address, download
from harness.data.published import Entry
from harness.errors import BenchError
from harness.progress import Progress

FETCH = "BENCH_FETCH"
"""Set to 1: a category that is known and absent is fetched when it is asked for."""
DOWNLOADS = ".downloads"
SOURCE = "fetched.json"
"""Beside a fetched category: where each file is from, and under which licence."""


def fetch(entry: Entry, root: Path, progress: Progress, force: bool = False) -> Path:
    """Bring a category into a data directory; returns its folder.

    Args:
        force: in place of a folder of that name.

    Raises:
        BenchError: it is there already, a file cannot be had or is not what is pinned, or another process fetches here.
    """
    target, downloads = root / entry.name, root / DOWNLOADS
    if target.exists() and not force:
        raise BenchError(f"{target} is there already; --force fetches it again")
    files.make_folder(downloads)
    with _alone(downloads):
        there = {}
        total = sum(file.bytes for file in entry.files)
        progress.say(f"{entry.name}: {len(entry.files)} files, {entry.size}; {entry.licence}")
        with progress.bar(total, entry.name, "B") as bar:
            for file in entry.files:
                there[file.role] = download(file, downloads, bar.update)
        with files.replace_folder(target) as folder:
            _make(entry, there, folder)
            files.write_json(
                folder / SOURCE,
                {
                    "category": entry.name,
                    "fetched": time.strftime("%F"),
                    "licence": entry.licence,
                    "files": [{"role": f.role, "address": address(f), "git blob": f.blob} for f in entry.files],
                },
            )
        for path in there.values():
            path.unlink(missing_ok=True)
    return target


def _make(entry: Entry, there: dict[str, Path], folder: Path) -> None:
    if entry.make:
        conversions.convert(entry.make, entry.name, there, folder)
        return
    for role, path in there.items():  # as it was published
        files.make_folder((folder / role).parent)
        shutil.copyfile(path, folder / role)


@contextmanager
def _alone(downloads: Path) -> Iterator[None]:
    """One process at a time fetches into a data directory."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(downloads / "lock", timeout=0):
            yield
    except Timeout:
        raise BenchError(f"another process fetches into {downloads.parent}; wait for it") from None
