"""SID tokens that are new to a backbone: whether its text tokenizer reads them whole, and what they start from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.components import Context
from harness.data.semantic_ids import ABSENT, SemanticIds
from harness.decoding.generator import sid_token_ids
from harness.errors import BenchError
from harness.networks.start import StartSettings, at_random, fitted_to, of_tokens
from harness.networks.start import check_start as check_vectors


def check(text_tokenizer: Any, sid_tokens: list[str]) -> None:
    """Refuse a text tokenizer that splits SID tokens, or reads them otherwise within a text.

    Raises:
        BenchError: it does; the line names the first such token.
    """
    if not sid_tokens:
        return
    wanted = text_tokenizer.convert_tokens_to_ids(sid_tokens)
    for token, number in zip(sid_tokens, wanted, strict=True):
        pieces = text_tokenizer(f"{token}{token}", add_special_tokens=False)["input_ids"]
        if pieces != [number, number]:
            raise BenchError(
                f"the backbone's text tokenizer splits the SID token {token} into "
                f"{text_tokenizer.convert_ids_to_tokens(pieces)[:8]}; use one whose tokenizer takes new tokens whole"
            )


def check_start(context: Context, settings: StartSettings, sid_tokens: list[str]) -> None:
    """Refuse a start where no SID token is new, or that cannot be had.

    Raises:
        BenchError: that is so.
    """
    if not at_random(settings) and not sid_tokens:
        raise BenchError(
            f"sft.start = {settings.start}: it is what new SID tokens start from, and this stage has none; leave it out"
        )
    check_vectors(context, settings)


@torch.no_grad()
def start(model: Any, text_tokenizer: Any, semantic_ids: SemanticIds, vectors: np.ndarray) -> None:
    """Let the input embedding of each SID token start from the mean of its items' vectors ``[n_items, d]``."""
    numbers = sid_token_ids(text_tokenizer, semantic_ids)[semantic_ids.of_item]
    known, means = of_tokens(vectors, np.where(semantic_ids.codes < 0, ABSENT, numbers))
    weight = model.get_input_embeddings().weight
    weight[known] = fitted_to(means, weight[known], weight)
