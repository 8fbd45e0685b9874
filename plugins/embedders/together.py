"""``cooccurrence``: who is bought with what, as vectors: an SVD of positive pointwise mutual information.

Levy and Goldberg (NIPS 2014); CollisionGenRec (CIKM 2026) puts such vectors beside those of texts. Train alone is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from scipy.sparse import csr_matrix, diags

from harness.components import ItemContext
from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """Settings of ``cooccurrence``."""

    window: Annotated[int, Ge(1)] = setting(5, "purchases apart, at most, that count as together")
    factors: Annotated[int, Ge(1)] = setting(64, "singular vectors kept: the width")
    shift: Annotated[float, Ge(0)] = setting(0.0, "taken off the mutual information (nats) before what is left counts")


class Cooccurrence:
    """Items that are bought close to each other by the same users get vectors that are alike."""

    Settings = Settings
    small = {"factors": 8}

    def __init__(self, settings: Settings, location: str | None = None):
        if location:
            raise BenchError(f"embedder cooccurrence takes no location, and has {location!r:.60}; name it alone")
        self.settings = settings

    def embed(self, context: ItemContext) -> np.ndarray:
        """``[n_items, factors]``, rows of length 1; an item that train lacks is a row of zeros."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.preprocessing import normalize

        s, n = self.settings, len(context.items)
        weights = mutual_information(together(context.train, n, s.window), s.shift)
        width = min(s.factors, n - 1)
        if width < 1 or not weights.nnz:
            raise BenchError(f"no two items of {context.dataset.category} are bought together in train; take texts")
        found = TruncatedSVD(width, random_state=context.seed % 2**32).fit(weights)
        # the square root of the singular values on each side (Levy, Goldberg and Dagan 2015)
        vectors = (weights @ found.components_.T) / np.sqrt(np.maximum(found.singular_values_, 1e-12))
        return np.asarray(normalize(vectors))


def together(train: Samples, n_items: int, window: int) -> Any:
    """How often two items stand at most `window` purchases apart ``[n_items, n_items]``, symmetric.

    Each sample adds the pairs that end in its own target: no pair counts twice.
    """
    counts = csr_matrix((n_items, n_items), dtype=np.float64)
    for gap in range(1, window + 1):
        before = train.histories.last(gap)
        known = (before >= 0) & (before != train.targets)
        pairs = (before[known], train.targets[known])
        counts = counts + csr_matrix((np.ones(len(pairs[0])), pairs), shape=(n_items, n_items))
    return csr_matrix(counts + counts.T)


def mutual_information(counts: Any, shift: float) -> Any:
    """Positive pointwise mutual information, in nats, less `shift`."""
    total = counts.sum()
    sums = np.asarray(counts.sum(axis=1)).reshape(-1)
    inverse = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
    found = csr_matrix(diags(inverse) @ counts @ diags(inverse))
    found.data = np.maximum(np.log(found.data * total) - shift, 0.0)
    found.eliminate_zeros()
    return found
