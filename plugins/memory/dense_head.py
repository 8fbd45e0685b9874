"""A dense head beside the SID head: items scored by one inner product with the language model's state.

The head sees what the SID head sees: the state after a prompt, from which the model predicts a SID's first token. An
item's score is the product of that state with the item's own vector and, through a projection, with the vector of its
text (as LIGER, arXiv 2411.18814, has a dense representation beside generated SIDs). It tells items of one SID apart,
and sees an item as a whole where the SID head must first guess its first code. The language model stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from harness import files
from harness.components import Context
from harness.data.dataset import Histories, Samples
from harness.decoding.engine import split
from harness.decoding.generator import Generator, batches
from harness.decoding.padding import pad_left
from harness.errors import BenchError, NoTexts, NotFinite
from harness.item_models.checkpoint import MODEL, load_weights

TOKENS = 16384
"""Positions computed at once."""
BATCH, RATE, DECAY, DROPOUT, SMOOTHING = 256, 2e-3, 0.01, 0.1, 0.1
EPOCHS, PATIENCE = 20, 2
CUTOFF = 10


class Head(torch.nn.Module):
    """States ``[n, width]`` → scores of items ``[n, n_items]``, their softmax the head's distribution."""

    def __init__(self, n_items: int, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.items = torch.nn.Parameter(torch.zeros(n_items, width))
        self.bias = torch.nn.Parameter(torch.zeros(n_items))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Scores of all items."""
        return functional.linear((states - self.mean) / self.scale, self.items, self.bias)


@dataclass(frozen=True)
class DenseHead:
    """An :class:`~harness.components.ItemScorer`: a head on the states of a language model.

    Attributes:
        generator: the language model and its prompts.
    """

    generator: Generator
    head: Head
    device: str

    @torch.inference_mode()
    def score(self, histories: Histories) -> np.ndarray:
        """Scores ``[n, n_items]`` float32."""
        states = states_after(self.generator, histories, self.device)
        with torch.autocast(states.device.type, enabled=False):  # a rounded score would tie items
            return self.head(states).cpu().numpy()

    def save(self, directory: Path) -> None:
        """Write the head; the language model stands in the stage before."""
        with files.replace_file(directory / MODEL) as path:
            save_file({name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}, path)

    @classmethod
    def load(cls, generator: Generator, directory: Path, n_items: int, device: str) -> DenseHead:
        """Read what :meth:`save` wrote.

        Raises:
            BenchError: it is missing, damaged, or of another model.
        """
        width = states_after(generator, Histories.of([[0]]), device).shape[1]
        head = Head(n_items, width)
        load_weights(head, directory)
        return cls(generator, head.to(device).eval(), device)


@torch.inference_mode()
def states_after(generator: Generator, histories: Histories, device: str) -> torch.Tensor:
    """The language model's states after the prompts of histories ``[n, width]``, float32."""
    lm, prompts = split(generator.model), generator.encode(histories)
    if getattr(lm, "whole", False):
        raise BenchError("counts.head reads states, and this backbone gives logits alone; set counts.head=false")
    rows, parts = [], []
    for part in batches([len(prompt) for prompt in prompts], TOKENS):
        ids, mask = pad_left([prompts[row] for row in part], generator.pad, device)
        parts.append(lm.prefill(ids, mask).states.float())
        rows.append(part)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return torch.cat(parts)[torch.from_numpy(order).to(device)]


def fitted(generator: Generator, context: Context) -> tuple[DenseHead, dict[str, Any]]:
    """A head that is fitted on the context's train, with what is said of it in the record; valid stops it."""
    n_items, device = len(context.items), context.device
    states, targets = _of(generator, context.train, device)
    probed, wanted = _of(generator, context.valid, device)
    mean, scale = states.mean(0), states.std(0, unbiased=False).clamp(min=1e-6)
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]):
        torch.manual_seed(context.seed)
        model = _Training(n_items, states.shape[1], _texts(context), torch.bincount(targets, minlength=n_items))
        model.to(device)
        best, epoch, stopped = _trained(model, (states - mean) / scale, targets, (probed - mean) / scale, wanted)
    head = Head(n_items, states.shape[1]).to(device)
    with torch.no_grad():
        for name, value in zip(("items", "bias", "mean", "scale"), (*stopped, mean, scale), strict=True):
            getattr(head, name).copy_(value)
    return DenseHead(generator, head.eval(), device), {"epochs": epoch, f"best valid NDCG@{CUTOFF} by item": best}


class _Training(torch.nn.Module):
    """The head in its parts: own vectors and vectors of texts, each against its own projection of a state."""

    def __init__(self, n_items: int, width: int, texts: torch.Tensor | None, bought: torch.Tensor):
        super().__init__()
        self.own = torch.nn.Parameter(torch.randn(n_items, width) * 0.02)
        self.project = torch.nn.Linear(width, width)
        self.bias = torch.nn.Parameter(torch.log1p(bought.float()))
        self.register_buffer("texts", texts)
        self.to_texts = torch.nn.Linear(width, texts.shape[1], bias=False) if texts is not None else None

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Items ``[n_items, width]`` and their biases: all that is linear in a state, put together."""
        items = self.own @ self.project.weight
        if self.to_texts is not None:
            items = items + self.texts @ self.to_texts.weight
        return items, self.bias + self.own @ self.project.bias


def _trained(
    model: _Training, states: torch.Tensor, targets: torch.Tensor, probed: torch.Tensor, wanted: torch.Tensor
) -> tuple[float, int, tuple[torch.Tensor, torch.Tensor]]:
    """The best metric on valid, its epoch, and the folded head of then."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    best, at, kept = -1.0, 0, model.folded()
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(len(states)).to(states.device).split(BATCH):
            scores = functional.linear(functional.dropout(states[rows], DROPOUT), *model.folded())
            loss = functional.cross_entropy(scores, targets[rows], label_smoothing=SMOOTHING)
            if not torch.isfinite(loss):
                raise NotFinite(f"the loss of the dense head is {float(loss)} in epoch {epoch}; set counts.head=false")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            folded = tuple(part.clone() for part in model.folded())
            value = _ndcg(probed, folded, wanted)
        if value > best:
            best, at, kept = value, epoch, (folded[0], folded[1])
        elif epoch - at >= PATIENCE:
            break
    return round(best, 6), at, kept


def _ndcg(states: torch.Tensor, head: tuple[torch.Tensor, ...], wanted: torch.Tensor) -> float:
    ranks = []
    for rows, own in zip(states.split(BATCH), wanted.split(BATCH), strict=True):
        scores = functional.linear(rows, *head)
        ranks.append((scores > scores.gather(1, own[:, None])).sum(1))
    found = torch.cat(ranks)
    return float(torch.where(found < CUTOFF, 1 / torch.log2(found + 2.0), 0.0).mean())


def _of(generator: Generator, samples: Samples, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    states = states_after(generator, samples.histories, device)
    return states.clone(), torch.from_numpy(samples.targets.astype(np.int64)).to(device)


def _texts(context: Context) -> torch.Tensor | None:
    """What titles say of items, ``[n_items, d]`` of length 1; None where none has a text."""
    try:
        vectors = torch.from_numpy(np.asarray(context.vectors("tfidf"), dtype=np.float32))
    except NoTexts:
        return None
    centred = vectors - vectors.mean(0)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-6)
