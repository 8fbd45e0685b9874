"""Titles as what a language model generates: their tokens, the items behind each, and the model that writes them.

Several items may have one title, and an item without one cannot be written. It knows neither how the model was trained
nor how titles are searched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.data.dataset import Histories, Items
from harness.decoding.generator import batches, encode
from harness.errors import BenchError

BATCH_TOKENS = 16384
BEAMS = 4
BEHIND = 1e-3


@dataclass(frozen=True)
class Titles:
    """The distinct titles of a catalogue.

    Attributes:
        texts: the titles, sorted.
        of_item: ``[n_items]`` each item's title as an index into `texts`, -1 where it has none.
    """

    texts: list[str]
    of_item: np.ndarray

    @classmethod
    def of(cls, items: Items) -> Titles:
        """The titles of items.

        Raises:
            BenchError: no item has a title.
        """
        texts = sorted({title for title in items.titles if title.strip()})
        if not texts:
            raise BenchError(
                "no item has a title, and this method generates titles; use one of bench methods that needs none"
            )
        number = {title: n for n, title in enumerate(texts)}
        return cls(texts, np.array([number.get(title, -1) for title in items.titles], dtype=np.int32))

    @cached_property
    def items(self) -> list[np.ndarray]:
        """The items of each title, by id."""
        order = np.argsort(self.of_item, kind="stable")
        named = order[self.of_item[order] >= 0]
        sizes = np.bincount(self.of_item[named], minlength=len(self.texts))
        return np.split(named, np.cumsum(sizes)[:-1])

    @property
    def nameless(self) -> int:
        """How many items have no title, and so cannot be recommended."""
        return int((self.of_item < 0).sum())


@dataclass
class TitleModel:
    """A causal language model that reads a history and writes the next item's title.

    Attributes:
        model: a Hugging Face causal LM in eval mode.
        prompt: turns histories (lists of item ids) into prompt strings.
        answer_end: text between a title and its end.
        end_token: the token that ends a title; empty: the end of sequence.
        max_prompt: prompts keep their last `max_prompt` tokens.
    """

    model: Any
    text_tokenizer: Any
    titles: Titles
    prompt: Callable[[Sequence[Sequence[int]]], list[str]]
    answer_end: str = ""
    end_token: str = ""
    max_prompt: int = 512

    @property
    def end(self) -> int:
        """The token that ends a title."""
        if self.end_token:
            return int(self.text_tokenizer.convert_tokens_to_ids(self.end_token))
        return int(self.text_tokenizer.eos_token_id)

    @property
    def pad(self) -> int:
        """The token id that fills prompts on the left (it is masked everywhere)."""
        token = self.text_tokenizer.pad_token_id
        return int(token if token is not None else self.text_tokenizer.eos_token_id)

    @property
    def device(self) -> Any:
        """Where the model is."""
        return next(self.model.parameters()).device

    @cached_property
    def tokens(self) -> np.ndarray:
        """Token ids of the titles ``[n_titles, longest]``, each ended and filled up with :attr:`end`."""
        rows = self._encoded([text + self.answer_end for text in self.titles.texts])
        filled = np.full((len(rows), max(len(row) for row in rows) + 1), self.end, dtype=np.int64)
        for number, row in enumerate(rows):
            filled[number, : len(row)] = row
        return filled

    def encode(self, histories: Histories) -> list[list[int]]:
        """Prompts as token ids."""
        return encode(self.text_tokenizer, self.prompt(histories.lists()), self.max_prompt)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings ``[n, d]`` (float32): the last layer's state at the text's last token (BIGRec, arXiv 2308.08434).

        Texts are stripped alike; an empty one gets zeros.
        """
        import torch

        from harness.decoding.engine import EngineModel
        from harness.decoding.padding import pad_left

        rows = self._encoded([text.strip() for text in texts])
        lm = EngineModel(self.model)
        if lm.whole:
            raise BenchError("grounding needs a model whose last states can be read; this one gives its logits alone")
        vectors = np.zeros((len(rows), int(self.model.config.hidden_size)), dtype=np.float32)
        with torch.inference_mode():
            for part in batches([len(row) or 1 for row in rows], BATCH_TOKENS):
                kept = [row for row in part.tolist() if rows[row]]
                if kept:
                    ids, mask = pad_left([rows[row] for row in kept], self.pad, self.device)
                    vectors[kept] = lm.prefill(ids, mask).states.float().cpu().numpy()
        return vectors

    @cached_property
    def embeddings(self) -> np.ndarray:
        """Of each title ``[n_titles, d]``."""
        return self.embed(self.titles.texts)

    def write(self, histories: Histories, beams: int = BEAMS) -> list[list[str]]:
        """The `beams` best texts for each history, best first, by plain beam search: nothing holds them to titles."""
        from harness.decoding.free import write
        from harness.decoding.padding import pad_left

        prompts = self.encode(histories)
        longest = self.tokens.shape[1]
        written: list[list[str]] = [[] for _ in prompts]
        for rows in batches([len(prompt) for prompt in prompts], BATCH_TOKENS, beams * longest):
            ids, mask = pad_left([prompts[row] for row in rows], self.pad, self.device)
            tokens = write(self.model, ids, mask, beams, longest, self.end)[0]
            texts = self.text_tokenizer.batch_decode(tokens.flatten(0, 1), skip_special_tokens=True)
            for number, row in enumerate(rows.tolist()):
                written[row] = texts[number * beams : (number + 1) * beams]
        return written

    def distances(self, histories: Histories, beams: int = BEAMS) -> np.ndarray:
        """How far each title is from what the model writes ``[n, n_titles]``: the least of its beams' L2 distances.

        A later beam is put :data:`BEHIND` of the mean distance further off: titles that are written exactly would all
        be at 0, and stand in the beams' order so.
        """
        written = self.write(histories, beams)
        flat = self.embed([text for texts in written for text in texts])
        squares = (self.embeddings**2).sum(1)
        nearest = np.full((len(written), len(squares)), np.inf, dtype=np.float32)
        for beam in range(beams):
            part = flat[beam::beams]
            gap = (part**2).sum(1)[:, None] - 2 * part @ self.embeddings.T + squares
            distance = np.sqrt(np.maximum(gap, 0))
            np.minimum(nearest, distance + beam * BEHIND * distance.mean(), out=nearest)
        return nearest

    def score(self, histories: Histories) -> np.ndarray:
        """Scores of items ``[n, n_items]``: how near each title is to what the model writes, scaled to 0–1 a row."""
        return grounded(self.distances(histories), self.titles, np.zeros(len(self.titles.of_item)), 0.0)

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.text_tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids


