"""Honest valid numbers of what is fitted on valid: each sample is judged by what the others chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.data.dataset import Samples
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.evaluation.target_ranks import TargetRanks
from harness.evaluation.validation import BY_ITEM, OUT, PROBED

__all__ = ["FOLDS", "OUT", "PROBED", "chosen_by_others", "folds", "measured", "out_of_sample"]

FOLDS = 5


def folds(samples: Samples, seed: int) -> np.ndarray:
    """A fold for each sample ``[n]``, the same for all samples of a user."""
    place = samples.user_numbers
    return np.random.default_rng(seed).integers(0, FOLDS, int(place.max(initial=-1)) + 1)[place]


def chosen_by_others(values: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Of options with values ``[options, n]``, the one that the other folds' mean is best for, of each sample ``[n]``.

    Of equal ones the first; where there is no other fold, the first.
    """
    chosen = np.zeros(values.shape[1], dtype=np.int64)
    for number in np.unique(fold):
        others = values[:, fold != number]
        chosen[fold == number] = int(others.mean(axis=1).argmax()) if others.shape[1] else 0
    return chosen


def measured(
    options: Sequence[Rankings], samples: Samples, semantic_ids: SemanticIds | None
) -> dict[str, dict[str, np.ndarray]]:
    """``{protocol: {metric: [options, n]}}`` of rankings of the same samples, one for each option."""
    bought = samples.histories.bought
    each = [TargetRanks.of_each(rankings, samples.targets, semantic_ids, bought) for rankings in options]
    by_protocol: dict[str, dict[str, np.ndarray]] = {}
    for protocol in each[0]:
        values = [ranks[protocol].values(PROBED) for ranks in each]
        by_protocol[protocol] = {
            name: np.stack([value[name] for value in values]) for name in PROBED if name in values[0]
        }
    return by_protocol


def out_of_sample(
    each: Mapping[str, Mapping[str, np.ndarray]], fold: np.ndarray, select: str, by: str
) -> dict[str, float]:
    """Valid metrics of options chosen among on valid, each sample by the option that other folds choose.

    Args:
        each: ``{protocol: {metric: [options, n]}}``, protocols ``sid`` (where there are SIDs) and ``item``.
        select, by: the metric and the protocol that the choice goes by.
    """
    chosen = chosen_by_others(each[by][select], fold)
    rows = np.arange(len(fold))
    main = "sid" if "sid" in each else "item"
    score = {name: float(each[main][name][chosen, rows].mean()) for name in PROBED if name in each[main]}
    if main == "sid":
        score |= {
            f"{name} {BY_ITEM}": float(each["item"][name][chosen, rows].mean())
            for name in PROBED[1:]
            if name in each["item"]
        }
    return score
