"""What was spent on a row before its test: trials of its settings, steps of its training, and whether it had ended.

It reads records; what a comparison of unequal efforts is worth is the reader's to say.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.cli.tables import duration
from harness.recipes import tuned, tuned_trials

from .record import Record

NOT_RECORDED = "—"
SOURCES = {"paper": "the paper's", "search": "searched", "choice": "chosen"}
"""Where settings are from, as a table says it: the paper, a search on valid, or someone's choice."""


@dataclass(frozen=True)
class Effort:
    """The effort behind a row.

    Attributes:
        trials: of searches on valid that were trained to their end; None where the record does not say.
        tuned_here: whether that search, or settings that a category has of its own, are of this very data; None where
            the record does not say.
        own: settings that were taken from a search on this data.
        source: one of :data:`SOURCES`, or nothing.
        steps: optimiser steps of training, all stages, the mean over runs; 0 for what is counted.
        best: the least room that a stage left: its best step over its last, the highest over stages and runs; None
            where no stage chooses a step.
        seconds: of training, the mean over runs.
    """

    trials: int | None
    tuned_here: bool | None
    own: tuple[str, ...]
    source: str
    steps: float
    best: float | None
    seconds: float

    @property
    def converged(self) -> bool | None:
        """Whether the best step came before the last one; None where no step is chosen."""
        return None if self.best is None else self.best < 1

    def cells(self) -> list[Any]:
        """It as the cells of a table, in the order of :data:`HEADERS`."""
        tuned = NOT_RECORDED if self.tuned_here is None else "yes" if self.tuned_here else "no"
        best = None if self.best is None else f"{self.best:.2f}" + ("" if self.converged else ", not converged")
        return [
            SOURCES.get(self.source, NOT_RECORDED), None if self.trials is None else str(self.trials), tuned,
            f"{self.steps:,.0f}" if self.steps else None, best, duration(self.seconds),
        ]  # fmt: skip


HEADERS = ("Settings", "Trials", "Tuned on this data", "Steps", "Best step / last", "Train")


def of(records: Sequence[Record]) -> Effort:
    """The effort behind the runs of one recipe."""
    first = records[0]
    searched, source = first.settings.get("searched") or {}, str(first.settings.get("settings_from") or "")
    known = "settings_from" in first.settings
    own = tuple(str(setting) for setting in first.settings.get("tuned") or ())
    here = bool(searched) and first.data.startswith(str(searched.get("data", ""))[:12])
    shares = [share for record in records for share in _shares(record)]
    return Effort(
        trials=_trials(first, int(searched.get("trials", 0)), own) if known else None,
        tuned_here=(here or bool(own)) if known else None,
        own=own,
        source=source,
        steps=statistics.fmean(_steps(record) for record in records),
        best=max(shares, default=None),
        seconds=statistics.fmean(record.cost.get("train seconds") or 0.0 for record in records),
    )


def _trials(record: Record, searched: int, own: tuple[str, ...]) -> int | None:
    """Trials of the recipe's search and of the one that `own` settings are from; None where that is not known."""
    if not own:
        return searched
    listed = own == tuned(record.method, record.category, record.data)
    return searched + tuned_trials(record.category, record.data) if listed else None


def _steps(record: Record) -> float:
    return float(sum((stage.get("train") or {}).get("steps") or 0 for stage in record.stages.values()))


def _shares(record: Record) -> list[float]:
    """Best step over last of each stage that chose one; of older item-id models, of epochs."""
    found = []
    for stage in record.stages.values():
        train = stage.get("train") or {}
        for unit, last in (("step", "steps"), ("epoch", "epochs")):
            best = train.get(f"best {unit}")
            if best is not None and train.get(last):
                found.append(float(best) / float(train[last]))
                break
    return found
