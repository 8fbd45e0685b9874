"""``fused``: text vectors beside co-occurrence vectors, and any tokenizer on both (CollisionGenRec, CIKM 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.components import ItemContext
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """What is fused, and who makes codes of it."""

    of: str | dict[str, Any] = setting(
        "rqkmeans", "the tokenizer of the fused vectors, with its settings", components="tokenizer"
    )
    embedder: str | dict[str, Any] = setting(
        {"tfidf": 1.0, "cooccurrence": 0.3}, "embedders with their weights, side by side", components="embedder"
    )


class FusedTokenizer:
    """Each embedder's vectors are brought to length 1 and weighed; co-occurrence is of train alone."""

    Settings = Settings
    small = {"of": {"rqkmeans": {"codes": 16, "iterations": 5}}, "embedder": {"tfidf": 1.0, "cooccurrence": 0.3}}

    def __init__(self, settings: Settings):
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds | None:
        """Codes of every item.

        Raises:
            BenchError: the tokenizer takes no vectors.
        """
        given = self.settings.of
        name, own = (given, {}) if isinstance(given, str) else next(iter(given.items()))
        try:
            return context.tokenized({name: {**(own or {}), "embedder": self.settings.embedder}})
        except BenchError as error:
            if f"{name}.embedder" in error.message:
                raise BenchError(
                    f"tokenizer fused: {name} takes no vectors; set tokenizer.of to rqkmeans, rqvae, …"
                ) from None
            raise
