"""A conditional logit over all items: what counts, titles and copying say of the next purchase, weighed.

The utility of an item is a weighted sum of what each part gives it (its share of the row's best score, and the
logarithm of that), whether it is the last of the history or in it (copying), and how often it was bought. The weights
make the targets the likeliest among all items (McFadden 1974); the sum over the catalogue is estimated from the parts'
best and items drawn at random, each of which stands for others that were not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.components import ItemScorer
from harness.data.dataset import Histories, Samples
from harness.decoding.item_scores import share_of_best

from .logit import conditional_logit

LEAST = 1e-3
"""Added to a share before its logarithm."""
BATCH = 128
"""Histories scored at once."""
MILLION = 1e6
"""Purchases among which popularity is counted, so that a part of train and the whole of it give the same scale."""


@dataclass(frozen=True)
class ItemLogit:
    """An :class:`~harness.components.ItemScorer`: the utilities of a conditional logit.

    Attributes:
        scorers: the parts, by name.
        bought: ``[n_items]`` log(1 + times a target) among a million train samples.
        weights: of the features, as :attr:`names` has them.
    """

    scorers: Mapping[str, ItemScorer]
    bought: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, scorers: Mapping[str, ItemScorer], train: Samples, n_items: int, weights: np.ndarray) -> ItemLogit:
        """Over the purchases of train, or of the part of it that the scorers were fitted on."""
        counts = np.bincount(train.targets, minlength=n_items)
        return cls(scorers, np.log1p(counts * MILLION / max(1, len(train))), weights)

    @property
    def names(self) -> list[str]:
        """What the features are."""
        parts = [f"{part}: {form}" for part in self.scorers for form in ("share of the best", "its logarithm")]
        return [*parts, "is the last item", "was bought before", "log purchases in train"]

    def columns(self, histories: Histories) -> list[np.ndarray]:
        """The features, each ``[n, n_items]`` float64 or one that broadcasts to it."""
        told: list[np.ndarray] = []
        for scorer in self.scorers.values():
            share = share_of_best(np.asarray(scorer.score(histories), dtype=np.float64))
            told += [share, np.log(LEAST + share.clip(min=0))]
        last, before = (np.zeros((len(histories), len(self.bought))) for _ in range(2))
        rows, places = np.nonzero(histories.items >= 0)
        before[rows, histories.items[rows, places]] = 1.0
        known = np.flatnonzero(histories.lengths)
        last[known, histories.last(1)[known]] = 1.0
        return [*told, last, before, self.bought[None]]

    def score(self, histories: Histories) -> np.ndarray:
        """Utilities ``[n, n_items]`` float64."""
        total = np.zeros((len(histories), len(self.bought)))
        for weight, column in zip(self.weights.tolist(), self.columns(histories), strict=True):
            total += weight * column
        return total


@dataclass(frozen=True)
class Choices:
    """Some purchases, each with the items that it was chosen from.

    Attributes:
        features: ``[rows, items, features + 1]`` float64; the last is the logarithm of how many items each stands for.
        wanted: ``[rows, items]`` which was bought.
        there: ``[rows, items]`` which are no filling.
    """

    features: np.ndarray
    wanted: np.ndarray
    there: np.ndarray


def choices(logit: ItemLogit, samples: Samples, most: int, drawn: int, seed: int) -> Choices:
    """The `most` best of each part and each copied item, the target, and `drawn` others at random.

    The others stand for all that were not taken, so that their sum is an unbiased estimate of the whole.
    """
    n_items, found = len(logit.bought), []
    rng = np.random.default_rng([seed, 4])
    width = min(n_items, len(logit.scorers) * most + samples.histories.items.shape[1] + 1 + drawn)
    for start in range(0, len(samples), BATCH):
        rows = np.arange(start, min(start + BATCH, len(samples)))
        part = samples.take(rows)
        told = np.stack(np.broadcast_arrays(*logit.columns(part.histories)), axis=2)  # [batch, n_items, features]
        taken = told[..., -2] > 0  # in the history
        for column in range(0, 2 * len(logit.scorers), 2):
            best = np.argpartition(-told[..., column], min(most, n_items) - 1, axis=1)[:, :most]
            np.put_along_axis(taken, best, True, axis=1)
        taken[np.arange(len(rows)), part.targets] = True
        order = np.argsort(np.where(taken, -1.0, rng.random(taken.shape)), axis=1, kind="stable")[:, :width]
        certain = np.take_along_axis(taken, order, 1)
        n_certain = taken.sum(axis=1, keepdims=True)
        n_drawn = np.minimum(drawn, n_items - n_certain)
        place = np.arange(order.shape[1])[None]
        stands = np.where(certain, 1.0, (n_items - n_certain) / np.maximum(n_drawn, 1))
        features = np.take_along_axis(told, order[..., None], 1)
        there = place < n_certain + n_drawn
        found.append((
            np.concatenate([features, np.log(np.maximum(stands, 1e-9))[..., None]], axis=2),
            order == part.targets[:, None], there,
        ))  # fmt: skip
    return Choices(*(np.concatenate(column) for column in zip(*found, strict=True)))


def fitted(parts: list[Choices], ridge: float) -> np.ndarray:
    """The weights of the features, from choices of several folds."""
    features, wanted, there = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "wanted", "there")
    )
    return conditional_logit(features[..., :-1], wanted, there, ridge, features[..., -1])
