"""The stage ``title-sft``: the shared SFT stage on title history → next title; it needs no semantic IDs."""

from __future__ import annotations

from typing import Any

from harness.components import Context
from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.language.answer_loss import AnswerLoss
from harness.language.holdout import on_its_rows
from harness.language.packing import packed_title_rows
from harness.language.prompts import Prompts
from harness.language.sft_trainer import SftTrainer
from harness.language.titles import TitleModel, Titles
from harness.language.training_rows import Row

TASKS = ("next_title", "titles_to_title")


class TitleSft(SftTrainer):
    """Stage trainer ``title-sft``."""

    main = "next_title"

    def check(self, context: Context) -> None:
        """There must be titles, and no setting of SIDs."""
        Titles.of(context.items)
        if self.settings.softmax == "catalogue" or self.settings.level_weights:
            raise BenchError("title-sft answers with titles: set sft.softmax=vocabulary and no sft.level_weights")
        for task, rate in self.settings.tasks.items():
            if rate and task not in TASKS:
                raise BenchError(f"sft.tasks.{task}: title-sft knows no semantic IDs; use {' or '.join(TASKS)}")
        super().check(context)

    def fit(self, context: Context) -> dict[str, Any]:
        """Train; what cannot be written is counted."""
        titles = Titles.of(context.items)
        train = on_its_rows(context, self.settings)[0].train
        unlearned = int((titles.of_item[train.targets] < 0).sum())
        return super().fit(context) | {"items without a title": titles.nameless, "targets without a title": unlearned}

    def prompts(self, context: Context) -> Prompts:
        """The prompts of the stage's context."""
        return Prompts.with_or_without_sids(context)

    def generative(self, prompts: Prompts, model: Any, text_tokenizer: Any) -> TitleModel:
        """The model that writes titles."""
        return prompts.titled(model, text_tokenizer, self.settings.cutoff)

    def answer_loss(self, context: Context, prompts: Prompts, text_tokenizer: Any) -> AnswerLoss:
        """Cross-entropy over the vocabulary."""
        return AnswerLoss(None, "vocabulary", (), self.settings.label_smoothing)

    def sid_tokens(self, context: Context) -> list[str]:
        """None."""
        return []

    def answer_end(self, prompts: Prompts, text_tokenizer: Any) -> int | None:
        """A title's own end."""
        return text_tokenizer.convert_tokens_to_ids(prompts.title_end) if prompts.title_end else None

    def packed(self, samples: Samples, prompts: Prompts, text_tokenizer: Any) -> list[Row]:
        """A row a chain of titles."""
        return packed_title_rows(samples, prompts, text_tokenizer, self.settings.cutoff)
