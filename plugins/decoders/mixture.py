"""``mixture``: the best SIDs of a model with a memory beside it; a model without one gets plain beams."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from harness.components import setting
from harness.data.dataset import Histories
from harness.generative import Generator, batches
from harness.progress import Progress
from harness.rankings import Rankings
from harness.semantic_ids import SemanticIds
from plugins.decoders.search import BeamDecoder, BeamSettings, SidDecoder, autocast, engine

if TYPE_CHECKING:
    import torch

    from harness.decoding.mixture import Candidates
    from harness.decoding.trie import Trie


@dataclass(frozen=True)
class Settings(BeamSettings):
    """Settings of the beams, and how many candidates each side proposes."""

    candidates: int = setting(100, "SIDs that model and memory propose each; both score all of them")


@runtime_checkable
class Remembering(Protocol):
    """A language model with a memory beside it.

    Attributes:
        generator: the language model.
    """

    generator: Generator

    def recall(self, histories: Histories) -> np.ndarray:
        """The memory's scores of SIDs ``[n, n_sids]``, float32: what it proposes are the best of a row."""
        ...

    def scores(self, found: Candidates, histories: Histories, trie: Trie) -> torch.Tensor:
        """What candidates are ranked by ``[n, candidates]``, -inf where dead."""
        ...


class MixtureDecoder(SidDecoder):
    """Beams and the memory's best, ranked by the mixture."""

    Settings = Settings

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best SIDs of each history."""
        from harness.decoding.mixture import best_of
        from harness.decoding.trie import Trie

        settings = self.settings
        if not isinstance(model, Remembering):
            shared = {field.name: getattr(settings, field.name) for field in dataclasses.fields(BeamSettings)}
            return BeamDecoder(BeamSettings(**shared)).decode(model, histories, semantic_ids, device, progress)
        trie = Trie(model.generator.sid_tokens, device)
        ids = np.full((len(histories), settings.beams), -1, dtype=np.int32)
        scores = np.full((len(histories), settings.beams), -np.inf, dtype=np.float32)
        with progress.bar(len(histories), "decode", "user") as bar:
            for rows, found in proposals(model, histories, trie, settings, device):
                part = Histories(histories.items[rows], histories.lengths[rows])
                best = best_of(found, model.scores(found, part, trie), trie, settings.beams)
                ids[rows], scores[rows] = best.leaves.cpu().numpy(), best.scores.cpu().numpy()
                bar.update(len(rows))
        return Rankings(model.generator.leaves, ids, scores)


def proposals(
    model: Remembering, histories: Histories, trie: Any, settings: Settings, device: str
) -> Iterator[tuple[np.ndarray, Any]]:
    """``(rows, candidates)`` batch by batch, within the token budget."""
    import torch

    from harness.decoding.layout import pad_left
    from harness.decoding.mixture import propose

    generator = model.generator
    renormalise = generator.renormalise if settings.renormalise is None else settings.renormalise
    n = min(max(settings.candidates, settings.beams), len(trie))
    lm = engine(generator.model, settings)
    prompts = generator.encode(histories)
    for rows in batches([len(p) for p in prompts], settings.batch_tokens, n * max(1, trie.depth - 1)):
        ids, mask = pad_left([prompts[r] for r in rows], generator.pad, device)
        memory = torch.from_numpy(model.recall(Histories(histories.items[rows], histories.lengths[rows]))).to(device)
        with autocast(settings, device):
            found = propose(lm, ids, mask, trie, memory, n, renormalise, settings.temperature)
        yield rows, found
