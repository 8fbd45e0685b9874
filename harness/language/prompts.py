"""Prompts and tasks of language models that recommend: one wording of each task, shared by SFT, RL and test.

Styles: ``instruction`` (an instruction block in words, for pretrained models) and ``compact`` (one
special token a task, for models trained from scratch); ``compact-items`` is ``compact`` with a token of
the item's own behind each SID of a history, so that the model need not put its identity together
from three codes. Targets belong to samples: nothing is ever looked up by a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.components import Context
from harness.data.dataset import Items, Samples
from harness.data.semantic_ids import SemanticIds
from harness.decoding.generator import GenerativeModel
from harness.errors import BenchError, unknown
from harness.language import models
from harness.language.templates import INTRODUCTION, ONE_WORDING
from harness.language.titles import TitleModel, Titles

Wordings = Mapping[str, tuple[tuple[str, str], ...]]

DRAWN_TASKS = ("alike", "again")
"""Tasks whose answers are drawn anew each epoch (:class:`plugins.minionerec.drawn.DrawnRows`)."""
SAMPLE_TASKS = (
    "next_sid", "sid_history_to_title", "titles_to_title", "titles_to_sid", "sid_history_to_description", "next_title",
)  # fmt: skip
ITEM_TASKS = ("title_to_sid", "sid_to_title", "description_to_sid", "sid_to_description")
SID_TASKS = ("next_sid", "titles_to_sid", "title_to_sid", "description_to_sid")
"""Tasks whose answer is a SID: those that RL can reward."""
DESCRIBED = (
    "a task is about descriptions",
    lambda settings: any(rate and "description" in task for task, rate in settings.tasks.items()),
)
"""When the length of descriptions is read (see :func:`harness.components.setting`)."""
STYLES = ("compact", "compact-items", "instruction")
COMPACT = {
    "next_sid": ("<|next|>", ""),
    "sid_history_to_title": ("<|next|>", "<|title|>"),
    "sid_history_to_description": ("<|next|>", "<|about|>"),
    "titles_to_title": ("<|history|>", "<|title|>"),
    "titles_to_sid": ("<|history|>", "<|sid|>"),
    "title_to_sid": ("<|item|>", "<|sid|>"),
    "sid_to_title": ("<|item|>", "<|title|>"),
    "sid_to_description": ("<|item|>", "<|about|>"),
    "description_to_sid": ("<|about|>", "<|sid|>"),
}
"""How the compact style opens and closes a task's prompt."""
LEVELS_BELOW_I = 8
"""Levels a to h: the tokens of a ninth one begin as an item's own do."""
SPECIAL_TOKENS = ("<|next|>", "<|item|>", "<|about|>", "<|history|>", "<|then|>", "<|sid|>", "<|title|>")
"""Special tokens of the compact style."""


@dataclass(frozen=True)
class Example:
    """A prompt, its answer, the item that the answer is of, and the purchases that the prompt tells of."""

    prompt: str
    answer: str
    target: int
    history: tuple[int, ...] = ()


