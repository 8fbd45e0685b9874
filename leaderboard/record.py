"""A record: one finished run as one small file, all that tables, comparisons and reports need.

It is made from a run directory or read from a JSON file that ``bench results export`` wrote. It knows no table.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.checks import schemas
from harness.checks.names import slug
from harness.data import versions
from harness.errors import BenchError
from harness.evaluation import agreement, user_index
from harness.evaluation.measure import BAYES, MEASURED
from harness.evaluation.statistics import of_one_run
from harness.evaluation.target_ranks import PROTOCOLS, TargetRanks
from harness.evaluation.validation import BY_ITEM, OUT
from harness.recipes import group_of
from harness.runs import finished
from harness.runs.edits import KEPT
from harness.runs.run_directory import RunDirectory
from harness.text.plain import line

from . import denied
from .record_files import RecordFile

FORMAT = 1
EXPECTED_RANKS = 3
"""The version of the measuring since which equal scores share their expected rank."""
CHOSEN = "NDCG@10"
OUT_OF_SAMPLE = "cross-validated valid NDCG@10"
FITTED_ON_VALID = {"combine", "gamma", "alpha", OUT_OF_SAMPLE}
"""What a stage notes that was fitted on valid: the memory's weights, BIGRec's γ, D3's α."""
MANIFEST_KEYS = ("caption", "fingerprints", "rows", "items", "semantic_ids", "revision", "versions", "hardware")
MADE_AGAIN = "export it again from its run"


