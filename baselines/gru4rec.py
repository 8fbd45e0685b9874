"""``gru4rec``: a recurrent network over the history (Hidasi et al., arXiv 1511.06939 and 1706.03847).

Input and output share one item embedding (*constrained*, as the authors' best settings have it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import nn

from harness.item_models.losses import Output
from harness.item_models.model import ItemLossSettings, ItemModel, SequentialTrainer
from harness.networks.dropout import dropout
from harness.settings import setting


@dataclass(frozen=True)
class Settings(ItemLossSettings):
    """Settings of the network."""

    hidden: Annotated[int, Ge(1)] = setting(96, "width of the embedding and of the recurrent state")
    layers: Annotated[int, Ge(1)] = setting(1, "recurrent layers")
    embedding_dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.3, "dropout of the input embeddings")
    dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.3, "dropout of the state, and between layers")


class Gru4Rec(ItemModel):
    """Embedding → GRU → scores by the same embedding, with a bias an item."""

    def __init__(self, n_items: int, settings: Settings):
        super().__init__(settings)
        width = settings.hidden
        embedding = nn.Embedding(n_items + 1, width, padding_idx=n_items)
        nn.init.normal_(embedding.weight[:n_items], std=width**-0.5)
        between = settings.dropout if settings.layers > 1 else 0.0
        self.gru = nn.GRU(width, width, settings.layers, batch_first=True, dropout=between)
        self.output = Output(embedding, bias=True, temperature=settings.temperature)

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """``[batch, hidden]``: the recurrent state after the last item; padding is never read."""
        s = self.settings
        lengths = (items != self.output.n_items).sum(1)
        longest = items.shape[1]
        traced = torch.compiler.is_exporting()
        if traced or int(lengths.min()) < longest:  # from left padding to right, and packed
            place = torch.arange(longest, device=items.device) + (longest - lengths)[:, None]
            items = items.gather(1, place.clamp(max=longest - 1))
        embedded = dropout(self.output.embedding(items), s.embedding_dropout, self.training)
        if traced:  # a graph cannot pack: what comes after the last item is computed, and not read
            every, _ = self.gru(embedded)
            last = (lengths - 1)[:, None, None].expand(-1, 1, every.shape[2])
            return every.gather(1, last)[:, 0]
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, state = self.gru(packed)  # [layers, batch, hidden]
        return dropout(state[-1], s.dropout, self.training)


class Gru4RecTrainer(SequentialTrainer):
    """Stage trainer ``gru4rec``."""

    Settings = Settings

    def build(self, n_items: int, max_history: int) -> Gru4Rec:
        """A fresh network."""
        return Gru4Rec(n_items, self.settings)
