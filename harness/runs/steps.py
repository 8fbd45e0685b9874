"""How far a run is, by its logs."""

from __future__ import annotations

import json
from pathlib import Path


def step_of(directory: Path) -> str:
    """The stage that a run is at, and its last logged step; "" where nothing is logged yet."""
    try:
        logs = sorted(directory.glob("stages/*/log.jsonl"), key=lambda path: path.stat().st_mtime)
        if not logs:
            return ""
        with open(logs[-1], "rb") as file:
            file.seek(max(0, logs[-1].stat().st_size - 4096))
            lines = [line for line in file.read().splitlines() if line.endswith(b"}")]
    except OSError:  # the run has just begun anew
        return ""
    try:
        step = json.loads(lines[-1])["step"]
    except (IndexError, ValueError, KeyError, TypeError):
        return logs[-1].parent.name
    return f"{logs[-1].parent.name}, step {step}"
