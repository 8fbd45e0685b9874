"""Training of models that read item ids: one loop for all of them, resumable and repeatable.

It knows batches of histories, the optimiser, valid probes, early stopping and checkpoints. It knows
no architecture: a model is a torch module with ``loss(items, targets)``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from safetensors.torch import save_file

from harness.components import Context
from harness.data.dataset import Histories
from harness.errors import NotFinite
from harness.evaluation.validation import needs_probed
from harness.files import replace_file
from harness.item_models import checkpoint
from harness.networks.batches import LengthBuckets
from harness.networks.trained import trained
from harness.settings import setting


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the training loop."""

    epochs: Annotated[int, Ge(1)] = setting(60, "at most this many passes over the train samples")
    batch: Annotated[int, Ge(1)] = setting(256, "samples a step")
    learning_rate: Annotated[float, Gt(0)] = setting(1e-3, "peak learning rate of AdamW")
    schedule: Literal["constant", "cosine"] = setting("constant", "learning rate after the warm-up, over `epochs`")
    warmup: Annotated[float, Ge(0), Lt(1)] = setting(0.0, "warm-up, as a share of `epochs`")
    weight_decay: Annotated[float, Ge(0)] = setting(0.0, "AdamW's weight decay, of matrices only")
    max_grad_norm: Annotated[float, Ge(0)] = setting(5.0, "gradient clipping; 0: none")
    average: Annotated[float, Ge(0), Lt(1)] = setting(
        0.0, "decay a step of the running average of weights that is probed and kept; 0: the last weights"
    )
    eval_every: Annotated[int, Ge(1)] = setting(1, "epochs between two probes of valid")
    patience: Annotated[int, Ge(0)] = setting(8, "probes without a better NDCG@10 before stopping; 0: never")


