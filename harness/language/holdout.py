"""Train samples that a fine-tuning stage leaves to the stages after it: those of some users, drawn once.

Reinforcement on what supervised training has seen rewards what is memorised. Here a stage learns from the rest, and one
after it from the held-out rows, from the same ones, or from all; so two stages can be compared on equal rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Lt

from harness.components import Context
from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.settings import setting

DRAW = 3
"""What tells this draw from others of the run's seed."""


@dataclass(frozen=True)
class RowSettings:
    """Which train samples a stage learns from."""

    rows: Literal["all", "held-out", "same"] = setting(
        "all", "train samples: all; held-out: those that an SFT stage before left out; same: those that it learnt from"
    )  # fmt: skip


@dataclass(frozen=True)
class HoldoutSettings(RowSettings):
    """The same, of a stage that leaves rows to others."""

    holdout: Annotated[float, Ge(0), Lt(1)] = setting(
        0.0, "share of train's users whose samples are left to the stages after it"
    )


def of_held_out(train: Samples, share: float, seed: int) -> np.ndarray:
    """``[n]`` whether each sample is one of the held-out users': a function of the samples, the share and the seed."""
    users = int(train.user_numbers.max(initial=-1)) + 1
    chosen = np.random.default_rng([seed, DRAW]).permutation(users) < round(share * users)
    return np.asarray(chosen[train.user_numbers])


def left_before(context: Context) -> tuple[str, float]:
    """The stage before that leaves rows, and the share of train's users whose they are; ``"", 0``: none does."""
    shares = ((name, float(getattr(one, "holdout", 0.0))) for name, one in context.earlier.items())
    return next(((name, share) for name, share in shares if share), ("", 0.0))


def on_its_rows(context: Context, settings: Any) -> tuple[Context, dict[str, Any]]:
    """The context whose train is what the stage learns from, and what is said of it in the record.

    Raises:
        BenchError: no stage before has left rows, or one of the sides has none.
    """
    stage, own = context.stage, float(getattr(settings, "holdout", 0.0))
    left, before = left_before(context)
    if own and before:
        raise BenchError(f"{stage}.holdout = {own:g}: stage {left} has left rows already; set it to 0")
    if settings.rows != "all" and not before:
        raise BenchError(
            f"{stage}.rows = {settings.rows}: no stage before leaves rows; set its holdout, as sft.holdout=0.15"
        )
    share = own or before
    if not share:
        return context, {}
    train = context.train
    out = of_held_out(train, share, context.seed)
    if out.all() or not out.any():
        what, mend = ("nothing", "lower") if out.all() else ("all", "raise")
        raise BenchError(
            f"{left or stage}.holdout = {share:g} of train's users leaves {what} of {len(train):,} rows "
            f"to learn from; {mend} it"
        )
    kept = ~out if own or settings.rows == "same" else out if settings.rows == "held-out" else np.ones_like(out)
    facts = {"held-out users": len(set(train.user_numbers[out].tolist())), "held-out rows": int(out.sum())}
    return context.over(np.flatnonzero(kept)), facts | {"train rows": int(kept.sum())}
