"""Does a record tell the truth? Its metrics are computed again, from target ranks and from rankings files.

It trusts nothing in the record but its outline, and says what it cannot compute again.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import versions
from harness.data.dataset import Dataset
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.evaluation import measure, user_index
from harness.evaluation.agreement import TOLERANCE
from harness.evaluation.segments import BOUGHT
from harness.evaluation.statistics import of_one_run, recorded
from harness.plugins import Plugins
from harness.runs import run_directory
from harness.runs.config import hashed, identified

from . import denied
from .plausibility import problems
from .record import EXPECTED_RANKS, Record, contradictions

UNCHECKED = ("train", "decode", "valid")
WHOLE = (
    "sid",
    "item",
    "intervals",
    "design effects",
    "beyond accuracy",
    "invalid",
    "levels",
    "ranks",
    "segments",
    "rankings",
)
"""What every entry has where it can be measured."""
NOT_COMPUTED = "valid metrics, seconds, memory and hardware are as the run said"
INTERVAL = 1e-6  # of a bound


@dataclass
class Verdict:
    """What was found of one record.

    Attributes:
        false: what the record says and is not so; empty where it tells the truth.
        checked: the stages whose metrics were computed again from their rankings files.
        open: why the other stages were not.
    """

    record: Record
    false: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    open: str = ""

    @property
    def line(self) -> str:
        """One line for a terminal."""
        if self.false:
            return f"FALSE {self.record.place}: {'; '.join(self.false)}"
        if self.checked:
            what = "metrics, intervals, segments and sizes"
            which = ", ".join(self.checked)
            return f"ok    {self.record.place}: all {what} follow from the rankings ({which}); {NOT_COMPUTED}"
        return f"ok    {self.record.place}: metrics follow from the target ranks; {self.open}; {NOT_COMPUTED}"


def evidence_folder(record: Record) -> Path:
    """Where ``bench results export --with-rankings`` puts a record's rankings: a folder beside it, of its name."""
    return record.place.with_suffix("")


def rankings_file(folder: Path, stage: str) -> Path | None:
    """A stage's rankings in a run directory, or in the folder beside a record."""
    for path in (folder / "rankings" / f"test-{stage}.parquet", folder / f"test-{stage}.parquet"):
        if path.is_file():
            return path
    return None


def verify(record: Record, dataset: Dataset | None, plugins: Plugins, folder: Path | None = None) -> Verdict:
    """Check a record.

    Args:
        dataset: the category as it is found here; None where it is not: then only target ranks are looked at.
        folder: holds the rankings files (a run directory, or what was exported); beside the record by default.

    A rankings or SID file that is there and damaged makes the record false.
    """
    verdict = Verdict(record)
    try:
        verdict.false += _by_itself(record)
    except (BenchError, TypeError, ValueError, KeyError, AttributeError) as error:  # one bad value is one false record
        shown = error.format_message() if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        verdict.false.append(f"a value is of the wrong kind ({shown})")
        return verdict
    folder = folder or evidence_folder(record)
    if dataset is None:
        verdict.open = f"the data of {record.category} is not here to check the rankings"
        return verdict
    if dataset.fingerprint != record.data:
        verdict.false.append(
            f"it is of data {record.data[:12]}, and {record.category} here has {dataset.fingerprint[:12]}"
        )
        return verdict
    verdict.false += _of_the_data(record, dataset)
    present = {stage: path for stage in record.stages if (path := rankings_file(folder, stage))}
    if not present:
        verdict.open = f"no rankings file in {folder}"
        return verdict
    try:
        semantic_ids = _semantic_ids(record, dataset, folder)
    except BenchError as error:
        verdict.false.append(error.format_message())
        return verdict
    verdict.false += _derived(record, dataset, plugins, semantic_ids)
    for stage, path in present.items():
        try:
            rankings = Rankings.read(path, semantic_ids, items=len(dataset.items)).of(dataset.test, path)
        except BenchError as error:
            verdict.false.append(error.format_message())
            continue
        here = measure.measure(plugins, measure.Evaluated.test(rankings, dataset, semantic_ids)) | {
            "rankings": rankings.fingerprint,
            "ties": rankings.order,
        }
        measured = record.stages[stage].get(measure.MEASURED, 1)
        older = measured < 2
        if older and dataset.test.rows is not None:
            of_rows = rankings.take(np.argsort(dataset.test.rows)).fingerprint  # older ones are of the file's rows
            here["rankings"] = of_rows if record.stages[stage].get("rankings") == of_rows else here["rankings"]
        there = {key: value for key, value in record.stages[stage].items() if key not in UNCHECKED and key in here}
        there.pop(measure.MEASURED, None)
        if measured < EXPECTED_RANKS:  # intervals were of samples, and equal scores stood in the order of their ids
            there.pop("intervals", None)
            if record.ground["protocol"]["version"] < versions.newest("protocol", versions.PROTOCOL):
                verdict.open = (
                    "it was measured under an older protocol; bench results measure RUN brings it to this one"
                )
                continue
        if not older:
            lost = [key for key in WHOLE if key in here and key not in record.stages[stage]]
            verdict.false += [f"{stage}: {key} is missing" for key in lost]
        else:  # purchases were counted otherwise, samples resampled in another order
            there["segments"] = {name: part for name, part in there.get("segments", {}).items() if name != BOUGHT}
        verdict.false += [f"{stage}: {line}" for line in _differences(there, here)]
        verdict.checked.append(stage)
    missing = [stage for stage in record.stages if stage not in present]
    if missing:
        verdict.open = f"no rankings file of {', '.join(missing)} in {folder}"
    return verdict


