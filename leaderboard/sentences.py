"""What recorded files bear, a sentence a line: nothing here is typed, and no sentence goes beyond the tests.

The documentation holds them between marks (:mod:`leaderboard.docs`).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.cli.tables import PROTOCOLS
from harness.evaluation.statistics import CLAIMS, Paired, holm, of_one_run, paired

from . import reported
from .board import Board, Row
from .report.compare import same_seeds
from .report.systems import System

MAIN = ("HR@10", "NDCG@10")
WHY = {"users, one seed": "one seed", "rows only": "the users of its samples are not recorded"}
"""Why nothing is claimed, by what a test accounts for."""
WITHOUT = "minionerec without the category's tasks"


def table1(board: Board) -> str:
    """What the tests of a board say of each row against the counting baseline, and which rows are the highest."""
    lines: list[str] = []
    for one in board.tables:
        where = f"{PROTOCOLS[one.protocol]}, NDCG@10"
        groups: dict[str, list[str]] = {"above": [], "below": [], "not told apart from": []}
        unclaimed: dict[str, list[str]] = {}
        for row, found in one.versus_counting.items():
            if found.p is None:
                unclaimed.setdefault(WHY.get(found.scope, found.scope), []).append(row)
            else:
                side = "above" if found.difference > 0 else "below"
                groups[side if found.significant else "not told apart from"].append(row)
        for side, rows in groups.items():
            if rows:
                verb = "is" if len(rows) == 1 else "are"
                lines.append(f"{where}: {_listed(rows)} {verb} {side} the counting baseline {one.counting}.")
        lines += [f"{where}: no claim is made of {_listed(rows)}: {why}." for why, rows in unclaimed.items()]
        trained = [row for row in one.rows if row.group != "counting"]
        for metric in MAIN if trained else ():
            best = max(trained, key=lambda row: row.system.metric(one.protocol, metric) or 0.0)
            lines.append(
                f"{PROTOCOLS[one.protocol]}: the highest {metric} of a trained row is {best.name}'s, "
                f"{best.system.metric(one.protocol, metric):.4f}."
            )
    lines += _early(board.rows)
    rows = {row.name: row for row in board.rows}
    pairs = {
        f"{label}, the category's own tasks (`alike`, `again`, item tokens) in MiniOneRec": pair
        for protocol, label in PROTOCOLS.items()
        if (pair := _pair(rows, WITHOUT, "minionerec", protocol)) is not None
    }
    return bullets([*lines, *together(pairs)])


def language(found: Sequence[Row]) -> str:
    """What the methods on a language model give beside what they stand on."""
    rows = {row.name: row for row in found}
    lines = _early([row for row in found if row.name in ("lcrec", "bigrec", "d3", "sdpo", "minionerec")])
    for first, second, what in (
        ("bigrec", "d3", "D3 against BIGRec, one title writer decoded in two ways"),
        ("sasrec", "d3", "D3 against SASRec, which is its assistant"),
    ):
        pair = _pair(rows, first, second, "sid")
        if pair is not None:
            lines.append(f"{what}: {difference(pair)} (SID protocol).")
    if "sdpo" in rows:
        lines += _stage_over(rows["sdpo"], "sft", "S-DPO over the SFT model that it starts from")
    return bullets(lines)


def quality(found: Sequence[Row], category: str) -> str:
    """The model by itself, the memory, and its parts against the counting baseline."""
    rows = {row.name: row for row in found}
    lines = []
    ours = rows["minionerec"]
    for stage in ours.system.recipe.stages:
        at = System(stage, ours.system.recipe, stage)
        lines.append(f"MiniOneRec after {stage.upper()}, SID protocol: {_means(at, 'sid')}.")
    bars = [row for row in reported.rows(category) if row.source == "replication-zlhe0" and row.stage == "grpo"]
    lines += [
        f"The replication log's model after RL (1.5 B parameters, 4 GPUs, the full split) has "
        f"{' and '.join(f'{name} {row.metrics[name]:.4f}' for name in MAIN)}: beside these numbers, on other rows."
        for row in bars
    ]
    at_one = [f"{name} {rows[name].system.metric('sid', 'HR@1'):.4f}" for name in ("minionerec", "hybrid")]
    lines.append(f"What is missing is the top, SID HR@1: {', '.join(at_one)}.")
    found_pairs = {
        f"{second} against {first}, {label}": pair
        for first, second in (
            ("hybrid", "minionerec"),
            ("hybrid", "minionerec-memory"),
            ("memory without the model", "minionerec-memory"),
            ("hybrid", "kNN-LM mixture"),
        )
        for protocol, label in PROTOCOLS.items()
        if (pair := _pair(rows, first, second, protocol)) is not None
    }
    return bullets([*lines, *together(found_pairs)])


def grpo(row: Row) -> str:
    """What GRPO changes over the SFT model that each seed started from, on test and on valid."""
    lines = [*_stage_over(row, "sft", "GRPO over SFT"), *_stage_over(row, "sft", "GRPO over SFT", "HR@10")]
    gains = [
        (record.stages["grpo"]["valid"]["NDCG@10"] - record.stages["sft"]["valid"]["NDCG@10"], record.seed)
        for record in row.records
    ]
    shown = ", ".join(f"{gain:+.5f} (seed {seed})" for gain, seed in gains)
    lines.append(f"On valid, where the step is chosen and the start may be: NDCG@10 {shown}.")
    return bullets(lines)


def exploration(record: Mapping[str, Any]) -> str:
    """What each step of the recipe's exploration gave on valid."""
    by_name = {trial["what"]: trial["valid"]["NDCG@10"] for trial in record["trials"]}
    names = list(by_name)
    plain, alike = names[0], names[1]
    lines = [f"`alike` on top of {plain}: {by_name[alike] - by_name[plain]:+.4f} NDCG@10 on valid."]
    lines += [
        f"{name.removeprefix('+ alike').strip(' ,+')} on top of `alike`: {by_name[name] - by_name[alike]:+.4f}."
        for name in names[2:]
    ]
    return bullets(lines)


