"""What the engine drives, and what it keeps of prompts: the words that its modules share."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch


class Prefill(NamedTuple):
    """Prompts computed once.

    Attributes:
        cache: what the next steps read and add to.
        mask: ``[batch, keys]``, the cache's places that a continuation sees.
        states: ``[batch, d]``; they predict the first token.
    """

    cache: Any
    mask: torch.Tensor
    states: torch.Tensor


class Body(Protocol):
    """A causal language model as rows are read (:class:`harness.decoding.split.SplitModel`)."""

    def forward(self, ids: torch.Tensor, cache: Any = None) -> tuple[torch.Tensor, Any]:
        """States ``[batch, q, d]`` of tokens behind the model's own cache, and that cache."""
        ...

    def states(self, ids: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        """States ``[batch, q, d]`` of tokens ``[batch, q]``."""
        ...


class Split(Protocol):
    """What the engine drives: prompts and steps to states, states to logits."""

    def prefill(self, ids: torch.Tensor, mask: torch.Tensor) -> Prefill:
        """Compute prompts ``[batch, P]``, left-padded."""
        ...

    def states(self, ids: torch.Tensor, attention: torch.Tensor, place: torch.Tensor, cache: Any) -> torch.Tensor:
        """States ``[batch, q, d]`` of tokens ``[batch, q]`` at positions `place`, under a mask ``[batch, q, keys]``."""
        ...

    def logits(self, states: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Logits ``[..., tokens]`` of those token ids, or of the whole vocabulary."""
        ...