def _by_itself(record: Record) -> list[str]:
    """The metrics follow from the record's own target ranks, could be true, and lie in their intervals."""
    wrong = denied.reason(record.content)
    lines = ([f"the version that made it made such rows wrong: {wrong}"] if wrong else []) + contradictions(record)
    contradicted, n = bool(lines), record.content["rows"].get("test")
    for stage in record.stages:
        for protocol in record.protocols:
            where = f"{stage}, {protocol} protocol"
            said, ranks = record.metrics(protocol, stage), record.ranks(protocol, stage)
            whole = ranks is not None and bool((ranks.group == 1).all())
            lines += [f"{where}: {line}" for line in problems(said, samples=n, whole=whole)]
            lines += [] if contradicted else _intervals(record, stage, protocol)
            valid = (record.stages[stage].get("valid") or {}).items()
            lines += [
                f"{stage}: valid {name} = {value!r} lies outside 0–1"
                for name, value in valid
                if not (isinstance(value, (int, float)) and 0 <= value <= 1)
            ]
    return lines


def _intervals(record: Record, stage: str, protocol: str) -> list[str]:
    """Where a stage's intervals and design effects are not those of its ranks and users."""
    entry, ranks = record.stages[stage], record.ranks(protocol, stage)
    if entry.get(measure.MEASURED, 1) < EXPECTED_RANKS or record.users is None or ranks is None:
        return []
    found = recorded({protocol: of_one_run(ranks.values(), record.users)})
    said = {key: {protocol: (entry.get(key) or {}).get(protocol, {})} for key in found if entry.get(key)}
    return [f"{stage}: {line}" for line in _differences(said, found)]


def _of_the_data(record: Record, dataset: Dataset) -> list[str]:
    """Facts of a record that are the dataset's."""
    rows = {name: len(samples) for name, samples in dataset.splits.items()}
    ground = record.content.get("ground") or {}
    known = versions.of(dataset, {})
    versions.checked(ground)
    lines = [
        f"it says {kind} {ground[kind].get('name')} {ground[kind].get('version')}, and the data is of {part['name']}"
        for kind, part in known.items()
        if kind != "protocol" and kind in ground and ground[kind].get("name") != part["name"]
    ]
    said = {"caption": record.content["caption"], "rows": record.content["rows"], "items": record.content["items"]}
    lines += _differences(said, {"caption": dataset.caption, "rows": rows, "items": len(dataset.items)})
    if dataset.left_out != record.content.get("left_out", {} if "kept" in record.content else dataset.left_out):
        lines.append(
            f"it says that {record.content.get('left_out') or 'nothing'} was left out of the data, and of the "
            f"data here {dataset.left_out or 'nothing'} was"
        )
    if record.content.get(user_index.KEY) not in (None, user_index.encode(user_index.of(dataset.test))):
        lines.append("its samples are not of the users that the data says")
    return lines


def _derived(record: Record, dataset: Dataset, plugins: Plugins, semantic_ids: SemanticIds | None) -> list[str]:
    """What follows from data and SIDs: the report on them, the optimum of generated data, the run's hash."""
    report = semantic_ids.report() if semantic_ids is not None else None
    lines = _differences({"semantic_ids": record.content.get("semantic_ids")}, {"semantic_ids": report})
    if dataset.oracle is not None and measure.BAYES in record.content:
        optimal = measure.bayes_optimal(dataset, semantic_ids)
        lines += _differences({measure.BAYES: record.content[measure.BAYES]}, {measure.BAYES: optimal})
    new = all(stage.get(measure.MEASURED, 1) >= 2 for stage in record.stages.values())
    named = re.fullmatch(r"seed\d+-([0-9a-f]{8})", str(record.content["run"]))
    if new and named and "origin" not in record.content:  # the place of a run gone on from is not in its record
        given = dataset.given.fingerprint if dataset.given is not None else None
        files = record.content["fingerprints"].get("files")
        processes = int(record.content["hardware"].get("processes", 1))
        if hashed(record.settings, identified(record.data, given, None, files, processes)) != named[1]:
            lines.append(f"the settings are not those of run {record.content['run']}: their hash is another")
    return lines


def _semantic_ids(record: Record, dataset: Dataset, folder: Path) -> SemanticIds | None:
    if record.sids is None:
        return None
    if dataset.given is not None and dataset.given.fingerprint == record.sids:
        return dataset.given
    mend = f"{record.category} does not ship those of {record.place}: export the run again with --with-rankings"
    return SemanticIds.read(folder / run_directory.SEMANTIC_IDS, mend, record.sids)


def _differences(said: dict[str, Any], found: dict[str, Any], prefix: str = "") -> list[str]:
    """Values that differ, by dotted name; a value that is said and not found differs too."""
    lines = []
    for key, value in said.items():
        name, other = f"{prefix}{key}", found.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            lines += _differences(value, other, f"{name}.")
        elif isinstance(value, (int, float)) and isinstance(other, (int, float)):
            if not math.isclose(value, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                lines.append(f"{name} is {other:.6g}, the record says {value:.6g}")
        elif isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
            slack = INTERVAL if name.startswith("intervals.") else TOLERANCE
            if not np.allclose(value, other, rtol=slack, atol=slack):
                lines.append(f"{name} differs")
        elif value != other:
            shown = f"{other!r:.14}…" if isinstance(other, str) else repr(other)
            lines.append(f"{name} is {shown}, the record says {value!r:.14}{'…' if isinstance(value, str) else ''}")
    return lines
