"""Embeddings that start from vectors of the items, such as those of their texts, in place of random numbers.

A model that learns items from purchases alone knows nothing of an item that few bought. Where its embeddings begin as
what titles say, items that are alike begin alike, and the rows of train bring them apart. No parameter is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.components import NO_VECTORS, OF_TOKENIZER, Context
from harness.errors import BenchError, NoTexts
from harness.settings import setting


@dataclass(frozen=True)
class StartSettings:
    """What embeddings start from: shared by every model that learns items or SIDs."""

    start: str | dict[str, Any] = setting(
        NO_VECTORS, "what embeddings start from: none (random), tfidf, sentence, hf:PATH, cooccurrence, npy:PATH, "
        "run:DIR, or vectors (those that the tokenizer was made of); several with weights go side by side",
        components="embedder", instead=("", NO_VECTORS, OF_TOKENIZER),
    )  # fmt: skip


def at_random(settings: StartSettings) -> bool:
    """Whether embeddings start at random."""
    return not settings.start or settings.start == NO_VECTORS


def check_start(context: Context, settings: Any) -> None:
    """Refuse a start that cannot be had, where that is soon found out.

    Raises:
        BenchError: it cannot.
    """
    if isinstance(settings, StartSettings):
        start_vectors(context, settings, quick=True)


def start_vectors(context: Context, settings: StartSettings, quick: bool = False) -> np.ndarray | None:
    """The vectors ``[n_items, d]`` that embeddings start from; None: they start at random.

    Args:
        quick: None too where they take long.

    Raises:
        BenchError: they cannot be had; where no item has a text, under ``--strict`` alone.
    """
    if at_random(settings):
        return None
    try:
        vectors = context.vectors(settings.start, quick=quick)
    except NoTexts as error:
        if context.strict:
            raise BenchError(f"start = {settings.start}: {error.message}; or set start=none") from None
        return None
    if vectors is not None and (vectors == vectors[0]).all():
        raise BenchError(f"start = {settings.start}: all items have one vector, which tells nothing; set start=none")
    return vectors


def start_facts(context: Context, settings: StartSettings, vectors: np.ndarray | None) -> dict[str, Any]:
    """For the record: what embeddings started from, where a start is set; what is not as it is set is said too."""
    if at_random(settings):
        return {}
    if vectors is None:
        context.progress.say(f"start = {settings.start}: no item has a text; embeddings started at random")
    return {"start": str(settings.start) if vectors is not None else "none: no item has a text"}


def fitted_to(vectors: np.ndarray, rows: torch.Tensor, table: torch.Tensor | None = None) -> torch.Tensor:
    """Vectors ``[n, d]`` in the width, the place and the scale of random embeddings `rows` ``[n, width]``.

    They are centred and turned onto their principal axes, of which the first `width` are kept; columns that they do not
    fill keep their random numbers.

    Args:
        table: the embeddings whose mean and spread (root of the mean square about it) they get; `rows` by default.
    """
    like = (rows if table is None else table).detach().double()
    middle = like.mean(dim=0)
    values = np.asarray(vectors, dtype=np.float64)
    values = values - values.mean(axis=0)
    found, axes = np.linalg.eigh(values.T @ values)
    axes = axes[:, ::-1][:, : min(rows.shape[1], int((found > found[-1] * 1e-10).sum()))]
    largest = np.abs(axes).argmax(axis=0)  # an axis has no sign of its own: its largest entry is above 0
    values = values @ (axes * np.sign(axes[largest, np.arange(axes.shape[1])]))
    spread = float((like - middle).pow(2).mean().sqrt())
    values *= spread / max(float(np.sqrt((values**2).mean())), 1e-12)
    made = rows.detach().clone()
    filled = values.shape[1]
    made[:, :filled] = (torch.from_numpy(values).to(like.device) + middle[:filled]).to(made.dtype)
    return made


def of_tokens(vectors: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SID tokens, each the mean of its items' vectors: the tokens ``[n_tokens]`` and their vectors ``[n_tokens, d]``.

    Args:
        tokens: ``[n_items, levels]``, below 0 beyond a shorter SID's end; a token stands at one level only.
    """
    items, levels = np.nonzero(tokens >= 0)
    known, place = np.unique(tokens[items, levels], return_inverse=True)
    sums = np.zeros((len(known), vectors.shape[1]))
    np.add.at(sums, place, vectors[items])
    return known, sums / np.bincount(place)[:, None]
