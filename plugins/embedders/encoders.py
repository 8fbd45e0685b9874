"""``sentence`` and ``hf:PATH``: sentence encoders of the Hugging Face form, mean pooling over tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from harness.components import ItemContext
from harness.data.texts import encode, offline_encoder
from harness.errors import BenchError
from harness.settings import setting

from .word_vectors import texts_of


@dataclass(frozen=True)
class Settings:
    """Settings of a sentence encoder."""

    text: str = setting("title-description", "title, title-description, title-brand-categories, all, or a template")
    most_tokens: Annotated[int, Ge(1)] = setting(256, "tokens of a text that are read, from the first")
    batch: Annotated[int, Ge(1)] = setting(64, "texts encoded at once")


class HuggingFace:
    """An encoder by its folder or its name on the hub; what it gives is kept by content."""

    Settings = Settings
    slow, located, texts_only = True, True, True

    def __init__(self, settings: Settings, location: str | None):
        if not location:
            raise BenchError("embedder hf needs a model behind a colon: hf:PATH, a folder or a name on the hub")
        self.settings, self.location = settings, location

    def embed(self, context: ItemContext) -> np.ndarray:
        """``[n_items, width of the encoder]``, rows of length 1; a text that is empty is "unknown item"."""
        s = self.settings
        texts = texts_of(context, s.text)
        return encode(texts, self.location, context.device, s.batch, s.most_tokens, context.progress)


class Sentence(HuggingFace):
    """The encoder whose weights come as a package (extra ``text``): no network is needed."""

    small = {"most_tokens": 16}
    located = False

    def __init__(self, settings: Settings, location: str | None = None):
        if location:
            raise BenchError(f"embedder sentence takes no location, and has {location!r:.60}; hf:PATH does")
        super().__init__(settings, "the package")

    def embed(self, context: ItemContext) -> np.ndarray:
        """``[n_items, 384]``, rows of length 1."""
        self.location = offline_encoder("embedder sentence")
        return super().embed(context)
