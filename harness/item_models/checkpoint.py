"""Checkpoints of the training loop: where a training stands, as one safetensors file."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
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

BEFORE = "checkpoint-before.safetensors"
"""The checkpoint before the newest, for where that one is damaged."""


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


FACTS = ("epoch", "best", "best_epoch", "probes_since_best", "seconds")
"""What of a state is kept beside the tensors."""


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
    facts = {k: getattr(state, k) for k in FACTS}
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    newest = directory / CHECKPOINT
    with replace_file(newest) as path:
        said = json.dumps(facts)
        save_file(plain, path, {"state": said, "crc": str(_crc(plain, said))})
        if newest.exists():
            os.replace(newest, directory / BEFORE)


def remove(directory: Path) -> None:
    """Remove the checkpoints of a stage that is through."""
    for path in directory.glob(f"*{Path(CHECKPOINT).stem}*.safetensors"):
        path.unlink()


def resume(
    directory: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, averaged: Any,
    say: Callable[[str], None] = lambda line: None,
) -> State | None:  # fmt: skip
    """Restore what :func:`save` wrote; None where there is no checkpoint. Of a damaged one the one before is used.

    Args:
        say: told in one line where that is so.
    """
    for path in (directory / CHECKPOINT, directory / BEFORE):
        if not path.exists():
            continue
        try:
            facts, parts = _read(path)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            os.replace(path, path.with_name(f"damaged-{path.name}"))
            what = " ".join(str(error).split())[:80]
            say(f"{path} is damaged ({what}); it is set aside, and the one before is used, or the stage starts anew")
            continue
        return _restored(facts, parts, model, optimiser, averaged)
    return None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """Facts and tensors of a checkpoint, if they are what was written."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    if "crc" in metadata and int(metadata["crc"]) != _crc(tensors, metadata["state"]):
        raise ValueError("it is not what was written")
    facts = json.loads(metadata["state"])
    if set(facts) != set(FACTS):
        raise ValueError("it holds no state of a training")
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "averaged": {}, "best": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts[part][key] = tensor
    return facts, parts


def _crc(tensors: dict[str, torch.Tensor], said: str) -> int:
    """Over facts, names, shapes and values: whatever is read back."""
    value = zlib.crc32(said.encode())
    for name in sorted(tensors):
        value = zlib.crc32(f"{name} {tuple(tensors[name].shape)}".encode(), value)
        content: Any = tensors[name].contiguous().view(-1).view(torch.uint8).numpy()
        value = zlib.crc32(content, value)
    return value


def _restored(
    facts: dict[str, Any], parts: dict[str, dict[str, torch.Tensor]], model: torch.nn.Module,
    optimiser: torch.optim.Optimizer, averaged: Any,
) -> State:  # fmt: skip
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
