"""``given``: the semantic IDs shipped with the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.components import ItemContext
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """Settings of ``given``."""

    optional: bool = setting(False, "data without SIDs is fine (for methods that rank items)")
    embedder: str | dict[str, Any] = setting(
        "", "vectors that a repair measures distances in; empty: ties of equal moves go by code", components="embedder"
    )


class GivenTokenizer:
    """Takes the dataset's own SIDs."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds | None:
        """The SIDs of the data.

        Raises:
            BenchError: the data has none.
        """
        given = context.dataset.given
        if given is None and not self.settings.optional:
            raise BenchError(
                f"{context.dataset.category} comes without semantic IDs; make them with --tokenizer rqkmeans"
            )
        if given is not None and self.settings.embedder:
            context.vectors(self.settings.embedder)
        return given
