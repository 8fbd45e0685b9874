"""Semantic IDs: the code tuple of every item, which items share one, and the report on them.

It does not know how codes come about (that is a tokenizer's) nor how they are decoded.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import BenchError
from harness.text.parsing import decode, parse_json

ABSENT = -1
"""The code of a level that a SID does not have: it is shorter than others."""
END = "<|sid-end|>"
"""The token that ends a SID shorter than others where a model reads or writes it; its string has none."""
MOST_CODE = 2**31 - 1
"""Codes are int32."""
_TOKEN = re.compile(r"<([a-z]{1,2})_(0|[1-9][0-9]{0,17})>")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST_LEVELS = len(_LETTERS) * (1 + len(_LETTERS))
"""a to z, then aa to zz."""


def level_name(level: int) -> str:
    """0 → ``a``, 25 → ``z``, 26 → ``aa``: how tokens name a level."""
    first, last = divmod(level, len(_LETTERS))
    return (_LETTERS[first - 1] if first else "") + _LETTERS[last]


def _level(name: str) -> int:
    return (len(_LETTERS) * (1 + _LETTERS.index(name[0])) if len(name) == 2 else 0) + _LETTERS.index(name[-1])


@dataclass(frozen=True)
class SemanticIds:
    """Codes of the catalogue.

    Attributes:
        codes: ``[n_items, n_levels]`` int32, the code of item i at each level; -1 beyond the last level of a SID that
            is shorter than others.
        source: where they come from, for captions.
    """

    codes: np.ndarray
    source: str = "given"

    @property
    def n_items(self) -> int:
        """The number of items."""
        return self.codes.shape[0]

    @property
    def n_levels(self) -> int:
        """The number of levels of the longest SID."""
        return self.codes.shape[1]

    @cached_property
    def ragged(self) -> bool:
        """Whether some SIDs are shorter than others."""
        return bool((self.codes < 0).any())

    @cached_property
    def lengths(self) -> np.ndarray:
        """``[n_items]`` the number of levels of each item's SID."""
        lengths: np.ndarray = (self.codes >= 0).sum(axis=1)
        return lengths

    @cached_property
    def written_lengths(self) -> np.ndarray:
        """``[n_items]`` the number of tokens of each item's SID as models write it, :data:`END` included."""
        return self.lengths + (self.lengths < self.n_levels)

    @cached_property
    def _unique(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        distinct, inverse, counts = np.unique(self.codes, axis=0, return_inverse=True, return_counts=True)
        return distinct.astype(np.int32), inverse.reshape(-1).astype(np.int32), counts.astype(np.int32)

    @property
    def distinct(self) -> np.ndarray:
        """The distinct SIDs ``[n_sids, n_levels]`` in lexicographic order; an SID's row is its index."""
        return self._unique[0]

    @property
    def of_item(self) -> np.ndarray:
        """The SID index of each item ``[n_items]``."""
        return self._unique[1]

    @property
    def group_sizes(self) -> np.ndarray:
        """How many items share each SID ``[n_sids]``."""
        return self._unique[2]

    def token(self, level: int, code: int) -> str:
        """The vocabulary token of a code, e.g. ``<b_231>``; of an absent one :data:`END`."""
        return f"<{level_name(level)}_{code}>" if code >= 0 else END

    @cached_property
    def tokens(self) -> list[str]:
        """All tokens in use, level by level, codes ascending; :data:`END` last, where SIDs are of unequal length."""
        used = [(lv, int(c)) for lv in range(self.n_levels) for c in np.unique(self.codes[:, lv]) if c >= 0]
        return [self.token(lv, c) for lv, c in used] + ([END] if self.ragged else [])

    @cached_property
    def strings(self) -> list[str]:
        """The string of each distinct SID, e.g. ``<a_236><b_231><c_226>``."""
        return ["".join(self.token(lv, c) for lv, c in enumerate(row) if c >= 0) for row in self.distinct.tolist()]

    @cached_property
    def written(self) -> list[str]:
        """The string of each distinct SID as models read and write it: a shorter one ends in :data:`END`."""
        short = (self.distinct[:, -1] < 0).tolist()
        return [string + END if ends else string for string, ends in zip(self.strings, short, strict=True)]

    def string_of_item(self, item: int) -> str:
        """The SID string of an item."""
        return self.strings[self.of_item[item]]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the codes."""
        header = f"{self.n_items}x{self.n_levels};".encode()
        return hashlib.sha256(header + np.ascontiguousarray(self.codes, dtype="<i4").tobytes()).hexdigest()

    def best_item(self, scores: np.ndarray) -> np.ndarray:
        """Item scores ``[n, n_items]`` → of each distinct SID its best item's ``[n, n_sids]``, of the same type."""
        best = np.full((len(self.distinct), len(scores)), -np.inf, dtype=scores.dtype)
        np.maximum.at(best, self.of_item, scores.T)
        return np.ascontiguousarray(best.T)

    def report(self) -> dict[str, Any]:
        """Codes used by level, distinct SIDs, collisions and their sizes."""
        column = self.codes.T
        return {
            "levels": self.n_levels,
            **({"items with fewer levels": int((self.lengths < self.n_levels).sum())} if self.ragged else {}),
            "codes used": [len(np.unique(codes[codes >= 0])) for codes in column],
            "distinct SIDs": len(self.distinct),
            "items on a shared SID": int(self.group_sizes[self.group_sizes > 1].sum()),
            "most items on one SID": int(self.group_sizes.max()),
            "source": self.source,
        }

    @property
    def index(self) -> dict[str, list[str]]:
        """Item id → list of tokens, as the public layouts have it."""
        codes = self.codes.tolist()
        return {str(i): [self.token(lv, c) for lv, c in enumerate(row) if c >= 0] for i, row in enumerate(codes)}

    def to_json(self) -> str:
        """The file form: the index and its source."""
        return json.dumps({"source": self.source, "index": self.index})

    @classmethod
    def read(cls, path: Path, mend: str, expected: str = "") -> SemanticIds:
        """Those of a file.

        Args:
            mend: what to do where the file is no good.
            expected: their fingerprint; empty: any.

        Raises:
            BenchError: it is missing, damaged, or holds others than expected.
        """
        try:
            if not path.is_file():
                raise BenchError(f"{path} {'is no file' if path.exists() else 'is missing'}; {mend}")
            semantic_ids = cls.from_json(decode(path.read_bytes()))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BenchError(f"{path} cannot be read ({reason}); {mend}") from None
        if expected and semantic_ids.fingerprint != expected:
            prints = f"{semantic_ids.fingerprint[:12]}, not {expected[:12]}"
            raise BenchError(f"{path} holds other semantic IDs than the run used ({prints}); {mend}")
        return semantic_ids

    @classmethod
    def from_json(cls, text: str) -> SemanticIds:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: it is damaged.
        """
        content = parse_json(text)
        index, source = (content.get("index"), content.get("source")) if isinstance(content, dict) else (None, None)
        if not isinstance(index, dict) or not index or not isinstance(source, str):
            raise ValueError("it holds no index of semantic IDs with its source")
        codes: list[list[int]] = []
        for item in range(len(index)):
            tokens = index.get(str(item))
            try:
                codes.append(parse_tokens(tokens))
            except ValueError as error:
                raise ValueError(f"the SID of item {item}: {error}") from None
        return cls.of(codes, source)

    @classmethod
    def of(cls, codes: list[list[int]], source: str = "given") -> SemanticIds:
        """From a list of codes an item, of equal length or not."""
        width = max(map(len, codes))
        table = np.full((len(codes), width), ABSENT, dtype=np.int32)
        for item, row in enumerate(codes):
            table[item, : len(row)] = row
        return cls(table, source)


def parse_token(token: str) -> tuple[int, int]:
    """``<b_231>`` → (1, 231): level and code.

    Raises:
        ValueError: the token has not that form.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ValueError(f"'{token[:40]}' is not of the form <a_12>")
    return _level(match[1]), int(match[2])


def parse_tokens(tokens: object) -> list[int]:
    """``["<a_1>", "<b_2>"]`` → [1, 2].

    Raises:
        ValueError: it is no list of tokens of level a, b, c, … in order, or a code is too large.
    """
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ValueError("it is no list of texts")
    parsed = [parse_token(token) for token in tokens]
    if not parsed or [level for level, _ in parsed] != list(range(len(parsed))):
        raise ValueError(f"tokens {str(tokens)[:80]} are not of levels a, b, c, … in order")
    largest = max(code for _, code in parsed)
    if largest > MOST_CODE:
        raise ValueError(f"it has code {largest}, the largest allowed is {MOST_CODE}")
    return [code for _, code in parsed]


def parse_sid(string: str) -> list[int]:
    """``<a_1><b_2><c_3>`` → [1, 2, 3].

    Raises:
        ValueError: the string is not a chain of tokens of level a, b, c, …
    """
    pieces = _TOKEN.findall(string)
    if (
        not pieces
        or "".join(f"<{lv}_{c}>" for lv, c in pieces) != string
        or [lv for lv, _ in pieces] != [level_name(level) for level in range(len(pieces))]
    ):
        raise ValueError(f"'{string[:60]}' is not of the form <a_1><b_2><c_3>")
    return [int(code) for _, code in pieces]
