"""Does reinforcement pay? The suite ``rl``: arms of GRPO beside as many steps of supervised training, from one model.

Every arm starts from the SFT model of its seed, which left rows out. In a category, and for each choice of rows, two
arms are tested against each other: the best of GRPO and the best of its control, chosen on valid, among those that were
trained with the most seeds. The best of GRPO is held against SFT that left no rows out, too.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from harness.cli.tables import duration, table
from harness.evaluation.statistics import CLAIMS, Paired, paired

from .record import Record
from .report.captions import caption
from .report.compare import same_seeds
from .report.systems import System, recipes
from .sentences import bullets, corrected, told, with_spread

START, ALL_ROWS = "sft", "sft, all rows"
"""Arms of SFT alone: what the others start from, and SFT that left no rows out."""
CONTROL, GRPO = "minionerec-sft-more", "minionerec"
SHOWN = ("HR@1", "HR@10", "HR@50", "NDCG@10")
TESTED = ("NDCG@10", "HR@10", "HR@1")
JUDGED = "NDCG@10"
Key = tuple[str, str]
"""What is compared, in words, and the metric."""


def all_of(categories: Iterable[Sequence[Record]]) -> dict[str, str]:
    """The table of each category, what all of them bear (``says``), and how often GRPO wins (``verdict``)."""
    made: dict[str, str] = {}
    pairs: dict[Key, Paired] = {}
    duels: list[Key] = []
    for records in filter(None, categories):
        arms, category = arms_of(records), records[0].category
        made[category.lower()] = rl_table(arms)
        start, whole = (next((arm for arm in arms if arm.name == name), None) for name in (START, ALL_ROWS))
        for rows in ("held-out", "same"):
            best, control = (_best(arms, method, rows) for method in (GRPO, CONTROL))
            over_control = _tested(category, control, best)
            duels += [key for key in over_control if key[1] == JUDGED]
            pairs |= over_control
            for first, second in ((start, best), (start, control), (whole, best)):
                pairs |= _tested(category, first, second)
    known = corrected(pairs)
    return made | {"says": bullets(told(known)), "verdict": _verdict([known[key] for key in duels])}


def arms_of(records: Sequence[Record]) -> list[System]:
    """An arm a label, measured after its last stage, the best on valid first."""
    found = [System(recipe.name, recipe, recipe.stages[-1]) for recipe in recipes(records)]
    return sorted(found, key=lambda arm: -_valid(arm))


def rl_table(arms: Sequence[System]) -> str:
    """The arms of a category: NDCG@10 on valid, by which they are chosen, and metrics on test (SID protocol)."""
    rows: list[list[Any]] = []
    for arm in arms:
        facts = [record.stages[arm.stage]["train"] for record in arm.recipe.records]
        steps = ", ".join(f"{fact['best step']:,} / {fact['steps']:,}" for fact in facts)
        metrics = [with_spread(arm, "sid", metric) for metric in SHOWN]
        seconds = statistics.fmean(fact.get("seconds") or 0.0 for fact in facts)
        rows.append([arm.name, str(len(facts)), f"{_valid(arm):.4f}", *metrics, steps, duration(seconds)])
    headers = ["arm", "seeds", f"valid {JUDGED}", *SHOWN, "best step / last", "its training"]
    note = "SID protocol; ± is the standard deviation over seeds; best step 0: the SFT model that an arm starts from"
    ground = [record for arm in arms for record in arm.recipe.records]
    return table(headers, rows) + "\n\n" + caption(ground, "", [note])


def _tested(where: str, first: System | None, second: System | None) -> dict[Key, Paired]:
    """`second` over `first`, on the seeds that both have; nothing where one is missing."""
    found: dict[Key, Paired] = {}
    if first is not None and second is not None:
        for metric in TESTED:
            one, other = (arm.runs("sid", (metric,)) for arm in (first, second))
            if one is not None and other is not None:
                pair = paired(one, other, same_seeds(first, second))[metric]
                found[f"{where}: {second.name} over {first.name}", metric] = pair
    return found


def _best(arms: Sequence[System], method: str, rows: str) -> System | None:
    """The best arm of a method on valid, among those with the most seeds."""
    there = [arm for arm in arms if arm.recipe.first.method == method and _rows(arm) == rows]
    most = max((len(arm.recipe.records) for arm in there), default=0)
    return max((arm for arm in there if len(arm.recipe.records) == most), key=_valid, default=None)


def _rows(arm: System) -> str:
    stages: list[dict[str, Any]] = arm.recipe.first.settings["stages"]
    return str(stages[-1].get("rows", "all"))


def _valid(arm: System) -> float:
    return statistics.fmean(record.stages[arm.stage]["valid"][JUDGED] for record in arm.recipe.records)


def _verdict(duels: Sequence[Paired]) -> str:
    """How often GRPO stands above its control, of the comparisons over several seeds."""
    claimed = [duel for duel in duels if duel.scope in CLAIMS]
    above = sum(duel.significant and duel.difference > 0 for duel in claimed)
    below = sum(duel.significant and duel.difference < 0 for duel in claimed)
    return (
        f"**Measured so far**: of {len(claimed)} comparisons of GRPO with as many steps of SFT on the same rows, over "
        f"several seeds, its {JUDGED} is beyond chance above in {above} and below in {below}."
    )
