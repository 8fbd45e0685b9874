"""What stands in the place of a trainer and a decoder where rankings come from a file: both only say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.components import Context
from harness.data.dataset import Histories
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.progress import Progress
from harness.settings import NoSettings, setting

SAYS = "the rankings of this method were made elsewhere; bench score FILE records them"


@dataclass(frozen=True)
class Settings:
    """Which file it was."""

    file: str = setting("", "name of the file of rankings")
    sha256: str = setting("", "its content")


class ExternalTrainer:
    """Stage trainer ``external``."""

    Settings = Settings
    distributed = False

    def __init__(self, settings: Settings):
        self.settings = settings

    def fit(self, context: Context) -> dict[str, Any]:
        """There is nothing to train."""
        raise BenchError(SAYS)

    def load(self, context: Context) -> Any:
        """There is no model."""
        raise BenchError(SAYS)


class ExternalDecoder:
    """Decoder ``external``."""

    Settings = NoSettings
    decodes_nothing = True

    def __init__(self, settings: Any):
        self.settings = settings

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """There is nothing to decode."""
        raise BenchError(SAYS)
