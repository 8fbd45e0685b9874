"""Key observations: sentences that are computed from the numbers, and left out where the numbers give none.

It knows systems and reported rows; every sentence names the values that it stands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from harness.evaluation.statistics import CLAIMS, paired
from harness.text.plain import markdown

from ..reported import Reported
from .systems import System

MAIN = ("HR@10", "NDCG@10")


def observations(found: Sequence[System], gaps: Sequence[tuple[System, Reported]]) -> list[str]:
    """All that the numbers say.

    Args:
        gaps: systems with the reported row of the same method and stage, the paper's first.
    """
    last = _last_stages(found)
    lines: list[str] = []
    for system in last:
        lines += bottleneck(system) + top_k(system) + collisions(system) + segments(system)
    for before, after in _steps(found):
        lines += stage_gain(before, after) + level_gain(before, after) + retention(before, after)
    for system, row in gaps:
        lines += discrepancy(system, row)
    for before, after in _steps(found):
        lines += pattern(before, after, gaps)
    lines += against_counting(last) + invalid(found)
    return lines


def bottleneck(system: System) -> list[str]:
    """Which step of the SID loses most of the top-1 predictions."""
    steps = {k: v for k, v in (system.levels.get("drop-off") or {}).items() if v is not None}
    if len(steps) < 2:
        return []
    (first, accuracy), *rest = steps.items()
    worst = min(steps, key=lambda name: steps[name])
    shown = ", ".join(f"{name.removesuffix(' retention')} keeps {value:.1%}" for name, value in rest)
    lost = (
        f"the first level loses most: {1 - accuracy:.1%} of top-1 predictions have it wrong"
        if worst == first
        else f"the step {worst.removesuffix(' retention')} loses most: it keeps {steps[worst]:.1%}"
    )
    return [f"**Bottleneck ({_named(system)})**: {lost} (L1 right in {accuracy:.1%}; then {shown})."]


def top_k(system: System) -> list[str]:
    """What more candidates give, by level: how far the list helps, and what it still misses."""
    table = system.levels.get("cumulative") or {}
    if len(table) < 2:
        return []
    small, large = next(iter(table)), list(table)[-1]
    chains = list(table[small])
    parts = [
        f"{chain} {table[small][chain]:.1%} → {table[large][chain]:.1%}"
        + (f" ({table[large][chain] / table[small][chain]:.1f}×)" if table[small][chain] else "")
        for chain in chains
    ]
    missed = table[large][chains[0]] - table[large][chains[-1]]
    line = f"**Where top-K helps ({_named(system)})**: from K = {small} to {large}, {', '.join(parts)}"
    if table[large][chains[0]]:
        line += (
            f"; for {missed:.1%} of the samples the first level is among {large} candidates and the item's SID is not "
            f"({missed / table[large][chains[0]]:.0%} of those with the right first level)"
        )
    return [line + "."]


def level_gain(before: System, after: System) -> list[str]:
    """What a stage changes at each level, top 1 and at the largest K, in percentage points."""
    ours, theirs = after.levels.get("cumulative") or {}, before.levels.get("cumulative") or {}
    if not ours or not theirs:
        return []
    parts = []
    changes: dict[str, dict[str, float]] = {}
    for k in (next(iter(ours)), list(ours)[-1]):
        changes[k] = {chain: 100 * (ours[k][chain] - theirs[k][chain]) for chain in ours[k]}
        parts.append(f"K = {k}: " + ", ".join(f"{chain} {value:+.2f}" for chain, value in changes[k].items()))
    top = changes[next(iter(ours))]
    largest = max(top, key=lambda chain: abs(top[chain]))
    tail = f"; at top 1 the change is largest at {largest}" if abs(top[largest]) >= 0.05 else ""
    return [f"**{_named(after)} over {_named(before)}, by level** (percentage points): {'; '.join(parts)}{tail}."]


def retention(before: System, after: System) -> list[str]:
    """Whether a stage changes how much each level keeps of the one before."""
    ours, theirs = after.levels.get("drop-off") or {}, before.levels.get("drop-off") or {}
    steps = [s for s in list(ours)[1:] if ours[s] is not None and theirs.get(s) is not None]
    if not steps:
        return []
    parts = [f"{s.removesuffix(' retention')} {theirs[s]:.1%} → {ours[s]:.1%}" for s in steps]
    widest = max(abs(ours[s] - theirs[s]) for s in steps)
    verdict = "keep what they kept" if widest < 0.02 else f"change by up to {100 * widest:.1f} percentage points"
    return [f"**Retention**: from {_named(before)} to {_named(after)} the transitions {verdict} ({', '.join(parts)})."]


def stage_gain(before: System, after: System) -> list[str]:
    """What a stage gives, with the paired interval, and at which K the sign turns."""
    protocol = "sid" if after.metric("sid", "HR@10") is not None else "item"
    ours, theirs = after.runs(protocol), before.runs(protocol)
    if ours is None or theirs is None or ours.n != theirs.n:
        return []
    tests = paired(theirs, ours, together=True)
    parts = []
    for name in (m for m in MAIN if m in tests):
        result = tests[name]
        verdict = "beyond chance" if result.corrected < 0.05 else "within chance"
        verdict += "" if result.scope in CLAIMS else " of these runs alone"
        parts.append(
            f"{name} {result.difference:+.4f} [{result.low:+.4f}, {result.high:+.4f}], {verdict} "
            f"(p = {result.corrected:.2g}, corrected)"
        )
    hits = {name: result.difference for name, result in tests.items() if name.startswith("HR@")}
    better = [name for name, change in hits.items() if change > 0]
    worse = [name for name, change in hits.items() if change < 0]
    if better and worse:
        parts.append(f"up at {', '.join(better)}, down at {', '.join(worse)}")
    elif len(better) == len(hits) or len(worse) == len(hits):
        parts.append(f"{'up' if better else 'down'} at every K")
    label = "SID" if protocol == "sid" else "item"
    return [f"**{_named(after)} over {_named(before)}** ({label} protocol): {'; '.join(parts)}."]


def collisions(system: System) -> list[str]:
    """How much of a score comes from counting SIDs, not items."""
    parts = []
    for name in ("HR@1", "NDCG@10"):
        sid, item = system.metric("sid", name), system.metric("item", name)
        if sid is None or item is None or not sid:
            return []
        parts.append(f"{name} {sid:.4f} → {item:.4f} ({(item - sid) / sid:+.0%})")
    return [f"**Collisions ({_named(system)})**: counted by item and not by SID, {', '.join(parts)}."]


def segments(system: System) -> list[str]:
    """The segmentation along which a system differs most, among segments of at least 2 % of the samples."""
    protocol = "sid" if system.metric("sid", "HR@10") is not None else "item"
    widest: tuple[float, str] = (0.0, "")
    for name, parts in system.segments.items():
        total = sum(part["n"] for part in parts.values())
        large = {
            label: part[protocol]["HR@10"]
            for label, part in parts.items()
            if part["n"] >= 0.02 * total and "HR@10" in part.get(protocol, {})
        }
        if len(large) < 2:
            continue
        high, low = max(large, key=lambda label: large[label]), min(large, key=lambda label: large[label])
        if large[high] - large[low] > widest[0]:
            shown = (
                f"{name}: HR@10 {large[high]:.4f} for '{high}' ({parts[high]['n'] / total:.1%} of the samples), "
                f"{large[low]:.4f} for '{low}' ({parts[low]['n'] / total:.1%})"
            )
            widest = (large[high] - large[low], shown)
    return [f"**Segments ({_named(system)})**: they differ most by {widest[1]}."] if widest[1] else []


def discrepancy(system: System, row: Reported) -> list[str]:
    """How far a system is from its reported row, and whether that is more than the test sample's noise."""
    gaps = {
        name: (value - theirs) / theirs
        for name, theirs in row.metrics.items()
        if theirs and (value := system.metric("sid", name)) is not None
    }
    if not gaps:
        return []
    least, most = min(gaps, key=lambda n: gaps[n]), max(gaps, key=lambda n: gaps[n])
    inside = [
        name
        for name in gaps
        if (bounds := system.interval("sid", name)) and bounds.low <= row.metrics[name] <= bounds.high
    ]
    side = "below" if gaps[most] < 0 else "above" if gaps[least] > 0 else "on both sides of"
    spread = f"{gaps[least]:+.1%} ({least})" + (f" to {gaps[most]:+.1%} ({most})" if most != least else "")
    return [
        f"**Against {markdown(row.method)} ({markdown(row.source)})**: {_named(system)} is {side} the reported scores, "
        f"by {spread}; "
        f"{len(inside)} of {len(gaps)} reported values lie in its own 95 % interval."
    ]


