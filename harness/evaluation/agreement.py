"""Whether recorded metrics are those of their own target ranks: no number is shown that does not follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import BenchError
from harness.evaluation.target_ranks import PROTOCOLS, TargetRanks

TOLERANCE = 1e-9  # sums of the same numbers in another order


def contradictions(stages: Mapping[str, Mapping[str, Any]], n: int) -> list[str]:
    """Where metrics are not those of the target ranks beside them, a line each; empty where they agree.

    Args:
        stages: the entries of ``metrics.json`` or of a record, by stage.
        n: how many test samples there are.

    Raises:
        BenchError: target ranks are damaged.
    """
    lines = []
    for stage, entry in stages.items():
        for protocol in PROTOCOLS:
            said, encoded = entry.get(protocol) or {}, (entry.get("ranks") or {}).get(protocol)
            where = f"{stage}, {protocol} protocol"
            if not encoded:
                lines += [f"{where}: no target ranks"] if said else []
                continue
            try:
                ranks = TargetRanks.decode(encoded)
            except BenchError as error:
                raise BenchError(f"{where}: {error.message}") from None
            if len(ranks) != n:
                lines.append(f"{where}: ranks of {len(ranks)} targets, test has {n} samples")
                continue
            means = ranks.means()
            lines += [
                f"{where}: {name} is {value:.6g} by the target ranks, the record says {said.get(name)}"
                for name, value in means.items()
                if not abs(said.get(name, -1.0) - value) <= TOLERANCE
            ]
            lines += [f"{where}: {name} does not follow from the target ranks" for name in said if name not in means]
    return lines
