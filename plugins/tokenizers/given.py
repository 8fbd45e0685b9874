"""``given``: the semantic IDs shipped with the data."""

from __future__ import annotations

from dataclasses import dataclass

from harness.data.dataset import Dataset
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.progress import Progress
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """Settings of ``given``."""

    optional: bool = setting(False, "data without SIDs is fine (for methods that rank items)")


class GivenTokenizer:
    """Takes the dataset's own SIDs."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def tokenize(self, dataset: Dataset, seed: int, progress: Progress) -> SemanticIds | None:
        """The SIDs of the data.

        Raises:
            BenchError: the data has none.
        """
        if dataset.given is None and not self.settings.optional:
            raise BenchError(f"{dataset.category} comes without semantic IDs; make them with --tokenizer rqkmeans")
        return dataset.given
