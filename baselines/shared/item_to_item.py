"""What the counting baselines share: a matrix from items to items, and histories that decay.

One differs from another in how its matrix comes about; scoring is the same for all: each item of the history
votes with its row of the matrix, the more recent the louder, and popularity orders what is left equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from harness.components import Context
from harness.data.dataset import Histories, Samples
from harness.files import replace_file
from harness.settings import setting

Share = Annotated[float, Ge(0), Le(1)]
"""A number from 0 to 1."""
Natural = Annotated[int, Ge(1)]
"""A whole number from 1."""
FILE = "weights.safetensors"


@dataclass(frozen=True)
class VoteSettings:
    """How the items of a history vote."""

    decay: Share = setting(0.5, "weight of an item of the history, by each step back from the last")
    reach: Natural = setting(10, "items of the history that count, from the last")
    popularity: Annotated[float, Ge(0)] = setting(
        1e-3, "weight of the popularity shares that order what the votes leave equal"
    )


class ItemToItem:
    """Scores = Σ_m decay^m · W[m-th last item] + popularity, over the last `reach` items."""

    def __init__(self, weights: Any, popularity: np.ndarray, settings: VoteSettings):
        self.weights = weights
        """``[n_items, n_items]``, sparse or dense."""
        self.popularity = popularity
        self.settings = settings

    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]`` float64, so that popularity orders what the votes leave equal."""
        seen = visits(histories, len(self.popularity), self.settings.decay, self.settings.reach)
        if hasattr(self.weights, "tocsr"):
            dense = (seen @ self.weights).toarray()
        else:  # a dense matrix is not copied to float64
            dense = (seen.astype(self.weights.dtype) @ self.weights).astype(np.float64)
        dense += np.float64(self.settings.popularity) * self.popularity
        return dense

    def save(self, directory: Path) -> dict[str, Any]:
        """Write the matrix; returns facts for the record."""
        arrays = {"popularity": self.popularity}
        if hasattr(self.weights, "tocsr"):
            matrix = csr_matrix(self.weights)
            arrays |= {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
            filled = int(matrix.nnz)
        else:
            arrays["dense"] = np.ascontiguousarray(self.weights, dtype=np.float32)
            filled = int(np.count_nonzero(self.weights))
        with replace_file(directory / FILE) as path:
            save_file(arrays, path)
        return {"weights": filled}

    @classmethod
    def load(cls, directory: Path, settings: VoteSettings) -> ItemToItem:
        """Read what :meth:`save` wrote."""
        saved = load_file(directory / FILE)
        n = len(saved["popularity"])
        weights = saved.get("dense")
        if weights is None:
            weights = csr_matrix((saved["data"], saved["indices"], saved["indptr"]), shape=(n, n))
        return cls(weights, saved["popularity"], settings)


class VoteTrainer:
    """Base of the counting baselines that vote: a subclass gives ``Settings`` and ``weights``."""

    Settings: type = VoteSettings
    distributed = False

    def __init__(self, settings: Any):
        self.settings = settings

    def weights(self, train: Samples, n_items: int) -> Any:
        """The matrix from items to items ``[n_items, n_items]``, sparse or dense."""
        raise NotImplementedError

    def fit(self, context: Context) -> dict[str, Any]:
        """Count, and keep the matrix."""
        n = len(context.items)
        model = ItemToItem(self.weights(context.train, n), popularity_shares(context.train, n), self.settings)
        return {"rows": len(context.train), **model.save(context.directory)}

    def load(self, context: Context) -> ItemToItem:
        """The counted model."""
        return ItemToItem.load(context.directory, self.settings)


def visits(histories: Histories, n_items: int, decay: float, reach: int) -> csr_matrix:
    """The histories as decayed counts ``[n, n_items]``: decay^m for the m-th last item, from m = 0."""
    back = histories.lengths[:, None] - 1 - np.arange(histories.items.shape[1])
    inside = (back >= 0) & (back < reach)
    rows, _ = np.nonzero(inside)
    values = decay ** back[inside].astype(np.float64)
    return csr_matrix((values, (rows, histories.items[inside])), shape=(len(histories), n_items))


def popularity_shares(train: Samples, n_items: int) -> np.ndarray:
    """The share of each item among the train targets ``[n_items]``."""
    return np.bincount(train.targets, minlength=n_items) / max(1, len(train))


def transitions(
    train: Samples, n_items: int, window: int = 1, gap_decay: float = 1.0, backward: float = 0.0
) -> csr_matrix:
    """How often an item followed another in train ``[n_items, n_items]``: row is before, column after.

    Pairs up to `window` purchases apart count, by gap_decay^(gap − 1); each sample adds the pairs that
    end in its own target, so no pair is counted twice. `backward` is the weight of the reversed pairs.
    """
    counts = csr_matrix((n_items, n_items), dtype=np.float64)
    for gap in range(1, window + 1):
        before = train.histories.last(gap)
        known = before >= 0
        values = np.full(int(known.sum()), gap_decay ** (gap - 1), dtype=np.float64)
        counts = counts + csr_matrix((values, (before[known], train.targets[known])), shape=(n_items, n_items))
    if backward:
        counts = counts + backward * counts.T
    return csr_matrix(counts)


def smoothed_shares(counts: csr_matrix, smoothing: float) -> csr_matrix:
    """Each row over its sum + `smoothing`: the less an item was seen, the less its followers say."""
    totals = np.asarray(counts.sum(axis=1)).ravel() + smoothing
    return csr_matrix(counts.multiply((1 / np.maximum(totals, 1e-12))[:, None]))


def user_item(train: Samples, n_items: int) -> csr_matrix:
    """Which user bought which item in train ``[n_users, n_items]``, binary."""
    users = train.user_numbers
    inside = train.histories.items >= 0
    rows, _ = np.nonzero(inside)
    bought = np.concatenate([train.histories.items[inside], train.targets])
    who = np.concatenate([users[rows], users])
    matrix = csr_matrix((np.ones(len(who)), (who, bought)), shape=(int(users.max()) + 1, n_items))
    matrix.data[:] = 1.0
    return matrix
