"""``fmlp-rec``: learnable filters of a history's frequencies, no attention (Zhou et al., WWW 2022, arXiv 2202.13556).

A block multiplies the Fourier transform of the stream along time with a filter, position by position of the spectrum,
and adds a position-wise feed-forward; both are residual and normalised after. Histories are padded on the left to one
length, which the filters are of; padding is 0.
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

Rate = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class Settings(ItemLossSettings):
    """Settings of the network."""

    hidden: Annotated[int, Ge(1)] = setting(64, "width of the item embedding and of the blocks")
    blocks: Annotated[int, Ge(1)] = setting(2, "filter blocks")
    intermediate: Annotated[int, Ge(1)] = setting(256, "width of the feed-forward")
    embedding_dropout: Rate = setting(0.5, "dropout of the input embeddings")
    dropout: Rate = setting(0.5, "dropout within the blocks")


class FilterBlock(nn.Module):
    """A learnable filter along time and a position-wise feed-forward with GELU."""

    def __init__(self, length: int, settings: Settings):
        super().__init__()
        width, self.rate = settings.hidden, settings.dropout
        self.filter = nn.Parameter(torch.randn(length // 2 + 1, width, 2) * 0.02)  # complex, as pairs
        self.norm_filter, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, settings.intermediate), nn.Linear(settings.intermediate, width)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """``[batch, length, hidden]`` → the same shape."""
        spectrum = torch.fft.rfft(stream, dim=1, norm="ortho") * torch.view_as_complex(self.filter)
        filtered = torch.fft.irfft(spectrum, n=stream.shape[1], dim=1, norm="ortho")
        stream = self.norm_filter(stream + dropout(filtered, self.rate, self.training))
        fed = self.narrow(functional.gelu(self.wide(stream)))
        return self.norm_feed(stream + dropout(fed, self.rate, self.training))


class FmlpRec(ItemModel):
    """Item and position embeddings, filter blocks; scores by the item embedding."""

    def __init__(self, n_items: int, length: int, settings: Settings):
        super().__init__(settings)
        width = settings.hidden
        self.length, self.padding = length, n_items
        self.items = nn.Embedding(n_items + 1, width, padding_idx=n_items)
        self.positions = nn.Embedding(length, width)
        for weight in (self.items.weight[:n_items], self.positions.weight):
            nn.init.normal_(weight, std=0.02)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(FilterBlock(length, settings) for _ in range(settings.blocks))
        self.output = Output(self.items, temperature=settings.temperature)

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """``[batch, hidden]``: the stream at the last item."""
        items = functional.pad(items, (self.length - items.shape[1], 0), value=self.padding)
        stream = self.norm(self.items(items) + self.positions.weight)
        stream = dropout(stream, self.settings.embedding_dropout, self.training)
        stream = stream * (items != self.padding)[..., None]
        for block in self.blocks:
            stream = block(stream)
        return stream[:, -1]


class FmlpRecTrainer(SequentialTrainer):
    """Stage trainer ``fmlp-rec``."""

    Settings = Settings

    def build(self, n_items: int, max_history: int) -> FmlpRec:
        """A fresh network."""
        return FmlpRec(n_items, max_history, self.settings)
