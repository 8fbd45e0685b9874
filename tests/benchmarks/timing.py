"""Two ways of one thing, timed in turn in one process; and the models that are timed."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness.decoding.generator import GenerativeModel
from harness.language import models
from harness.language.prompts import Prompts
from plugins.backbones.nano import NanoBackbone, Settings

ROUNDS = 3
SIZES = {
    "1 M": Settings(hidden=128, layers=4, heads=4, intermediate=384),
    "20 M": Settings(hidden=448, layers=8, heads=7, intermediate=1344),
}
"""Nano models by their number of parameters."""


def paired(fast: Callable[[], object], usual: Callable[[], object], rounds: int = 0) -> tuple[float, float]:
    """Median seconds of both, run in turn after one warm-up of each.

    Args:
        rounds: 0: :data:`ROUNDS`.
    """
    fast(), usual()
    times: dict[str, list[float]] = {"fast": [], "usual": []}
    for _ in range(rounds or ROUNDS):
        for name, work in (("fast", fast), ("usual", usual)):
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return statistics.median(times["fast"]), statistics.median(times["usual"])


def row(what: str, fast: float, usual: float, unit: str, ratio: float, same: str) -> dict[str, Any]:
    return {"what": what, "fast": fast, "usual": usual, "unit": unit, "ratio": ratio, "same": same}


def random_model(dataset: Any, style: str, size: str, softmax: str = "vocabulary") -> GenerativeModel:
    """A random model of a size: speed does not depend on the weights, but it does on how sharp they are.

    Embeddings are scaled so that its probabilities are as uneven as a trained model's.
    """
    prompts = Prompts(style, dataset.items, dataset.given)
    texts = [*dataset.items.titles, *prompts.next_sid([[0]]), "instruction input response customer buys"]
    model, text_tokenizer = NanoBackbone(SIZES[size], None).build(
        dataset.given.tokens, prompts.special_tokens, texts, 0
    )
    model.get_input_embeddings().weight.data.mul_(8)
    models.set_sid_softmax(model, softmax)
    return prompts.generative(model.eval(), text_tokenizer, 512)


def parameters(model: GenerativeModel) -> str:
    return f"{sum(p.numel() for p in model.model.parameters()) / 1e6:.1f} M"


def some(n: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n)[:count]


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
