"""The engine's view of a causal language model: prompts beside their beams where it can read them so, else rows."""

from __future__ import annotations

from typing import Any

import torch

from harness.decoding import trial
from harness.decoding.prefill import Prefill, Split
from harness.decoding.rowwise import prefill
from harness.decoding.split import SplitModel


class EngineModel(SplitModel):
    """A causal language model as a :class:`~harness.decoding.prefill.Split`, in the layout that is right for it."""

    def by_rows(self, longest: int) -> bool:
        """Whether rows of that many tokens go one by one, since the model cannot read a tree of them."""
        return trial.of(self.model, max(longest, self.longest)).by_rows

    def prefill(self, ids: torch.Tensor, mask: torch.Tensor) -> Prefill:
        """Compute prompts once; what all prompts of the batch begin with, once for all."""
        if self.by_rows(ids.shape[1] + 1):
            return prefill(self, ids, mask)
        return self.tree(ids, mask)


def split(model: Any, longest: int = 0) -> Split:
    """The model as a :class:`Split`: itself where it is one, else a causal language model taken apart.

    Args:
        longest: tokens of a prompt and its answer, of the longest row.

    Raises:
        BenchError: the model can be read neither as a tree nor row by row; see :mod:`harness.decoding.trial`.
    """
    if hasattr(model, "prefill") and not isinstance(model, EngineModel):
        return model
    lm = model if isinstance(model, EngineModel) else EngineModel(model)
    lm.longest = max(lm.longest, longest)
    return lm