def d3(record: Mapping[str, Any], board: Sequence[Row]) -> str:
    """What the ablation of title decoding says: differences of single runs, no claim of a method.

    Args:
        board: rows of the tables, for what the recorded run chose.
    """
    at = {trial["decoding"].split(" (")[0]: trial["SID NDCG@10"] for trial in record["trials"]}
    mixed = {key.split(",")[1].strip(): value for key, value in at.items() if "assistant" in key}
    alone = {key.split(",")[1].strip(): value for key, value in at.items() if "trie" in key and "assistant" not in key}
    lines = [
        f"The assistant at length penalty {name.removeprefix('λ ')}: {mixed[name] - alone[name]:+.4f} SID NDCG@10."
        for name in alone
    ]
    lines += [
        f"Length penalty 0 in place of 1, {how}: {of['λ 0'] - of['λ 1']:+.4f}."
        for how, of in (("with the assistant", mixed), ("without it", alone))
    ]
    valid = record["valid NDCG@10 by item, by α"]
    best = max(valid, key=lambda alpha: valid[alpha])
    shown = ", ".join(f"{value:.4f} at {alpha}" for alpha, value in sorted(valid.items(), reverse=True))
    lines.append(f"The writer's weight α on valid (NDCG@10 by item), in that search: {shown}; the best was {best}.")
    chosen = [stage["train"]["alpha"] for row in board if row.name == "d3" for stage in row.records[0].stages.values()
              if "alpha" in (stage.get("train") or {})]  # fmt: skip
    lines += [f"The row of the tables, trained and decoded anew, chose α = {alpha:g}." for alpha in chosen]
    return bullets(lines)


def sdpo(record: Mapping[str, Any]) -> str:
    """What the trials of S-DPO's negatives say."""
    best = [trial["Δ best valid NDCG@10"] for trial in record["trials"]]
    last = [trial["Δ last valid NDCG@10"] for trial in record["trials"]]
    return bullets(
        [
            f"Best probe over the SFT model of that search, valid NDCG@10: {min(best):+.5f} to {max(best):+.5f}.",
            f"Last probe: {min(last):+.5f} to {max(last):+.5f}.",
        ]
    )


def repeats(record: Mapping[str, Any]) -> str:
    """How often a target is a purchase again, by split."""
    shown = ", ".join(f"{name} {share:.1%}" for name, share in record["target's SID is the last one"].items())
    return bullets([f"Rows whose target has the SID of the purchase before it: {shown}."])


