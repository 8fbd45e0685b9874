"""What ``bench plugin new`` writes: for each kind a component that works, with its hook and its test.

In a template ``NAME`` is the component's name, ``Class`` its class, ``MODULE`` its package.
"""

from __future__ import annotations

METHOD = '''"""NAME: items that followed the last item in train, most often first. Put your own method in its place."""

from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load_file, save_file

from harness import hookimpl
from harness.components import setting
from harness.files import replace_file

FILE = "counts.safetensors"


@dataclass(frozen=True)
class Settings:
    """Settings of NAME: each field is a setting of ``bench run --set NAME.<field>=…``."""

    popularity: float = setting(0.01, "weight of an item's purchases, for what never followed the last item")


class ClassTrainer:
    """A stage: `fit` sees train and valid samples, never a test sample; `load` gives the trained model."""

    Settings = Settings
    small = {}  # settings that make a training take a second, for checks

    def __init__(self, settings):
        self.settings = settings

    def fit(self, context):
        """Count, and leave the model in the stage's folder."""
        n = len(context.items)
        follows = np.zeros((n, n), dtype=np.float32)
        np.add.at(follows, (context.train.histories.last(), context.train.targets), 1.0)
        bought = np.bincount(context.train.targets, minlength=n).astype(np.float32)
        with replace_file(context.directory / FILE) as path:  # whole or not at all
            save_file({"follows": follows, "bought": bought}, path)
        return {"rows": len(context.train)}  # facts for the record

    def load(self, context):
        """The model that decoder `rank` takes: it scores items."""
        return Class(load_file(context.directory / FILE), self.settings)


class Class:
    """Scores every item for each history."""

    def __init__(self, saved, settings):
        self.follows, self.bought, self.settings = saved["follows"], saved["bought"], settings

    def score(self, histories):
        """``[histories, items]`` float32; higher is better."""
        return self.follows[histories.last()] + np.float32(self.settings.popularity) * self.bought


@hookimpl
def bench_trainers():
    return {"NAME": ClassTrainer}


@hookimpl
def bench_methods():
    return [
        {
            "name": "NAME",
            "summary": "what followed the last item in train",
            "tokenizer": {"name": "given", "optional": True},
            "stages": [{"name": "NAME"}],
            "decoder": {"name": "rank"},
            "search": {"NAME.popularity": {"low": 0.0, "high": 0.1}},
        }
    ]
'''

BASELINE = '''"""NAME: the mean of the history's item embeddings, learned. Put your own network in its place."""

from dataclasses import dataclass

from torch import nn

from harness import hookimpl
from harness.components import setting
from harness.item_models import ItemLossSettings, ItemModel, Output, SequentialTrainer


@dataclass(frozen=True)
class Settings(ItemLossSettings):  # epochs, batch, learning rate, loss, patience … come with it
    """Settings of NAME."""

    hidden: int = setting(64, "width of the embeddings")


class Class(ItemModel):
    """One state a history; items are scored by their embeddings."""

    def __init__(self, n_items, settings):
        super().__init__(settings)
        self.output = Output(nn.Embedding(n_items + 1, settings.hidden, padding_idx=n_items), bias=True)

    def states(self, items):  # [batch, length], left-padded with n_items → [batch, hidden]
        """The mean over the history's items."""
        real = (items != self.output.n_items).unsqueeze(-1)
        return (self.output.embedding(items) * real).sum(1) / real.sum(1)


class ClassTrainer(SequentialTrainer):
    """The loop, early stopping on valid, checkpoints and resume come with it."""

    Settings = Settings

    def build(self, n_items, max_history):
        """A fresh network."""
        return Class(n_items, self.settings)


@hookimpl
def bench_trainers():
    return {"NAME": ClassTrainer}


@hookimpl
def bench_methods():
    return [
        {
            "name": "NAME",
            "summary": "the mean of the history's item embeddings, learned",
            "tokenizer": {"name": "given", "optional": True},
            "stages": [{"name": "NAME", "epochs": 10}],
            "decoder": {"name": "rank"},
            "search": {"NAME.hidden": [32, 64, 128], "NAME.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        }
    ]
'''

