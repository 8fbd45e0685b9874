"""How sure the numbers are: intervals over users, their design effects, and the count of invalid predictions."""

from __future__ import annotations

from typing import Any

from harness.components import Evaluated
from harness.evaluation import statistics
from harness.evaluation.statistics import Runs


def intervals(evaluated: Evaluated) -> dict[str, Any]:
    """95 % intervals of this run ``{protocol: {metric: [low, high]}}``: users are drawn anew, the trained model is not.

    What another seed would give is in no single run; tables add it from several.
    """
    return {
        protocol: {name: [one.low, one.high] for name, one in found.items()}
        for protocol, found in _by_protocol(evaluated).items()
    }


def design_effects(evaluated: Evaluated) -> dict[str, Any]:
    """``{protocol: {metric: factor}}``: the variance of the mean over that of as many samples of users of their own."""
    return {
        protocol: {name: round(one.design, 4) for name, one in found.items()}
        for protocol, found in _by_protocol(evaluated).items()
    }


def _by_protocol(evaluated: Evaluated) -> dict[str, dict[str, statistics.Interval]]:
    users = evaluated.samples.user_numbers
    found = {}
    for protocol, ranks in evaluated.ranks.items():
        values = {name: value[None] for name, value in ranks.values().items()}
        if values and evaluated.samples.user_numbers.max(initial=0):  # one user says nothing of others
            found[protocol] = statistics.intervals(Runs(values, users, deterministic=True))
    return found


def invalid(evaluated: Evaluated) -> int:
    """CC: predictions (not rows) that are nothing in the catalogue."""
    return int((evaluated.rankings.ids < 0).sum())
