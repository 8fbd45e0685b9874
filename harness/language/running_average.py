"""A running average of weights, which a trainer probes, selects and keeps in place of the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

AVERAGE = "average.safetensors"


class RunningAverage(TrainerCallback):
    """A running average of the weights, which a trainer probes, selects and keeps in place of the weights.

    It is kept in float32: in bfloat16 a step of 0.998 is below what a number of its size can tell.
    After each step average ← d · average + (1 − d) · weights with d = min(decay, (1 + t) / (10 + t)), so that
    the first steps do not weigh (the warm-up of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, decay: float):
        self.decay, self.steps = decay, 0
        self.weights: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        if not self.weights:
            self.weights = {name: p.detach().to(torch.float32, copy=True) for name, p in model.named_parameters()}
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        names, current = zip(*model.named_parameters(), strict=True)
        mine = [self.weights[name] for name in names]
        torch._foreach_lerp_(mine, [p.detach().float() for p in current], 1 - decay)

    @contextmanager
    def instead(self, model: torch.nn.Module) -> Iterator[None]:
        """The model with the average for its weights, and its own back afterwards."""
        kept = {name: p.detach().clone() for name, p in model.named_parameters() if name in self.weights}
        self.put(model)
        try:
            yield
        finally:
            _copied(kept, model)

    def put(self, model: torch.nn.Module) -> None:
        """The average in place of the model's weights, in their precision."""
        _copied(self.weights, model)

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        from safetensors.torch import save_file

        tensors = {name: tensor.contiguous() for name, tensor in self.weights.items()}
        save_file(tensors, folder / AVERAGE, metadata={"steps": str(self.steps)})

    def load(self, folder: Path, device: str | torch.device) -> None:
        """Read the average of a checkpoint."""
        from safetensors import safe_open

        with safe_open(
            folder / AVERAGE,
            framework="pt",
            device=torch.device(device).type if str(device).startswith("cpu") else str(device),
        ) as file:
            self.weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
            self.steps = int(file.metadata()["steps"])


@torch.no_grad()
def _copied(weights: dict[str, torch.Tensor], model: torch.nn.Module) -> None:
    for name, p in model.named_parameters():
        if name in weights:
            p.copy_(weights[name])