class Prompts:
    """Writes the prompts of one style for one catalogue."""

    semantic_ids: SemanticIds
    """Missing only where none of the tasks is about SIDs."""

    def __init__(self, style: str, items: Items, semantic_ids: SemanticIds | None, wordings: Wordings = ONE_WORDING):
        """`wordings` are those of the ``instruction`` style; compact prompts have one token a task."""
        if style not in STYLES:
            raise unknown("prompt style", style, STYLES, "(--set prompts=…)")
        self.style, self.items, self.wordings = style, items, wordings
        self._sids: list[str] = []
        if semantic_ids is not None:
            self.semantic_ids = semantic_ids
            self._sids = [semantic_ids.written[i] for i in semantic_ids.of_item.tolist()]
        own = style == "compact-items"
        self.history_strings = [f"{sid}{self._own_token(n)}" if own else sid for n, sid in enumerate(self._sids)]
        """How each item stands in a history."""

    @classmethod
    def of(cls, context: Context, wordings: Wordings = ONE_WORDING) -> Prompts:
        """The prompts of a stage's context."""
        semantic_ids = context.needs_semantic_ids("a language model that recommends")
        return cls(context.prompts or "instruction", context.items, semantic_ids, wordings)

    @classmethod
    def with_or_without_sids(cls, context: Context) -> Prompts:
        """The prompts of a stage's context, for tasks that need no semantic IDs."""
        return cls(context.prompts or "instruction", context.items, context.semantic_ids)

    def first_wording(self) -> Prompts:
        """The same prompts, each task in its first wording only: what test and valid are asked in."""
        only = {task: known[:1] for task, known in self.wordings.items()}
        return Prompts(self.style, self.items, getattr(self, "semantic_ids", None), only)

    def generative(self, model: Any, text_tokenizer: Any, cutoff: int) -> GenerativeModel:
        """A causal LM as decoders take it: asked for the next SID in this wording."""
        return GenerativeModel(
            model, text_tokenizer, self.semantic_ids, self.next_sid, cutoff,
            renormalise=models.sid_softmax(model) == "catalogue",
        )  # fmt: skip

    def titled(self, model: Any, text_tokenizer: Any, cutoff: int) -> TitleModel:
        """A causal LM that is asked for the next title in this wording."""
        return TitleModel(
            model, text_tokenizer, Titles.of(self.items), self.next_title, self.answer_end, self.title_end, cutoff
        )

    @property
    def special_tokens(self) -> list[str]:
        """Tokens that the style needs in the vocabulary."""
        if self.style == "instruction":
            return []
        own = [self._own_token(n) for n in range(len(self.items))] if self.style == "compact-items" else []
        return [*SPECIAL_TOKENS, *own]

    def _own_token(self, item: int) -> str:
        semantic_ids = getattr(self, "semantic_ids", None)
        return item_token(item, semantic_ids.n_levels if semantic_ids is not None else 1)

    @property
    def answer_end(self) -> str:
        """What stands between an answer and the end-of-sequence token."""
        return "\n" if self.style == "instruction" else ""

    def next_sid(self, histories: Sequence[Sequence[int]]) -> list[str]:
        """Prompts of the main task: SID history → next SID."""
        return [self._write("next_sid", [self.history_strings[i] for i in history]) for history in histories]

    def next_title(self, histories: Sequence[Sequence[int]]) -> list[str]:
        """Prompts for the next item's title: title history → title; items without a title are not told of."""
        titles = self.items.titles
        return [self._write("next_title", [titles[i] for i in history if titles[i].strip()]) for history in histories]

    @property
    def title_end(self) -> str:
        """The token that ends a title after :meth:`next_title`, empty where it is the end of sequence."""
        return "" if self.style == "instruction" else "<|then|>"

    def examples(
        self, rates: dict[str, float], samples: Samples, most_text: int, seed: int
    ) -> dict[str, list[Example]]:
        """Examples of each task.

        Args:
            rates: share of a task's rows to take, drawn once by `seed`; above 1 whole copies are added.
            most_text: descriptions are cut to this many characters.

        Raises:
            BenchError: an unknown task or a negative rate.
        """
        by_task = {}
        for number, (task, rate) in enumerate(rates.items()):
            if task not in (known := (*SAMPLE_TASKS, *ITEM_TASKS, *DRAWN_TASKS)):
                raise unknown("task", task, known)
            if rate < 0:
                raise BenchError(f"rate of task {task} is {rate}; it must be 0 or more")
            if task in DRAWN_TASKS:
                continue
            n = len(samples) if task in SAMPLE_TASKS else len(self.items)
            rows = drawn_share(n, rate, [seed, number])
            maker = self._of_samples if task in SAMPLE_TASKS else self._of_items
            by_task[task] = maker(task, rows, samples, most_text, np.random.default_rng([seed, 1000 + number]))
        return {task: examples for task, examples in by_task.items() if examples}

    def _of_samples(
        self, task: str, rows: np.ndarray, samples: Samples, most_text: int, rng: np.random.Generator
    ) -> list[Example]:
        histories = samples.histories.take(rows).lists()
        titles = self.items.titles
        examples = []
        for history, target in zip(histories, samples.targets[rows].tolist(), strict=True):
            answer = self._answer(task, target, most_text)
            if not answer.strip():
                continue
            if task == "next_title":
                parts = [titles[i] for i in history if titles[i].strip()]
            else:
                parts = [titles[i] if task.startswith("titles") else self.history_strings[i] for i in history]
            examples.append(Example(self._write(task, parts, rng), answer, target, tuple(history)))
        return examples

    def _of_items(
        self, task: str, rows: np.ndarray, samples: Samples, most_text: int, rng: np.random.Generator
    ) -> list[Example]:
        examples = []
        for item in rows.tolist():
            given, answer = self._given(task, item, most_text), self._answer(task, item, most_text)
            if given.strip() and answer.strip():
                examples.append(Example(self._write(task, [given], rng), answer, item))
        return examples

    def _given(self, task: str, item: int, most_text: int) -> str:
        """What an item task tells of the item."""
        if task.startswith("sid"):
            return self._sids[item]
        return self.items.titles[item] if task.startswith("title") else self.items.descriptions[item][:most_text]

    def _answer(self, task: str, item: int, most_text: int) -> str:
        """What a task answers of an item."""
        if task.endswith("title"):
            return self.items.titles[item]
        return self.items.descriptions[item][:most_text] if task.endswith("description") else self._sids[item]

    def _write(self, task: str, parts: list[str], rng: np.random.Generator | None = None) -> str:
        """A prompt, in a wording drawn by `rng`, or in the first."""
        if self.style == "instruction":
            known = self.wordings[task]
            line, question = known[int(rng.integers(len(known))) if rng is not None and len(known) > 1 else 0]
            joined = ", ".join(f'"{p}"' if "title" in task.split("_to_")[0] else p for p in parts)
            body = f"### Instruction:\n{line}\n\n### User Input:\n{question.replace('{}', joined)}"
            return f"{INTRODUCTION}\n\n{body}\n\n### Response:\n"
        if task == "next_title":  # a chain: each title ends in the token that the next one begins after
            return "<|history|>" + "".join(f"{part}<|then|>" for part in parts)
        opening, closing = COMPACT[task]
        return opening + ("<|then|>" if "titles_" in task else "").join(parts) + closing


def title_model_before(context: Context, cutoff: int) -> TitleModel:
    """The model that writes titles which the stage before has trained."""
    assert context.previous is not None  # as a stage's check has made sure
    model, text_tokenizer = models.load_model(context.previous, context.device, context.backbone)
    return Prompts.with_or_without_sids(context).titled(model.eval(), text_tokenizer, cutoff)


def item_token(item: int, levels: int = 1) -> str:
    """The token of an item's own, in the style ``compact-items``; SIDs of nine `levels` or more have ``<i_…>`` too."""
    return f"<i_{item}>" if levels <= LEVELS_BELOW_I else f"<item_{item}>"


def drawn_share(n: int, rate: float, seed: list[int]) -> np.ndarray:
    """Row numbers: `rate` of `n` rows, drawn once; above 1 whole copies are added."""
    part = np.sort(np.random.default_rng(seed).permutation(n)[: round(n * (rate % 1))])
    return np.concatenate([*[np.arange(n)] * int(rate), part]).astype(int)
