"""Checkpoints of the training loop: where a training stands, as one safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from harness.errors import BenchError
from harness.files import replace_file

MODEL = "model.safetensors"

CHECKPOINT = "checkpoint.safetensors"


def load_weights(model: torch.nn.Module, directory: Path) -> None:
    """Load the trained weights of a stage directory.

    Raises:
        BenchError: they are missing, damaged, or of another model.
    """
    path = directory / MODEL
    try:
        load(model, load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise BenchError(f"{path} cannot be loaded ({first}); delete its run and run the method again") from None


@dataclass
class State:
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
            self.best_weights = {k: v.detach().cpu().clone() for k, v in weights(model).items()}
        else:
            self.probes_since_best += 1

    def stopped(self, patience: int) -> bool:
        """Whether patience has run out."""
        return bool(patience) and self.probes_since_best >= patience


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, shared ones once."""
    return {k: v.detach() for k, v in (*model.named_parameters(), *model.named_buffers())}


def load(model: torch.nn.Module, saved: dict[str, torch.Tensor]) -> None:
    """Put saved weights into a model.

    Raises:
        ValueError: names or shapes are those of another model.
    """
    own = weights(model)
    odd = next((k for k in sorted(own.keys() ^ saved.keys())), None)
    odd = odd or next((k for k, v in own.items() if v.shape != saved[k].shape), None)
    if odd:
        raise ValueError(f"{odd} does not fit the model")
    for name, tensor in own.items():
        tensor.copy_(saved[name])


def save(
    directory: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, averaged: Any, state: State
) -> None:
    """One file: weights, best and averaged weights, optimiser moments, and where the training stands."""
    tensors = {f"model/{k}": v for k, v in weights(model).items()}
    tensors |= {f"averaged/{k}": v for k, v in (weights(averaged).items() if averaged else ())}
    tensors |= {f"best/{k}": v for k, v in (state.best_weights or {}).items()}
    for i, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{i}/{k}": v for k, v in values.items()}
    facts = {k: getattr(state, k) for k in ("epoch", "best", "best_epoch", "probes_since_best", "seconds")}
    with replace_file(directory / CHECKPOINT) as path:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, {"state": json.dumps(facts)})


def resume(directory: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, averaged: Any) -> State | None:
    """Restore what :func:`save` wrote; None where there is no checkpoint."""
    path = directory / CHECKPOINT
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["state"])
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "averaged": {}, "best": {}, "optimiser": {}}
    for name, tensor in load_file(path).items():
        part, _, key = name.partition("/")
        parts[part][key] = tensor
    load(model, parts["model"])
    if averaged:
        load(averaged, parts["averaged"])
    content = optimiser.state_dict()
    content["state"] = {}
    for name, tensor in parts["optimiser"].items():
        number, _, key = name.partition("/")
        content["state"].setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict(content)
    return State(**facts, best_weights=parts["best"] or None)
