"""``checkpoint``: a language model that was trained elsewhere, decoded under our protocol; nothing is trained.

The folder is in Hugging Face form, and its text tokenizer knows the category's SIDs as tokens, as MiniOneRec's do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from harness.components import Context
from harness.decoding.generator import GenerativeModel
from harness.errors import BenchError
from harness.language import models, new_tokens
from harness.language.prompts import Prompts
from harness.settings import setting

LOCATION = "hf:"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class Settings:
    """Which model it is, and how it is asked."""

    path: str = setting("", "its folder, as hf:DIR")
    prompts: str = setting("instruction", "the prompts that it was trained on: instruction, compact, compact-items")
    cutoff: Annotated[int, Ge(1)] = setting(512, "longest prompt, in tokens; the last ones are kept")


class CheckpointTrainer:
    """Stage trainer ``checkpoint``."""

    Settings = Settings
    distributed = False

    def __init__(self, settings: Settings):
        self.settings = settings

    @property
    def folder(self) -> Path:
        """Where the model is.

        Raises:
            BenchError: there is none.
        """
        folder = Path(self.settings.path.removeprefix(LOCATION))
        if not self.settings.path or not (folder / "config.json").is_file():
            raise BenchError(f"{folder} holds no model in Hugging Face form (no config.json); name its folder")
        return folder

    def check(self, context: Context) -> None:
        """Its text tokenizer must know the category's SIDs."""
        semantic_ids = context.needs_semantic_ids("a checkpoint")
        if not any((self.folder / name).is_file() for name in TOKENIZERS):
            raise BenchError(f"{self.folder} holds no text tokenizer ({' or '.join(TOKENIZERS[:2])}); copy it there")
        text_tokenizer = models.load_tokenizer(self.folder)
        known = text_tokenizer.get_vocab()
        absent = [token for token in semantic_ids.tokens if token not in known]
        if absent:
            raise BenchError(
                f"{self.folder}: its tokenizer lacks {len(absent):,} of {len(semantic_ids.tokens):,} SID tokens, such "
                f"as {absent[0]}; it was trained on other semantic IDs than {context.dataset.category} has"
            )
        new_tokens.check(text_tokenizer, semantic_ids.tokens)

    def fit(self, context: Context) -> dict[str, Any]:
        """There is nothing to train."""
        return {"rows": 0, "checkpoint": self.folder.name}

    def load(self, context: Context) -> GenerativeModel:
        """The model, asked for the next SID."""
        model, text_tokenizer = models.load_folder(self.folder, context.device, context.backbone)
        prompts = Prompts(self.settings.prompts, context.items, context.needs_semantic_ids("a checkpoint"))
        return prompts.generative(model.eval(), text_tokenizer, self.settings.cutoff)
