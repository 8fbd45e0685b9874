"""Tokenizers that know nothing of what items are like: what a claim about SIDs must beat.

``random`` draws codes; ``hashed`` makes them of the item's id or title, the same for all seeds; ``permuted`` deals the
given SIDs out among the items anew, so that the tree is the same and its meaning is gone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.components import ItemContext
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.settings import setting

from .of_vectors import Codes, Levels


@dataclass(frozen=True)
class Settings:
    """The shape of the SIDs."""

    levels: Levels = setting(3, "levels of the SID")
    codes: Codes = setting(256, "codes a level")


class RandomTokenizer:
    """Codes drawn at random, no SID twice."""

    Settings = Settings
    small = {"codes": 16}

    def __init__(self, settings: Settings):
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds:
        """Codes of every item.

        Raises:
            BenchError: there are more items than SIDs.
        """
        s, n = self.settings, len(context.items)
        if s.codes**s.levels < n:
            raise BenchError(
                f"tokenizer random: {s.levels} levels of {s.codes} codes are fewer SIDs than the {n:,} items; raise "
                "tokenizer.levels or tokenizer.codes"
            )
        rng = np.random.default_rng(context.seed)
        codes = rng.integers(0, s.codes, (n, s.levels))
        while True:  # draw those again that stand twice
            _, first = np.unique(codes, axis=0, return_index=True)
            twice = np.setdiff1d(np.arange(n), first)
            if not len(twice):
                return SemanticIds(codes.astype(np.int32), "random")
            codes[twice] = rng.integers(0, s.codes, (len(twice), s.levels))


class HashedTokenizer:
    """Codes from a hash of what the source calls the item, or of its title; of its number where it has neither.

    Items of equal titles share a SID, and others may.
    """

    Settings = Settings
    small = {"codes": 16}

    def __init__(self, settings: Settings):
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds:
        """Codes of every item."""
        s, items = self.settings, context.items
        names = items.ids or [title or f"item {number}" for number, title in enumerate(items.titles)]
        codes = [[_hash(name, level) % s.codes for level in range(s.levels)] for name in names]
        return SemanticIds(np.array(codes, dtype=np.int32), "hashed")


def _hash(name: str, level: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{level}\0{name}".encode()).digest()[:8], "big")


@dataclass(frozen=True)
class PermutedSettings:
    """Whose SIDs are dealt out."""

    of: str | dict[str, Any] = setting("given", "the tokenizer whose SIDs are dealt out anew", components="tokenizer")


class PermutedTokenizer:
    """Another tokenizer's SIDs, each item with those of a random other: a control."""

    Settings = PermutedSettings

    def __init__(self, settings: PermutedSettings):
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds:
        """Codes of every item.

        Raises:
            BenchError: there are none to deal out.
        """
        whole = context.tokenized(self.settings.of)
        if whole is None:
            raise BenchError(
                "tokenizer permuted: there are no SIDs to deal out; set tokenizer.of to one that makes some"
            )
        order = np.random.default_rng(context.seed).permutation(whole.n_items)
        return SemanticIds(whole.codes[order], f"{whole.source}, permuted")
