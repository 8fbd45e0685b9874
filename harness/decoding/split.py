"""A causal language model taken apart where the engine needs it: the body gives states, the head gives logits.

A step of constrained decoding needs the logits of one level's tokens, not of the whole vocabulary. A
model whose logits are anything but its head over its states (soft caps, scales, adapters, a trainer's
wrapper) is found out by trying, and used whole: its "states" are then its logits.

Prompts and beams lie side by side in one row (a tree), which a model must be able to read; what cannot is
found out by trying too (:mod:`harness.decoding.trial`) and goes row by row (:mod:`harness.decoding.engine`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from harness.decoding.padding import causal, positions
from harness.decoding.prefill import Prefill, Split
from harness.decoding.rowwise import RowCache, step
from harness.networks.trained import modes_kept

SHARED_TOKENS = 256
"""Prompts' common beginning is computed apart where that saves at least this many positions a batch."""


class SplitModel:
    """A Hugging Face causal language model, body and head apart.

    Attributes:
        whole: whether states are logits, because body and head cannot be told apart.
        longest: tokens of the longest row that is known to come.
    """

    def __init__(self, model: Any):
        from transformers import PreTrainedModel

        self.model = model
        self.body: Any = None
        self.head: Any = None
        self.longest = 0
        if isinstance(model, PreTrainedModel):  # a trainer's wrapper may pass attributes on, and must see the forward
            self.body = getattr(model, model.base_model_prefix, None)
            self.head = model.get_output_embeddings()
        self.whole = not _is_plain(model, self.body, self.head)

    def compile(self) -> None:
        """Compile the forward pass (torch.compile, shapes left open)."""
        if self.whole:
            self.model = torch.compile(self.model, dynamic=True)
        else:
            self.body = torch.compile(self.body, dynamic=True)

    def tree(self, ids: torch.Tensor, mask: torch.Tensor, worth: int = SHARED_TOKENS) -> Prefill:
        """Prompts as one tree: their common beginning apart, where that saves at least `worth` positions."""
        from transformers import DynamicCache

        cache = DynamicCache()  # without the config: a layer with a window must not crop, the mask says what is seen
        place = positions(mask)
        shared = _common(ids, mask)
        if shared * (len(ids) - 1) < worth:
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
        if isinstance(cache, RowCache):
            assert attention is not None
            return step(self, ids, attention, cache)
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": cache is not None}
        if attention is not None:
            inputs |= {"attention_mask": self._mask(attention[:, None]), "position_ids": place}
        if cache is not None:
            inputs["past_key_values"] = cache
        keep = keep if keep is None else keep.to(ids.device)
        if self.whole:
            fewer = keep is not None and _keeps(self.model)
            logits: torch.Tensor = self.model(**inputs, **({"logits_to_keep": keep} if fewer else {})).logits
            return logits if keep is None or fewer else logits[:, keep]
        states: torch.Tensor = self.body(**inputs)[0]
        return states if keep is None else states[:, keep]

    def forward(self, ids: torch.Tensor, cache: Any = None) -> tuple[torch.Tensor, Any]:
        """States of plain rows ``[batch, q]``, and the model's own cache behind them."""
        inputs = {"input_ids": ids, "use_cache": True} | ({} if cache is None else cache)
        out = self.model(**inputs) if self.whole else self.body(**inputs)
        after = {name: out[name] for name in ("past_key_values", "cache_params", "state") if out.get(name) is not None}
        return (out.logits if self.whole else out[0]), after

    def _mask(self, allowed: torch.Tensor) -> torch.Tensor:
        """A mask ``[batch, 1, q, keys]`` as the model's attention takes it: eager attention adds it to its scores."""
        config = getattr(self.model, "config", None)
        if getattr(config, "_attn_implementation", "sdpa") == "sdpa":
            return allowed
        kind = weight_type(self.model)
        return torch.zeros(allowed.shape, dtype=kind, device=allowed.device).masked_fill(
            ~allowed, torch.finfo(kind).min
        )

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
    if whole.requires_grad:
        return values - whole.logsumexp(-1, keepdim=True)
    # in place: these logits are the largest tensor of a step, and nobody reads them again
    peak = whole.amax(-1, keepdim=True)
    return values - (whole.sub_(peak).exp_().sum(-1, keepdim=True).log() + peak)


_plain: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
LOUD = 1000.0
"""The size of made-up logits: what a model does to its head's output (a soft cap, a scale) shows on them."""


