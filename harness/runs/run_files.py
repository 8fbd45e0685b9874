"""The schemas of a run directory's files: manifest, metrics, config, log lines and clock.

All are written by the harness; a file that does not fit was cut, mixed up or changed by hand.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from annotated_types import Ge, Le, Len
from pydantic import AfterValidator, Field, model_validator

from harness.checks.outlines import Protocol, Searches
from harness.checks.schemas import CategoryName, Count, Finite, Name, Schema, Seconds, Seed, Share, fault
from harness.recipes import GROUPS, group_of

METRIC = re.compile(r"(HR|NDCG)@\d+( by item)?$")


def _group(name: str) -> str:
    if group_of(name) not in GROUPS:
        raise fault(f"is none of {', '.join(GROUPS)}")
    return name


Group = Annotated[str, AfterValidator(_group)]
Values = dict[str, Share]
Amount = Annotated[float, Ge(0), Le(1e12)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]


class Fingerprints(Schema):
    """What the run saw."""

    data: Digest
    semantic_ids: Digest | None = None
    files: dict[str, str] = {}


class Rows(Schema):
    """Samples of each split."""

    train: Count
    valid: Count
    test: Count


class Trained(Schema):
    """What a stage trained of its model."""

    parameters: Count
    of: Count
    tensors: list[str]


class Done(Schema):
    """The facts of a finished step."""

    seconds: Seconds = 0.0
    valid: dict[str, Finite] | None = None
    parameters: Count | None = None
    trained: Trained | None = None
    run: str | None = None
    steps: Amount = 0
    epochs: Amount = 0
    best_step: Amount = Field(0, alias="best step")
    best_epoch: Amount = Field(0, alias="best epoch")

    @model_validator(mode="after")
    def metrics_are_shares(self) -> Done:
        """What is named as a metric is one."""
        for name, value in (self.model_extra or {}).items():
            if METRIC.search(name) and value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
                raise fault(f"has {name[:60]} = {value!r:.40}, which is no number from 0 to 1")
        return self


class SidReport(Schema):
    """The report on semantic IDs (:meth:`harness.data.semantic_ids.SemanticIds.report`)."""

    levels: Count
    source: str


Level = Annotated[list[Count], Len(1, 2**20)]


class TokenizerFacts(Schema):
    """How semantic IDs came about and how good they are (:mod:`harness.runs.tokenizing`)."""

    seconds: Seconds = 0.0
    quality: dict[str, Finite | list[Finite]] = {}
    repair: dict[str, Count | str] = {}
    codes: Annotated[list[Level], Len(0, 8)] = []
    groups: Annotated[list[Count], Len(0, 2**24)] = []
    map: Annotated[list[Annotated[list[Finite], Len(3, 3)]], Len(0, 2**20)] = []


class ComponentCode(Schema):
    """Where the code of a component came from."""

    name: str
    version: str
    distribution: str | None = None


class Kept(Schema):
    """A step that other code made and that was kept."""

    changed: list[str]


class Manifest(Schema):
    """``manifest.json``. A run that has not begun has few of these; see :class:`BegunManifest`."""

    done: dict[str, Done] = {}
    code: dict[str, dict[str, str]] = {}
    mlflow: dict[str, Any] = {}
    kept: dict[str, Kept] = {}
    tokenizer: TokenizerFacts = TokenizerFacts()


class NamedVersion(Schema):
    """A name and its version."""

    name: Annotated[str, Len(1, 200)]
    version: Annotated[int, Ge(1), Le(1_000_000)]


class Ground(Schema):
    """What numbers stand on (:mod:`harness.data.versions`)."""

    dataset: NamedVersion = NamedVersion(name="-", version=1)
    split: NamedVersion = NamedVersion(name="-", version=1)
    protocol: NamedVersion = NamedVersion(name="-", version=1)


class BegunManifest(Manifest):
    """The manifest of a run that has begun: what it is of stands in it."""

    method: Name
    category: CategoryName
    seed: Seed
    group: Group = "ours"
    caption: str
    fingerprints: Fingerprints
    rows: Rows
    items: Count
    semantic_ids: SidReport | None
    revision: str
    versions: dict[str, str]
    hardware: dict[str, str | int | float | None]
    order: int = 1
    left_out: dict[str, Count] = {}
    ground: Ground = Ground()
    started: str | None = None
    finished: str | None = None
    components: dict[str, ComponentCode] = {}


class Ranks(Schema):
    """Encoded target ranks (:class:`harness.evaluation.target_ranks.TargetRanks`)."""

    most: Annotated[int, Ge(1), Field(le=2**31)]
    before: Annotated[str, Len(0, 50_000_000)]
    group: Annotated[str, Len(0, 50_000_000)] | None = None


UserIndex = Annotated[str, Len(0, 50_000_000)]
"""Encoded users of the test samples (:mod:`harness.evaluation.user_index`)."""


class Segment(Schema):
    """The samples of a part, and their metrics."""

    n: Count
    sid: Values = {}
    item: Values = {}


class Levels(Schema):
    """Accuracies by level (:mod:`harness.evaluation.levels`)."""

    independent: dict[str, Annotated[Values, Len(1)]]
    cumulative: dict[str, Annotated[Values, Len(1)]]
    drop_off: dict[str, Share | None] = Field(alias="drop-off")


class Optimum(Schema):
    """What the best possible ranking of generated data has."""

    sid: Values = {}
    item: Values = {}


class StageMetrics(Schema):
    """The entry of a stage in ``metrics.json``, and in a record."""

    sid: Values = {}
    item: Values = {}
    ranks: dict[str, Ranks] | None = None
    intervals: dict[str, dict[str, Annotated[list[Share], Len(2, 2)]]] | None = None
    rankings: str | None = None
    ties: str | None = None
    design_effects: dict[str, dict[str, Annotated[float, Ge(0), Le(1e9)]]] | None = Field(None, alias="design effects")
    beyond_accuracy: dict[str, Annotated[float, Ge(0), Le(1e9)] | None] | None = Field(None, alias="beyond accuracy")
    invalid: Count | None = None
    train: Done | None = None
    decode: Done
    valid: dict[str, Share] | None = None
    levels: Levels | None = None
    segments: dict[str, dict[str, Segment]] | None = None
    measured: Annotated[int, Ge(1), Le(1000)] = 1
    first_measured: Annotated[int, Ge(1), Le(1000)] = Field(1, alias="first measured")


class Metrics(Schema):
    """``metrics.json``."""

    stages: Annotated[dict[Name, StageMetrics], Len(1)]
    users: UserIndex | None = None
    optimum: Optimum = Field(Optimum(), alias="Bayes-optimal")


class Named(Schema):
    """A component and its settings."""

    name: str


class StageSettings(Schema):
    """A stage of ``config.yaml``."""

    name: Name
    trainer: str


class ClockFile(Schema):
    """``clock.json`` of a stage."""

    seconds: Seconds


class Config(Schema):
    """``config.yaml``: the resolved configuration of a run; what its settings mean is checked by the components."""

    name: Name
    category: CategoryName
    seed: Seed
    stages: Annotated[list[StageSettings], Len(1)]
    decoder: Named
    tokenizer: Named | None = None
    backbone: Named | None = None
    dataset: dict[str, Any] | None = None
    probe: dict[str, Any] | None = None
    prompts: str | None = None
    summary: str | None = None
    group: str | None = None
    reported: str | None = None
    protocol: Protocol = Protocol()
    called: Annotated[str, Len(0, 200)] = ""
    deterministic: bool = False
    settings_from: str = ""
    searched: Searches = Searches(trials=0, category="-", data="0" * 12)
    tuned: list[str] = []
    note: Annotated[str, Len(0, 200)] = ""
