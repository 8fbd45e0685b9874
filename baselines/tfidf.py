"""``tfidf``: items whose titles share rare words with the history's. Nothing is learned from purchases.

TF-IDF of title words and their cosine (scikit-learn); the history's own items stay, as repeats are
real targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from harness.components import Context
from harness.data.dataset import Histories, Items
from harness.data.texts import title_vectors
from harness.errors import NoTexts
from harness.files import replace_file
from harness.settings import setting

from .shared.item_to_item import FILE, Share, VoteSettings, popularity_shares, visits


@dataclass(frozen=True)
class Settings(VoteSettings):
    """Settings of the title match."""

    decay: Share = setting(0.4, "weight of an item of the history, by each step back from the last")
    popularity: Share = setting(1e-6, "weight of the popularity shares, for titles that match nothing")
    sublinear: bool = setting(False, "1 + log of a word's count within a title in place of the count")


class TfidfTrainer:
    """Weighs words."""

    Settings = Settings
    distributed = False

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, context: Context) -> None:
        """There must be titles."""
        needs_titles(context.items, "tfidf")

    def fit(self, context: Context) -> dict[str, Any]:
        """Keep the title vectors."""
        vectors = title_vectors(context.items, self.settings.sublinear)
        arrays = {"data": vectors.data, "indices": vectors.indices, "indptr": vectors.indptr}
        arrays["popularity"] = popularity_shares(context.train, len(context.items))
        arrays["words"] = np.array([vectors.shape[1]], dtype=np.int64)
        with replace_file(context.directory / FILE) as path:
            save_file(arrays, path)
        return {"items": len(context.items), "words": vectors.shape[1]}

    def load(self, context: Context) -> TitleMatch:
        """The title vectors, ready to score."""
        saved = load_file(context.directory / FILE)
        shape = (len(saved["popularity"]), int(saved["words"][0]))
        vectors = csr_matrix((saved["data"], saved["indices"], saved["indptr"]), shape=shape)
        return TitleMatch(vectors, saved["popularity"], self.settings)


class TitleMatch:
    """Scores = Σ_m decay^m · cos(title of the m-th last item, title)."""

    def __init__(self, vectors: csr_matrix, popularity: np.ndarray, settings: Settings):
        self.vectors, self.popularity, self.settings = vectors, popularity, settings

    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]``."""
        wanted = visits(histories, self.vectors.shape[0], self.settings.decay, self.settings.reach) @ self.vectors
        matched = (wanted @ self.vectors.T).toarray()
        matched += np.float64(self.settings.popularity) * self.popularity
        return matched


def needs_titles(items: Items, who: str) -> None:
    """Refuse a category without titles."""
    if not any(title.strip() for title in items.titles):
        raise NoTexts(f"{who} needs item titles and this category has none; use skip-markov, which needs ids only")
