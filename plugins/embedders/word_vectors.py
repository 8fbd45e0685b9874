"""``tfidf``: latent semantic analysis of item texts (Deerwester et al. 1990)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from harness.components import ItemContext
from harness.data.texts import item_texts, tfidf
from harness.errors import BenchError, NoTexts
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """Settings of ``tfidf``."""

    text: str = setting("title-description", "title, title-description, title-brand-categories, all, or a template")
    dimensions: Annotated[int, Ge(1)] = setting(256, "dimensions kept")


class TfIdf:
    """TF-IDF of words and word pairs, reduced by a truncated SVD; rows of length 1."""

    Settings = Settings

    def __init__(self, settings: Settings, location: str | None = None):
        if location:
            raise BenchError(f"embedder tfidf takes no location, and has {location!r:.60}; name it alone")
        self.settings = settings

    def embed(self, context: ItemContext) -> np.ndarray:
        """``[n_items, dimensions]``; an item whose words nobody else has is a row of zeros."""
        return tfidf(texts_of(context, self.settings.text), self.settings.dimensions, context.seed)


def texts_of(context: ItemContext, template: str) -> list[str]:
    """The text of each item.

    Raises:
        NoTexts: no item has any.
    """
    texts = item_texts(context.items, template)
    empty = sum(not text for text in texts)
    if empty == len(texts):
        raise NoTexts(
            f"{context.dataset.category} has no item texts by the template {template!r:.60}; the embedders "
            "cooccurrence and npy:PATH need none"
        )
    if empty:
        context.progress.say(f"{empty:,} of {len(texts):,} items have no text: their vectors say nothing")
    return texts