TOKENIZER = '''"""NAME: semantic IDs from k-means over titles, then a number within the cluster. Put your own in its place."""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import HashingVectorizer

from harness import hookimpl
from harness.components import setting
from harness.data.semantic_ids import SemanticIds


@dataclass(frozen=True)
class Settings:
    """Settings of NAME: ``bench run --tokenizer NAME --set tokenizer.<field>=…``."""

    clusters: int = setting(64, "codes of the first level")


class Class:
    """Items → codes ``[n_items, n_levels]``."""

    Settings = Settings
    small = {"clusters": 8}  # for checks

    def __init__(self, settings):
        self.settings = settings

    def tokenize(self, dataset, seed, progress):
        """One SID for each item; `dataset` has no test sample."""
        vectors = HashingVectorizer(n_features=512).transform(dataset.items.titles)
        clusters = min(self.settings.clusters, len(dataset.items))
        first = KMeans(clusters, n_init=1, random_state=seed).fit_predict(vectors)
        order = np.argsort(first, kind="stable")
        starts = np.searchsorted(first[order], np.arange(clusters))
        second = np.empty(len(first), dtype=np.int64)
        second[order] = np.arange(len(first)) - starts[first[order]]
        return SemanticIds(np.column_stack([first, second]).astype(np.int32), "NAME")


@hookimpl
def bench_tokenizers():
    return {"NAME": Class}
'''

DECODER = '''"""NAME: the best items of a model that scores items, without those of the history. Put your own in its place."""

from dataclasses import dataclass

import numpy as np

from harness import hookimpl
from harness.components import setting
from harness.data.rankings import Rankings
from harness.errors import BenchError


@dataclass(frozen=True)
class Settings:
    """Settings of NAME: ``bench run --set decoder=NAME --set decoder.<field>=…``."""

    k: int = setting(50, "candidates returned")


class Class:
    """Model and histories → exactly k distinct candidates of each, best first."""

    Settings = Settings
    small = {"k": 20}  # for checks

    def __init__(self, settings):
        self.settings = settings

    def check(self, items, semantic_ids):
        """Refuse settings that do not fit the data, before anything is trained."""
        if not 1 <= self.settings.k <= len(items):
            raise BenchError(f"decoder.k = {self.settings.k}, but the catalogue has {len(items)} items")

    def decode(self, model, histories, semantic_ids, device, progress):
        """Rankings by item id; `histories` is all there is of the samples."""
        if not hasattr(model, "score"):
            raise BenchError("decoder NAME takes a model that scores items")
        scores = np.array(model.score(histories), dtype=np.float32)
        seen = histories.items >= 0
        rows, _ = np.nonzero(seen)
        lowest = scores.min(axis=1, keepdims=True)
        scores[rows, histories.items[seen]] = np.broadcast_to(lowest - 1, scores.shape)[rows, histories.items[seen]]
        ids = np.argsort(-scores, axis=1, kind="stable")[:, : self.settings.k]
        return Rankings("item", ids.astype(np.int32), np.take_along_axis(scores, ids, axis=1))


@hookimpl
def bench_decoders():
    return {"NAME": Class}
'''

METRIC = '''"""NAME: the share of the catalogue that stands in anyone's first ten. Put your own metric in its place."""

import numpy as np

from harness import hookimpl


def FUNCTION(evaluated):
    """``evaluated`` has rankings, targets, samples, items, train and semantic_ids; give plain numbers."""
    rankings = evaluated.rankings
    shown = rankings.ids[:, :10]
    catalogue = len(evaluated.items) if rankings.kind == "item" else len(evaluated.semantic_ids.distinct)
    return {"share shown": float(len(np.unique(shown[shown >= 0])) / catalogue)}


@hookimpl
def bench_metrics():
    return {"NAME": FUNCTION}
'''

