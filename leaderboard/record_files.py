"""The schemas of the leaderboard's files: records, and tables of reported rows."""

from __future__ import annotations

import re
from typing import Annotated

from annotated_types import Ge, Le, Len
from pydantic import AfterValidator, Field, model_validator

from harness.checks.schemas import CategoryName, Count, Name, Schema, Seconds, Seed, Share, fault
from harness.runs.run_files import (
    ComponentCode,
    Config,
    Fingerprints,
    Ground,
    Group,
    Optimum,
    Rows,
    SidReport,
    StageMetrics,
    TokenizerFacts,
    UserIndex,
)

METRIC = re.compile(r"(HR|NDCG)@[1-9]\d{0,4}|MRR")
Text = Annotated[str, Len(0, 2_000)]


class Cost(Schema):
    """Seconds, memory and parameters of a run."""

    train_seconds: Seconds | None = Field(None, alias="train seconds")
    decode_seconds: Seconds | None = Field(None, alias="decode seconds")
    users_per_second: Annotated[float, Ge(0)] | None = Field(None, alias="users per second")
    peak_memory: Annotated[float, Ge(0), Le(1e7)] | None = Field(None, alias="peak memory GiB")
    device_memory: Annotated[float, Ge(0), Le(1e7)] | None = Field(None, alias="device memory GiB")
    parameters: Count | None = None


class RecordFile(Schema):
    """A record, less its checksum (``bench results export``)."""

    format: int
    label: Annotated[str, Len(1, 200)]
    method: Name
    group: Group
    category: CategoryName
    seed: Seed
    run: Name
    caption: Text
    fingerprints: Fingerprints
    rows: Rows
    items: Annotated[int, Ge(1), Le(2**31)]
    semantic_ids: SidReport | None = None
    tokenizer: TokenizerFacts = TokenizerFacts()
    revision: Text
    versions: dict[str, Text]
    hardware: dict[str, Text | int | float | None]
    settings: Config
    stages: Annotated[dict[Name, StageMetrics], Len(1)]
    cost: Cost
    users: UserIndex | None = None
    origin: dict[str, object] = {}
    ground: Ground = Ground()
    migrated: Text | None = None
    optimum: Optimum = Field(Optimum(), alias="Bayes-optimal")
    components: dict[str, ComponentCode] = {}
    left_out: dict[str, Count] = {}
    started: Text | None = None
    finished: Text | None = None


def _metric(name: str) -> str:
    if not METRIC.fullmatch(name):
        raise fault(f"unknown metric {name!r:.40}; write HR@K, NDCG@K or MRR")
    return name


class Source(Schema):
    """Where reported rows are from."""

    id: Annotated[str, Len(1, 200)]
    what: Text = ""


class ReportedRows(Schema):
    """A table of ``leaderboard/reported/*.yaml``: rows of metrics, a value a column."""

    source: Source
    category: CategoryName
    columns: Annotated[list[Annotated[str, AfterValidator(_metric)]], Len(0, 100)] = []
    rows: dict[Annotated[str, Len(1, 200)], Annotated[list[Share], Len(1, 100)] | None] = {}
    family: str | None = None
    stages: dict[str, str] = {}

    @model_validator(mode="after")
    def a_number_a_column(self) -> ReportedRows:
        """Each row has a value for each column."""
        for name, values in self.rows.items():
            if values is not None and len(values) != len(self.columns):
                raise fault(f"row {name} has {len(values)} numbers for {len(self.columns)} columns")
        return self


class ReportedLevels(Schema):
    """A table of accuracies by level: for each key of ``of`` rows of K and a share a column."""

    source: Source
    category: CategoryName
    analysis: str
    columns: Annotated[list[str], Len(2, 100)]
    of: Annotated[dict[str, str], Len(1)]

    @model_validator(mode="after")
    def a_table_a_key(self) -> ReportedLevels:
        """What ``of`` names is there, and has a value for each column."""
        for key in self.of:
            table = (self.model_extra or {}).get(key)
            if not isinstance(table, list) or not all(
                isinstance(row, list)
                and len(row) == len(self.columns)
                and type(row[0]) is int
                and all(type(v) in (int, float) and 0 <= v <= 1 for v in row[1:])
                for row in table
            ):
                raise fault(f"{key} must hold rows of K and {len(self.columns) - 1} numbers from 0 to 1")
        return self
