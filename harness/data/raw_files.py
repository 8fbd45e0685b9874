"""Raw files by path or address: what was downloaded is kept, with the checksum that was learnt when it first came."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import Field

from harness import files
from harness.data import categories, download
from harness.errors import BenchError
from harness.progress import Progress

FOLDER = ".raw"
LEARNT = "checksums.json"
MEND = "remove it: checksums are learnt again"
Checksums = dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]


def local(file: str, progress: Progress) -> Path:
    """A file on this machine: the one that is named, or the one at an address, downloaded once.

    Raises:
        BenchError: it cannot be had, or what is kept or comes from the address is other than what first came from it.
    """
    if urlsplit(file).scheme == "file":
        return Path(unquote(urlsplit(file).path))
    if urlsplit(file).scheme not in ("http", "https"):
        return Path(file)
    folder = categories.roots(None)[-1] / FOLDER
    name = Path(unquote(urlsplit(file).path)).name
    if not name or name.startswith("."):
        raise BenchError(f"{file} names no file; give the address of one")
    kept = folder / hashlib.sha256(file.encode()).hexdigest()[:12] / name
    files.make_folder(kept.parent)
    learnt = learnt_in(folder)
    if not kept.is_file():
        progress.say(f"{file}: to {kept}")
        with progress.bar(0, name, "B") as bar:
            download.unpinned(file, kept, bar.update)
    digest = files.sha256(kept)
    if learnt.get(file, digest) != digest:
        kept.unlink()
        raise BenchError(
            f"{file} is other than when it first came (sha256 {digest[:12]}…, not {learnt[file][:12]}…); if that is "
            f"right, take it out of {folder / LEARNT}"
        )
    if file not in learnt:
        files.write_json(folder / LEARNT, learnt | {file: digest})
    return kept


def learnt_in(folder: Path) -> dict[str, str]:
    """``{address: sha256}`` of what was downloaded to a folder of raw files.

    Raises:
        BenchError: the file that says it is damaged.
    """
    path = folder / LEARNT
    if not path.exists():
        return {}
    content: dict[str, str] = files.read_json(path, MEND, Checksums)
    return content
