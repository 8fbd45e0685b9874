"""A generative recommender: a causal language model, its text tokenizer, and how a history becomes a prompt.

It knows SIDs and batches of prompts; it knows neither how the model was trained nor how it is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from harness.data.dataset import Histories
from harness.data.semantic_ids import END, SemanticIds
from harness.errors import BenchError

if TYPE_CHECKING:
    from harness.decoding.trie import Trie


@runtime_checkable
class Generator(Protocol):
    """What decoders of semantic IDs take: a model, and how histories become its input.

    Attributes:
        model: what :func:`harness.decoding.beam.beam_search` takes.
        semantic_ids: the SIDs.
        sid_tokens: ``[n_leaves, n_levels]`` token ids of what is decoded; a shorter SID is filled up with the token
            that ends it, which an attribute ``end`` must name (absent or None: all are of one length).
        leaves: whether a row of `sid_tokens` is a distinct SID or an item.
        pad: the token id that fills inputs on the left (it is masked everywhere).
        renormalise: whether it was trained over the tokens that continue a SID alone, and is decoded so.
    """

    model: Any
    semantic_ids: SemanticIds
    sid_tokens: np.ndarray
    leaves: Literal["sid", "item"]
    pad: int
    renormalise: bool

    def encode(self, histories: Histories) -> list[list[int]]:
        """The input of each history as token ids."""
        ...


@dataclass
class GenerativeModel:
    """A :class:`Generator` that is a causal language model reading prompts.

    Attributes:
        model: a Hugging Face causal LM in eval mode.
        text_tokenizer: its tokenizer, with the SID tokens in its vocabulary.
        prompt: turns histories (lists of item ids) into prompt strings.
        max_prompt: prompts keep their last `max_prompt` tokens.
    """

    model: Any
    text_tokenizer: Any
    semantic_ids: SemanticIds
    prompt: Callable[[Sequence[Sequence[int]]], list[str]]
    max_prompt: int = 512
    leaves: Literal["sid", "item"] = "sid"
    renormalise: bool = False

    @cached_property
    def sid_tokens(self) -> np.ndarray:
        """Token ids of the distinct SIDs ``[n_sids, n_levels]``.

        Raises:
            BenchError: a SID token is not one token of the vocabulary.
        """
        return sid_token_ids(self.text_tokenizer, self.semantic_ids)

    def encode(self, histories: Histories) -> list[list[int]]:
        """Prompts as token ids."""
        return encode(self.text_tokenizer, self.prompt(histories.lists()), self.max_prompt)

    @property
    def end(self) -> int | None:
        """The token id that ends a SID shorter than others; None: all are of one length."""
        return sid_end(self.text_tokenizer, self.semantic_ids)

    @property
    def pad(self) -> int:
        """The token id that fills prompts on the left (it is masked everywhere)."""
        token = self.text_tokenizer.pad_token_id
        return int(token if token is not None else self.text_tokenizer.eos_token_id or 0)


def encode(text_tokenizer: Any, texts: list[str], most: int) -> list[list[int]]:
    """Token ids of texts without special tokens added; a long text keeps its last `most` tokens."""
    ids = text_tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [row[-most:] for row in ids]


def sid_token_ids(text_tokenizer: Any, semantic_ids: SemanticIds) -> np.ndarray:
    """Token ids of the distinct SIDs ``[n_sids, n_levels]``; shorter ones are filled up with the token of their end.

    Raises:
        BenchError: the vocabulary lacks a SID token.
    """
    vocabulary = text_tokenizer.get_vocab()
    missing = [token for token in semantic_ids.tokens if token not in vocabulary]
    if missing:
        raise BenchError(
            f"the model's vocabulary lacks the SID token {missing[0]}; it was trained on other semantic IDs"
        )
    columns = []
    for level in range(semantic_ids.n_levels):
        codes, place = np.unique(semantic_ids.distinct[:, level], return_inverse=True)
        columns.append(np.array([vocabulary[semantic_ids.token(level, int(c))] for c in codes])[place])
    return np.column_stack(columns)


def sid_end(text_tokenizer: Any, semantic_ids: SemanticIds) -> int | None:
    """The token id that ends a SID shorter than others; None: all are of one length."""
    return int(text_tokenizer.convert_tokens_to_ids(END)) if semantic_ids.ragged else None


def trie_of(model: Generator, device: str) -> Trie:
    """What a generator decodes, as a trie."""
    from harness.decoding.trie import Trie

    return Trie(model.sid_tokens, device, end=getattr(model, "end", None))


def batches(lengths: Sequence[int], tokens: int, extra: int = 0) -> Iterator[np.ndarray]:
    """Row numbers grouped by length so that rows × (longest + extra) stays within `tokens`; long ones first."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // (int(lengths[order[start]]) + extra))
        yield order[start : start + size]
        start += size
