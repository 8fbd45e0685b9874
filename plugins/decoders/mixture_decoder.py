"""``mixture``: the best SIDs of a model with a memory beside it; a model without one gets plain beams."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from harness.data.dataset import Histories
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.decoding.generator import trie_of
from harness.decoding.search import (
    BeamSettings,
    MixtureSettings,
    Remembering,
    SidDecoder,
    collected,
    proposals,
    tells_apart,
)
from harness.errors import BenchError
from harness.progress import Progress

from .sids import BeamDecoder


class MixtureDecoder(SidDecoder):
    """Beams and the memory's best, ranked by the mixture."""

    Settings = MixtureSettings
    shares_work = True
    small = {"beams": 20, "candidates": 20}

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best SIDs of each history."""
        from harness.decoding.mixture import best_of

        settings = self.settings
        if not isinstance(model, Remembering):
            shared = {field.name: getattr(settings, field.name) for field in dataclasses.fields(BeamSettings)}
            return BeamDecoder(BeamSettings(**shared)).decode(model, histories, semantic_ids, device, progress)
        if tells_apart(model):
            raise BenchError("decoder mixture ranks SIDs, and this method tells their items apart; set decoder=beam")
        trie = trie_of(model.generator, device)
        found: list[tuple[Any, np.ndarray, np.ndarray]] = []
        with progress.bar(len(histories), "decode", "user") as bar:
            for rows, candidates in proposals(model, histories, trie, settings, device):
                part = histories.take(rows)
                best = best_of(candidates, model.scores(candidates, part, trie), trie, settings.beams)
                found.append((rows, best.leaves.cpu().numpy(), best.scores.cpu().numpy()))
                bar.update(len(rows))
        return Rankings(model.generator.leaves, *collected(len(histories), settings.beams, found))
