"""``next-id``: the item whose own id at the source is the next larger one than the last item's, then the one after it.

Where times are days and the files stand in the order of ids, the next purchase often is the next id: Amazon 2014 in
S3-Rec's order is so. What this floor reaches is order, and no taste.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from harness.components import Context
from harness.data.dataset import Histories, places_of_ids
from harness.errors import BenchError
from harness.files import write_json
from harness.settings import NoSettings


class NextIdTrainer:
    """Sorts ids."""

    Settings = NoSettings
    distributed = False

    def __init__(self, settings: Any):
        self.settings = settings

    def check(self, context: Context) -> None:
        """Items must have ids of their own."""
        if not context.items.ids:
            raise BenchError(
                "next-id needs the ids that items have at their source (id or asin in item.json) and this category has "
                "none; use random"
            )

    def fit(self, context: Context) -> dict[str, Any]:
        """Keep which ids they were."""
        digest = hashlib.sha256(json.dumps(context.items.ids).encode()).hexdigest()
        write_json(context.directory / "ids.json", {"ids": digest})
        return {"rows": len(context.train), "ids": digest[:12]}

    def load(self, context: Context) -> NextId:
        """The order."""
        return NextId(places_of_ids(context.items.ids))


class NextId:
    """Scores items by how far behind the last item's their id stands; behind the last id the first follows."""

    def __init__(self, place: np.ndarray):
        self.place = place

    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]`` float64, whole numbers."""
        n = len(self.place)
        steps = (self.place[None, :] - self.place[histories.last()][:, None]) % n
        return -np.where(steps == 0, n, steps).astype(np.float64)
