"""``recency``: the history's items, the last first, then popularity: what repeat purchases alone give."""

from __future__ import annotations

from scipy.sparse import csr_matrix, identity

from harness.data.dataset import Samples

from .shared.item_to_item import VoteTrainer


class RecencyTrainer(VoteTrainer):
    """An item votes for itself."""

    def weights(self, train: Samples, n_items: int) -> csr_matrix:
        """The identity."""
        return identity(n_items, dtype="float64", format="csr")
