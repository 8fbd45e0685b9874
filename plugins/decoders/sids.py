"""``beam`` and ``exact``: the engine of :mod:`harness.decoding` behind the decoder protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.data.dataset import Histories
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.decoding.search import BeamSettings, SearchSettings, SidDecoder, decode_by, needs_generative, tells_apart
from harness.progress import Progress
from harness.settings import setting


@dataclass(frozen=True)
class ExactSettings(SearchSettings):
    """Settings of the exact scoring."""

    batch_tokens: int = setting(16384, "positions computed at once; bounds memory")
    chunk: int = setting(512, "trie nodes fed at a time")


class BeamDecoder(SidDecoder):
    """50 constrained beams; prompts computed once, beams in the sequence dimension."""

    shares_work = True
    Settings = BeamSettings
    small = {"beams": 20}

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best SIDs of each history."""
        from harness.decoding.beam import beam_search

        settings, model = self.settings, needs_generative(model, "beam")
        renormalise = model.renormalise if settings.renormalise is None else settings.renormalise

        def search(lm: Any, ids: Any, mask: Any, trie: Any, closed: Any, mix: Any) -> Any:
            return beam_search(lm, ids, mask, trie, settings.beams, renormalise, settings.temperature, mix, closed)

        extra = settings.beams * max(1, model.sid_tokens.shape[1] - 1)
        return decode_by(search, model, histories, settings, extra, device, progress)


class ExactDecoder(SidDecoder):
    """Every SID scored: the true top k, and the oracle of ``beam``."""

    shares_work = True
    Settings = ExactSettings
    small = {"beams": 20}

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best SIDs of each history."""
        from harness.decoding.exact import exact_search

        settings, model = self.settings, needs_generative(model, "exact")
        renormalise = model.renormalise if settings.renormalise is None else settings.renormalise
        whole = tells_apart(model)  # the best items may be of any SID

        def search(lm: Any, ids: Any, mask: Any, trie: Any, closed: Any, mix: Any) -> Any:
            k = len(trie) if whole else settings.beams
            return exact_search(lm, ids, mask, trie, k, settings.chunk, renormalise, settings.temperature, closed, mix)

        return decode_by(search, model, histories, settings, settings.chunk, device, progress)