def grounded(distances: np.ndarray, titles: Titles, popularity: np.ndarray, gamma: float) -> np.ndarray:
    """Item scores from title distances ``[n, n_titles]``: −D̂ · (1 + Ŵ)^(−γ) (BIGRec's code; higher is better).

    D̂ is the distance scaled to 0–1 in each row, Ŵ the popularity ``[n_items]`` scaled to 0–1. Items without a title
    come last.
    """
    low, high = distances.min(1, keepdims=True), distances.max(1, keepdims=True)
    scaled = (distances - low) / np.maximum(high - low, 1e-12)
    spread = popularity.max() - popularity.min() if len(popularity) else 0.0
    weight = (popularity - popularity.min()) / spread if spread > 0 else np.zeros(len(popularity))
    known = titles.of_item >= 0
    scores = np.full((len(distances), len(titles.of_item)), -np.inf, dtype=np.float32)
    scores[:, known] = -scaled[:, titles.of_item[known]] * (1 + weight[known]) ** -gamma
    return scores


def ranked_items(
    found: np.ndarray,
    scores: np.ndarray,
    titles: Titles,
    k: int,
    order: np.ndarray | None,
    gone: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Titles ``[n, beams]``, best first, as items ``[n, k]`` with their title's score; twins stand together.

    Where an order is given, a twin's score is the next number below that of the twin before it, so that what is
    ordered on purpose is no tie.

    Args:
        order: ``[n, n_items]`` scores that items of one title are ordered by, highest first; None: by item id.
        gone: ``[n, n_items]`` items that must not be recommended; None: all may be.
    """
    ids = np.full((len(found), k), -1, dtype=np.int32)
    values = np.full((len(found), k), -np.inf, dtype=np.float32)
    for row, (chosen, known) in enumerate(zip(found.tolist(), scores.tolist(), strict=True)):
        place = 0
        for title, score in zip(chosen, known, strict=True):
            if title < 0 or place == k:
                break
            twins = titles.items[title]
            if gone is not None:
                twins = twins[~gone[row, twins]]
            if order is not None and len(twins) > 1:
                twins = twins[np.argsort(-order[row, twins], kind="stable")]
            kept = twins[: k - place]
            ids[row, place : place + len(kept)] = kept
            for twin in range(len(kept)):
                below = np.float32(score)
                if twin and order is not None:
                    same = order[row, kept[twin]] == order[row, kept[twin - 1]]
                    below = (
                        values[row, place - 1] if same else np.nextafter(values[row, place - 1], -np.float32(np.inf))
                    )
                elif place:
                    below = min(below, values[row, place - 1])
                values[row, place] = below
                place += 1
    return ids, values
