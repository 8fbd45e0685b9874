"""The reward ``later``: what the user went on to buy in train, the sooner the more.

With one target and a reward of 0 or 1 the objective is the target's probability, which supervised training has seen
already. What the same user bought after it says more of a completion than hit or miss.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt

from harness.components import Context
from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.language.rewards import Groups
from harness.settings import setting

from .published_rewards import best_of_sid


@dataclass(frozen=True)
class Settings:
    """How far ahead is looked, and how fast it counts less."""

    decay: Annotated[float, Gt(0), Lt(1)] = setting(
        0.5, "reward of a purchase, by each one before it; the target has 1"
    )
    reach: Annotated[int, Ge(1)] = setting(5, "purchases after the target that count")


class Later:
    """1 for the target, decay^m for the m-th purchase after it; a shared SID counts with its best item.

    Where several users share a history and its target, the mean over them. Train's samples alone are read.
    """

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings
        self._after: dict[tuple[tuple[int, ...], int], list[list[int]]] = {}
        self._n_items = 0

    def prepare(self, context: Context) -> None:
        """Find what each sample's user bought after its target."""
        self._n_items = len(context.items)
        self._after = purchases_after(context.train, self.settings.reach)
        if not any(later for ways in self._after.values() for later in ways):
            raise BenchError("reward later: no user of train buys anything after a target; use ranking")

    def __call__(self, groups: Groups) -> torch.Tensor:
        """Rewards ``[prompts, G]``, 0 to 1."""
        scores = np.zeros((len(groups), self._n_items), dtype=np.float32)
        for row, (history, target) in enumerate(zip(groups.histories, groups.items, strict=True)):
            ways = self._after.get((tuple(history), target)) or [[]]
            for later in ways:
                own: dict[int, float] = {}
                for step, item in enumerate(later, start=1):
                    own.setdefault(item, self.settings.decay**step)
                own[target] = 1.0
                for item, value in own.items():
                    scores[row, item] += value / len(ways)
        return best_of_sid(torch.from_numpy(scores), groups)


def purchases_after(train: Samples, reach: int) -> dict[tuple[tuple[int, ...], int], list[list[int]]]:
    """What was bought after the target, by history and target: a list for each sample that has them.

    A user's samples follow each other: the history of the next one ends in this one's history and target. Where cut
    histories do not tell which sample is the next, the list ends.
    """
    longest = train.histories.items.shape[1]
    following: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for user, history, target in train.each():
        following[user, tuple(history)].append(target)
    found: dict[tuple[tuple[int, ...], int], list[list[int]]] = defaultdict(list)
    for user, history, target in train.each():
        later: list[int] = []
        at, passed = (*history, target)[-longest:], {tuple(history)}
        while len(later) < reach and at not in passed and len(next_ := following.get((user, at), [])) == 1:
            passed.add(at)
            later.append(next_[0])
            at = (*at, next_[0])[-longest:]
        found[tuple(history), target].append(later)
    return dict(found)
