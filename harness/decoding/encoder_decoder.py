"""An encoder–decoder model under the engine: the encoder's output is the shared prompt.

A beam is again a position of its user's row, now of the decoder's: it sees the start token, its own
ancestors and itself, and every position reads the one encoded history. T5's relative positions are
taken along a beam's own ancestry, not along the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from harness.decoding.prefill import Prefill


@dataclass
class _Encoded:
    """What steps need of a batch: cache, encoded prompts ``[batch, P, d]`` and their additive mask."""

    cache: Any
    states: torch.Tensor
    hidden_padding: torch.Tensor

    def crop(self, length: int) -> None:
        """Take the last ``-length`` decoder positions out of the cache."""
        self.cache.self_attention_cache.crop(length)


class SharedEncoder:
    """A T5 model (``T5ForConditionalGeneration``) as :func:`harness.decoding.beam.beam_search` takes it."""

    def __init__(
        self, model: Any, embed: Callable[[torch.Tensor], torch.Tensor] | None = None, pad: int | None = None
    ):  # fmt: skip
        """Take a model.

        Args:
            embed: makes the encoder's input of token ids ``[batch, P]``; without it the model's own embedding does.
            pad: a token that is masked wherever it stands.
        """
        self.model, self.pad = model, pad
        self.embed = embed or model.get_input_embeddings()

    def prefill(self, ids: torch.Tensor, mask: torch.Tensor) -> Prefill:
        """Encode prompts ``[batch, P]`` once and feed the decoder its start token."""
        from transformers import DynamicCache, EncoderDecoderCache

        mask = mask if self.pad is None else mask & (ids != self.pad)
        states = self.model.encoder(inputs_embeds=self.embed(ids), attention_mask=mask.long()).last_hidden_state
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        encoded = _Encoded(cache, states, _additive(mask[:, None, None, :], states.dtype))
        start = torch.full_like(ids[:, :1], self.model.config.decoder_start_token_id)
        seen = torch.ones_like(mask[:, :1])
        return Prefill(encoded, seen, self.states(start, seen[:, None], start, encoded)[:, -1])

    def states(self, ids: torch.Tensor, attention: torch.Tensor, place: torch.Tensor, cache: _Encoded) -> torch.Tensor:
        """States ``[batch, q, d]`` of tokens ``[batch, q]`` under a boolean mask ``[batch, q, keys]``.

        `place` is not needed: T5 counts along each beam's own ancestry.
        """
        decoder, mask, encoded = self.model.decoder, attention[:, None], cache
        hidden = decoder.embed_tokens(ids)
        bias = self._bias(mask)  # [batch, heads, q, keys]
        additive = _additive(mask, hidden.dtype)
        for block in decoder.block:
            hidden = block(
                hidden, attention_mask=additive, position_bias=bias, encoder_hidden_states=encoded.states,
                encoder_attention_mask=encoded.hidden_padding, past_key_values=encoded.cache,
            )[0]  # fmt: skip
        hidden = decoder.final_layer_norm(hidden)
        if self.model.config.scale_decoder_outputs:
            hidden = hidden * self.model.model_dim**-0.5
        return hidden

    def logits(self, states: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Logits ``[..., tokens]`` of those token ids, or of the whole vocabulary."""
        head = self.model.lm_head
        return functional.linear(states, head.weight if tokens is None else head.weight[tokens])

    def _bias(self, mask: torch.Tensor) -> torch.Tensor:
        """T5's bias by how many tokens back a key stands among those that its query sees (itself the last)."""
        attention = self.model.decoder.block[0].layer[0].SelfAttention
        place = mask.squeeze(1).long().cumsum(2)  # [batch, q, keys]: 1 for the first key seen
        relative = torch.where(mask.squeeze(1), place - place[..., -1:], 0)
        buckets = attention._relative_position_bucket(
            relative, bidirectional=False, num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )  # fmt: skip
        return attention.relative_attention_bias(buckets).permute(0, 3, 1, 2)


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where a boolean mask allows, the lowest number where it does not."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
