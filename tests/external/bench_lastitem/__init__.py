"""An outside plugin: the last items of the history, most recent first. Used by the tests and the docs."""

from dataclasses import dataclass

import numpy as np

from harness import hookimpl


@dataclass(frozen=True)
class Settings:
    """Settings of the method."""

    decay: float = 0.5


class LastItem:
    """A trainer with nothing to train."""

    Settings = Settings

    def __init__(self, settings):
        self.settings = settings

    def fit(self, context):
        return {"rows": len(context.train)}

    def load(self, context):
        return Scorer(len(context.items), self.settings.decay)


class Scorer:
    """Scores an item by how recently it was bought."""

    def __init__(self, n_items, decay):
        self.n_items, self.decay = n_items, decay

    def score(self, histories):
        scores = np.zeros((len(histories), self.n_items), dtype=np.float32)
        for row, history in enumerate(histories.lists()):
            for back, item in enumerate(reversed(history)):
                scores[row, item] = max(scores[row, item], self.decay**back)
        return scores


@hookimpl
def bench_trainers():
    return {"lastitem": LastItem}


@hookimpl
def bench_methods():
    return [
        {
            "name": "lastitem",
            "summary": "the history, most recent first",
            "group": "counting",
            "tokenizer": {"name": "given", "optional": True},
            "stages": [{"name": "lastitem"}],
            "decoder": {"name": "rank"},
        }
    ]


@hookimpl
def bench_commands(cli):
    @cli.command()
    def hello():
        """Say hello."""
        print("hello from lastitem")
