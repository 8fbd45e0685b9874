"""The schemas of a run directory's files: manifest, metrics, config, log lines and clock.

All are written by the harness; a file that does not fit was cut, mixed up or changed by hand.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Len
from pydantic import Field

from harness.checks.schemas import CategoryName, Count, Name, Schema, Seconds, Seed, Share

Values = dict[str, Share]
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
    valid: dict[str, float] | None = None
    parameters: Count | None = None
    trained: Trained | None = None
    run: str | None = None


class SidReport(Schema):
    """The report on semantic IDs (:meth:`harness.data.semantic_ids.SemanticIds.report`)."""

    levels: Count
    source: str


class Manifest(Schema):
    """``manifest.json``. A run that has not begun has few of these; see :class:`BegunManifest`."""

    done: dict[str, Done] = {}
    code: dict[str, dict[str, str]] = {}
    mlflow: dict[str, Any] = {}


class BegunManifest(Manifest):
    """The manifest of a run that has begun: what it is of stands in it."""

    method: Name
    category: CategoryName
    seed: Seed
    group: str = "ours"
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
    started: str | None = None
    finished: str | None = None
    components: dict[str, dict[str, Any]] = {}


class Ranks(Schema):
    """Encoded target ranks (:class:`harness.evaluation.target_ranks.TargetRanks`)."""

    most: Annotated[int, Ge(1), Field(le=2**31)]
    before: Annotated[str, Len(0, 50_000_000)]
    group: Annotated[str, Len(0, 50_000_000)] | None = None


class StageMetrics(Schema):
    """The entry of a stage in ``metrics.json``, and in a record."""

    sid: Values = {}
    item: Values = {}
    ranks: dict[str, Ranks] | None = None
    intervals: dict[str, dict[str, Annotated[list[Share], Len(2, 2)]]] | None = None
    rankings: str | None = None
    invalid: Count | None = None
    train: Done | None = None
    decode: Done | None = None
    valid: dict[str, float] | None = None
    levels: dict[str, dict[str, float | dict[str, float | None] | None]] | None = None
    segments: dict[str, dict[str, dict[str, Any]]] | None = None


class Metrics(Schema):
    """``metrics.json``."""

    stages: Annotated[dict[Name, StageMetrics], Len(1)]


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
    decoder: dict[str, Any]
    tokenizer: dict[str, Any] | None = None
    backbone: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = None
    probe: dict[str, Any] | None = None
    prompts: str | None = None
    summary: str | None = None
    group: str | None = None
    reported: str | None = None
