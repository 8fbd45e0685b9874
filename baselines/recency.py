"""``recency``: the history's items, the last first, then popularity: what repeat purchases alone give."""

from __future__ import annotations

from typing import Any

from scipy.sparse import identity

from baselines.item_to_item import ItemToItem, VoteSettings, popularity_shares
from harness.components import Context


class RecencyTrainer:
    """Counts train targets, for what comes after the history."""

    Settings = VoteSettings

    def __init__(self, settings: VoteSettings):
        self.settings = settings

    def fit(self, context: Context) -> dict[str, Any]:
        """An item votes for itself."""
        n = len(context.items)
        model = ItemToItem(
            identity(n, dtype="float32", format="csr"), popularity_shares(context.train, n), self.settings
        )
        return {"rows": len(context.train), **model.save(context.directory)}

    def load(self, context: Context) -> ItemToItem:
        """The counted model."""
        return ItemToItem.load(context.directory, self.settings)
