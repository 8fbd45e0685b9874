"""``itemknn``: items bought by the same users (Sarwar et al., WWW 2001), cosine with shrinkage.

sim(i, j) = |U_i ∩ U_j| / (√(|U_i| |U_j|) + shrinkage), the nearest neighbours of each item kept. With
no shrinkage that is scikit-learn's cosine, which a test compares with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from scipy.sparse import csr_matrix

from harness.data.dataset import Samples
from harness.settings import setting

from .shared.item_to_item import Share, VoteSettings, VoteTrainer, user_item


@dataclass(frozen=True)
class Settings(VoteSettings):
    """Settings of the neighbourhood."""

    decay: Share = setting(0.6, "weight of an item of the history, by each step back from the last")
    shrinkage: Annotated[float, Ge(0)] = setting(27.0, "added to the denominator: pairs seen rarely count less")
    neighbours: Annotated[int, Ge(0)] = setting(0, "nearest neighbours kept of each item; 0: all")


class ItemKnnTrainer(VoteTrainer):
    """Finds neighbours."""

    Settings = Settings

    def weights(self, train: Samples, n_items: int) -> csr_matrix:
        """Similarities to the nearest neighbours."""
        return similarities(user_item(train, n_items), self.settings.shrinkage, self.settings.neighbours)


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
    return csr_matrix((values, (rows, columns)), shape=together.shape)
