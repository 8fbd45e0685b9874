"""What numbers stand on, by version: the family of the data, its split, and the protocol of the evaluation.

The list, with a changelog, is ``configs/versions.yaml``. It knows no record and no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness import files, recipes
from harness.checks import outlines
from harness.data.dataset import Dataset
from harness.errors import BenchError, unknown

KINDS = {"dataset": "datasets", "split": "splits", "protocol": "protocols"}
"""What has versions, and the section of the file that lists them."""
PROTOCOL = "next-item"
OWN = {"name": "own", "version": 1}
"""Of data that a plugin's reader brings: it is told apart by its fingerprint alone."""
MEND = "bench results measure RUN brings a run to the newest version; another seen takes another run"
"""What to do where two things stand on different grounds."""
Ground = dict[str, Any]
"""``{"dataset": {"name": …, "version": …}, "split": …, "protocol": …}``."""


@dataclass(frozen=True)
class Version:
    """An entry of the changelog.

    Attributes:
        what: what it is.
        why: why it came to be.
        moves: which numbers are others since the version before.
        superseded_by: the version to use in its place; 0: it is the newest.
        reason: why it is superseded.
        unmoved: decoders whose numbers are those of the version before.
    """

    kind: str
    name: str
    version: int
    date: str
    what: str
    why: str
    moves: str
    superseded_by: int = 0
    reason: str = ""
    unmoved: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """``split leave-one-out 1``."""
        return f"{self.kind} {self.name} {self.version}"


@cache
def _listed() -> dict[str, dict[str, list[dict[str, Any]]]]:
    content: dict[str, dict[str, list[dict[str, Any]]]] = files.read_yaml(
        recipes.shipped("versions.yaml"), outlines.Versions, "restore it from the package"
    )
    return content


def history(kind: str, name: str) -> list[Version]:
    """The versions of a dataset family, split or protocol, oldest first; none where the list does not name it."""
    return [
        Version(
            kind, name, entry["version"], str(entry["date"]), entry["what"], entry["why"], entry["moves"],
            entry.get("superseded_by", 0), entry.get("reason", ""), tuple(entry.get("unmoved", ())),
        )
        for entry in _listed()[KINDS[kind]].get(name, [])
    ]  # fmt: skip


def find(kind: str, name: str, version: int) -> Version | None:
    """The entry of a version; None where the name is somebody else's.

    Raises:
        BenchError: the name is known and the version is not; says which is the newest known.
    """
    known = history(kind, name)
    found = next((entry for entry in known if entry.version == version), None)
    if known and found is None:
        raise BenchError(
            f"{kind} {name} has no version {version}; the newest known here is {known[-1].version} ({known[-1].date}): "
            "update genrec-bench, or measure the run again with this one"
        )
    return found


def newest(kind: str, name: str) -> int:
    """The newest version of a name."""
    known = history(kind, name)
    if not known:
        raise unknown(kind, name, _listed()[KINDS[kind]])
    return known[-1].version


def of_data(fingerprint: str, layout: str = "") -> Ground:
    """The family and the split of data with this fingerprint, by the reader `layout` where that is known."""
    split = None
    for name, entries in _listed()["splits"].items():
        for entry in entries:
            if fingerprint in entry.get("data", ()):
                family = {"name": entry["family"], "version": entry["family_version"]} if entry.get("family") else {}
                return {"dataset": family or _own_or("dataset", layout), "split": _numbered(name, entry)}
            if layout and entry.get("layout") == layout:
                split = _numbered(name, entry)
    return {"dataset": _own_or("dataset", layout), "split": split or dict(OWN)} if layout else {}


def _numbered(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": entry["version"]}


def _own_or(kind: str, name: str) -> dict[str, Any]:
    known = history(kind, name)
    return {"name": name, "version": known[-1].version} if known else dict(OWN)


def of(dataset: Dataset, protocol: Mapping[str, Any]) -> Ground:
    """What numbers of a dataset stand on.

    Args:
        protocol: its declared settings, such as ``{"seen": "keep"}``.
    """
    ground = of_data(dataset.fingerprint, dataset.layout) | {"protocol": of_protocol(protocol)}
    if dataset.rules:
        ground["split"] = {"name": "prepared", "version": 1, "rules": dataset.rules}
    return ground


def of_protocol(settings: Mapping[str, Any], version: int = 0) -> dict[str, Any]:
    """The protocol's entry: name, version (the newest by default) and declared settings."""
    return {"name": PROTOCOL, "version": version or newest("protocol", PROTOCOL), **settings}


def checked(ground: Ground) -> list[Version]:
    """The entries of a ground, as far as the list names them.

    Raises:
        BenchError: a version that is not known.
    """
    found = [find(kind, str(part["name"]), int(part["version"])) for kind, part in ground.items() if kind in KINDS]
    return [entry for entry in found if entry is not None]


def differs(ground: Ground, other: Ground) -> dict[str, str]:
    """Where two grounds are of one name and of other versions or settings: ``{kind: "split x: version 1, not 2"}``."""
    found = {}
    for kind in KINDS:
        own, theirs = ground.get(kind) or {}, other.get(kind) or {}
        keys = [key for key in own if own[key] != theirs.get(key)]
        if own and own.get("name") == theirs.get("name") and keys:
            found[kind] = f"{kind} {own['name']}: " + ", ".join(f"{k} {own[k]}, not {theirs.get(k)}" for k in keys)
    return found


def caption(ground: Ground) -> str:
    """``dataset minionerec 1, split industrial-reconstructed 1, protocol next-item 2 (bought items: keep)``."""
    parts = [f"{kind} {part['name']} {part['version']}" for kind in KINDS if (part := ground.get(kind)) and part != OWN]
    seen = (ground.get("protocol") or {}).get("seen")
    return ", ".join(parts) + (f" (bought items: {seen})" if seen else "")