REWARD = '''"""NAME: 1 for the target's SID, a part of it for each leading level that is right. Put your own in its place."""

from dataclasses import dataclass

from harness import hookimpl
from harness.components import setting


@dataclass(frozen=True)
class Settings:
    """Settings of NAME: ``--set 'grpo.rewards={NAME: {weight: 1, share: 0.5}}'``."""

    share: float = setting(0.5, "what all levels but the last are worth together")


class Class:
    """Groups of completions → a finite number a completion ``[prompts, G]``."""

    Settings = Settings

    def __init__(self, settings):
        self.settings = settings

    def __call__(self, groups):
        """Each group by itself: nothing of another prompt may count."""
        same = (groups.codes == groups.target_codes[:, None]).int()  # [prompts, G, levels]
        leading = same.cumprod(2).float().mean(2)
        hit = groups.hits.float()
        return hit + (1 - hit) * self.settings.share * leading


@hookimpl
def bench_rewards():
    return {"NAME": Class}
'''

DATASET = '''"""NAME: a reader of ``<category>.NAME.csv``: a line a purchase, ``user,item,title``, in the order of time.

Put your own layout in its place. ``bench data validate CATEGORY --plugin … --data-dir DIR`` shows what it finds wrong.
"""

import csv
from dataclasses import dataclass

from harness import hookimpl
from harness.components import setting
from harness.data.dataset import Dataset, Items, Samples

SUFFIX = ".NAME.csv"


@dataclass(frozen=True)
class Settings:
    """Settings of NAME: ``bench run --set dataset.<field>=…``."""

    max_history: int = setting(20, "longest history, in items; older ones are cut")


class Class:
    """Reads one file a category, and splits each user's purchases leave-one-out."""

    Settings = Settings

    def __init__(self, settings):
        self.settings = settings

    @staticmethod
    def categories(root):
        """The categories in a data folder; None: those that need no files."""
        return [] if root is None else sorted(path.name.removesuffix(SUFFIX) for path in root.glob("*" + SUFFIX))

    def read(self, root, category, problems):
        """The dataset; what is wrong goes to `problems` with file, row and mend."""
        path = root / f"{category}{SUFFIX}"
        titles, numbers, users = [], {}, {}
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row, cells in enumerate(csv.reader(file), start=1):
                if len(cells) != 3 or not all(cells[:2]):
                    problems.error(path, row, f"has the cells {cells}", "write user,item,title")
                    continue
                user, item, title = cells
                if item not in numbers:
                    numbers[item] = len(titles)
                    titles.append(title)
                users.setdefault(user, []).append(numbers[item])
        problems.stop_on_errors()
        splits = {name: ([], [], []) for name in ("train", "valid", "test")}
        for user, bought in users.items():
            for end in range(1, len(bought)):
                split = {len(bought) - 1: "test", len(bought) - 2: "valid"}.get(end, "train")
                for column, value in zip(splits[split], (user, bought[:end], bought[end])):
                    column.append(value)
        empty = [""] * len(titles)
        samples = {name: Samples.build(*columns, self.settings.max_history) for name, columns in splits.items()}
        return Dataset(category, Items(titles, empty, empty, empty), **samples, layout="NAME")


@hookimpl
def bench_datasets():
    return {"NAME": Class}
'''

