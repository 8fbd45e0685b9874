"""FPMC with its user part (Rendle et al., WWW 2010): what this user likes, and what follows the last item.

score(user, last, item) = ⟨U[user], I[item]⟩ + ⟨L[last], J[item]⟩. A user whom train does not know has no first part.
"""

from dataclasses import dataclass

import torch
from torch import nn

from harness import hookimpl
from harness.components import setting
from harness.item_models import ItemLossSettings, ItemModel, Output, SequentialTrainer


@dataclass(frozen=True)
class Settings(ItemLossSettings):
    """Settings of both parts."""

    hidden: int = setting(32, "width of each part's embeddings")


class Fpmc(ItemModel):
    """One state a history: the user's part and the last item's, side by side, as are those of an item."""

    sees_users = True

    def __init__(self, n_items, n_users, settings):
        super().__init__(settings)
        self.users = nn.Embedding(n_users + 1, settings.hidden, padding_idx=n_users)
        self.last = nn.Embedding(n_items + 1, settings.hidden, padding_idx=n_items)
        self.output = Output(nn.Embedding(n_items + 1, 2 * settings.hidden), bias=True)

    def states(self, items, users):  # [batch, length], [batch] → [batch, 2 · hidden]
        """The two parts; -1 is a user whom train does not know."""
        known = torch.where(users < 0, self.users.num_embeddings - 1, users)
        return torch.cat([self.users(known), self.last(items[:, -1])], dim=1)


class FpmcTrainer(SequentialTrainer):
    """Stage trainer ``fpmc-user``."""

    Settings = Settings

    def build_for(self, context):
        """A network for this many items and train users."""
        return Fpmc(len(context.items), context.dataset.n_users, self.settings)


@hookimpl
def bench_trainers():
    return {"fpmc-user": FpmcTrainer}


@hookimpl
def bench_methods():
    return [
        {
            "name": "fpmc-user",
            "summary": "what a user likes and what follows the last item, learned",
            "reference": "Rendle et al., WWW 2010",
            "tokenizer": {"name": "given", "optional": True},
            "stages": [{"name": "fpmc-user"}],
            "decoder": {"name": "rank"},
        }
    ]
