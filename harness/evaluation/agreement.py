"""Whether recorded metrics are those of their own target ranks: no number is shown that does not follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import BenchError
from harness.evaluation import user_index
from harness.evaluation.target_ranks import PROTOCOLS, TargetRanks

TOLERANCE = 1e-9  # sums of the same numbers in another order


def contradictions(stages: Mapping[str, Mapping[str, Any]], n: int, users: str | None = None) -> list[str]:
    """Where metrics are not those of the target ranks beside them, a line each; empty where they agree.

    Args:
        stages: the entries of ``metrics.json`` or of a record, by stage.
        n: how many test samples there are.
        users: the encoded users of the samples, where they are recorded.

    Raises:
        BenchError: target ranks are damaged.
    """
    lines = []
    if users is not None:
        try:
            user_index.decode(users, n)
        except BenchError as error:
            lines.append(error.message)
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
            lines += _around(entry, protocol, means, where)
            if (entry.get("invalid") or 0) > n * ranks.most:
                lines.append(f"{where}: {entry['invalid']} invalid candidates of {n * ranks.most}")
    return lines


def _around(entry: Mapping[str, Any], protocol: str, means: Mapping[str, float], where: str) -> list[str]:
    """What stands beside the metrics and hangs on them: intervals, parts of the samples, the levels' last."""
    lines = []
    for name, (low, high) in ((entry.get("intervals") or {}).get(protocol) or {}).items():
        if name in means and not low - TOLERANCE <= means[name] <= high + TOLERANCE:
            lines.append(f"{where}: {name} {means[name]:.4f} lies outside its own interval, {low:.4f}–{high:.4f}")
    for division, parts in (entry.get("segments") or {}).items():
        held = [part for part in parts.values() if part.get(protocol)]
        total = sum(part["n"] for part in held)
        for name in held[0][protocol] if held and len(held) == len(parts) else ():
            mean = sum(part["n"] * part[protocol].get(name, 0.0) for part in held) / max(1, total)
            if name in means and abs(mean - means[name]) > 1e-6:
                lines.append(f"{where}: {name} is {means[name]:.6g}, over the segments of {division} {mean:.6g}")
    if protocol == "sid":
        for k, chain in ((entry.get("levels") or {}).get("cumulative") or {}).items():
            whole, last = means.get(f"HR@{k}"), next(reversed(chain.values()), None)
            if whole is not None and not (last is not None and abs(last - whole) <= 1e-6):
                lines.append(f"{where}: HR@{k} is {whole:.6g}, the levels say {last}")
    return lines
