"""What a trainer needs where an engine stands around the model: several processes (DDP), or DeepSpeed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
OPENED = "_takes_work"


def opened(model: Any) -> None:
    """The model's forward pass takes ``work=f`` too, and then gives ``f(model)``.

    What wraps it (DDP, DeepSpeed) must see the forward pass, or gradients are not shared; our losses take the model
    apart and compute body and head by themselves. So they are handed through the wrapper, and run within.
    """
    own = model.forward

    @functools.wraps(own)
    def forward(*inputs: Any, work: Callable[[Any], Any] | None = None, **named: Any) -> Any:
        return work(model) if work is not None else own(*inputs, **named)

    model.forward = forward
    setattr(model, OPENED, True)


def within(model: Any, work: Callable[[Any], T]) -> T:
    """``work(model)``, run within the forward pass of what wraps the model, where that one was opened."""
    if getattr(getattr(model, "module", None), OPENED, False):
        value: T = model(work=work)
        return value
    return work(model)


def hears_epochs(loader: Any) -> Any:
    """A loader whose sampler is told of an epoch also where the first batches of it are skipped.

    accelerate looks for the sampler one level below what skips, and there stands what shards the batches: the rest of
    an interrupted epoch would have the order of the first one.
    """
    shards = loader.batch_sampler
    if hasattr(shards, "num_processes"):
        shards.sampler = shards.batch_sampler.sampler
    return loader


def own_shares(loader: Any) -> Any:
    """A loader whose sampler gives each process its own rows: accelerate must not share them out again."""
    shards = loader.batch_sampler
    if hasattr(shards, "num_processes"):
        shards.num_processes, shards.process_index, shards.even_batches = 1, 0, False
    return loader
