"""``sasrec``: causal self-attention over the history (Kang & McAuley, arXiv 1808.09781).

The loss is a setting, as the paper's own (``bce`` with one negative) trains the same network to far less
than the full softmax does (arXiv 2308.07192, 2309.07602).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import nn
from torch.nn import functional

from harness.errors import BenchError
from harness.item_models.losses import Output
from harness.item_models.model import ItemLossSettings, ItemModel, SequentialTrainer
from harness.networks.dropout import dropout
from harness.settings import setting

from .shared.stream import Stream


@dataclass(frozen=True)
class Settings(ItemLossSettings):
    """Settings of the network."""

    hidden: Annotated[int, Ge(1)] = setting(64, "width of the item embedding and of the blocks")
    blocks: Annotated[int, Ge(0)] = setting(2, "attention blocks")
    heads: Annotated[int, Ge(1)] = setting(2, "attention heads")
    intermediate: Annotated[int, Ge(1)] = setting(256, "width of the feed-forward")
    embedding_dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.3, "dropout of the input embeddings")
    dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.3, "dropout within the blocks")
    norm: Literal["pre", "paper"] = setting(
        "pre", "pre: norm_first blocks; paper: keys and values not normalised, normalised residuals"
    )


class Block(nn.Module):
    """Causal attention and a position-wise feed-forward, both residual.

    With ``norm: pre`` this is ``torch.nn.TransformerEncoderLayer(norm_first=True)`` (a test holds it to
    that). With ``paper``, as the authors' code has it: queries alone are normalised, and the residuals add
    the normalised stream.
    """

    def __init__(self, settings: Settings):
        super().__init__()
        width, self.heads, self.dropout = settings.hidden, settings.heads, settings.dropout
        self.paper = settings.norm == "paper"
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.mix = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, settings.intermediate), nn.Linear(settings.intermediate, width)

    def forward(self, stream: torch.Tensor, allowed: torch.Tensor, last: int) -> torch.Tensor:
        """``[batch, length, hidden]`` → the `last` positions of it, ``[batch, last, hidden]``.

        `allowed` ``[batch, 1, length, length]`` is who sees whom.
        """
        batch, _, width = stream.shape
        normed = self.norm_attention(stream)
        source = stream if self.paper else normed
        stream, normed = stream[:, -last:], normed[:, -last:]

        def split(values: torch.Tensor) -> torch.Tensor:
            return values.view(batch, values.shape[1], self.heads, -1).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            split(self.query(normed)), split(self.key(source)), split(self.value(source)),
            attn_mask=allowed[:, :, -last:], dropout_p=self.dropout if self.training else 0.0,
        )  # fmt: skip
        mixed = self.mix(attended.transpose(1, 2).reshape(batch, last, width))
        stream = (normed if self.paper else stream) + self._drop(mixed)
        normed = self.norm_feed(stream)
        fed = self.narrow(self._drop(torch.relu(self.wide(normed))))
        return (normed if self.paper else stream) + self._drop(fed)

    def _drop(self, values: torch.Tensor) -> torch.Tensor:
        return dropout(values, self.dropout, self.training)


class SasRec(ItemModel):
    """Item and position embeddings, blocks, a last norm; scores by the item embedding."""

    def __init__(self, n_items: int, length: int, settings: Settings):
        super().__init__(settings)
        scale = settings.hidden**-0.5
        self.stream = Stream(n_items, length, settings.hidden, settings.embedding_dropout, scale, scale)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.hidden)
        self.output = Output(self.stream.items, temperature=settings.temperature)

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """``[batch, hidden]``: the stream at the last item."""
        stream, allowed = self.stream(items)
        for number, block in enumerate(self.blocks, start=1):
            stream = block(stream, allowed, 1 if number == len(self.blocks) else items.shape[1])  # no more than is read
        return self.norm(stream[:, -1])


class SasRecTrainer(SequentialTrainer):
    """Stage trainer ``sasrec``."""

    Settings = Settings

    def __init__(self, settings: Settings):
        super().__init__(settings)
        if settings.hidden % settings.heads:
            raise BenchError(f"sasrec.hidden = {settings.hidden} is no multiple of sasrec.heads = {settings.heads}")

    def build(self, n_items: int, max_history: int) -> SasRec:
        """A fresh network."""
        return SasRec(n_items, max_history, self.settings)
