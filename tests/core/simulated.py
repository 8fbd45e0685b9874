"""What intervals and tests do where the truth is known: ``python -m tests.core.simulated [ROUNDS [FILE]]``.

Users with few samples most and many samples some (as on Industrial: 1–24), whose hits go together; methods whose seeds
move the true hit rate; and, for the pairs, easy and hard samples that all methods share. A hit is 0 or 1.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from harness.evaluation.statistics import Runs, intervals, paired

USERS = 1000
RATE = 0.14
"""The true hit rate, as HR@10 of a good row on Industrial."""
CORRELATIONS = {"low": 0.25, "high": 0.5}
"""The share of a user in what decides a hit: design effects of about 1.6 and 2.4."""
SHARED = 0.35
"""The share of a sample itself, which all methods have in common."""
SPREADS = (0, 1, 3)
SEEDS = (1, 3, 5)
EFFECT = 3.0
"""The true difference at which power is stated, in standard errors of users of one method."""


@dataclass(frozen=True)
class World:
    """Users and their samples, and how far a seed moves a method."""

    rng: np.random.Generator
    correlation: float

    def users(self) -> np.ndarray:
        """``[n]`` the user of each sample."""
        sizes = self.rng.geometric(0.5, USERS) + (self.rng.random(USERS) < 0.08) * self.rng.integers(2, 20, USERS)
        return np.repeat(np.arange(USERS), np.minimum(sizes, 24))

    def methods(self, users: np.ndarray, shifts: list[np.ndarray]) -> list[Runs]:
        """A method for each array of seeds' true differences from :data:`RATE` ``[S]``."""
        user, item = self.rng.normal(size=USERS)[users], self.rng.normal(size=len(users))
        common = np.sqrt(self.correlation) * user + np.sqrt(SHARED) * item
        rest = np.sqrt(1 - self.correlation - SHARED)
        found = []
        for shift in shifts:
            bar = -ndtri(np.clip(RATE + shift, 0.001, 0.999))
            z = common + rest * self.rng.normal(size=(len(shift), len(users)))
            found.append(Runs({"HR@10": (z > bar[:, None]).astype(float)}, users))
        return found


def errors(world: World, rounds: int = 60) -> tuple[float, float]:
    """The standard error of users of one run, and the design effect; means of some rounds."""
    found = [intervals(world.methods(world.users(), [np.zeros(1)])[0])["HR@10"] for _ in range(rounds)]
    return float(np.mean([one.error for one in found])), float(np.mean([one.design for one in found]))


@dataclass(frozen=True)
class Found:
    """Shares of rounds: intervals that hold the truth, tests that claim a difference where there is none, and is.

    Attributes:
        against_counting: false positives against a deterministic method.
    """

    correlation: str
    design: float
    seeds: int
    spread: int
    coverage: float
    false_positives: float
    against_counting: float
    power: float


def simulate(correlation: str, seeds: int, spread: int, rounds: int, number: int = 0) -> Found:
    """One cell: how intervals and tests of `seeds` seeds do, whose spread is `spread` user-level standard errors."""
    rng = np.random.default_rng([number, seeds, spread, len(correlation)])
    world = World(rng, CORRELATIONS[correlation])
    error, design = errors(world)
    held = claimed = counted = seen = 0
    for _ in range(rounds):
        users = world.users()
        shift = [spread * error * rng.normal(size=seeds) for _ in range(3)]
        shift[2] = shift[2] + EFFECT * error
        first, same, better, counting = world.methods(users, [*shift, np.zeros(1)])
        counting = Runs(counting.values, users, deterministic=True)
        if seeds == 1 and not spread:  # nothing that a seed moves: deterministic methods
            first, same, better = (Runs(one.values, users, deterministic=True) for one in (first, same, better))
        one = intervals(first)["HR@10"]
        held += one.low <= RATE <= one.high
        claimed += paired(first, same)["HR@10"].significant
        counted += paired(counting, first)["HR@10"].significant
        seen += paired(first, better)["HR@10"].significant
    return Found(correlation, design, seeds, spread, held / rounds, claimed / rounds, counted / rounds, seen / rounds)


def cells() -> list[tuple[str, int, int]]:
    """Every case: one seed can say nothing of a spread between seeds, and has no interval for it."""
    return [(c, s, k) for c in CORRELATIONS for s in SEEDS for k in SPREADS if s > 1 or not k]


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    kept = []
    for cell in cells():
        one = simulate(*cell, many)
        kept.append(asdict(one))
        print(
            f"{one.correlation:<5} design {one.design:.2f} seeds {one.seeds} spread {one.spread}: coverage "
            f"{one.coverage:.3f} false positives {one.false_positives:.3f} "
            f"against counting {one.against_counting:.3f} power {one.power:.2f}",
            flush=True,
        )
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps({"rounds": many, "cells": kept}, indent=1) + "\n", encoding="utf-8")
