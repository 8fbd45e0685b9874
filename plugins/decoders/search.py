"""``beam`` and ``exact``: the engine of :mod:`harness.decoding` behind the decoder protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.components import setting
from harness.data.dataset import Histories, Items
from harness.errors import BenchError
from harness.generative import Generator, batches
from harness.progress import Progress
from harness.rankings import Rankings
from harness.semantic_ids import SemanticIds


@dataclass(frozen=True)
class SearchSettings:
    """What all searches of the engine have in common."""

    beams: int = setting(50, "candidates, all of them returned (the paper: 50)")
    renormalise: bool | None = setting(
        None, "divide by the legal tokens' probability at each step; empty: as the model was trained"
    )
    temperature: float = setting(1.0, "divides the logits")
    precision: Literal["float32", "bfloat16"] = setting("float32", "autocast precision; scores are float32")
    compile: bool = setting(False, "compile the model (torch.compile): a minute first, for many users or a large model")


@dataclass(frozen=True)
class BeamSettings(SearchSettings):
    """Settings of the constrained beam search."""

    batch_tokens: int = setting(4096, "positions computed at once (prompts and beams); bounds memory")


@dataclass(frozen=True)
class ExactSettings(SearchSettings):
    """Settings of the exact scoring."""

    batch_tokens: int = setting(16384, "positions computed at once; bounds memory")
    chunk: int = setting(512, "trie nodes fed at a time")


class SidDecoder:
    """Base of the decoders of semantic IDs; a subclass gives ``Settings`` (with ``beams``) and ``decode``."""

    def __init__(self, settings: Any):
        self.settings = settings

    def check(self, items: Items, semantic_ids: SemanticIds | None) -> None:
        """Beams must fit the catalogue."""
        check_beams(self.settings.beams, semantic_ids)


class BeamDecoder(SidDecoder):
    """50 constrained beams; prompts computed once, beams in the sequence dimension."""

    Settings = BeamSettings

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best SIDs of each history."""
        from harness.decoding.beam import beam_search

        settings, model = self.settings, needs_generative(model, "beam")
        renormalise = model.renormalise if settings.renormalise is None else settings.renormalise

        def search(lm: Any, ids: Any, mask: Any, trie: Any) -> Any:
            return beam_search(lm, ids, mask, trie, settings.beams, renormalise, settings.temperature)

        extra = settings.beams * max(1, model.sid_tokens.shape[1] - 1)
        return _decode(search, model, histories, settings, extra, device, progress)


class ExactDecoder(SidDecoder):
    """Every SID scored: the true top k, and the oracle of ``beam``."""

    Settings = ExactSettings

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best SIDs of each history."""
        from harness.decoding.exact import exact_search

        settings, model = self.settings, needs_generative(model, "exact")
        renormalise = model.renormalise if settings.renormalise is None else settings.renormalise

        def search(lm: Any, ids: Any, mask: Any, trie: Any) -> Any:
            return exact_search(lm, ids, mask, trie, settings.beams, settings.chunk, renormalise, settings.temperature)

        return _decode(search, model, histories, settings, settings.chunk, device, progress)


def check_beams(beams: int, semantic_ids: SemanticIds | None) -> None:
    """Refuse more beams than the catalogue has SIDs, and a recipe without SIDs."""
    if semantic_ids is None:
        raise BenchError(
            "this decoder needs semantic IDs and there are none; give --tokenizer given or --tokenizer rqkmeans"
        )
    n_sids = len(semantic_ids.distinct)
    if not 1 <= beams <= n_sids:
        raise BenchError(
            f"decoder.beams = {beams}, but the catalogue has {n_sids} SIDs; set decoder.beams={n_sids} or less"
        )


def needs_generative(model: Any, decoder: str) -> Generator:
    """The model, or the error that names a decoder for it."""
    if not isinstance(model, Generator):
        raise BenchError(f"decoder {decoder} takes a generative model, this method trains none; set decoder=rank")
    return model


def engine(model: Any, settings: SearchSettings) -> Any:
    """What the engine drives: the model taken apart, compiled where that is asked for."""
    from harness.decoding.split import SplitModel, split

    lm = split(model)
    if settings.compile and isinstance(lm, SplitModel):
        lm.compile()
    return lm


def autocast(settings: SearchSettings, device: str) -> Any:
    """The autocast context of a precision."""
    import torch

    reduced = settings.precision == "bfloat16"
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=reduced)


def _decode(
    search: Callable[..., Any], model: Generator, histories: Histories, settings: Any, extra: int, device: str,
    progress: Progress,
) -> Rankings:  # fmt: skip
    import torch

    from harness.decoding.layout import pad_left
    from harness.decoding.trie import Trie

    beams = settings.beams
    trie = Trie(model.sid_tokens, device)
    check_beams(beams, model.semantic_ids)
    prompts = model.encode(histories)
    lm = engine(model.model, settings)
    ids = np.full((len(prompts), beams), -1, dtype=np.int32)
    scores = np.full((len(prompts), beams), -np.inf, dtype=np.float32)
    with torch.inference_mode(), autocast(settings, device), progress.bar(len(prompts), "decode", "user") as bar:
        for rows in batches([len(p) for p in prompts], settings.batch_tokens, extra):
            tokens, mask = pad_left([prompts[r] for r in rows], model.pad, device)
            found = search(lm, tokens, mask, trie)
            ids[rows], scores[rows] = found.leaves.cpu().numpy(), found.scores.cpu().numpy()
            bar.update(len(rows))
    return Rankings(model.leaves, ids, scores)