@dataclass(frozen=True)
class Record:
    """A run's record.

    Attributes:
        content: what the file holds, less its checksum.
        place: the run directory or the file it was read from.
    """

    content: dict[str, Any]
    place: Path

    @classmethod
    def of_run(cls, directory: Path, label: str = "") -> Record:
        """The record of a finished run.

        Args:
            label: its row in tables; without one what the recipe is called, or the method's name.

        Raises:
            BenchError: no finished run, one measured before records held the ranks of targets, or one whose metrics
                do not follow from them.
        """
        folder = RunDirectory(directory)
        manifest = finished.need_finished(folder)
        result, settings = finished.metrics(folder), finished.configuration(folder)
        stages = result["stages"]
        for name, stage in stages.items():
            if "ranks" not in stage or "rankings" not in stage:
                raise BenchError(
                    f"{directory}: stage {name} was measured by an older version; bench results measure {directory}"
                )
        trained = [stage["train"] for stage in stages.values() if stage.get("train")]
        last = list(stages.values())[-1]
        content = {
            "format": FORMAT,
            "label": label or settings.get("called") or manifest["method"],
            "method": manifest["method"],
            "group": group_of(manifest.get("group", "ours")),
            "category": manifest["category"],
            "seed": manifest["seed"],
            "run": slug(directory.resolve().name),
            **{key: manifest[key] for key in MANIFEST_KEYS},
            **{key: manifest.get(key) for key in ("started", "finished")},
            "cost": {
                "train seconds": round(sum(facts.get("seconds", 0.0) for facts in trained), 1),
                "decode seconds": last["decode"].get("seconds"),
                "users per second": last["decode"].get("users per second"),
                "peak memory GiB": last["decode"].get("peak memory GiB"),
                "device memory GiB": last["decode"].get("device memory GiB"),
                "parameters": max((facts.get("parameters") or 0 for facts in trained), default=0),
            },
            "stages": stages,
            "settings": settings,
        }
        if origin := finished.origin_of(manifest):
            content["origin"] = origin
        told = ("ground", "left_out", "tokenizer", "components")
        content |= {key: manifest[key] for key in told if manifest.get(key)}
        if manifest.get(KEPT):
            content[KEPT] = {step: kept["changed"] for step, kept in manifest[KEPT].items()}
        content |= {key: result[key] for key in (user_index.KEY, BAYES) if key in result}
        return trusted(cls(_cleaned(content), directory))

    @classmethod
    def read(cls, path: Path) -> Record:
        """A record from its file.

        Raises:
            BenchError: it is missing, no record, or not as it was exported.
        """
        content = files.read_json(path, MADE_AGAIN)
        if not isinstance(content, dict) or type(content.get("format")) is not int:
            raise BenchError(f"{path} is no record of a run; bench results export RUN writes one")
        if content["format"] != FORMAT:
            raise BenchError(f"{path} has format {content['format']}, this version reads {FORMAT}; {MADE_AGAIN}")
        given = content.pop("checksum", None)
        schemas.check(RecordFile, content, path, MADE_AGAIN)
        if given != checksum(content):
            raise BenchError(f"{path} was changed after its export (its checksum does not fit); {MADE_AGAIN}")
        return cls(_cleaned(content), path)

    def write(self, path: Path) -> None:
        """Write the file, with a checksum over its content; lists of numbers stand on one line."""
        text = json.dumps(self.content | {"checksum": checksum(self.content)}, indent=1, ensure_ascii=False)
        flat = re.sub(r"\[\s+((?:-?[\d.eE+-]+,?\s+)+)\]", lambda m: f"[{' '.join(m[1].split())}]", text)
        files.write_text(path, flat + "\n")

    @property
    def file_name(self) -> str:
        """Where it stands among the records of its category: ``<method>/<run>.json``."""
        return f"{self.method}/{self.content['run']}.json"

    @property
    def label(self) -> str:
        """Its row in tables."""
        return str(self.content["label"])

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.content["method"])

    @property
    def group(self) -> str:
        """One of :data:`harness.recipes.GROUPS`."""
        return group_of(str(self.content["group"]))

    @property
    def category(self) -> str:
        """The category."""
        return str(self.content["category"])

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.content["seed"])

    @property
    def data(self) -> str:
        """The data's fingerprint."""
        return str(self.content["fingerprints"]["data"])

    @property
    def sids(self) -> str | None:
        """The semantic IDs' fingerprint."""
        return self.content["fingerprints"].get("semantic_ids")

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The stages' entries, in order."""
        return self.content["stages"]

    @property
    def last(self) -> str:
        """The last stage's name."""
        return list(self.stages)[-1]

    @property
    def settings(self) -> dict[str, Any]:
        """The run's whole configuration."""
        return self.content["settings"]

    @property
    def cost(self) -> dict[str, Any]:
        """Seconds, memory and parameters."""
        return self.content["cost"]

    @property
    def valid(self) -> float | None:
        """NDCG@10 of the last stage on valid: under the SID protocol where there are semantic IDs.

        A stage that was fitted on valid has it out of sample, or not at all.
        """
        return self._valid(CHOSEN)

    @property
    def valid_by_item(self) -> float | None:
        """The same under the item protocol, which does not hang on the semantic IDs; None where it is not recorded."""
        return self._valid(CHOSEN if self.sids is None else f"{CHOSEN} {BY_ITEM}")

    def _valid(self, name: str) -> float | None:
        stage = self.stages[self.last]
        train = stage.get("train") or {}
        if OUT not in train and train.keys() & FITTED_ON_VALID:  # an older record: its valid is that of the fit
            return train.get(OUT_OF_SAMPLE) if name == CHOSEN else None
        return (stage.get("valid") or {}).get(name)

    @property
    def probe(self) -> str:
        """What its valid metrics are of (data, reader, probe, draw): numbers compare only where this is the same."""
        stage, probe = self.stages[self.last], self.settings.get("probe") or {}
        # a draw is the seed's, and before version 2 it was of samples in another order
        drawn = [self.seed, stage.get(MEASURED, 1)] if probe.get("samples") else None
        trainer = (self.settings.get("stages") or [{}])[-1] if OUT in (stage.get("train") or {}) else {}
        told = [self.data, probe, drawn, trainer.get("samples"), self.settings.get("dataset") or {}]
        told += [self.settings["protocol"]] if self.settings.get("protocol") else []
        return json.dumps(told, sort_keys=True)

    @cached_property
    def variant(self) -> str:
        """Hash of all that tells runs apart but the seed: settings, data, given SIDs, and the run gone on from.

        Runs that share it differ by seed only. SIDs that a run made for itself hang on the seed and are not in it.
        """
        sids = (self.content.get("semantic_ids") or {}).get("source")
        return finished.variant(self.settings, self.content["fingerprints"], sids, self.content.get("origin"))

    @property
    def result(self) -> str:
        """A hash of what the run gave: equal for a record and its copy."""
        told = {name: [stage.get("rankings"), stage.get("ranks")] for name, stage in self.stages.items()}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def metrics(self, protocol: str, stage: str = "") -> dict[str, float]:
        """A stage's metrics (the last one's by default); empty where the protocol is not there."""
        return self.stages[stage or self.last].get(protocol) or {}

    def interval(self, protocol: str, metric: str, stage: str = "") -> tuple[float, float] | None:
        """A metric's 95 % interval over this run's users (over its samples, where users are not recorded)."""
        ranks = self.ranks(protocol, stage)
        values = ranks.values((metric,)) if ranks is not None else {}
        if metric not in values:
            return None
        found = of_one_run({metric: values[metric]}, self.users).get(metric)
        return (found.low, found.high) if found is not None else None

    @cached_property
    def users(self) -> np.ndarray | None:
        """``[n]`` the user of each test sample, a number, samples in canonical order; None where it is not recorded."""
        encoded, n = self.content.get(user_index.KEY), int(self.content["rows"]["test"])
        return user_index.decode(encoded, n) if encoded is not None else None

    @property
    def seen(self) -> str:
        """Whether what a user bought before may be recommended: ``keep`` or ``drop``."""
        return str((self.settings.get("protocol") or {}).get("seen", "keep"))

    @cached_property
    def ground(self) -> versions.Ground:
        """The versions that its numbers stand on: of data, split and protocol; of older records as far as is known.

        The protocol's follows from how each stage was measured, not from what stands in the file.
        """
        said = (self.content.get("ground") or {}) | versions.of_data(self.data)  # what is known of the data wins
        oldest = min(stage.get(MEASURED, 1) for stage in self.stages.values())
        declared = {"seen": self.seen}
        own = (said.get("protocol") or {}).get("version", 0)
        measured = (
            own if own > versions.newest("protocol", versions.PROTOCOL) else (2 if oldest >= EXPECTED_RANKS else 1)
        )
        since = versions.history("protocol", versions.PROTOCOL)[measured:]
        for later in since:  # what moved no number of this decoder
            measured = later.version if self.settings["decoder"]["name"] in later.unmoved else measured
        return said | {"protocol": versions.of_protocol(declared, measured)}

    @property
    def deterministic(self) -> bool:
        """Whether its method says that every seed gives the same; of older records the counting baselines."""
        said = self.settings.get("deterministic")
        return bool(said) if said is not None else self.group == "counting"

    def ranks(self, protocol: str, stage: str = "") -> TargetRanks | None:
        """Where the targets stand, samples in canonical order."""
        encoded = (self.stages[stage or self.last].get("ranks") or {}).get(protocol)
        try:
            return TargetRanks.decode(encoded) if encoded else None
        except BenchError as error:
            raise BenchError(f"{self.place}: {error.format_message()}; {MADE_AGAIN}") from None

    @property
    def protocols(self) -> list[str]:
        """The protocols that the last stage has."""
        return [protocol for protocol in PROTOCOLS if self.metrics(protocol)]

    def stage(self, name: str) -> dict[str, Any]:
        """A stage's entry.

        Raises:
            BenchError: the run has no such stage.
        """
        if name not in self.stages:
            raise BenchError(f"{self.place} has no stage '{name}'; it has {', '.join(self.stages)}")
        return self.stages[name]


