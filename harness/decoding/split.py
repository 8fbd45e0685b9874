"""A causal language model taken apart where the engine needs it: the body gives states, the head gives logits.

A step of constrained decoding needs the logits of one level's tokens, not of the whole vocabulary. A
model whose logits are anything but its head over its states (soft caps, scales, adapters, a trainer's
wrapper) is found out by trying, and used whole: its "states" are then its logits.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn

from harness.decoding.layout import causal, positions

SHARED_TOKENS = 256
"""Prompts' common beginning is computed apart where that saves at least this many positions a batch."""


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


def split(model: Any) -> Split:
    """The model as a :class:`Split`: itself where it is one, else a causal language model taken apart."""
    return model if hasattr(model, "prefill") else SplitModel(model)


class SplitModel:
    """A Hugging Face causal language model as a :class:`Split`."""

    def __init__(self, model: Any):
        from transformers import PreTrainedModel

        self.model = model
        self.body: Any = None
        self.head: Any = None
        if isinstance(model, PreTrainedModel):  # a trainer's wrapper may pass attributes on, and must see the forward
            self.body = getattr(model, model.base_model_prefix, None)
            self.head = model.get_output_embeddings()
        self.whole = not _is_plain(model, self.body, self.head)
        """Whether states are logits, because body and head cannot be told apart."""

    def compile(self) -> None:
        """Compile the forward pass (torch.compile, shapes left open)."""
        if self.whole:
            self.model = torch.compile(self.model, dynamic=True)
        else:
            self.body = torch.compile(self.body, dynamic=True)

    def prefill(self, ids: torch.Tensor, mask: torch.Tensor) -> Prefill:
        """Compute prompts once; what all prompts of the batch begin with, once for all."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        place = positions(mask)
        shared = _common(ids, mask)
        if shared * (len(ids) - 1) < SHARED_TOKENS:
            states = self.states(ids, causal(mask), place, cache, keep=torch.tensor([ids.shape[1] - 1]))
            return Prefill(cache, mask, states[:, 0])
        longest = int(mask.sum(1).argmax())
        start = ids.shape[1] - int(mask[longest].sum())
        first = ids[longest : longest + 1, start : start + shared]
        ahead = torch.ones_like(first, dtype=torch.bool)
        self.states(first, causal(ahead), positions(ahead), cache, keep=torch.tensor([0]))
        cache.batch_repeat_interleave(len(ids))
        own = mask[:, shared:] & (place[:, shared:] >= shared)
        seen = own.new_ones(len(ids), shared)
        attention = torch.cat([seen[:, None].expand(-1, own.shape[1], -1), causal(own)], dim=2)
        states = self.states(
            ids[:, shared:], attention, place[:, shared:], cache, keep=torch.tensor([own.shape[1] - 1])
        )
        return Prefill(cache, torch.cat([seen, own], dim=1), states[:, 0])

    def states(
        self, ids: torch.Tensor, attention: torch.Tensor | None = None, place: torch.Tensor | None = None,
        cache: Any = None, keep: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """States of tokens; `keep` (places in the row) are all that is asked for.

        Without a mask and positions the rows are plain causal sequences that start at 0.
        """
        inputs = {
            "input_ids": ids, "attention_mask": attention[:, None] if attention is not None else None,
            "position_ids": place, "past_key_values": cache, "use_cache": cache is not None,
        }  # fmt: skip
        keep = keep if keep is None else keep.to(ids.device)
        if self.whole:
            logits: torch.Tensor = self.model(**inputs, logits_to_keep=0 if keep is None else keep).logits
            return logits
        states: torch.Tensor = self.body(**inputs)[0]
        return states if keep is None else states[:, keep]

    def logits(self, states: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the given tokens, computed for them alone where the head allows."""
        if self.whole:
            return states if tokens is None else states[..., tokens]
        if tokens is None:
            whole: torch.Tensor = self.head(states)
            return whole
        bias = self.head.bias[tokens] if self.head.bias is not None else None
        return nn.functional.linear(states, self.head.weight[tokens], bias)


def level_log_probs(
    lm: Split, states: torch.Tensor, vocabulary: torch.Tensor, columns: torch.Tensor, exists: torch.Tensor,
    renormalise: bool, temperature: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """Log-probabilities ``[..., width]`` (float32) of a level's tokens after states ``[..., d]``, which are used up.

    Args:
        vocabulary: token ids of the level ``[tokens]``; `columns` ``[..., width]`` are places in it.
        exists: which columns are children; the values of others mean nothing.
        renormalise: over the children alone, not over the model's whole vocabulary.
        temperature: divides the logits.
    """
    if renormalise:
        values = lm.logits(states, vocabulary).float().gather(-1, columns) / temperature
        return values - values.masked_fill(~exists, float("-inf")).logsumexp(-1, keepdim=True)
    whole = lm.logits(states).float()
    if temperature != 1.0:
        whole = whole / temperature
    values = whole.gather(-1, vocabulary[columns])
    # in place: these logits are the largest tensor of a step, and nobody reads them again
    peak = whole.amax(-1, keepdim=True)
    return values - (whole.sub_(peak).exp_().sum(-1, keepdim=True).log() + peak)


_plain: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _is_plain(model: Any, body: Any, head: Any) -> bool:
    """Whether the model's logits are its head over its body's states; tried once a model, on a few tokens."""
    if body is None or not isinstance(head, nn.Linear):
        return False
    if model not in _plain:
        was_training = model.training
        model.eval()
        with torch.no_grad():
            ids = torch.arange(min(8, head.out_features), device=head.weight.device)[None]
            states = body(input_ids=ids, use_cache=False)[0]
            logits = model(input_ids=ids, use_cache=False).logits
            _plain[model] = states.shape[-1] == head.in_features and torch.allclose(
                head(states), logits, rtol=1e-3, atol=1e-4
            )
        model.train(was_training)
    return _plain[model]


def _common(ids: torch.Tensor, mask: torch.Tensor) -> int:
    """How many tokens all prompts ``[batch, P]`` begin with, at most all but the shortest one's last."""
    lengths = mask.sum(1)
    most = int(lengths.min()) - 1
    if len(ids) < 2 or most < 1:
        return 0
    begin = ids.shape[1] - lengths
    fronts = ids.gather(1, begin[:, None] + torch.arange(most, device=ids.device))
    return int((fronts == fronts[:1]).all(0).long().cumprod(0).sum())
