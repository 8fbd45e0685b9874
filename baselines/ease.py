"""``ease``: the closed-form linear autoencoder EASE (Steck, WWW 2019, arXiv 1905.03375).

B minimises ‖X − XB‖² + λ‖B‖² under a zero diagonal: with P = (XᵀX + λI)⁻¹, B_ij = −P_ij / P_jj.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt
from scipy import linalg
from scipy.sparse import csr_matrix

from harness.components import Context
from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.settings import setting

from .shared.item_to_item import Share, VoteSettings, VoteTrainer, user_item

MOST_ITEMS = 40_000
"""Beyond this many items the dense inverse takes more than 25 GB."""


@dataclass(frozen=True)
class Settings(VoteSettings):
    """Settings of the regression."""

    decay: Share = setting(0.6, "weight of an item of the history, by each step back from the last")
    popularity: Annotated[float, Gt(0)] = setting(1e-4, "weight of the popularity shares that order what is equal")
    regularisation: Annotated[float, Gt(0)] = setting(30.0, "weight λ of ‖B‖²")


class EaseTrainer(VoteTrainer):
    """Solves for B."""

    Settings = Settings

    def check(self, context: Context) -> None:
        """The inverse is dense."""
        if len(context.items) > MOST_ITEMS:
            raise BenchError(
                f"ease inverts an items × items matrix; {len(context.items):,} items are too many "
                f"(at most {MOST_ITEMS:,}); use itemknn"
            )

    def weights(self, train: Samples, n_items: int) -> np.ndarray:
        """B."""
        return solve(user_item(train, n_items), self.settings.regularisation)


def solve(bought: csr_matrix, regularisation: float) -> np.ndarray:
    """B ``[n_items, n_items]`` (float64) for binary purchases ``[n_users, n_items]``."""
    gram = np.asarray((bought.T @ bought).todense(), dtype=np.float64)
    gram[np.diag_indices_from(gram)] += regularisation
    factor = linalg.cho_factor(gram, lower=True, overwrite_a=True)
    inverse = linalg.cho_solve(factor, np.eye(len(gram)), overwrite_b=True)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights
