"""Training rows of SFT: a row a sample, a row a chain of a user's samples, and rows drawn anew each epoch."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from harness.data.dataset import Items, Samples
from harness.generative import encode, sid_token_ids
from harness.training import IGNORED, Row
from plugins.minionerec.alike import TitleNeighbours, recent
from plugins.minionerec.prompts import DRAWN_TASKS, Example, Prompts, drawn_share


def packed_rows(samples: Samples, prompts: Prompts, text_tokenizer: Any) -> list[Row]:
    """Chains of a user's samples, each of which the next one's history contains whole.

    One causal pass over a chain computes exactly what one row a sample does: the same targets
    after the same histories. A sample whose history has lost its oldest items starts a chain.
    """
    chains: dict[tuple[Any, ...], list[tuple[list[int], list[int]]]] = defaultdict(list)
    users, targets = samples.users.tolist(), samples.targets.tolist()
    histories = samples.histories.lists()
    for row in sorted(range(len(samples)), key=lambda r: (users[r], len(histories[r]))):
        open_chains = chains.pop((users[row], *histories[row]), [])
        items, learned = open_chains.pop() if open_chains else (list(histories[row]), [])
        if open_chains:
            chains[(users[row], *histories[row])] = open_chains
        chain = ([*items, targets[row]], [*learned, len(items)])
        chains[(users[row], *chain[0])].append(chain)
    opening = text_tokenizer(prompts.next_sid([[]])[0], add_special_tokens=False)["input_ids"]
    in_history = text_tokenizer(prompts.history_strings, add_special_tokens=False)["input_ids"]
    levels = prompts.semantic_ids.n_levels
    rows = []
    for items, learned in (chain for group in chains.values() for chain in group):
        tokens, labels, answers = list(opening), [IGNORED] * len(opening), set(learned)
        for position, item in enumerate(items):
            part = in_history[item] if position < len(items) - 1 else in_history[item][:levels]
            known = levels if position in answers else 0
            tokens += part
            labels += part[:known] + [IGNORED] * (len(part) - known)
        rows.append(Row(tokens, labels))
    return rows


def example_rows(
    examples: list[Example], prompts: Prompts, text_tokenizer: Any, cutoff: int, learn_end: bool = True
) -> list[Row]:
    """Rows with a label on the answer, its end, and the end of sequence (`learn_end`)."""
    answers = text_tokenizer([e.answer + prompts.answer_end for e in examples], add_special_tokens=False)["input_ids"]
    questions = encode(text_tokenizer, [e.prompt for e in examples], cutoff)
    end = [text_tokenizer.eos_token_id]
    ending = len(end) + len(text_tokenizer(prompts.answer_end, add_special_tokens=False)["input_ids"])
    rows = []
    for question, answer in zip(questions, answers, strict=True):
        tokens = (question + answer + end)[-cutoff:]
        labels = ([IGNORED] * len(question) + answer + end)[-cutoff:]
        if not learn_end:
            labels[-ending:] = [IGNORED] * ending
        rows.append(Row(tokens, labels))
    return rows


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
        self.tokens_of = sid_token_ids(text_tokenizer, sids)[sids.of_item].tolist()
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