class Trainable(Protocol):
    """What the loop trains: a torch module with a loss.

    With ``sees_users = True`` the loss gets a third value, users ``[batch]``: their numbers among the train users.
    """

    def loss(self, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of item ids ``[batch, length]`` (left-padded with `n_items`) and targets ``[batch]``."""
        ...


def seeded(build: Callable[[], Any], seed: int) -> Any:
    """What `build` makes from a random state of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def left_padded(histories: Histories, padding: int) -> np.ndarray:
    """Item ids ``[n, longest]`` int64, the last item in the last column, `padding` before the first."""
    longest = int(histories.lengths.max(initial=1))
    source = np.arange(longest) - (longest - histories.lengths[:, None])
    ids = np.take_along_axis(histories.items, np.maximum(source, 0), axis=1)
    return np.where(source >= 0, ids, padding).astype(np.int64)


def user_numbers(histories: Histories) -> np.ndarray:
    """Users ``[n]`` int64: their numbers among the train users, -1 where train does not know them."""
    users = histories.users if histories.users is not None else np.full(len(histories), -1)
    return users.astype(np.int64)


def train(context: Context, model: Any, settings: LoopSettings, as_model: Callable[[Any], Any]) -> dict[str, Any]:
    """Train a :class:`Trainable` on the train samples, probe valid, stop early, keep the best weights.

    Shuffles and dropout are functions of seed and epoch alone, so a killed stage that goes on from its
    checkpoint ends in the same weights.

    Args:
        as_model: the module → what the recipe's decoder takes.

    Returns:
        Facts for the record: epochs, best epoch, best valid NDCG@10, parameters, train seconds.

    Raises:
        BenchError: the probe has too few candidates for the NDCG@10 that the weights are chosen by.
    """
    needs_probed(context.probe, "NDCG@10", f"stage {context.directory.name}")
    device = context.device
    n = len(context.train)
    items = torch.from_numpy(left_padded(context.train.histories, len(context.items)))
    lengths = context.train.histories.lengths
    targets = torch.from_numpy(context.train.targets.astype(np.int64))
    sees_users = getattr(model, "sees_users", False)
    users = torch.from_numpy(user_numbers(context.train.histories)) if sees_users else None
    optimiser = torch.optim.AdamW(_groups(model, settings.weight_decay), lr=settings.learning_rate)
    steps = math.ceil(n / settings.batch)
    sampler = LengthBuckets(lengths.tolist(), settings.batch, context.seed)
    averaged = _average(model, settings.average) if settings.average else None
    kept = averaged.module if averaged else model  # what is probed, selected and saved
    state = checkpoint.resume(context.directory, model, optimiser, averaged, context.progress.say) or checkpoint.State()
    spent = time.monotonic() - state.seconds
    with context.progress.bar(settings.epochs * steps, context.directory.name, "step") as bar:
        bar.update(state.epoch * steps)
        while state.epoch < settings.epochs and not state.stopped(settings.patience):
            sampler.set_epoch(state.epoch)
            torch.manual_seed(context.seed * 1_000_003 + state.epoch)
            model.train()
            order = np.fromiter(sampler, dtype=np.int64, count=n)
            seen: list[torch.Tensor] = []
            for step in range(steps):
                rate = learning_rate(settings, state.epoch * steps + step, settings.epochs * steps)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                rows = order[step * settings.batch : (step + 1) * settings.batch]
                longest = int(lengths[rows].max())
                batch = [items[rows, -longest:].to(device), targets[rows].to(device)]
                loss = model.loss(*batch, *([users[rows].to(device)] if users is not None else []))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                if settings.max_grad_norm:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
                optimiser.step()
                if averaged:
                    averaged.update_parameters(model)
                seen.append(loss.detach() * len(rows))
                bar.update(1)
            values = torch.stack(seen)
            wrong = (~values.isfinite()).nonzero()
            if len(wrong):
                first = int(wrong[0])
                step = state.epoch * steps + first
                at = f"the loss is {float(values[first]):g} at step {step + 1} (epoch {state.epoch + 1})"
                mend = "lower it" if step else "no step was taken yet, so look at the network's loss"
                raise NotFinite(
                    f"{context.directory.name}: {at}, learning rate "
                    f"{learning_rate(settings, step, settings.epochs * steps):.3g}; {mend}"
                )
            state.epoch += 1
            numbers = {"loss": float(values.sum()) / n, "learning rate": rate, "epoch": float(state.epoch)}
            if state.epoch % settings.eval_every == 0 or state.epoch == settings.epochs:
                kept.eval()
                with torch.no_grad():  # the last step may have been the one too far
                    after = kept.loss(*batch, *([users[rows].to(device)] if users is not None else []))
                if not after.isfinite():
                    at = f"the loss is {float(after):g} after step {state.epoch * steps} (epoch {state.epoch})"
                    raise NotFinite(f"{context.directory.name}: {at}, learning rate {rate:.3g}; lower it")
                probed = context.probe(as_model(kept))
                numbers |= {f"eval_{name}": value for name, value in probed.items()}
                state.note(probed["NDCG@10"], kept)
                bar.set_postfix(refresh=False, loss=f"{numbers['loss']:.4f}", valid=f"{probed['NDCG@10']:.4f}")
            state.seconds = time.monotonic() - spent
            checkpoint.save(context.directory, model, optimiser, averaged, state)
            context.log(numbers, state.epoch)
    with replace_file(context.directory / checkpoint.MODEL) as path:
        save_file(state.best_weights, path)
    checkpoint.remove(context.directory)
    return {
        "epochs": state.epoch,
        "best epoch": state.best_epoch,
        "steps": state.epoch * steps,
        "best step": state.best_epoch * steps,
        "best valid NDCG@10": state.best,
        "rows": n,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": trained(model),
        "train seconds": round(state.seconds, 1),
    }


def learning_rate(settings: LoopSettings, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up, then constant or a cosine to 0."""
    warmup = settings.warmup * steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay; vectors (biases, norms) without."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _average(model: torch.nn.Module, decay: float) -> Any:
    """A running average of a model's parameters; its buffers are the model's own."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
