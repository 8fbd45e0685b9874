"""Training of models that read item ids: one loop for all of them, resumable and repeatable.

It knows batches of histories, the optimiser, valid probes, early stopping and checkpoints. It knows
no architecture: a model is a torch module with ``loss(items, targets)``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from harness import losses
from harness.batching import LengthBuckets
from harness.components import Context, needs_probed, setting
from harness.data.dataset import Histories
from harness.errors import BenchError, NotFinite
from harness.store import replace_file
from harness.trained import trained

MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"


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


@dataclass(frozen=True)
class ItemLossSettings(LoopSettings):
    """Settings of a loss over items."""

    loss: losses.LossName = setting("full", "full (softmax over the catalogue), sampled, bce, gbce, bpr-max, top1-max")
    negatives: Annotated[int, Ge(1)] = setting(
        256, "uniform negatives a target, for every loss but full", ("loss is not full", lambda s: s.loss != "full")
    )
    calibration: Annotated[float, Ge(0), Lt(1.0001)] = setting(
        0.75, "t of gbce, 0 (plain BCE) to 1 (unbiased)", ("loss is gbce", lambda s: s.loss == "gbce")
    )
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = setting(
        0.0, "label smoothing of the full softmax", ("loss is full", lambda s: s.loss == "full")
    )
    temperature: Annotated[float, Ge(0)] = setting(
        0.0, "0: scores are dot products with item embeddings; else cosines over this temperature"
    )


class Trainable(Protocol):
    """What the loop trains: a torch module with a loss."""

    def loss(self, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of item ids ``[batch, length]`` (left-padded with `n_items`) and targets ``[batch]``."""
        ...