def findings(found: Sequence[Row]) -> str:
    """Figures before and after what an audit asked for, where the records have both."""
    rows = {row.name: row for row in found}
    lines = []
    (hybrid,) = rows["hybrid"].records
    ranks = hybrid.ranks("sid")
    if ranks is not None:
        values = ranks.values(("HR@10",))
        by_row, by_user = (of_one_run(values, users)["HR@10"] for users in (None, hybrid.users))
        lines.append(
            f"`hybrid`, SID HR@10: {by_row.low:.3f}–{by_row.high:.3f} if every sample were a user of its own, "
            f"{by_user.low:.3f}–{by_user.high:.3f} over users (design effect {by_user.design:.2f})."
        )
    valid = [record.valid for record in rows["minionerec-memory"].records if record.valid is not None]
    if valid:
        mean = statistics.fmean(valid)
        lines.append(f"The memory's valid NDCG@10, cross-validated: {mean:.4f}, the mean of {len(valid)} seeds.")
    pair = _pair(rows, WITHOUT, "minionerec", "sid")
    if pair is not None:
        lines.append(f"The category's own tasks give MiniOneRec {difference(pair)} (SID protocol).")
    effects = [
        record.stages[record.last]["design effects"]["sid"]["NDCG@10"]
        for row in found
        for record in row.records
        if "design effects" in record.stages[record.last]
    ]
    lines.append(f"Design effects of SID NDCG@10 on this board: {min(effects):.1f} to {max(effects):.1f}.")
    return bullets(lines)


def _early(rows: Iterable[Row]) -> list[str]:
    early = [row.name for row in rows if row.effort.converged is False]
    return [f"Training had not ended (the best step is the last): {_listed(early)}."] if early else []


def _pair(rows: Mapping[str, Row], first: str, second: str, protocol: str, metric: str = "NDCG@10") -> Paired | None:
    if first not in rows or second not in rows:
        return None
    a, b = rows[first].system, rows[second].system
    one, other = a.runs(protocol, (metric,)), b.runs(protocol, (metric,))
    return None if one is None or other is None else paired(one, other, same_seeds(a, b))[metric]


def _stage_over(row: Row, before: str, what: str, metric: str = "NDCG@10") -> list[str]:
    recipe = row.system.recipe
    first = System(before, recipe, before).runs("sid", (metric,))
    second = row.system.runs("sid", (metric,))
    if first is None or second is None:
        return []
    return [f"{what}: {difference(paired(first, second, together=True)[metric], metric)} (SID protocol)."]


def together(pairs: Mapping[Any, Paired]) -> list[str]:
    """A line each, p corrected over all of them (Holm); a key is what is said, or that and the metric."""
    return told(corrected(pairs))


def corrected(pairs: Mapping[Any, Paired]) -> dict[Any, Paired]:
    """Differences with p corrected over all of them (Holm)."""
    found = holm(np.array([pair.p for pair in pairs.values()]))
    return {
        key: dataclasses.replace(pair, corrected=float(p)) for (key, pair), p in zip(pairs.items(), found, strict=True)
    }


def told(pairs: Mapping[Any, Paired]) -> list[str]:
    """A line each; a key is what is said, or that and the metric."""
    lines = []
    for key, pair in pairs.items():
        what, metric = key if isinstance(key, tuple) else (key, "NDCG@10")
        lines.append(f"{what}: {difference(pair, metric)}.")
    return lines


def difference(found: Paired, metric: str = "NDCG@10") -> str:
    """A paired difference in words: its size, its bounds, and whether it is one."""
    if found.difference == 0 == found.wins == found.losses:
        return f"the same {metric} on every sample"
    verdict = "beyond chance" if found.significant else "within chance"
    if found.scope not in CLAIMS:
        verdict = "of these runs: one seed is no claim of the methods"
    difference, low, high = (f"{round(value, 4) + 0.0:+.4f}" for value in (found.difference, found.low, found.high))
    return f"{difference} {metric} (95 % {low} to {high}), {verdict}"


def _means(system: System, protocol: str) -> str:
    return ", ".join(f"{metric} {with_spread(system, protocol, metric)}" for metric in MAIN)


def with_spread(system: System, protocol: str, metric: str) -> str:
    """A metric's mean over seeds, and their standard deviation where there are several; empty: it is not there."""
    values = system.values(protocol, metric)
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}" if values else ""


def bullets(lines: Iterable[str]) -> str:
    """Lines as a list."""
    return "\n".join(f"- {line}" for line in lines)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
