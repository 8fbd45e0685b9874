"""How sure the numbers are: intervals over users, their design effects, and the count of invalid predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.components import Evaluated
from harness.evaluation.statistics import recorded


def intervals(evaluated: Evaluated) -> Any:
    """95 % intervals of this run ``{protocol: {metric: [low, high]}}``: users are drawn anew, the trained model is not.

    What another seed would give is in no single run; tables add it from several.
    """
    return recorded(evaluated.intervals)["intervals"]


def design_effects(evaluated: Evaluated) -> Any:
    """``{protocol: {metric: factor}}``: the variance of the mean over that of as many samples of users of their own."""
    return recorded(evaluated.intervals)["design effects"]


def invalid(evaluated: Evaluated) -> int:
    """CC: predictions (not rows) that are nothing in the catalogue; a place that nobody is left for is none."""
    return int(((evaluated.rankings.ids < 0) & np.isfinite(evaluated.rankings.scores)).sum())
