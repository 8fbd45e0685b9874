"""``title``: the words of an item's title are its ID, a word a level; IDs are of unequal length."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from harness.components import ItemContext
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.settings import setting

from .of_vectors import Levels

WORD = re.compile(r"[\w&'.-]*\w", re.UNICODE)


@dataclass(frozen=True)
class Settings:
    """Settings of ``title``."""

    levels: Levels = setting(8, "words of a title that count, from the first")


class TitleTokenizer:
    """A code is a word; the same word has the same code at a level, the commonest the lowest.

    Items whose first words are equal share an ID, unless ``tokenizer.repair=extra-token`` tells them apart. An item
    without a title has the one word that stands for no title.
    """

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds:
        """Codes of every item.

        Raises:
            BenchError: no item has a title.
        """
        titles = [WORD.findall(title.lower())[: self.settings.levels] for title in context.items.titles]
        if not any(titles):
            raise BenchError(f"{context.dataset.category} has no titles, which tokenizer title needs; take another")
        without = sum(not words for words in titles)
        if without:
            context.progress.say(f"{without:,} items have no title: they share one SID")
        counts = Counter((level, word) for words in titles for level, word in enumerate(words or [""]))
        known: dict[tuple[int, str], int] = {}
        used = Counter[int]()
        for (level, word), _ in sorted(counts.items(), key=lambda entry: (entry[0][0], -entry[1], entry[0][1])):
            known[level, word] = used[level]
            used[level] += 1
        return SemanticIds.of(
            [[known[level, word] for level, word in enumerate(words or [""])] for words in titles], "title"
        )
