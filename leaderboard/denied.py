"""Rows that are known to be wrong: which versions of the harness made them, of which kind, and why.

The list is the section ``wrong`` of ``configs/versions.yaml``. A record that it names is refused wherever a table,
a comparison or a report would show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from packaging.version import InvalidVersion, Version

from harness import files, recipes
from harness.checks import outlines
from harness.evaluation.measure import FIRST_MEASURED, MEASURED


@dataclass(frozen=True)
class Denied:
    """An entry: what all holds of a row that is wrong.

    Attributes:
        why: what is wrong with it.
        measured: it was first measured at this version of the measuring, or before; 0: at any.
        before: it was made by a release before this one; empty: by any.
        revisions: it was made by one of these commits (their first twelve digits); none: by any.
        methods: it is of one of these methods; none: of any.
        decoders: it was decoded by one of these; none: by any.
        settings: settings that it has, by dotted name.
    """

    why: str
    measured: int = 0
    before: str = ""
    revisions: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    decoders: tuple[str, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()

    def holds(self, content: Mapping[str, Any]) -> bool:
        """Whether a record's content is a row that the entry names."""
        stages, settings = content["stages"].values(), content["settings"]
        first = min(stage.get(FIRST_MEASURED, stage.get(MEASURED, 1)) for stage in stages)
        release = _release(content["versions"].get("genrec-bench"))
        return (
            (not self.measured or first <= self.measured)
            and (not self.before or release < Version(self.before))
            and (not self.revisions or str(content["revision"])[:12] in self.revisions)
            and (not self.methods or content["method"] in self.methods)
            and (not self.decoders or (settings.get("decoder") or {}).get("name") in self.decoders)
            and all(_setting(settings, name) == value for name, value in self.settings)
        )


@cache
def listed() -> tuple[Denied, ...]:
    """The shipped entries."""
    content = files.read_yaml(recipes.shipped("versions.yaml"), outlines.Versions, "restore it from the package")
    return tuple(
        Denied(
            entry["why"], entry.get("measured", 0), entry.get("before", ""), tuple(entry.get("revisions", ())),
            tuple(entry.get("methods", ())), tuple(entry.get("decoders", ())),
            tuple((entry.get("settings") or {}).items()),
        )
        for entry in content.get("wrong", ())
    )  # fmt: skip


def reason(content: Mapping[str, Any]) -> str:
    """Why a record's row is wrong; empty where nothing of the kind is known."""
    return next((entry.why for entry in listed() if entry.holds(content)), "")


def _release(said: Any) -> Version:
    try:
        return Version(str(said))
    except InvalidVersion:  # of before releases were recorded
        return Version("0")


def _setting(settings: Mapping[str, Any], dotted: str) -> Any:
    """A setting by its dotted name, ``sft.eval_every``; None where it is not there."""
    head, _, rest = dotted.partition(".")
    stages = {stage.get("name"): stage for stage in settings.get("stages") or []}
    found: Any = stages.get(head) if head in stages else settings.get(head)
    for part in rest.split(".") if rest else ():
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
