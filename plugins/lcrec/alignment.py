"""The stage ``lcrec-sft``: the shared SFT stage, each example in one of several wordings."""

from __future__ import annotations

from harness.components import Context
from harness.language.prompts import Prompts
from harness.language.sft_trainer import SftTrainer
from harness.language.templates import SEVERAL_WORDINGS


class LcRecSft(SftTrainer):
    """Stage trainer ``lcrec-sft``; test and valid ask in the first wording."""

    def prompts(self, context: Context) -> Prompts:
        """The prompts of the stage's context, in LC-Rec's wordings."""
        return Prompts.of(context, SEVERAL_WORDINGS)
