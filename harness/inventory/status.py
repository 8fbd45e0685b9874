"""What a run is at: stage, step, time left, last numbers."""

from __future__ import annotations

import time
from typing import Annotated, Any

from annotated_types import Ge, Le, Len

from harness.checks.schemas import Count, Schema, Seconds
from harness.errors import BenchError
from harness.files import read_json
from harness.progress import JOURNAL, left
from harness.runs.run_directory import TOKENIZER, read_log

from .shelf import Shelved, ago

SILENT = 600.0
"""Seconds without a sign of life after which a run that works is said to be silent."""
NUMBERS = ("loss", "reward", "eval_NDCG@10", "eval_NDCG@10 by item")


class BarNote(Schema):
    """One bar of ``progress.json``."""

    label: Annotated[str, Len(0, 200)]
    unit: Annotated[str, Len(0, 40)]
    done: Annotated[int, Ge(0), Le(10**15)]
    total: Annotated[int, Ge(0), Le(10**15)]
    before: Count
    seconds: Seconds
    numbers: dict[str, str] = {}


class Note(Schema):
    """``progress.json`` (:mod:`harness.progress`)."""

    at: Annotated[float, Ge(0), Le(1e12)]
    pid: Count
    host: str
    bars: Annotated[list[BarNote], Len(0, 100)]


def of(run: Shelved) -> dict[str, Any]:
    """What a run is at, as plain values: ``state``, ``stage``, ``work``, ``left``, ``numbers``, ``said``."""
    stages = [stage["name"] for stage in run.settings.get("stages", [])]
    done = run.manifest.get("done", {})
    at = next((n for n, name in enumerate(stages) if f"{name}/decode" not in done), len(stages))
    name = stages[at] if at < len(stages) else ""
    note = _note(run) if run.state == "running" else None
    what: dict[str, Any] = {
        "run": run.name,
        "path": str(run.path),
        "state": run.state,
        "stage": f"{name} ({at + 1} of {len(stages)})" if name else "",
        "work": "",
        "left": None,
        "numbers": _numbers(run, at + 1, name) if name else {},
        "touched": run.touched,
        "said": _said(run),
    }
    if run.state == "running" and not name and (run.path / TOKENIZER).is_dir():
        what["stage"] = "tokenizer"
    if note and note["bars"]:
        bar = note["bars"][-1]
        of_all = f" of {bar['total']:,}" if bar["total"] else ""
        what["work"] = f"{bar['label']}: {bar['unit']} {bar['done']:,}{of_all}"
        what["left"] = left(bar)
    return what


def _note(run: Shelved) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = read_json(run.path / JOURNAL, schema=Note)
    except BenchError:  # none yet, or written by something else: the lock and the log say enough
        return None
    return content


def _numbers(run: Shelved, number: int, stage: str) -> dict[str, float]:
    """The newest numbers that the stage has logged."""
    try:
        curves = read_log(run.path / "stages" / f"{number}-{stage}")
    except OSError:
        return {}
    return {name.removeprefix("eval_"): curves[name][-1][1] for name in NUMBERS if curves.get(name)}


def _said(run: Shelved) -> str:
    """What a person should know, and do."""
    if run.state == "running":
        silent = time.time() - run.touched
        quiet = f"; nothing was written for {ago(run.touched).removesuffix(' ago')}" if silent > SILENT else ""
        return f"{run.process or 'a process'} works on it{quiet}"
    if run.state == "killed":
        return f"{run.process} was killed; the same bench run goes on where it was"
    if run.state == "stopped":
        return "nobody works on it; the same bench run goes on where it was"
    return run.fault
