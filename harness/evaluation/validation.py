"""The validation score: the metrics on valid that stages stop by and runs are chosen by. It knows names, no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.data.dataset import Bought
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.evaluation.target_ranks import TargetRanks

PROBED = ("HR@1", "HR@10", "NDCG@10")
"""The valid metrics of a stage; all but the first also by item."""
BY_ITEM = "by item"
"""Behind the name of a valid metric: under the item protocol, where there are semantic IDs."""
OUT = "valid out of sample"
"""Under this name a stage that is fitted on valid gives its valid metrics; see :class:`harness.components.Trainer`."""


def validation_score(
    rankings: Rankings, targets: Any, semantic_ids: SemanticIds | None, bought: Bought | None = None
) -> dict[str, float]:
    """The valid metrics of rankings: SID protocol where there are SIDs, and beside it by item.

    Args:
        bought: items that must not be recommended, where there are some.
    """
    ranks = TargetRanks.of_each(rankings, targets, semantic_ids, bought)
    main = ranks["sid" if semantic_ids is not None else "item"].means()
    score = {name: main[name] for name in PROBED if name in main}
    if semantic_ids is not None:  # what runs of other semantic IDs are compared by
        numbers = ranks["item"].means()
        score |= {f"{name} {BY_ITEM}": numbers[name] for name in PROBED[1:] if name in numbers}
    return score


def needs_probed(probe: Callable[[Any], dict[str, float]], name: str, who: str) -> None:
    """Refuse a choice by a valid metric for which the decoder gives too few candidates.

    Raises:
        BenchError: names who chooses, the metric and the settings to raise.
    """
    if name not in getattr(probe, "gives", (name,)):
        raise BenchError(
            f"{who} chooses by valid {name}, and the probe has fewer than {name.partition('@')[2]} candidates; "
            "raise decoder.beams and probe.beams, or decoder.k"
        )
