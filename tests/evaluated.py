"""What a metric sees, made from rankings and targets alone."""

from __future__ import annotations

import numpy as np

from harness.components import Evaluated
from harness.data.dataset import Histories, Items, Samples


def evaluated(rankings, targets, semantic_ids=None):
    """Rankings of samples whose users and histories do not matter."""
    n = len(targets)
    samples = Samples(np.arange(n).astype(str), Histories.of([[0]] * n), np.asarray(targets, dtype=np.int32))
    return Evaluated(rankings, samples, Items([], [], [], []), samples, semantic_ids)
