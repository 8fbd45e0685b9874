"""``itemknn``: items bought by the same users (Sarwar et al., WWW 2001), cosine with shrinkage.

sim(i, j) = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrinkage), the nearest neighbours of each item kept. With
no shrinkage that is scikit-learn's cosine, which a test compares with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from scipy.sparse import csr_matrix

from baselines.item_to_item import ItemToItem, Share, VoteSettings, popularity_shares, user_item
from harness.components import Context, setting


@dataclass(frozen=True)
class Settings(VoteSettings):
    """Settings of the neighbourhood."""

    decay: Share = setting(0.6, "weight of an item of the history, by each step back from the last")
    shrinkage: Annotated[float, Ge(0)] = setting(10.0, "added to the denominator: pairs seen rarely count less")
    neighbours: Annotated[int, Ge(0)] = setting(0, "nearest neighbours kept of each item; 0: all")


class ItemKnnTrainer:
    """Finds neighbours."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def fit(self, context: Context) -> dict[str, Any]:
        """Compute similarities, and keep them."""
        n = len(context.items)
        matrix = similarities(user_item(context.train, n), self.settings.shrinkage, self.settings.neighbours)
        model = ItemToItem(matrix, popularity_shares(context.train, n), self.settings)
        return {"rows": len(context.train), **model.save(context.directory)}

    def load(self, context: Context) -> ItemToItem:
        """The neighbourhood."""
        return ItemToItem.load(context.directory, self.settings)


def similarities(bought: csr_matrix, shrinkage: float, neighbours: int) -> csr_matrix:
    """Shrunk cosines of items ``[n_items, n_items]`` from binary ``[n_users, n_items]``; an item is not its own."""
    together = csr_matrix(bought.T @ bought).tocoo()
    norms = np.sqrt(np.asarray(bought.sum(axis=0)).ravel())
    apart = together.row != together.col
    rows, columns = together.row[apart], together.col[apart]
    values = together.data[apart] / (norms[rows] * norms[columns] + shrinkage)
    if neighbours:
        order = np.lexsort((columns, -values, rows))  # equal similarities in the order of item ids
        rows, columns, values = rows[order], columns[order], values[order]
        starts = np.searchsorted(rows, rows)
        kept = np.arange(len(rows)) - starts < neighbours
        rows, columns, values = rows[kept], columns[kept], values[kept]
    return csr_matrix((values.astype(np.float32), (rows, columns)), shape=together.shape)
