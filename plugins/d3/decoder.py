"""``title-beam``: beam search over the trie of the catalogue's titles, a text-free assistant mixed in at each step.

score(title) = Σ over its tokens of α · log p_LM(token) + (1 − α) · L_TF(token), where L_TF is the share of the
assistant's probability that stays among the titles that begin so; the sum telescopes to
α · log p_LM(title) + (1 − α) · log p_TF(title). With the length penalty λ a finished title's score is divided by its
length^λ; D3's remedy is λ = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from harness.data.dataset import Histories, Items
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.decoding.generator import batches
from harness.decoding.search import collected
from harness.errors import BenchError
from harness.language.titles import TitleModel, ranked_items
from harness.progress import Progress
from harness.settings import setting
from harness.world import world


@dataclass(frozen=True)
class Settings:
    """Settings of the search (in brackets: the paper's code)."""

    beams: int = setting(50, "titles searched (10)")
    k: int = setting(50, "items returned; items of one title stand together, by the assistant's score")
    length_penalty: float = setting(0.0, "finished titles' scores are divided by length^this (0; 1 is the baseline)")
    assistant: bool = setting(True, "mix the text-free assistant in, where the method has one (as shipped: no)")
    renormalise: bool = setting(
        True, "divide by the legal tokens' probability at each step: forced tokens then cost nothing at all (no)"
    )
    batch_tokens: int = setting(16384, "positions computed at once (prompts and beams); bounds memory")


@runtime_checkable
class Assisted(Protocol):
    """A model that writes titles, with an assistant that scores items.

    Attributes:
        titles: the language model.
        alpha: its weight; the assistant's is 1 − alpha.
    """

    titles: TitleModel
    alpha: float

    def scores(self, histories: Histories) -> np.ndarray:
        """The assistant's ``[n, n_items]``; their softmax is its distribution."""
        ...


class TitleBeamDecoder:
    """The best titles of each history, as items."""

    Settings = Settings
    shares_work = True
    small = {"beams": 20, "k": 20}

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, items: Items, semantic_ids: SemanticIds | None) -> None:
        """Beams must fit the catalogue."""
        most = len({title for title in items.titles if title.strip()})
        if not most:
            raise BenchError("no item has a title, and d3 generates titles; use one of bench methods that needs none")
        if not 1 <= self.settings.beams <= most:
            raise BenchError(
                f"decoder.beams = {self.settings.beams}, but the catalogue has {most} titles; set {most} or less"
            )
        if not 1 <= self.settings.k <= self.settings.beams:
            raise BenchError(f"decoder.k = {self.settings.k} must lie in 1–{self.settings.beams}, the beams")

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best items of each history."""
        import torch

        from harness.decoding.beam import Closed, beam_search
        from harness.decoding.item_scores import group_probabilities
        from harness.decoding.padding import pad_left
        from harness.decoding.trie import Trie

        settings = self.settings
        assisted = model if isinstance(model, Assisted) else None
        writer: Any = assisted.titles if assisted else model
        if not isinstance(writer, TitleModel):
            raise BenchError("decoder title-beam takes a model that writes titles; set decoder=beam or decoder=rank")
        trie = Trie(writer.tokens, device, end=writer.end)
        lengths = (writer.tokens != writer.end).sum(1) + 1
        prompts = writer.encode(histories)
        parts = list(batches([len(p) for p in prompts], settings.batch_tokens, 8 * settings.beams))
        done: list[tuple[Any, np.ndarray, np.ndarray]] = []
        with torch.inference_mode(), progress.bar(len(prompts), "decode", "user") as bar:
            for rows in (parts[number] for number in world.share(len(parts))):
                tokens, mask = pad_left([prompts[row] for row in rows], writer.pad, device)
                mix, order = None, None
                if assisted and settings.assistant:
                    part = histories.take(rows)
                    order = assisted.scores(part)
                    by_title = group_probabilities(order, writer.titles.of_item, len(writer.titles.texts))
                    mix = Mixer(trie, torch.from_numpy(by_title).to(device), assisted.alpha)
                bought, closed = histories.take(rows).bought, None
                if bought is not None:
                    shut = bought.mask(writer.titles.of_item, len(writer.titles.texts))
                    closed = Closed(torch.from_numpy(shut).to(device), trie)
                found = beam_search(
                    writer.model, tokens, mask, trie, settings.beams, settings.renormalise, mix=mix, closed=closed
                )
                titles, values = found.leaves.cpu().numpy(), found.scores.cpu().numpy()
                if settings.length_penalty:
                    values = values / lengths[titles] ** settings.length_penalty
                    best = np.argsort(-values, axis=1, kind="stable")
                    titles, values = np.take_along_axis(titles, best, 1), np.take_along_axis(values, best, 1)
                gone = bought.items_mask(len(writer.titles.of_item)) if bought is not None else None
                done.append((rows, *ranked_items(titles, values, writer.titles, settings.k, order, gone)))
                bar.update(len(rows))
        return Rankings("item", *collected(len(prompts), settings.k, done))


class Mixer:
    """A step's scores: α · log p_LM + (1 − α) · log of the assistant's mass that stays with each child."""

    def __init__(self, trie: Any, by_title: Any, alpha: float):
        """`by_title` are the assistant's probabilities of titles ``[n, n_titles]``, float64."""
        from harness.decoding.shares import Shares

        self.shares, self.alpha = Shares(trie, by_title), alpha

    def __call__(self, step: int, nodes: Any, entries: Any, log_probs: Any) -> Any:
        """See :data:`harness.decoding.beam.Mix`."""
        return self.alpha * log_probs + (1 - self.alpha) * self.shares.log(step, nodes, entries)
