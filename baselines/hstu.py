"""``hstu``: gated, pointwise-activated attention (Zhai et al., ICML 2024, arXiv 2402.17152).

No softmax over keys and no feed-forward: U, V, Q, K = SiLU(W · norm x); A = SiLU(Q Kᵀ + bias) / n, causal;
y = W(norm(A V) ⊙ U). The benchmark's files hold no times, so the bias is of positions alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import nn
from torch.nn import functional

from harness.item_models.losses import Output
from harness.item_models.model import ItemLossSettings, ItemModel, SequentialTrainer
from harness.networks.dropout import dropout
from harness.settings import setting

from .shared.stream import Stream

EPSILON = 1e-6


@dataclass(frozen=True)
class Settings(ItemLossSettings):
    """Settings of the network."""

    hidden: Annotated[int, Ge(1)] = setting(64, "width of the item embedding and of the stream")
    blocks: Annotated[int, Ge(1)] = setting(4, "layers")
    heads: Annotated[int, Ge(1)] = setting(4, "heads")
    head_width: Annotated[int, Ge(1)] = setting(16, "width of a head's queries, keys, values and gates")
    embedding_dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.3, "dropout of the input embeddings")
    dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.3, "dropout of the gated values")
    temperature: Annotated[float, Ge(0)] = setting(0.05, "of the cosines between state and items; 0: dot products")


class Layer(nn.Module):
    """One HSTU layer; its attention is divided by `n`, the longest history, whatever the length."""

    def __init__(self, settings: Settings, n: int):
        super().__init__()
        self.n, self.heads, self.width, self.dropout = n, settings.heads, settings.head_width, settings.dropout
        inner = settings.heads * settings.head_width
        self.project = nn.Linear(settings.hidden, 4 * inner, bias=False)  # U, V, Q, K
        self.bias = nn.Parameter(torch.empty(n))  # by how many items back the key stands, shared by heads
        self.mix = nn.Linear(inner, settings.hidden)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.normal_(self.bias, std=0.02)
        nn.init.xavier_uniform_(self.mix.weight)

    def forward(self, stream: torch.Tensor, allowed: torch.Tensor, last: int) -> torch.Tensor:
        """``[batch, length, hidden]`` → the `last` positions of it, ``[batch, last, hidden]``.

        `allowed` ``[batch, 1, length, length]`` is who sees whom.
        """
        batch, length, _ = stream.shape
        normed = functional.layer_norm(stream, stream.shape[-1:], eps=EPSILON)
        gate, values, queries, keys = functional.silu(self.project(normed)).chunk(4, dim=-1)
        stream, gate, queries = stream[:, -last:], gate[:, -last:], queries[:, -last:]

        def split(part: torch.Tensor) -> torch.Tensor:
            return part.view(batch, part.shape[1], self.heads, self.width).transpose(1, 2)

        place = torch.arange(length, device=stream.device)
        back = (place[-last:, None] - place).clamp(min=0, max=self.n - 1)
        weights = functional.silu(split(queries) @ split(keys).transpose(2, 3) + self.bias[back]) / self.n
        attended = (weights * allowed[:, :, -last:]) @ split(values)  # [batch, heads, last, width]
        attended = attended.transpose(1, 2).reshape(batch, last, -1)
        gated = gate * functional.layer_norm(attended, attended.shape[-1:], eps=EPSILON)
        return stream + self.mix(dropout(gated, self.dropout, self.training))


class Hstu(ItemModel):
    """Item and position embeddings, layers; cosines between the last state and the items."""

    def __init__(self, n_items: int, length: int, settings: Settings):
        super().__init__(settings)
        width = settings.hidden
        self.stream = Stream(n_items, length, width, settings.embedding_dropout, 0.02, width**-0.5)
        self.layers = nn.ModuleList(Layer(settings, length) for _ in range(settings.blocks))
        self.output = Output(self.stream.items, temperature=settings.temperature)

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """``[batch, hidden]``: the stream at the last item."""
        stream, allowed = self.stream(items)
        for number, layer in enumerate(self.layers, start=1):
            stream = layer(stream, allowed, 1 if number == len(self.layers) else items.shape[1])  # no more than is read
        return stream[:, -1]


class HstuTrainer(SequentialTrainer):
    """Stage trainer ``hstu``."""

    Settings = Settings

    def build(self, n_items: int, max_history: int) -> Hstu:
        """A fresh network."""
        return Hstu(n_items, max_history, self.settings)
