"""``ease``: the closed-form linear autoencoder EASE (Steck, WWW 2019, arXiv 1905.03375).

B minimises ‖X − XB‖² + λ‖B‖² under a zero diagonal: with P = (XᵀX + λI)⁻¹, B_ij = −P_ij / P_jj.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt
from scipy import linalg
from scipy.sparse import csr_matrix

from baselines.item_to_item import ItemToItem, Share, VoteSettings, popularity_shares, user_item
from harness.components import Context, setting
from harness.errors import BenchError

MOST_ITEMS = 40_000
"""Beyond this many items the dense inverse takes more than 25 GB."""


@dataclass(frozen=True)
class Settings(VoteSettings):
    """Settings of the regression."""

    decay: Share = setting(0.6, "weight of an item of the history, by each step back from the last")
    popularity: Annotated[float, Gt(0)] = setting(1e-4, "weight of the popularity shares that order what is equal")
    regularisation: Annotated[float, Gt(0)] = setting(30.0, "weight λ of ‖B‖²")


class EaseTrainer:
    """Solves for B."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, context: Context) -> None:
        """The inverse is dense."""
        if len(context.items) > MOST_ITEMS:
            raise BenchError(
                f"ease inverts an items × items matrix; {len(context.items):,} items are too many "
                f"(at most {MOST_ITEMS:,}); use itemknn"
            )

    def fit(self, context: Context) -> dict[str, Any]:
        """Solve, and keep B."""
        n = len(context.items)
        weights = solve(user_item(context.train, n), self.settings.regularisation)
        model = ItemToItem(weights, popularity_shares(context.train, n), self.settings)
        return {"rows": len(context.train), **model.save(context.directory)}

    def load(self, context: Context) -> ItemToItem:
        """The weights."""
        return ItemToItem.load(context.directory, self.settings)


def solve(bought: csr_matrix, regularisation: float) -> np.ndarray:
    """B ``[n_items, n_items]`` (float64) for binary purchases ``[n_users, n_items]``."""
    gram = np.asarray((bought.T @ bought).todense(), dtype=np.float64)
    gram[np.diag_indices_from(gram)] += regularisation
    factor = linalg.cho_factor(gram, lower=True, overwrite_a=True)
    inverse = linalg.cho_solve(factor, np.eye(len(gram)), overwrite_b=True)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights
