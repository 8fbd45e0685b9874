"""Published and replicated numbers, carried as facts in ``leaderboard/reported/*.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml


@dataclass(frozen=True)
class Reported:
    """A reported row: its source, and the metrics it gives."""

    method: str
    category: str
    source: str
    what: str
    metrics: dict[str, float]


@cache
def rows(category: str) -> tuple[Reported, ...]:
    """All reported rows of a category, in the order of the files; rows without numbers are left out."""
    found = []
    folder = resources.files("leaderboard").joinpath("reported")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".yaml"):
            continue
        for table in yaml.safe_load(file.read_text(encoding="utf-8")):
            if table["category"] != category or "rows" not in table:
                continue
            source = table["source"]
            for method, values in table["rows"].items():
                if values is not None:
                    metrics = dict(zip(table["columns"], values, strict=True))
                    found.append(Reported(method, category, source["id"], source.get("what", ""), metrics))
    return tuple(found)
