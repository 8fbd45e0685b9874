"""How sure the numbers are: bootstrap intervals over samples, and the count of invalid predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.components import Evaluated
from harness.evaluation.statistics import bootstrap


def intervals(evaluated: Evaluated) -> dict[str, Any]:
    """95 % bootstrap intervals ``{protocol: {metric: [low, high]}}`` over the samples."""
    by_protocol: dict[str, Any] = {}
    for protocol, ranks in evaluated.ranks.items():
        values = ranks.values()
        bounds = bootstrap(np.column_stack(list(values.values())))
        by_protocol[protocol] = dict(zip(values, bounds.tolist(), strict=True))
    return by_protocol


def invalid(evaluated: Evaluated) -> int:
    """CC: predictions (not rows) that are nothing in the catalogue."""
    return int((evaluated.rankings.ids < 0).sum())
