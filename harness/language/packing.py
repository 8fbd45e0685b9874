"""Training rows of SFT: a row a sample, or a row a chain of a user's samples."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from harness.data.dataset import Samples
from harness.decoding.generator import encode
from harness.errors import BenchError
from harness.language.prompts import Example, Prompts
from harness.language.training_rows import IGNORED, Row


def chains(samples: Samples) -> list[tuple[list[int], list[int]]]:
    """Chains of a user's samples, each of which the next one's history contains whole: ``(items, learned places)``.

    One causal pass over a chain computes exactly what one row a sample does: the same targets
    after the same histories. A sample whose history has lost its oldest items starts a chain.
    """
    by_end: dict[tuple[Any, ...], list[tuple[list[int], list[int]]]] = defaultdict(list)
    users, targets = samples.user_numbers.tolist(), samples.targets.tolist()
    histories = samples.histories.lists()
    for row in sorted(range(len(samples)), key=lambda r: (users[r], len(histories[r]))):
        open_chains = by_end.pop((users[row], *histories[row]), [])
        items, learned = open_chains.pop() if open_chains else (list(histories[row]), [])
        if open_chains:
            by_end[(users[row], *histories[row])] = open_chains
        chain = ([*items, targets[row]], [*learned, len(items)])
        by_end[(users[row], *chain[0])].append(chain)
    return [chain for group in by_end.values() for chain in group]


def packed_rows(samples: Samples, prompts: Prompts, text_tokenizer: Any, cutoff: float = math.inf) -> list[Row]:
    """A row a chain of SIDs, labelled at the targets' own tokens.

    Raises:
        BenchError: a row is longer than `cutoff`: its targets would see less than a prompt's last tokens.
    """
    opening = text_tokenizer(prompts.next_sid([[]])[0], add_special_tokens=False)["input_ids"]
    in_history = text_tokenizer(prompts.history_strings, add_special_tokens=False)["input_ids"]
    written = prompts.semantic_ids.written_lengths.tolist()
    rows = []
    for items, learned in chains(samples):
        tokens, labels, answers = list(opening), [IGNORED] * len(opening), set(learned)
        for position, item in enumerate(items):
            part = in_history[item] if position < len(items) - 1 else in_history[item][: written[item]]
            known = written[item] if position in answers else 0
            tokens += part
            labels += part[:known] + [IGNORED] * (len(part) - known)
        rows.append(Row(tokens, labels))
    longest = max((len(row.tokens) for row in rows), default=0)
    if longest > cutoff:
        raise BenchError(
            f"sft.cutoff = {cutoff}, but packed rows have up to {longest} tokens; set sft.cutoff={longest} or more, "
            "or sft.packed=false"
        )
    return rows


def packed_title_rows(samples: Samples, prompts: Prompts, text_tokenizer: Any, cutoff: int) -> list[Row]:
    """A row a chain of titles, labelled at the targets' own tokens and ends; items without a title are passed over."""
    titles = prompts.items.titles
    end = text_tokenizer.convert_tokens_to_ids(prompts.title_end)
    opening = text_tokenizer(prompts.next_title([[]])[0], add_special_tokens=False)["input_ids"]
    known = [[*ids, end] for ids in text_tokenizer(titles, add_special_tokens=False)["input_ids"]]
    rows = []
    for items, learned in chains(samples):
        tokens, labels, answers = list(opening), [IGNORED] * len(opening), set(learned)
        for position, item in enumerate(items):
            if titles[item].strip():
                tokens += known[item]
                labels += known[item] if position in answers else [IGNORED] * len(known[item])
        if any(label != IGNORED for label in labels[-cutoff:]):
            rows.append(Row(tokens[-cutoff:], labels[-cutoff:], len(tokens) > cutoff))
    return rows


def example_rows(
    examples: list[Example], prompts: Prompts, text_tokenizer: Any, cutoff: int, learn_end: bool = True,
    end: int | None = None,
) -> list[Row]:  # fmt: skip
    """Rows with a label on the answer, its end, and the end of sequence (`learn_end`), or `end` in its place."""
    answers = text_tokenizer([e.answer + prompts.answer_end for e in examples], add_special_tokens=False)["input_ids"]
    bare = answers
    if not learn_end and prompts.answer_end:  # a tokenizer may write an end otherwise by itself than behind an answer
        bare = text_tokenizer([e.answer for e in examples], add_special_tokens=False)["input_ids"]
    questions = encode(text_tokenizer, [e.prompt for e in examples], cutoff)
    last = [text_tokenizer.eos_token_id if end is None else end]
    rows = []
    for question, answer, alone in zip(questions, answers, bare, strict=True):
        learned = answer + last
        if not learn_end:
            same = next((i for i, (a, b) in enumerate(zip(answer, alone, strict=False)) if a != b), len(alone))
            learned = answer[:same] + [IGNORED] * (len(answer) - same + len(last))
        tokens = (question + answer + last)[-cutoff:]
        labels = ([IGNORED] * len(question) + learned)[-cutoff:]
        rows.append(Row(tokens, labels, len(question) + len(answer) + len(last) > cutoff))
    return rows