def _is_plain(model: Any, body: Any, head: Any) -> bool:
    """Whether the model's logits are its head over its body's states; tried once a model, on a few tokens."""
    if body is None or not isinstance(head, nn.Linear):
        return False
    if model not in _plain:
        _plain[model] = _tried(model, body, head)
    return _plain[model]


@torch.no_grad()
def _tried(model: Any, body: Any, head: nn.Linear) -> bool:
    """One pass in which the head is listened to, and its output put out by loud numbers of our own."""
    heard: list[torch.Tensor] = []
    size = head.out_features
    ids = torch.arange(min(8, size), device=head.weight.device)[None]
    loud = torch.linspace(-LOUD, LOUD, size, device=ids.device).expand(1, ids.shape[1], -1)

    def listen(module: Any, given: Any, out: torch.Tensor) -> torch.Tensor:
        heard.append(given[0])
        return loud[:, -out.shape[1] :].to(out.dtype)

    with still(model):
        states = body(input_ids=ids, use_cache=False)[0]
        handle = head.register_forward_hook(listen)
        try:
            logits = model(input_ids=ids, use_cache=False).logits
        finally:
            handle.remove()
    if len(heard) != 1 or states.shape[-1] != head.in_features or logits.shape[-1] != size:
        return False
    same_states = torch.allclose(heard[0].float(), states[:, -heard[0].shape[1] :].float(), rtol=1e-3, atol=1e-4)
    return same_states and torch.allclose(logits.float(), loud[:, -logits.shape[1] :], rtol=1e-2)


def bare(model: Any) -> Any:
    """The model within a compiled one or a wrapper of several processes."""
    for inner in ("_orig_mod", "module"):
        if isinstance(getattr(model, inner, None), nn.Module):
            return bare(getattr(model, inner))
    return model


def weight_type(model: Any) -> torch.dtype:
    """The precision of a model's weights: that of the first that is no integer."""
    kind: torch.dtype = next(p for p in model.parameters() if p.is_floating_point()).dtype
    return kind


def _keeps(model: Any) -> bool:
    """Whether a model computes the logits of some places only, where that is asked for."""
    inner = bare(model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


@contextmanager
def still(model: Any) -> Iterator[None]:
    """The model in eval mode, without autocast, and without what a trainer has put around its forward pass."""
    own, wrapped = vars(model).get("_original_forward"), vars(model).get("forward")
    with modes_kept(model), torch.autocast(next(model.parameters()).device.type, enabled=False):
        model.eval()
        if own is not None:
            model.forward = own
        try:
            yield
        finally:
            if own is not None:
                model.forward = wrapped


def _common(ids: torch.Tensor, mask: torch.Tensor) -> int:
    """How many tokens all prompts ``[batch, P]`` begin with, at most all but the shortest one's last."""
    lengths = mask.sum(1)
    most = int(lengths.min()) - 1
    if len(ids) < 2 or most < 1:
        return 0
    begin = ids.shape[1] - lengths
    fronts = ids.gather(1, begin[:, None] + torch.arange(most, device=ids.device))
    return int((fronts == fronts[:1]).all(0).long().cumprod(0).sum())


def tree_states(
    lm: SplitModel, ids: torch.Tensor, mask: torch.Tensor, completions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``completion_states`` of :mod:`harness.decoding.shared_prompt`, completions beside each other in one row."""
    batch, prompt = ids.shape
    group, length = completions.shape[1:]
    fed = length - 1  # the last token predicts nothing that is asked for
    tokens = completions[:, :, :fed].reshape(batch, group * fed)
    see_prompt = mask[:, None, :].expand(batch, group * fed, prompt)
    member = torch.arange(group, device=ids.device).repeat_interleave(fed)
    step = torch.arange(fed, device=ids.device).repeat(group)
    own = (member[:, None] == member[None, :]) & (step[None, :] <= step[:, None])  # [G·fed, G·fed]
    rows = torch.cat([see_prompt, own.expand(batch, -1, -1)], dim=2)
    upper = torch.cat([causal(mask), mask.new_zeros(batch, prompt, group * fed)], dim=2)
    attention = torch.cat([upper, rows], dim=1)  # [batch, P + G·fed, P + G·fed]
    place = torch.cat([positions(mask), mask.sum(1, keepdim=True) + step], dim=1)
    keep = torch.arange(prompt - 1, prompt + group * fed, device=ids.device)
    states = lm.states(torch.cat([ids, tokens], dim=1), attention, place, keep=keep)
    return states[:, 0], states[:, 1:].reshape(batch, group, fed, states.shape[2])
