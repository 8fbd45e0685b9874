"""``rqkmeans``: residual k-means on text embeddings, level by level (MiniOneRec's RQ-KMeans variant).

Level l clusters what the centroids of the levels before it leave over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.dataset import Dataset
from harness.data.semantic_ids import MOST_LEVELS, SemanticIds
from harness.data.texts import embed, item_texts
from harness.errors import BenchError
from harness.progress import Progress
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """Settings of the quantiser."""

    levels: int = setting(3, "levels of the SID")
    codes: int = setting(256, "codes a level, fewer where the catalogue is smaller")
    embedder: str = setting("tfidf", "tfidf (latent semantic analysis), minilm (extra: text) or hf:PATH (mean pooling)")
    dimensions: int = setting(
        256, "dimensions kept of the tfidf embedding", ("embedder is tfidf", lambda s: s.embedder == "tfidf")
    )
    iterations: int = setting(100, "k-means iterations a level, at most")


class RqKmeansTokenizer:
    """Residual k-means of scikit-learn."""

    Settings = Settings
    small = {"codes": 16, "embedder": "tfidf", "dimensions": 16, "iterations": 5}

    def __init__(self, settings: Settings):
        if not 1 <= settings.levels <= MOST_LEVELS or settings.codes < 2:
            raise BenchError(f"tokenizer: levels must lie in 1–{MOST_LEVELS} and codes be at least 2")
        self.settings = settings

    def tokenize(self, dataset: Dataset, seed: int, progress: Progress) -> SemanticIds:
        """Codes of every item; items with equal texts share a SID."""
        from sklearn.cluster import KMeans

        texts = item_texts(dataset.items)
        if not any(texts):
            raise BenchError(f"{dataset.category} has no item texts; rqkmeans needs titles or descriptions")
        residual = embed(texts, self.settings.embedder, self.settings.dimensions, seed, "tokenizer.embedder").astype(
            np.float32
        )
        codes = np.zeros((len(texts), self.settings.levels), dtype=np.int32)
        for level in progress.over(range(self.settings.levels), self.settings.levels, "rqkmeans", "level"):
            clusters = min(self.settings.codes, len(np.unique(residual, axis=0)))
            means = KMeans(
                clusters, n_init=1, max_iter=self.settings.iterations, random_state=(seed + level) % 2**32
            ).fit(residual)
            codes[:, level] = means.labels_
            residual = residual - means.cluster_centers_[means.labels_]
        return SemanticIds(codes, f"rqkmeans ({self.settings.embedder})")
