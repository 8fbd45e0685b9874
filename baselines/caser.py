"""``caser``: convolutions over the history as an image (Tang & Wang, WSDM 2018, arXiv 1809.07426).

Without user embeddings: users of the test split are not all in train.
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


@dataclass(frozen=True)
class Settings(ItemLossSettings):
    """Settings of the network."""

    hidden: Annotated[int, Ge(1)] = setting(64, "width of the item embedding")
    vertical: Annotated[int, Ge(1)] = setting(4, "vertical filters: weighted sums over the history")
    horizontal: Annotated[int, Ge(1)] = setting(16, "horizontal filters of each height from 1 to the history's length")
    embedding_dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.0, "dropout of the input embeddings")
    dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.3, "dropout of the filters' outputs")


class Caser(ItemModel):
    """The last `length` items as ``[length, hidden]``, the most recent in the last row; padding is zero rows."""

    def __init__(self, n_items: int, length: int, settings: Settings):
        super().__init__(settings)
        width, self.length = settings.hidden, length
        embedding = nn.Embedding(n_items + 1, width, padding_idx=n_items)
        nn.init.normal_(embedding.weight[:n_items], std=width**-0.5)
        self.vertical = nn.Linear(length, settings.vertical, bias=False)
        self.horizontal = nn.ModuleList(nn.Conv1d(width, settings.horizontal, height + 1) for height in range(length))
        self.dense = nn.Linear(settings.vertical * width + settings.horizontal * length, width)
        self.mix = nn.Linear(width, width)  # the paper's output layer is its own; ours shares the items' embedding
        self.output = Output(embedding, bias=True, temperature=settings.temperature)

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """``[batch, hidden]``."""
        s, padding = self.settings, self.output.n_items
        missing = self.length - items.shape[1]
        items = functional.pad(items, (missing, 0), value=padding) if missing >= 0 else items[:, -missing:]
        image = self.output.embedding(items) * (items != padding)[..., None]  # [batch, length, hidden]
        image = dropout(image, s.embedding_dropout, self.training).transpose(1, 2)
        down = self.vertical(image).flatten(1)  # [batch, hidden · vertical]
        across = [torch.relu(filters(image)).amax(2) for filters in self.horizontal]  # each [batch, horizontal]
        features = dropout(torch.cat([down, *across], dim=1), s.dropout, self.training)
        return self.mix(torch.relu(self.dense(features)))


class CaserTrainer(SequentialTrainer):
    """Stage trainer ``caser``."""

    Settings = Settings

    def build(self, n_items: int, max_history: int) -> Caser:
        """A fresh network."""
        return Caser(n_items, max_history, self.settings)