def pattern(before: System, after: System, gaps: Sequence[tuple[System, Reported]]) -> list[str]:
    """Whether a stage gains here what it gains in the sources that report both stages."""
    ours, theirs = after.metric("sid", "NDCG@10"), before.metric("sid", "NDCG@10")
    parts = []
    for source in dict.fromkeys(row.source for _, row in gaps):
        rows = {system.name: row.metrics.get("NDCG@10") for system, row in gaps if row.source == source}
        first, second = rows.get(before.name), rows.get(after.name)
        if first and second:
            parts.append(f"{source} {(second - first) / first:+.1%}")
    if not parts or not ours or not theirs:
        return []
    here = (ours - theirs) / theirs
    return [
        f"**The reported gain of {_named(after)}** (NDCG@10 over {_named(before)}): {', '.join(parts)}; "
        f"here {here:+.1%}."
    ]


def against_counting(last: Sequence[System]) -> list[str]:
    """Each system against the counting baseline `hybrid`, where a run of that name is among them."""
    counting = next((s for s in last if s.recipe.first.method == "hybrid" and s.recipe.first.label == "hybrid"), None)
    if counting is None:
        return []
    data = {record.data for record in counting.recipe.records}
    lines = []
    for system in last:
        ours, theirs = system.runs("item", ("NDCG@10",)), counting.runs("item", ("NDCG@10",))
        same = len(data | {record.data for record in system.recipe.records}) == 1
        if system is counting or ours is None or theirs is None or not same or ours.n != theirs.n:
            continue
        result = paired(theirs, ours)["NDCG@10"]
        lines.append(f"{_named(system)} {result.difference:+.4f} [{result.low:+.4f}, {result.high:+.4f}]")
    return [f"**Against the counting baseline hybrid** (NDCG@10, item protocol): {'; '.join(lines)}."] if lines else []


def invalid(found: Sequence[System]) -> list[str]:
    """Predictions that are nothing in the catalogue."""
    counts = {system.name: system.invalid for system in found if system.invalid is not None}
    wrong = {name: count for name, count in counts.items() if count}
    if not counts:
        return []
    if not wrong:
        return ["**Validity**: every prediction is in the catalogue (CC = 0)."]
    return ["**Validity**: predictions that are nothing in the catalogue: " + _listed(wrong) + "."]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{markdown(name)} {count:,}" for name, count in counts.items())


def _named(system: System) -> str:
    return markdown(system.name)


def _last_stages(found: Sequence[System]) -> list[System]:
    return [system for system in found if system.is_last]


def _steps(found: Sequence[System]) -> list[tuple[System, System]]:
    """Stages that follow each other in one recipe."""
    return [(a, b) for a, b in pairwise(found) if a.recipe is b.recipe]
