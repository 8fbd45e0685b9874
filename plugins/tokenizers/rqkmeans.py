"""``rqkmeans``: residual k-means on item vectors, level by level (MiniOneRec's RQ-KMeans; GRID's RK-means).

Level l clusters what the centroids of the levels before it leave over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.components import ItemContext
from harness.data.semantic_ids import SemanticIds
from harness.quantising.balanced import balanced_k_means
from harness.quantising.clusters import Clusters, Engine, k_means
from harness.quantising.quantisers import residual
from harness.settings import setting

from .of_vectors import VectorSettings, semantic_ids, vectors_of


@dataclass(frozen=True)
class Settings(VectorSettings):
    """Settings of the quantiser."""

    iterations: int = setting(100, "k-means iterations a level, at most")
    normalise: bool = setting(False, "bring what is left to length 1 before each level (GRID's RK-means)")
    engine: Engine = setting("auto", "sklearn, or faiss (extra: faiss); auto: faiss where it is installed")


class RqKmeansTokenizer:
    """Residual k-means; mini-batches for catalogues of more than 200,000 items."""

    Settings: type = Settings
    small = {"codes": 16, "embedder": "tfidf", "dimensions": 16, "iterations": 5}
    name = "rqkmeans"

    def __init__(self, settings: Settings):
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds:
        """Codes of every item; items of equal vectors share a SID."""
        s, bar = self.settings, context.progress
        vectors = vectors_of(context, s)

        def cluster(left: np.ndarray, level: int) -> Clusters:
            return self.cluster(left, context.seed + level)

        levels = bar.over(range(s.levels), s.levels, self.name, "level")
        return semantic_ids(residual(vectors, levels, cluster, s.normalise).codes, self.name, s)

    def cluster(self, left: np.ndarray, seed: int) -> Clusters:
        """One level's clusters."""
        s = self.settings
        return k_means(left, s.codes, seed % 2**32, s.iterations, s.engine)


@dataclass(frozen=True)
class BalancedSettings(VectorSettings):
    """Settings of the balanced quantiser."""

    iterations: int = setting(12, "balanced k-means iterations a level, at most")
    normalise: bool = setting(False, "bring what is left to length 1 before each level")


class BalancedTokenizer(RqKmeansTokenizer):
    """Residual k-means whose clusters differ in size by one item at most, by optimal assignment."""

    Settings = BalancedSettings
    small = {"codes": 16, "embedder": "tfidf", "dimensions": 16, "iterations": 2}
    name = "rqkmeans-balanced"

    def cluster(self, left: np.ndarray, seed: int) -> Clusters:
        """One level's clusters."""
        return balanced_k_means(left, self.settings.codes, seed, self.settings.iterations)
