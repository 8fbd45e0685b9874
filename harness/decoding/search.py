"""What decoders of semantic IDs share: their settings and checks, the engine, and batches within a token budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from harness.data.dataset import Histories, Items
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.data.ties import Tied
from harness.decoding.generator import Generator, batches, trie_of
from harness.errors import BenchError
from harness.progress import Progress
from harness.settings import setting
from harness.world import world

if TYPE_CHECKING:
    import torch

    from harness.decoding.beam import Mix
    from harness.decoding.mixture import Candidates
    from harness.decoding.trie import Trie


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


class SidDecoder:
    """Base of the decoders of semantic IDs; a subclass gives ``Settings`` (with ``beams``) and ``decode``."""

    def __init__(self, settings: Any):
        self.settings = settings

    def check(self, items: Items, semantic_ids: SemanticIds | None) -> None:
        """Beams must fit the catalogue."""
        check_beams(self.settings.beams, semantic_ids)


@dataclass(frozen=True)
class MixtureSettings(BeamSettings):
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


@runtime_checkable
class Mixing(Protocol):
    """A generator whose every step weighs something beside its model: ``beam`` and ``exact`` ask it."""

    def mix(self, histories: Histories, trie: Trie) -> Mix:
        """What puts a step's log-probabilities together with it, for prompts of those histories."""
        ...


@runtime_checkable
class TellsApart(Protocol):
    """What :meth:`Mixing.mix` gives for some prompts, where the model tells items of one SID apart."""

    def shares(self) -> np.ndarray:
        """What each item adds to the score of its SID ``[n, n_items]``, 0 or less: its share's logarithm, weighted."""
        ...


def tells_apart(model: Any) -> bool:
    """Whether a model tells items of one SID apart (its ``apart``): ``beam`` and ``exact`` then rank items."""
    return bool(getattr(model, "apart", False))


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
    from harness.decoding.engine import split
    from harness.decoding.split import SplitModel

    lm = split(model)
    if settings.compile and isinstance(lm, SplitModel):
        lm.compile()
    return lm


def autocast(settings: SearchSettings, device: str) -> Any:
    """The autocast context of a precision."""
    import torch

    reduced = settings.precision == "bfloat16"
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=reduced)


def decode_by(
    search: Callable[..., Any], model: Generator, histories: Histories, settings: Any, extra: int, device: str,
    progress: Progress,
) -> Rankings:  # fmt: skip
    """The best leaves of each history by a search ``(engine, ids, mask, trie, closed, mix) → Beams``, batch by batch.

    Args:
        extra: positions that a prompt costs beside its own, for the size of a batch.
    """
    import torch

    from harness.decoding.padding import pad_left
    from harness.decoding.told_apart import best_items

    beams, apart = settings.beams, tells_apart(model)
    trie = trie_of(model, device)
    check_beams(beams, model.semantic_ids)
    prompts = model.encode(histories)
    lm = engine(model.model, settings)
    parts: list[tuple[int, np.ndarray, np.ndarray, Tied]] = []
    with torch.inference_mode(), autocast(settings, device), progress.bar(len(prompts), "decode", "user") as bar:
        shares = list(batches([len(p) for p in prompts], settings.batch_tokens, extra))
        for number in world.share(len(shares)):  # whole batches: what a score is to the last bit hangs on its batch
            rows = shares[number]
            tokens, mask = pad_left([prompts[r] for r in rows], model.pad, device)
            part = histories.take(rows)
            mix = model.mix(part, trie) if isinstance(model, Mixing) else None
            best = search(lm, tokens, mask, trie, closed_to(part, model, trie, device), mix)
            found, scored, cut = best.leaves.cpu().numpy().astype(np.int32), best.scores.cpu().numpy(), best.cut
            if apart:
                assert isinstance(mix, TellsApart)
                closed = part.bought.items_mask(len(model.semantic_ids.of_item)) if part.bought is not None else None
                found, scored, tied = best_items(found, scored, mix.shares(), model.semantic_ids, beams, closed)
            else:
                tied = Tied.of_cut(cut.cpu().numpy(), found) if cut is not None else Tied.none(len(rows))
            parts.append((number, found, scored, tied))
            bar.update(len(rows))
    parts = sorted(world.collected(parts), key=lambda part: part[0])
    ids = np.full((len(prompts), beams), -1, dtype=np.int32)
    scores = np.full((len(prompts), beams), -np.inf, dtype=np.float32)
    order = np.concatenate([np.asarray(rows) for rows in shares])
    ids[order] = np.concatenate([found for _, found, _, _ in parts])
    scores[order] = np.concatenate([values for _, _, values, _ in parts])
    tied = Tied.joined([part[3] for part in parts]).take(np.argsort(order))
    return Rankings("item" if apart else model.leaves, ids, scores, tied=tied)


def collected(n: int, width: int, found: list[tuple[Any, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids ``[n, width]`` and scores of the batches that each process of a run has decoded: ``(rows, ids, scores)``."""
    ids = np.full((n, width), -1, dtype=np.int32)
    scores = np.full((n, width), -np.inf, dtype=np.float32)
    for rows, some, values in world.collected(found):
        ids[rows], scores[rows] = some, values
    return ids, scores


def closed_to(histories: Histories, model: Generator, trie: Trie, device: str) -> Any:
    """What may not be recommended to histories, as leaves of the trie; None: everything may be."""
    if histories.bought is None:
        return None
    import torch

    from harness.decoding.beam import Closed

    of_item = model.semantic_ids.of_item
    by_item = model.leaves == "item"
    mask = histories.bought.items_mask(len(of_item)) if by_item else histories.bought.mask(of_item, len(trie))
    return Closed(torch.from_numpy(mask).to(device), trie)


def proposals(
    model: Remembering, histories: Histories, trie: Any, settings: MixtureSettings, device: str
) -> Iterator[tuple[np.ndarray, Any]]:
    """``(rows, candidates)`` batch by batch, within the token budget: the batches of this process."""
    import torch

    from harness.decoding.mixture import propose
    from harness.decoding.padding import pad_left

    generator = model.generator
    renormalise = generator.renormalise if settings.renormalise is None else settings.renormalise
    n = min(max(settings.candidates, settings.beams), len(trie))
    lm = engine(generator.model, settings)
    prompts = generator.encode(histories)
    parts = list(batches([len(p) for p in prompts], settings.batch_tokens, n * max(1, trie.depth - 1)))
    for rows in (parts[number] for number in world.share(len(parts))):
        ids, mask = pad_left([prompts[r] for r in rows], generator.pad, device)
        part = histories.take(rows)
        memory = torch.from_numpy(model.recall(part)).to(device)
        closed = closed_to(part, generator, trie, device)
        with autocast(settings, device):
            candidates = propose(lm, ids, mask, trie, memory, n, renormalise, settings.temperature, closed)
        yield rows, candidates
