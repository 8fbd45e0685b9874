"""Could these numbers be true? What HR and NDCG of single targets must obey, whoever reports them.

It knows metrics by name and value, no run and no data. With one relevant item a sample, NDCG@b − NDCG@a is the sum of
1/log2(rank + 1) over the hits at ranks a+1 … b, so ΔHR/log2(b+1) ≤ ΔNDCG ≤ ΔHR/log2(a+2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise

from harness.errors import BenchError

_NAME = re.compile(r"(HR|NDCG)@(\d+)")


def problems(
    metrics: Mapping[str, float], digits: int | None = None, samples: int | None = None, whole: bool = True
) -> list[str]:
    """What cannot be true of a row of metrics, a sentence each; nothing where it could.

    Args:
        metrics: ``{"HR@10": …, "NDCG@10": …}``; other names (MRR, …) are only held to lie in 0–1.
        digits: decimals that the values were rounded (or cut off) to; None: as computed.
        samples: the number of test samples, where known: then HR must be a multiple of 1/samples.
        whole: whether a sample is hit or not hit; not so under the item protocol for items on a shared SID.

    Raises:
        BenchError: a value is no finite number.
    """
    for name, value in metrics.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise BenchError(f"{name} is {value!r}; a metric must be a number")
    shown = f".{digits}f" if digits is not None else ".6g"
    unit = 10.0**-digits if digits is not None else 0.0
    slack = unit / 2 + 1e-9  # of one printed value
    lines = [
        f"{name} = {value:{shown}} lies outside 0–1"
        for name, value in metrics.items()
        if not -slack <= value <= 1 + slack
    ]
    at: dict[str, dict[int, float]] = {"HR": {}, "NDCG": {}}
    for name, value in metrics.items():
        match = _NAME.fullmatch(name)
        if match:
            at[match[1]][int(match[2])] = value
    hr, ndcg = at["HR"], at["NDCG"]
    if 1 in hr:  # at rank 1 they are the same, also where only one of them is printed
        ndcg.setdefault(1, hr[1])
    elif 1 in ndcg:
        hr[1] = ndcg[1]
    for kind, values in at.items():
        for a, b in pairwise(sorted(values)):
            if values[b] < values[a] - 2 * slack:
                lines.append(
                    f"{kind} falls with K: {kind}@{a} {values[a]:{shown}}, {kind}@{b} {values[b]:{shown}}; more "
                    "candidates cannot hit less"
                )
    both = sorted(set(hr) & set(ndcg))
    for k in both:
        if k == 1 and abs(ndcg[1] - hr[1]) > 2 * slack:
            lines.append(f"NDCG@1 = {ndcg[1]:{shown}} is not HR@1 = {hr[1]:{shown}}; at rank 1 they are the same")
        elif ndcg[k] > hr[k] + 2 * slack:
            lines.append(f"NDCG@{k} = {ndcg[k]:{shown}} is above HR@{k} = {hr[k]:{shown}}; a hit is worth at most 1")
        elif ndcg[k] < hr[k] / math.log2(k + 1) - 2 * slack:  # cut off, NDCG may be a whole unit higher
            lines.append(
                f"NDCG@{k} = {ndcg[k]:{shown}} is below HR@{k}/log2({k + 1}) = {hr[k] / math.log2(k + 1):{shown}}; "
                f"every hit among the first {k} is worth at least that"
            )
    for a, b in pairwise(both):
        lines += _step(hr[b] - hr[a], ndcg[b] - ndcg[a], a, b, slack, shown)
    if samples and whole:
        lines += [
            f"HR@{k} = {hr[k]:{shown}} is no multiple of 1/{samples:,}"
            for k in sorted(hr)
            if not _multiple(hr[k], samples, unit)
        ]
    return lines


def _multiple(value: float, samples: int, unit: float) -> bool:
    """Whether some count of hits over `samples` is printed as `value`, rounded or cut off."""
    lowest = math.ceil((value - unit / 2) * samples - 1e-6)
    return lowest / samples <= value + unit + 1e-9


def _step(hr: float, ndcg: float, a: int, b: int, slack: float, shown: str) -> list[str]:
    """The step from cut-off a to b: each further hit stands at a rank of a+1 … b.

    All four printed values are rounded, those of HR too: a bound on the step is off by their slack at its own weight.
    """
    least, most = 1 / math.log2(b + 1), 1 / math.log2(a + 2)
    low, high = hr * least, hr * most
    below, above = 2 * slack * (1 + least), 2 * slack * (1 + most)
    if low - below <= ndcg <= high + above or hr < -2 * slack or ndcg < -2 * slack:  # falling is said once
        return []
    where = "above" if ndcg > high else "below"
    return [
        f"NDCG@{b} − NDCG@{a} = {ndcg:{shown}} is {where} what HR@{b} − HR@{a} = {hr:{shown}} allows "
        f"({max(low, 0):{shown}}–{max(high, 0):{shown}}: each of those hits stands at a rank of {a + 1}–{b})"
    ]
