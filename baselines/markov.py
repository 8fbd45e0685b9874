"""``markov``: counts of what followed an item, summed over the history with decay, then popularity.

The first-order part of FPMC (Rendle et al., WWW 2010), unlearned. Transitions are counted between
the last item of each train history and its target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from harness.components import Context, setting
from harness.data.dataset import Histories
from harness.store import replace_file


@dataclass(frozen=True)
class Settings:
    """Settings of the chain."""

    decay: float = setting(0.5, "weight of the transition from an item, by each step back in the history")
    reach: int = setting(10, "items of the history that count, from the last; 1: a plain first-order chain")
    popularity: float = setting(1e-3, "weight of the popularity shares that order what no transition tells apart")


class MarkovTrainer:
    """Counts transitions."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def fit(self, context: Context) -> dict[str, Any]:
        """Count transitions and popularity, and keep both."""
        n = len(context.items)
        pairs = (context.train.histories.last(), context.train.targets)
        counts = csr_matrix((np.ones(len(context.train), dtype=np.float32), pairs), shape=(n, n))
        counts.sum_duplicates()
        arrays = {"data": counts.data, "indices": counts.indices, "indptr": counts.indptr}
        arrays["popularity"] = np.bincount(context.train.targets, minlength=n).astype(np.float32)
        with replace_file(context.directory / "transitions.safetensors") as path:
            save_file(arrays, path)
        return {"rows": len(context.train), "transitions": int(counts.nnz)}

    def load(self, context: Context) -> Markov:
        """The counted model."""
        saved = load_file(context.directory / "transitions.safetensors")
        n = len(saved["popularity"])
        counts = csr_matrix((saved["data"], saved["indices"], saved["indptr"]), shape=(n, n))
        return Markov(counts, saved["popularity"], self.settings)


class Markov:
    """Scores = Σ_j decay^j · P(item | j-th last item) + popularity."""

    def __init__(self, counts: csr_matrix, popularity: np.ndarray, settings: Settings):
        totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
        self.shares = csr_matrix(counts.multiply((1 / totals)[:, None]), dtype=np.float32)
        self.popularity = popularity / popularity.sum()
        self.settings = settings

    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]``."""
        n = len(histories)
        weights = np.zeros((n, histories.items.shape[1]), dtype=np.float32)
        back = histories.lengths[:, None] - 1 - np.arange(histories.items.shape[1])
        inside = (back >= 0) & (back < self.settings.reach)
        weights[inside] = self.settings.decay ** back[inside]
        rows = np.nonzero(inside)
        visits = csr_matrix((weights[inside], (rows[0], histories.items[inside])), shape=(n, self.shares.shape[0]))
        return (visits @ self.shares).toarray() + self.settings.popularity * self.popularity
