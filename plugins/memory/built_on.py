"""What the stages of this folder build on: the language model before, and parts that score items."""

from __future__ import annotations

import numpy as np

from harness.components import Context, ItemScorer, Part
from harness.data.semantic_ids import SemanticIds
from harness.decoding.generator import Generator
from harness.decoding.item_scores import group_probabilities
from harness.errors import BenchError
from harness.language import models
from harness.language.prompts import Prompts

LEAST = -60.0
"""The least log-probability that is told apart."""


def generator_before(context: Context, cutoff: int) -> Generator:
    """The model of the stage before, as decoders take it; prompts keep their last `cutoff` tokens."""
    assert context.previous is not None  # as the stage's check has made sure
    model, text_tokenizer = models.load_model(context.previous, context.device, context.backbone)
    return Prompts.of(context).generative(model.eval(), text_tokenizer, cutoff)


def scorer_of(part: Part, context: Context) -> ItemScorer:
    """A part's model.

    Raises:
        BenchError: it scores no items.
    """
    scorer: ItemScorer = part.load(context)
    if not hasattr(scorer, "score"):
        raise BenchError(
            f"stage {context.stage}: {part.name} makes no model that scores items; use hybrid or skip-markov"
        )
    return scorer


def sid_log_probs(scores: np.ndarray, semantic_ids: SemanticIds, temperature: float = 1.0) -> np.ndarray:
    """Item scores ``[n, n_items]`` → log-probabilities of SIDs ``[n, n_sids]`` (float32): their items', summed."""
    with np.errstate(divide="ignore"):
        probabilities = group_probabilities(scores, semantic_ids.of_item, len(semantic_ids.distinct), temperature)
        return np.log(probabilities).astype(np.float32)
