"""Small untrained models that decoders are tried on."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.dataset import Dataset, Histories
from harness.errors import BenchError
from harness.plugins import Plugins
from harness.settings import settings as validated


def generative_model(data: Dataset, plugins: Plugins, titles: bool = False) -> Any:
    """A random language model over a category's SIDs, or its titles, as decoders take it."""
    from harness.language.prompts import Prompts

    if "nano" not in plugins.registry("backbone"):
        raise BenchError("decoders of language models are tried on the backbone nano, which is not there")
    factory = plugins.get("backbone", "nano")
    prompts = Prompts("compact", data.items, data.given)
    backbone = factory(validated(factory, getattr(factory, "small", {}), "backbone"), None)
    assert data.given is not None
    model, text_tokenizer = backbone.build(data.given.tokens, prompts.special_tokens, data.items.titles, 1)
    model.get_input_embeddings().weight.data.mul_(12)  # far from uniform, so that rankings mean something
    make = prompts.titled if titles else prompts.generative
    return make(model.eval(), text_tokenizer, 512)


def item_scorer(data: Dataset) -> Any:
    """A model that scores items by a fixed random table and the last item."""
    table = np.random.default_rng(1).normal(size=(len(data.items), len(data.items))).astype(np.float32)

    class Scorer:
        def score(self, histories: Histories) -> np.ndarray:
            """``[n, n_items]``."""
            scores: np.ndarray = table[histories.last()]
            return scores

    return Scorer()
