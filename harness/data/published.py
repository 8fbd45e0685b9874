"""Published splits that can be fetched: which files, of which version, and what is said of their licence.

The list is ``configs/catalogue.yaml``. It downloads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from harness import files, recipes
from harness.checks import outlines
from harness.errors import unknown

HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Pinned:
    """A file of one version of a repository.

    Attributes:
        role: what it is to the conversion, or where it is kept.
        blob: git's id of its content: sha1 of ``blob <size>`` , a zero byte, and the content.
        bytes: its size; 0 where that is not known beforehand.
        sha256: of its content; empty where that is not known beforehand.
    """

    role: str
    repository: str
    commit: str
    path: str
    blob: str
    bytes: int = 0
    sha256: str = ""

    @property
    def place(self) -> str:
        """Below a host or a mirror: ``owner/name/commit/path``."""
        return f"{self.repository}/{self.commit}/{self.path}"


@dataclass(frozen=True)
class Entry:
    """A category that can be fetched.

    Attributes:
        layout: the reader that takes the result.
        make: the conversion; empty: files are kept as published.
        licence: what the repositories say, and whom to cite.
    """

    name: str
    layout: str
    make: str
    licence: str
    files: tuple[Pinned, ...]

    @property
    def size(self) -> str:
        """How much is downloaded, in words."""
        known = sum(file.bytes for file in self.files) / 1e6
        return f"{known:.1f} MB" + (" and more" if any(not file.bytes for file in self.files) else "")

    @property
    def offer(self) -> str:
        """What a command says that needs it, and does not find it."""
        return (
            f"{self.name} is not here; bench data fetch {self.name} brings it ({self.size}; {self.licence}), and so "
            "does --fetch (or BENCH_FETCH=1)"
        )


@cache
def _listed() -> dict[str, dict[str, Any]]:
    path = recipes.shipped("catalogue.yaml")
    content: dict[str, Any] = files.read_yaml(path, outlines.Catalogue, "restore it from the package")
    return content


def known() -> list[str]:
    """The categories that can be fetched."""
    return list(_listed())


def find(name: str) -> Entry | None:
    """A category of the list, or None."""
    told = _listed().get(name)
    if told is None:
        return None
    pinned = tuple(Pinned(**file) for file in told["files"])
    return Entry(name, told["layout"], told.get("make", ""), told["licence"], pinned)


def get(name: str) -> Entry:
    """A category of the list.

    Raises:
        BenchError: it is not there; names the nearest.
    """
    entry = find(name)
    if entry is None:
        raise unknown("category", name, known(), "(of those that can be fetched)")
    return entry
