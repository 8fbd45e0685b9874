"""The items of a category as people name them: by id, by number, by title."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.data.dataset import Items
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.text.parsing import parse_json
from harness.text.plain import line

MOST_ITEMS = 10_000
"""Items of one history."""
MOST_TEXT = 400
"""Characters of a name or title that is searched for."""
_WORDS = re.compile(r"\w+")


class UnknownItem(BenchError):
    """Something in a history that is no item of the catalogue."""


@dataclass(frozen=True)
class Catalogue:
    """What can be recommended.

    Attributes:
        popularity: ``[n_items]`` how often each item is a target in train.
        semantic_ids: those of the model, or None.
    """

    category: str
    items: Items
    popularity: np.ndarray
    semantic_ids: SemanticIds | None

    def __len__(self) -> int:
        return len(self.items)

    def id(self, item: int) -> str:
        """What the source calls an item; its number where the source has no names."""
        return self.items.ids[item] if self.items.ids else str(item)

    def sid(self, item: int) -> str:
        """An item's semantic ID; empty where there are none."""
        return self.semantic_ids.string_of_item(item) if self.semantic_ids is not None else ""

    def named(self, name: str) -> int | None:
        """The item of an id, of ``#number``, or of a whole title (of several the best-selling); None: there is none."""
        if (item := self._ids.get(name)) is not None:
            return item
        if name.startswith("#") and name[1:].isascii() and name[1:].isdigit() and len(name) < 12:
            return int(name[1:]) if int(name[1:]) < len(self) else None
        return self._titles.get(name.casefold())

    def search(self, text: str, n: int = 10) -> list[int]:
        """The items whose titles fit a text best: those that hold every word first, then by what its rarer words weigh.

        A word that no title has stands for those that begin with it, or else for the ones most like it.
        """
        score, whole = np.zeros(len(self)), np.ones(len(self), dtype=bool)
        words = _WORDS.findall(text[:MOST_TEXT].casefold())
        for word in dict.fromkeys(words):
            hit = np.zeros(len(self), dtype=bool)
            for one in self._like(word):
                hit[self._index[one]] = True
            whole &= hit
            score += hit * math.log(1 + len(self) / max(1, int(hit.sum())))
        if not words:
            return []
        if (item := self._titles.get(text.casefold())) is not None:
            score[item] += 1e6
        score = np.where(score > 0, score + 1e3 * whole - 1e-3 * self._title_lengths, -np.inf)
        order = np.lexsort((np.arange(len(self)), -self.popularity, -score))[:n]
        return [int(item) for item in order if score[item] > -np.inf]

    def holds_all(self, item: int, text: str) -> bool:
        """Whether an item's title has every word of a text."""
        words = set(_WORDS.findall(text.casefold()))
        return bool(words) and words <= set(_WORDS.findall(self.items.titles[item].casefold()))

    def item_of(self, name: str) -> tuple[int, str]:
        """The item that a person names, and a line where a title was searched for; empty where it was named outright.

        Raises:
            UnknownItem: no item is called that, and no title has all of its words; names the nearest titles.
        """
        if (item := self.named(name)) is not None:
            return item, ""
        near = self.search(name, 3)
        if near and self.holds_all(near[0], name):
            return near[0], f"{line(name)!r} is taken for {self.told(near[0])}"
        if near:
            hint = "nearest titles: " + "; ".join(self.told(item) for item in near)
        elif not self.items.ids:
            hint = f"items are numbers from 0 to {len(self) - 1}"
        else:
            hint = f"ids are such as {', '.join(map(line, self.items.ids[:3]))}; #0 to #{len(self) - 1} are numbers"
        raise UnknownItem(f"{line(name)[:80]!r} is no item of {self.category}; {hint}")

    def told(self, item: int) -> str:
        """An item as messages name it: its id and the beginning of its title."""
        title = line(self.items.titles[item])
        return line(self.id(item)) + (f" ({title[:60]}{'…' if len(title) > 60 else ''})" if title else "")

    def parse(self, text: str) -> list[str]:
        """The names in a history as a person writes it, oldest first: ``a | b``, ``a, b``, ``a b``, or a JSON list.

        A text that is one item is one item. Commas and spaces part names where every part is an id (or ``#number``):
        titles have both.
        """
        text = text.strip()
        if text.startswith("["):
            try:
                found = parse_json(text)
            except ValueError as error:
                raise BenchError(f"the history begins like a JSON list and is none ({error}); write a | b") from None
            return names_of(found)
        if not text:
            return []
        if "|" in text and self.named(text) is None:
            return names_of([part.strip() for part in text.split("|") if part.strip()])
        for pattern in (r"\s*,\s*", r"[\s,]+"):
            parts = [part for part in re.split(pattern, text) if part]
            if len(parts) > 1 and self.named(text) is None and all(self._is_id(part) for part in parts):
                return names_of(parts)
        return [text]

    def _is_id(self, name: str) -> bool:
        return name in self._ids or (name.startswith("#") and self.named(name) is not None)

    @cached_property
    def _ids(self) -> dict[str, int]:
        names = self.items.ids or [str(number) for number in range(len(self))]
        return {name: number for number, name in enumerate(names)}

    @cached_property
    def _titles(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for item in np.lexsort((-np.arange(len(self)), self.popularity)).tolist():  # the best-selling is kept
            if self.items.titles[item]:
                found[self.items.titles[item].casefold()] = item
        return found

    @cached_property
    def _title_lengths(self) -> np.ndarray:
        return np.array([min(len(title), 1000) for title in self.items.titles])

    @cached_property
    def _index(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for item, title in enumerate(self.items.titles):
            for word in set(_WORDS.findall(title.casefold())):
                found.setdefault(word, []).append(item)
        return found

    def _like(self, word: str) -> list[str]:
        if word in self._index:
            return [word]
        if len(word) < 3:
            return []
        begins = [one for one in self._index if one.startswith(word)]
        return begins or difflib.get_close_matches(word[:40], self._index, n=2, cutoff=0.7)


def names_of(found: object) -> list[str]:
    """The names of a history that was read: a list of texts and whole numbers.

    Raises:
        BenchError: it is something else, or too long.
    """
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        raise BenchError("a history is a list of item ids, oldest first")
    if len(found) > MOST_ITEMS:
        raise BenchError(f"a history of {len(found):,} items is too long; {MOST_ITEMS:,} are the most")
    names = []
    for one in found:
        if isinstance(one, bool) or not isinstance(one, (str, int)):
            raise BenchError(f"a history is a list of item ids, and {str(one)[:40]!r} is none")
        names.append(str(one))
    return names
