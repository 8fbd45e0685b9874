"""Rows of the tasks ``alike`` and ``again``, drawn anew each epoch; they look at no target."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.dataset import Items, Samples
from harness.decoding.generator import encode, sid_token_ids
from harness.language.prompts import DRAWN_TASKS, Prompts, drawn_share
from harness.language.training_rows import IGNORED, Row

from .alike import TitleNeighbours, recent


class DrawnRows:
    """Rows of the tasks ``alike`` and ``again``: train histories whose answers are drawn anew each epoch.

    ``alike`` answers with an item whose title is like one of the history's, ``again`` with one of the
    history's own items; in both the later items are asked more often. The histories are train samples'
    (`rates` of them, drawn once by `seed`), the wording is the next SID's, and no target is looked at.
    """

    def __init__(
        self, samples: Samples, rates: dict[str, float], items: Items, prompts: Prompts, text_tokenizer: Any,
        cutoff: int, seed: int,
    ):  # fmt: skip
        self.neighbours = TitleNeighbours(items) if rates.get("alike") else None
        self.tasks: list[str] = []
        self.histories: list[list[int]] = []
        for number, task in enumerate(DRAWN_TASKS):
            rows = drawn_share(len(samples), rates.get(task, 0.0), [seed, 100 + number])
            chosen = samples.take(rows).histories.lists()
            if task == "alike" and self.neighbours:
                known = self.neighbours.known
                chosen = [kept for history in chosen if (kept := [item for item in history if known[item]])]
            self.histories += chosen
            self.tasks += [task] * len(chosen)
        levels = prompts.semantic_ids.n_levels
        self.prompts = encode(text_tokenizer, prompts.next_sid(self.histories), cutoff - levels)
        sids = prompts.semantic_ids
        tokens = sid_token_ids(text_tokenizer, sids)[sids.of_item].tolist()
        self.tokens_of = [row[:n] for row, n in zip(tokens, sids.written_lengths.tolist(), strict=True)]
        self.seed = seed
        self.lengths = [len(prompt) + levels for prompt in self.prompts]

    def row(self, index: int, epoch: int) -> Row:
        """A row of that epoch."""
        rng = np.random.default_rng([self.seed, epoch, index])
        item = recent(self.histories[index], rng)
        if self.tasks[index] == "alike" and self.neighbours:
            item = self.neighbours.draw(item, rng)
        prompt, answer = self.prompts[index], self.tokens_of[item]
        return Row(prompt + answer, [IGNORED] * len(prompt) + answer)