FREE_TEXT = ("label", "caption", "revision", "started", "finished", "group")


def _cleaned(content: dict[str, Any]) -> dict[str, Any]:
    """A record's free text as lines: what is shown of it ends up in tables, pages, files and terminals."""
    clean = content | {key: line(content[key]) for key in FREE_TEXT if isinstance(content.get(key), str)}
    for key in ("versions", "hardware"):
        clean[key] = {line(k): line(v) if isinstance(v, str) else v for k, v in content[key].items()}
    settings = content["settings"]
    clean["settings"] = settings | {key: line(str(settings[key])) for key in ("summary", "note") if settings.get(key)}
    return clean


def contradictions(record: Record) -> list[str]:
    """Where a record's metrics are not those of its target ranks, or it says two things of its run; a line each."""
    try:
        n = int(record.content["rows"].get("test", -1))
        lines = agreement.contradictions(record.stages, n, record.content.get(user_index.KEY))
    except BenchError as error:
        raise BenchError(f"{record.place}: {error.message}; {MADE_AGAIN}") from None
    return lines + twice_told(record)


def twice_told(record: Record) -> list[str]:
    """Facts that a record says more than once: the seed, the category, the method."""
    settings, run = record.settings, str(record.content["run"])
    said = {"settings": settings.get("seed", record.seed)}
    named = re.match(r"seed(\d+)-", run)
    if named:
        said["run"] = int(named[1])
    lines = [
        f"seed is {record.seed}, its {where} says {value}" for where, value in said.items() if value != record.seed
    ]
    if "group" in settings:
        settings = settings | {"group": group_of(str(settings["group"]))}
    for key, own in (("category", record.category), ("name", record.method), ("group", record.group)):
        if settings.get(key, own) != own:
            lines.append(f"{'method' if key == 'name' else key} is {own}, its settings say {settings[key]}")
    stages = [stage["name"] for stage in settings.get("stages") or []]
    if stages and stages != list(record.stages):
        lines.append(f"it has the stages {', '.join(record.stages)}, its settings say {', '.join(stages)}")
    return lines


def trusted(record: Record) -> Record:
    """The record, if it agrees with itself.

    Raises:
        BenchError: it does not: a file was changed by hand or half replaced; or it stands on a version that is not
            known here; or the version that made it is known to have made such rows wrong.
    """
    try:
        versions.checked(record.ground)
    except BenchError as error:
        raise BenchError(f"{record.place}: {error.message}") from None
    wrong = denied.reason(record.content)
    if wrong:
        raise BenchError(
            f"{record.place}: the version that made it made such rows wrong ({wrong}); run the method again"
        )
    lines = contradictions(record)
    if lines:
        raise BenchError(f"{record.place}: {lines[0]}; bench results measure RUN computes it again")
    return record


def checksum(content: dict[str, Any]) -> str:
    """sha256 of a record's content, free of layout and key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load(path: Path) -> Record:
    """A record from a run directory, or from the file that was exported of one.

    Raises:
        BenchError: there is neither, or its metrics do not follow from its target ranks.
    """
    if path.is_dir():
        return Record.of_run(path)
    if path.suffix == ".json":
        return trusted(Record.read(path))
    raise BenchError(f"{path} is no run directory and no record (.json); bench run prints the directory of a run")
