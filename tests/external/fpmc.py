"""fpmc: the next item from the last one alone, learned (Rendle et al., WWW 2010, without its user part)."""

from dataclasses import dataclass

from torch import nn
from torch.nn import functional

from harness import hookimpl
from harness.components import setting
from harness.item_models import ItemLossSettings, ItemModel, Output, SequentialTrainer


@dataclass(frozen=True)
class Settings(ItemLossSettings):  # epochs, batch, learning rate, loss, patience … come with it
    hidden: int = setting(64, "width of the embeddings")
    dropout: float = setting(0.3, "dropout of the last item's embedding")


class Fpmc(ItemModel):
    def __init__(self, n_items, settings):
        super().__init__(settings)
        self.last = nn.Embedding(n_items + 1, settings.hidden)
        self.output = Output(nn.Embedding(n_items + 1, settings.hidden), bias=True)

    def states(self, items):  # [batch, length], the last item in the last column → [batch, hidden]
        return functional.dropout(self.last(items[:, -1]), self.settings.dropout, self.training)


class FpmcTrainer(SequentialTrainer):
    Settings = Settings

    def build(self, n_items, max_history):
        return Fpmc(n_items, self.settings)


@hookimpl
def bench_trainers():
    return {"fpmc": FpmcTrainer}


@hookimpl
def bench_methods():
    return [
        {
            "name": "fpmc",
            "summary": "the next item from the last one alone, learned",
            "group": "traditional",
            "tokenizer": {"name": "given", "optional": True},
            "stages": [{"name": "fpmc"}],
            "decoder": {"name": "rank"},
            "search": {"fpmc.hidden": [32, 64, 128], "fpmc.dropout": {"low": 0.0, "high": 0.6}},
        }
    ]
