"""What tokenizers of vectors share: which vectors, how many levels and codes, and how their source is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from harness.components import ItemContext
from harness.data.semantic_ids import MOST_LEVELS, SemanticIds
from harness.quantising.clusters import uses_faiss
from harness.settings import setting

Levels = Annotated[int, Ge(1), Le(MOST_LEVELS)]
Codes = Annotated[int, Ge(2), Le(2**20)]


@dataclass(frozen=True)
class VectorSettings:
    """Which vectors a tokenizer is made of, and the shape of its SIDs."""

    levels: Levels = setting(3, "levels of the SID")
    codes: Codes = setting(256, "codes a level, fewer where the catalogue is smaller")
    embedder: str | dict[str, Any] = setting(
        "tfidf", "tfidf, sentence, hf:PATH, npy:PATH, cooccurrence, run:DIR; or several with weights, side by side",
        components="embedder",
    )  # fmt: skip
    text: str = setting("title-description", "text of an item, for embedders that read it; see the embedder tfidf")
    dimensions: Annotated[int, Ge(1)] = setting(256, "dimensions that tfidf keeps")


def vectors_of(context: ItemContext, settings: Any) -> np.ndarray:
    """The vectors of the catalogue ``[n_items, d]``.

    Raises:
        BenchError: they cannot be had.
    """
    vectors = context.vectors(settings.embedder, text=settings.text, dimensions=settings.dimensions)
    if (vectors == vectors[0]).all():
        context.progress.say("all items have the same vector: they share one SID")
    return vectors


def named_embedder(settings: Any) -> str:
    """The embedder in words, for captions."""
    given = settings.embedder
    return given.partition(":")[0] if isinstance(given, str) else " + ".join(name.partition(":")[0] for name in given)


def semantic_ids(codes: np.ndarray, tokenizer: str, settings: Any) -> SemanticIds:
    """Semantic IDs with their source in words; FAISS is named where it made them."""
    by = ", faiss" if hasattr(settings, "engine") and uses_faiss(settings.engine) else ""
    return SemanticIds(codes.astype(np.int32), f"{tokenizer} ({named_embedder(settings)}{by})")
