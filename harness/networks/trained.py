"""What of a model is trained: all of it, some tensors, or some rows of its embeddings. It knows torch modules only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch

_rows: WeakKeyDictionary[Any, torch.Tensor] = WeakKeyDictionary()


def train_rows_only(model: Any, ids: list[int]) -> None:
    """Freeze a causal language model but for the rows `ids` of its embeddings (input and, where its own, output).

    The other rows get no gradient; :class:`harness.training.FrozenRows` holds them against an optimiser that moves them
    all the same.
    """
    rows = torch.tensor(sorted(set(ids)))
    model.requires_grad_(False)
    for weight in _embeddings(model):
        weight.requires_grad_(True)
        kept = torch.zeros(len(weight), 1, dtype=torch.bool)
        kept[rows] = True

        def of_those(gradient: torch.Tensor, kept: torch.Tensor = kept) -> torch.Tensor:
            return gradient * kept.to(gradient.device)

        weight.register_hook(of_those)
    _rows[model] = rows


def frozen_rows(model: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The weights of which only rows are trained, each with which rows are not, as booleans."""
    weights: list[tuple[torch.Tensor, torch.Tensor]] = []
    for weight in _embeddings(model) if model in _rows else ():
        frozen = torch.ones(len(weight), dtype=torch.bool)
        frozen[_rows[model]] = False
        weights.append((weight, frozen.to(weight.device)))
    return weights


@contextmanager
def modes_kept(model: torch.nn.Module) -> Iterator[None]:
    """Whatever is switched to training or to evaluation meanwhile, each module comes back as it was."""
    before = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def trained(model: torch.nn.Module) -> dict[str, Any]:
    """``{"parameters": …, "of": …, "tensors": …}``: how many numbers are trained, and which, for the record."""
    whole = dict(model.named_parameters())
    rows = _rows.get(model)
    names: Counter[str] = Counter()
    count = 0
    for name, weight in whole.items():
        if weight.requires_grad:
            count += len(rows) * weight[0].numel() if rows is not None else weight.numel()
            part = f" (rows {_ranges(rows)})" if rows is not None else ""
            names[re.sub(r"\.\d+\.", ".*.", name) + part] += 1
    everything = rows is None and all(weight.requires_grad for weight in whole.values())
    shown = [f"{name} × {n}" if n > 1 else name for name, n in names.items()]
    return {
        "parameters": count,
        "of": sum(weight.numel() for weight in whole.values()),
        "tensors": [f"all {len(whole)}"] if everything else shown,
    }


def _embeddings(model: Any) -> list[torch.nn.Parameter]:
    """The input embedding and, where it is another one, the output layer's."""
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    return list({id(layer.weight): layer.weight for layer in layers if layer is not None}.values())


def _ranges(rows: torch.Tensor) -> str:
    """``3–5, 9``."""
    numbers = rows.tolist()
    starts = [n for i, n in enumerate(numbers) if not i or numbers[i - 1] != n - 1]
    ends = [n for i, n in enumerate(numbers) if i == len(numbers) - 1 or numbers[i + 1] != n + 1]
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True))
