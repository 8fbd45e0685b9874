"""``popularity``: every user gets the items that were train targets most often."""

from __future__ import annotations

from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from harness.components import Context
from harness.data.dataset import Histories
from harness.files import replace_file
from harness.settings import NoSettings


class PopularityTrainer:
    """Counts train targets."""

    Settings = NoSettings
    distributed = False

    def __init__(self, settings: Any):
        self.settings = settings

    def fit(self, context: Context) -> dict[str, Any]:
        """Count, and keep the counts."""
        counts = np.bincount(context.train.targets, minlength=len(context.items)).astype(np.float64)
        with replace_file(context.directory / "counts.safetensors") as path:
            save_file({"counts": counts}, path)
        return {"rows": len(context.train)}

    def load(self, context: Context) -> Popularity:
        """The counted model."""
        return Popularity(load_file(context.directory / "counts.safetensors")["counts"])


class Popularity:
    """Scores every history with the same counts."""

    def __init__(self, counts: np.ndarray):
        self.counts = counts

    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]``."""
        return np.broadcast_to(self.counts, (len(histories), len(self.counts)))
