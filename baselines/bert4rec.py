"""``bert4rec``: attention to both sides, trained to fill masked items in (Sun et al., CIKM 2019, arXiv 1904.06690).

A sample is a history and its target. Its last place, the target's, is always masked, and each other place with
probability `mask`; the loss is the cross-entropy at all masked places, over the whole catalogue. At test a mask is put
behind the history. Blocks normalise first, which trains more steadily than the paper's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import nn
from torch.nn import functional

from harness.errors import BenchError
from harness.item_models.loop import LoopSettings
from harness.item_models.losses import Output
from harness.item_models.model import ItemModel, SequentialTrainer
from harness.networks.dropout import dropout
from harness.networks.start import StartSettings
from harness.settings import setting

Rate = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class Settings(StartSettings, LoopSettings):
    """Settings of the network."""

    hidden: Annotated[int, Ge(1)] = setting(64, "width of the item embedding and of the blocks")
    blocks: Annotated[int, Ge(1)] = setting(2, "attention blocks")
    heads: Annotated[int, Ge(1)] = setting(2, "attention heads")
    intermediate: Annotated[int, Ge(1)] = setting(256, "width of the feed-forward")
    embedding_dropout: Rate = setting(0.3, "dropout of the input embeddings")
    dropout: Rate = setting(0.3, "dropout within the blocks")
    mask: Rate = setting(0.2, "share of the history's items that are masked in training, beside the target")
    label_smoothing: Rate = setting(0.0, "label smoothing of the softmax")


class Block(nn.Module):
    """Attention to all items of the history and a position-wise feed-forward with GELU, both residual."""

    def __init__(self, settings: Settings):
        super().__init__()
        width, self.heads, self.rate = settings.hidden, settings.heads, settings.dropout
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, settings.intermediate), nn.Linear(settings.intermediate, width)

    def forward(self, stream: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """``[batch, length, hidden]``; `allowed` ``[batch, 1, length, length]`` is who sees whom."""
        batch, length, width = stream.shape
        parts = self.project(self.norm_attention(stream)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            *parts, attn_mask=allowed, dropout_p=self.rate if self.training else 0.0
        )
        mixed = self.mix(attended.transpose(1, 2).reshape(batch, length, width))
        stream = stream + dropout(mixed, self.rate, self.training)
        fed = self.narrow(dropout(functional.gelu(self.wide(self.norm_feed(stream))), self.rate, self.training))
        return stream + dropout(fed, self.rate, self.training)


class Bert4Rec(ItemModel):
    """Item, mask and position embeddings, blocks, and the paper's output layer over the item embeddings."""

    def __init__(self, n_items: int, length: int, settings: Settings):
        super().__init__(settings)
        width = settings.hidden
        self.padding = n_items
        self.items = nn.Embedding(n_items + 1, width, padding_idx=n_items)
        self.positions = nn.Embedding(length + 1, width)  # by how many places back from the last
        self.masked = nn.Parameter(torch.empty(width))
        for weight in (self.items.weight[:n_items], self.positions.weight, self.masked):
            nn.init.normal_(weight, std=width**-0.5)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        self.norm, self.transform = nn.LayerNorm(width), nn.Linear(width, width)
        self.output = Output(self.items, bias=True)

    def encoded(self, items: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """States ``[batch, length, hidden]`` of left-padded items whose `hidden` places are masked."""
        length = items.shape[1]
        stream = torch.where(hidden[..., None], self.masked, self.items(items))
        stream = stream + self.positions(torch.arange(length - 1, -1, -1, device=items.device))
        stream = dropout(stream, self.settings.embedding_dropout, self.training)
        seen = (items != self.padding) | hidden
        allowed = seen[:, None, None, :] | torch.eye(length, dtype=torch.bool, device=items.device)
        for block in self.blocks:
            stream = block(stream, allowed)
        return self.norm(functional.gelu(self.transform(stream)))

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """``[batch, hidden]``: what stands at a mask behind the history."""
        items = functional.pad(items, (0, 1), value=self.padding)
        hidden = torch.zeros_like(items, dtype=torch.bool)
        hidden[:, -1] = True
        return self.encoded(items, hidden)[:, -1]

    def loss(self, items: torch.Tensor, targets: torch.Tensor, *users: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy at the masked places of histories and targets."""
        items = torch.cat([items, targets[:, None]], dim=1)
        hidden = (torch.rand(items.shape, device=items.device) < self.settings.mask) & (items != self.padding)
        hidden[:, -1] = True
        states = self.encoded(items, hidden)[hidden]
        return self.output.cross_entropy(states, items[hidden], self.settings.label_smoothing)


class Bert4RecTrainer(SequentialTrainer):
    """Stage trainer ``bert4rec``."""

    Settings = Settings

    def __init__(self, settings: Settings):
        super().__init__(settings)
        if settings.hidden % settings.heads:
            raise BenchError(f"bert4rec.hidden = {settings.hidden} is no multiple of bert4rec.heads = {settings.heads}")

    def build(self, n_items: int, max_history: int) -> Bert4Rec:
        """A fresh network."""
        return Bert4Rec(n_items, max_history, self.settings)
