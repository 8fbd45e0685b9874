"""The stage ``minionerec-sft``: the shared SFT stage, and the tasks ``alike`` and ``again`` beside its own."""

from __future__ import annotations

from typing import Any

from harness.components import Context
from harness.errors import BenchError
from harness.language import training_rows
from harness.language.prompts import DRAWN_TASKS, Prompts
from harness.language.sft_trainer import SftTrainer

from .drawn import DrawnRows


class MiniOneRecSft(SftTrainer):
    """Stage trainer ``minionerec-sft``."""

    draws = DRAWN_TASKS

    def check(self, context: Context) -> None:
        """As the shared stage, and ``alike`` needs titles."""
        super().check(context)
        if self.settings.tasks.get("alike") and not any(context.items.titles):
            raise BenchError("sft.tasks.alike needs item titles and this category has none; set it to 0")

    def _drawn(self, context: Context, prompts: Prompts, text_tokenizer: Any) -> training_rows.Drawn | None:
        settings = self.settings
        rates = {task: rate for task, rate in settings.tasks.items() if task in DRAWN_TASKS and rate}
        if not rates:
            return None
        return DrawnRows(
            context.train, rates, context.items, prompts, text_tokenizer, settings.cutoff, context.seed
        )  # fmt: skip
