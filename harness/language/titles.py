"""Titles as what a language model generates: their tokens, the items behind each, and the model that writes them.

Several items may have one title, and an item without one cannot be written. It knows neither how the model was trained
nor how it is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.data.dataset import Histories, Items
from harness.errors import BenchError
from harness.generative import encode


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
        stripped = [title.strip() for title in items.titles]
        texts = sorted({title for title in stripped if title})
        if not texts:
            raise BenchError("no item has a title; methods that generate titles need them")
        number = {title: n for n, title in enumerate(texts)}
        return cls(texts, np.array([number.get(title, -1) for title in stripped], dtype=np.int32))

    @cached_property
    def items(self) -> list[np.ndarray]:
        """The items of each title, by id."""
        order = np.argsort(self.of_item, kind="stable")
        named = order[self.of_item[order] >= 0]
        return np.split(named, np.cumsum(np.bincount(self.of_item[named], minlength=len(self.texts)))[:-1])

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
        answer_end: what stands between a title and the end-of-sequence token.
        max_prompt: prompts keep their last `max_prompt` tokens.
    """

    model: Any
    text_tokenizer: Any
    titles: Titles
    prompt: Callable[[Sequence[Sequence[int]]], list[str]]
    answer_end: str = ""
    max_prompt: int = 512

    @property
    def end(self) -> int:
        """The token that ends a title."""
        return int(self.text_tokenizer.eos_token_id)

    @property
    def pad(self) -> int:
        """The token id that fills prompts on the left (it is masked everywhere)."""
        token = self.text_tokenizer.pad_token_id
        return int(token if token is not None else self.end)

    @cached_property
    def tokens(self) -> np.ndarray:
        """Token ids of the titles ``[n_titles, longest]``, each ended and filled up with :attr:`end`."""
        texts = [text + self.answer_end for text in self.titles.texts]
        rows = self.text_tokenizer(texts, add_special_tokens=False)["input_ids"]
        filled = np.full((len(rows), max(len(row) for row in rows) + 1), self.end, dtype=np.int64)
        for number, row in enumerate(rows):
            filled[number, : len(row)] = row
        return filled

    def encode(self, histories: Histories) -> list[list[int]]:
        """Prompts as token ids."""
        return encode(self.text_tokenizer, self.prompt(histories.lists()), self.max_prompt)


def ranked_items(found: np.ndarray, scores: np.ndarray, titles: Titles, k: int, order: np.ndarray | None) -> Any:
    """Titles ``[n, beams]``, best first, as items ``[n, k]`` with their title's score: twins stand together.

    Args:
        order: ``[n, n_items]`` scores that twins are ordered by, highest first; None: by item id.
    """
    ids = np.full((len(found), k), -1, dtype=np.int32)
    values = np.full((len(found), k), -np.inf, dtype=np.float32)
    for row, (chosen, known) in enumerate(zip(found.tolist(), scores.tolist(), strict=True)):
        place = 0
        for title, score in zip(chosen, known, strict=True):
            if title < 0 or place == k:
                break
            twins = titles.items[title]
            if order is not None and len(twins) > 1:
                twins = twins[np.argsort(-order[row, twins], kind="stable")]
            kept = twins[: k - place]
            ids[row, place : place + len(kept)], values[row, place : place + len(kept)] = kept, score
            place += len(kept)
    return ids, values