class ItemModel(torch.nn.Module):
    """Base of models that turn a history into one state and score items by their embeddings.

    A subclass sets ``self.output`` (:class:`harness.losses.Output`) and defines ``states``.
    """

    output: losses.Output

    def __init__(self, settings: Any):
        super().__init__()
        self.settings = settings

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """States ``[batch, d]`` of item ids ``[batch, length]``, left-padded with `n_items`."""
        raise NotImplementedError

    def loss(self, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, as the settings have it."""
        s = self.settings
        return losses.loss(
            s.loss, self.output, self.states(items), targets, s.negatives, s.calibration, s.label_smoothing
        )


class Scorer:
    """An :class:`harness.components.ItemScorer` of a trained :class:`ItemModel`."""

    def __init__(self, model: ItemModel, n_items: int, device: str):
        self.model, self.n_items, self.device = model, n_items, device

    @torch.inference_mode()
    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]`` float32."""
        was_training = self.model.training
        self.model.eval()
        items = torch.from_numpy(left_padded(histories, self.n_items)).to(self.device)
        scores = self.model.output(self.model.states(items))
        self.model.train(was_training)
        return scores.float().cpu().numpy()


class SequentialTrainer:
    """Base of stage trainers whose model is an :class:`ItemModel`: a subclass gives ``Settings`` and ``build``."""

    Settings: type = ItemLossSettings

    def __init__(self, settings: Any):
        self.settings = settings

    def build(self, n_items: int, max_history: int) -> ItemModel:
        """A fresh model; the random state is seeded before the call."""
        raise NotImplementedError

    def check(self, context: Context) -> None:
        """There must be something to rank."""
        if len(context.items) < 2:
            raise BenchError("a model of item ids needs at least two items")

    def fit(self, context: Context) -> dict[str, Any]:
        """Train; leave the best weights by valid in the stage directory."""
        model = self._fresh(context)
        return train(context, model, self.settings, lambda m: Scorer(m, len(context.items), context.device))

    def load(self, context: Context) -> Scorer:
        """The trained model."""
        model = self._fresh(context)
        load_weights(model, context.directory)
        return Scorer(model.eval(), len(context.items), context.device)

    def _fresh(self, context: Context) -> ItemModel:
        return seeded(lambda: self.build(len(context.items), context.train.histories.items.shape[1]), context.seed).to(
            context.device
        )


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
    optimiser = torch.optim.AdamW(_groups(model, settings.weight_decay), lr=settings.learning_rate)
    steps = math.ceil(n / settings.batch)
    sampler = LengthBuckets(lengths.tolist(), settings.batch, context.seed)
    averaged = _average(model, settings.average) if settings.average else None
    kept = averaged.module if averaged else model  # what is probed, selected and saved
    state = _resume(context.directory, model, optimiser, averaged) or _State()
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
                loss = model.loss(items[rows, -longest:].to(device), targets[rows].to(device))
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
                raise NotFinite(
                    f"{context.directory.name}: the loss is {float(values[first]):g} at step "
                    f"{state.epoch * steps + first + 1} (epoch {state.epoch + 1}), learning rate "
                    f"{learning_rate(settings, state.epoch * steps + first, settings.epochs * steps):.3g}; lower it"
                )
            state.epoch += 1
            numbers = {"loss": float(values.sum()) / n, "learning rate": rate, "epoch": float(state.epoch)}
            if state.epoch % settings.eval_every == 0 or state.epoch == settings.epochs:
                kept.eval()
                probed = context.probe(as_model(kept))
                numbers |= {f"eval_{name}": value for name, value in probed.items()}
                state.note(probed["NDCG@10"], kept)
                bar.set_postfix(refresh=False, loss=f"{numbers['loss']:.4f}", valid=f"{probed['NDCG@10']:.4f}")
            state.seconds = time.monotonic() - spent
            _save(context.directory, model, optimiser, averaged, state)
            context.log(numbers, state.epoch)
    with replace_file(context.directory / MODEL) as path:
        save_file(state.best_weights, path)
    (context.directory / CHECKPOINT).unlink(missing_ok=True)
    return {
        "epochs": state.epoch,
        "best epoch": state.best_epoch,
        "best valid NDCG@10": state.best,
        "rows": n,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": trained(model),
        "train seconds": round(state.seconds, 1),
    }


def load_weights(model: torch.nn.Module, directory: Path) -> None:
    """Load the trained weights of a stage directory.

    Raises:
        BenchError: they are missing, damaged, or of another model.
    """
    path = directory / MODEL
    try:
        _load(model, load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise BenchError(f"{path} cannot be loaded ({first}); delete its run and run the method again") from None


def learning_rate(settings: LoopSettings, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up, then constant or a cosine to 0."""
    warmup = settings.warmup * steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


@dataclass
class _State:
    """Where a training stands."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    probes_since_best: int = 0
    seconds: float = 0.0
    best_weights: Any = None

    def note(self, value: float, model: torch.nn.Module) -> None:
        """Take in a probe; the weights are kept where it is the best."""
        if value > self.best:
            self.best, self.best_epoch, self.probes_since_best = value, self.epoch, 0
            self.best_weights = {k: v.detach().cpu().clone() for k, v in _weights(model).items()}
        else:
            self.probes_since_best += 1

    def stopped(self, patience: int) -> bool:
        """Whether patience has run out."""
        return bool(patience) and self.probes_since_best >= patience


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay; vectors (biases, norms) without."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, shared ones once."""
    return {k: v.detach() for k, v in (*model.named_parameters(), *model.named_buffers())}


def _load(model: torch.nn.Module, saved: dict[str, torch.Tensor]) -> None:
    """Put saved weights into a model.

    Raises:
        ValueError: names or shapes are those of another model.
    """
    own = _weights(model)
    odd = next((k for k in sorted(own.keys() ^ saved.keys())), None)
    odd = odd or next((k for k, v in own.items() if v.shape != saved[k].shape), None)
    if odd:
        raise ValueError(f"{odd} does not fit the model")
    for name, tensor in own.items():
        tensor.copy_(saved[name])


def _average(model: torch.nn.Module, decay: float) -> Any:
    """A running average of a model's parameters; its buffers are the model's own."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def _save(
    directory: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, averaged: Any, state: _State
) -> None:
    """One file: weights, best and averaged weights, optimiser moments, and where the training stands."""
    tensors = {f"model/{k}": v for k, v in _weights(model).items()}
    tensors |= {f"averaged/{k}": v for k, v in (_weights(averaged).items() if averaged else ())}
    tensors |= {f"best/{k}": v for k, v in (state.best_weights or {}).items()}
    for i, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{i}/{k}": v for k, v in values.items()}
    facts = {k: getattr(state, k) for k in ("epoch", "best", "best_epoch", "probes_since_best", "seconds")}
    with replace_file(directory / CHECKPOINT) as path:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, {"state": json.dumps(facts)})


def _resume(directory: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, averaged: Any) -> _State | None:
    """Restore what :func:`_save` wrote; None where there is no checkpoint."""
    path = directory / CHECKPOINT
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["state"])
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "averaged": {}, "best": {}, "optimiser": {}}
    for name, tensor in load_file(path).items():
        part, _, key = name.partition("/")
        parts[part][key] = tensor
    _load(model, parts["model"])
    if averaged:
        _load(averaged, parts["averaged"])
    content = optimiser.state_dict()
    content["state"] = {}
    for name, tensor in parts["optimiser"].items():
        number, _, key = name.partition("/")
        content["state"].setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict(content)
    return _State(**facts, best_weights=parts["best"] or None)
