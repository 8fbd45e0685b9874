"""What attention models start from: item and position embeddings, and who sees whom.

Positions count from the most recent item, so that those learned on short train histories serve long test
histories.
"""

from __future__ import annotations

import torch
from torch import nn

from harness.networks.dropout import dropout


class Stream(nn.Module):
    """Item ids → the stream of a causal model; `std` and `position_std` scale the first embeddings."""

    def __init__(self, n_items: int, length: int, width: int, rate: float, std: float, position_std: float):
        super().__init__()
        self.padding, self.rate = n_items, rate
        self.items = nn.Embedding(n_items + 1, width, padding_idx=n_items)
        self.positions = nn.Embedding(length, width)
        nn.init.normal_(self.items.weight[:n_items], std=std)
        nn.init.trunc_normal_(self.positions.weight, std=position_std)

    def forward(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``[batch, length]`` left-padded → stream ``[batch, length, width]`` and mask ``[batch, 1, length, length]``.

        A place sees the items up to its own; padding is seen by nobody but itself.
        """
        length = items.shape[1]
        back = torch.arange(length - 1, -1, -1, device=items.device)  # 0 is the most recent
        stream = self.items(items) * self.items.embedding_dim**0.5 + self.positions(back)
        lower = torch.ones(length, length, dtype=torch.bool, device=items.device).tril()
        own = torch.eye(length, dtype=torch.bool, device=items.device)
        allowed = (items != self.padding)[:, None, :] & lower | own
        return dropout(stream, self.rate, self.training), allowed[:, None]
