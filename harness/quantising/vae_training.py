"""Training an RQ-VAE: epochs over the catalogue, dead codes revived, the epoch with the fewest collisions kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from harness.item_models import checkpoint
from harness.progress import Progress
from harness.quantising.quantisers import colliding
from harness.quantising.vae import Found, RqVae, Shape

SAVE_EVERY = 50
"""Epochs between two checkpoints."""
Extra = Callable[[RqVae, torch.Tensor, Found, int], torch.Tensor]
"""``extra(model, rows, found, epoch)`` → what a method adds to the loss; rows are item ids ``[batch]``."""


@dataclass(frozen=True)
class Plan:
    """How an RQ-VAE is trained.

    Attributes:
        commitment: weight of the commitment loss.
        ema: decay of the codebooks' moving averages in place of the codebook loss; 0: the loss.
        revive_every: epochs after which codes that nothing used are put on vectors; 0: never.
        epsilon: of Sinkhorn on the last level; 0: nearest codes.
        look_every: epochs between two counts of collisions.
    """

    epochs: int
    batch: int
    learning_rate: float
    commitment: float = 0.25
    ema: float = 0.0
    revive_every: int = 0
    epsilon: float = 0.003
    look_every: int = 10


def train(
    vectors: np.ndarray, shape: Shape, plan: Plan, seed: int, device: str, directory: Path, progress: Progress,
    log: Callable[[dict[str, float], int], None], books: list[np.ndarray] | None = None, extra: Extra | None = None,
) -> tuple[RqVae, dict[str, Any]]:  # fmt: skip
    """The network at its best epoch, and facts of the training. A checkpoint in `directory` is gone on from.

    Args:
        books: codebooks to start from, in place of k-means of what the new encoder gives.
        extra: a further loss.
    """
    torch.manual_seed(seed)
    model = RqVae(shape).to(device)
    rows = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)).to(device)
    parameters = [p for name, p in model.named_parameters() if not (plan.ema and name == "books")]
    optimiser = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=0.0)
    state = checkpoint.resume(directory, model, optimiser, None, progress.say)
    if state is None:
        state = checkpoint.State()
        model.start(rows, seed, books)
    with progress.bar(plan.epochs, "RQ-VAE", "epoch") as bar:
        bar.update(state.epoch)
        while state.epoch < plan.epochs:
            state.epoch += 1
            facts = _epoch(model, optimiser, rows, plan, seed, state.epoch, extra)
            if state.epoch % plan.look_every == 0 or state.epoch == plan.epochs:
                codes = model.codes_of(rows, plan.epsilon)
                shared = len(colliding(codes))
                alone = 1 - shared / len(rows)  # of epochs with equally few collisions the one that rebuilds best
                state.note(alone - 1e-9 * facts["reconstruction"], model)
                used = [len(np.unique(column)) for column in codes.T]
                facts |= {"items on a shared SID": float(shared)}
                facts |= {f"codes used at level {level}": float(n) for level, n in enumerate(used, start=1)}
                log(facts, state.epoch)
            if state.epoch % SAVE_EVERY == 0 and state.epoch < plan.epochs:
                checkpoint.save(directory, model, optimiser, None, state)
            bar.update(1)
    checkpoint.load(model, {name: tensor.to(device) for name, tensor in state.best_weights.items()})
    return model, {
        "epochs": state.epoch,
        "best epoch": state.best_epoch,
        "items on a shared SID": round((1 - state.best) * len(rows)),
    }


def _epoch(
    model: RqVae, optimiser: torch.optim.Optimizer, rows: torch.Tensor, plan: Plan, seed: int, epoch: int,
    extra: Extra | None,
) -> dict[str, float]:  # fmt: skip
    """One pass in an order that seed and epoch tell."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(rows), generator=generator)
    sums = {"loss": 0.0, "reconstruction": 0.0}
    found = None
    for some in order.split(plan.batch):
        batch = rows[some.to(rows.device)]
        latent = model.encode(batch)
        found = model.quantise(latent, plan.epsilon if len(batch) >= model.shape.codes else 0.0)
        reconstruction = functional.mse_loss(model.decode(found.quantised), batch)
        loss = reconstruction + plan.commitment * found.commitment
        if not plan.ema:
            loss = loss + found.codebook
        if extra is not None:
            loss = loss + extra(model, some, found, epoch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        model.note(found, plan.ema)
        sums["loss"] += loss.item() * len(batch) / len(rows)
        sums["reconstruction"] += reconstruction.item() * len(batch) / len(rows)
    if plan.revive_every and epoch % plan.revive_every == 0 and epoch < plan.epochs * 0.9 and found is not None:
        sums["codes revived"] = float(model.revive(found, generator))
    return sums