BACKBONE = '''"""NAME: a small GPT-2 from scratch, its text vocabulary one of words. Put your own model in its place."""

from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from harness import hookimpl
from harness.components import setting
from harness.errors import BenchError


@dataclass(frozen=True)
class Settings:
    """Settings of NAME: ``bench run --set backbone=NAME --set backbone.<field>=…``."""

    hidden: int = setting(96, "width of the residual stream")
    layers: int = setting(3, "transformer blocks")
    words: int = setting(2000, "words of the text vocabulary, by how often they stand in the catalogue")


class Class:
    """Builds a causal language model whose vocabulary holds the SID tokens, each as one token."""

    Settings = Settings
    small = {"hidden": 32, "layers": 1, "words": 200}  # for checks

    def __init__(self, settings, location):
        if location:
            raise BenchError(f"backbone NAME:{location}: NAME takes no path")
        self.settings = settings

    def build(self, sid_tokens, special_tokens, texts, seed):
        """``(model, text tokenizer)``; the weights hang on the seed alone."""
        s = self.settings
        tokenizer = Tokenizer(models.WordLevel(unk_token="<|unknown|>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        reserved = ["<|pad|>", "<|end|>", "<|unknown|>", *special_tokens]
        tokenizer.train_from_iterator(
            texts, trainers.WordLevelTrainer(vocab_size=s.words, special_tokens=reserved, show_progress=False)
        )
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in sid_tokens])
        text_tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", unk_token="<|unknown|>"
        )
        config = GPT2Config(
            vocab_size=len(text_tokenizer), n_embd=s.hidden, n_layer=s.layers, n_head=4, n_positions=1024,
            bos_token_id=None, eos_token_id=text_tokenizer.eos_token_id, pad_token_id=text_tokenizer.pad_token_id,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return GPT2LMHeadModel(config), text_tokenizer


@hookimpl
def bench_backbones():
    return {"NAME": Class}
'''

TEMPLATES = {
    "method": METHOD, "baseline": BASELINE, "tokenizer": TOKENIZER, "decoder": DECODER, "metric": METRIC,
    "reward": REWARD, "dataset": DATASET, "backbone": BACKBONE,
}  # fmt: skip
"""The source of the component, by kind."""

PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "PROJECT"
version = "0.1.0"
description = "SUMMARY"
requires-python = ">=3.11"
dependencies = ["genrec-bench"]

[project.optional-dependencies]
dev = ["pytest>=8"]

[project.entry-points.bench]
PROJECT = "MODULE"

[tool.setuptools.packages.find]
where = ["src"]
"""

TEST = '''"""What NAME promises, tried in miniature; and what it alone does."""

from pathlib import Path

from harness.testing import parametrize_with_checks

PROJECT = Path(__file__).parents[1]


@parametrize_with_checks(PROJECT)
def test_it_keeps_its_promises(check):
    check.run()
'''

README = """# PROJECT

SUMMARY

```
bench plugin check PROJECT_FOLDER
USE
pytest PROJECT_FOLDER
```

`pip install -e PROJECT_FOLDER` makes it known to `bench` without `--plugin`. The component stands in
`src/MODULE/__init__.py`. What it must keep to is written in `harness/components.py`.
"""

USES = {
    "method": "bench run --plugin PROJECT_FOLDER --method NAME --category Synthetic",
    "baseline": "bench run --plugin PROJECT_FOLDER --method NAME --category Synthetic",
    "tokenizer": "bench run --plugin PROJECT_FOLDER --method tiger --tokenizer NAME --category Synthetic",
    "decoder": "bench run --plugin PROJECT_FOLDER --method markov --set decoder=NAME --category Synthetic",
    "metric": "bench run --plugin PROJECT_FOLDER --method markov --category Synthetic",
    "reward": "bench run --plugin PROJECT_FOLDER --method minionerec --set grpo.rewards=NAME --category Synthetic",
    "dataset": "bench run --plugin PROJECT_FOLDER --method markov --category Sample --data-dir PROJECT_FOLDER/data",
    "backbone": "bench run --plugin PROJECT_FOLDER --method minionerec --set backbone=NAME --category Synthetic",
}
"""How the component is used, by kind."""

SUMMARIES = {
    "method": "A method of bench.", "baseline": "A neural baseline of bench.", "tokenizer": "An item tokenizer of bench.",
    "decoder": "A decoder of bench.", "metric": "A metric of bench.", "reward": "A reward of bench.",
    "dataset": "A dataset reader of bench.", "backbone": "A language model backbone of bench.",
}  # fmt: skip
