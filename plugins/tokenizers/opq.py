"""``opq``: parallel codes of a rotated vector, each of a part of it (RPG, KDD 2025: 16 to 64 codes an item)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from harness.components import ItemContext
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.quantising.quantisers import product
from harness.settings import setting

from .of_vectors import Levels, VectorSettings, semantic_ids, vectors_of


@dataclass(frozen=True)
class Settings(VectorSettings):
    """Settings of the quantiser."""

    levels: Levels = setting(16, "parts of the vector, and so codes of an item")
    rounds: Annotated[int, Ge(1)] = setting(8, "rounds of rotation and codebooks in turn")
    iterations: Annotated[int, Ge(1)] = setting(25, "k-means iterations of the first round, at most")


class OpqTokenizer:
    """Optimised product quantisation (Ge, He, Ke and Sun, CVPR 2013)."""

    Settings = Settings
    small = {"levels": 4, "codes": 8, "embedder": "tfidf", "dimensions": 16, "rounds": 2, "iterations": 5}

    def __init__(self, settings: Settings):
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds:
        """Codes of every item.

        Raises:
            BenchError: the vectors are narrower than there are parts.
        """
        s = self.settings
        vectors = vectors_of(context, s)
        if vectors.shape[1] < s.levels:
            raise BenchError(
                f"tokenizer opq: vectors of width {vectors.shape[1]} have no {s.levels} parts; set tokenizer.levels="
                f"{vectors.shape[1]} or fewer"
            )
        rounds = context.progress.over(range(s.rounds), s.rounds, "opq", "round")
        return semantic_ids(product(vectors, s.levels, s.codes, context.seed, rounds, s.iterations).codes, "opq", s)
