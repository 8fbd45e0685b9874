"""Schemas of the files that people write: recipes, suites and search spaces.

They hold a file's outline. What a component's settings may be is the component's to say.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Len
from pydantic import AfterValidator, Discriminator, Field, RootModel, Tag, model_validator

from harness.checks.schemas import FAULT, UNNAMED, CategoryName, Closed, Name, Schema, Seed, fault

Text = Annotated[str, Len(0, 100_000)]
COMPONENTS = ("tokenizer", "backbone", "decoder")


def _component(given: Any) -> Any:
    if given is not None and not isinstance(given, (str, dict)):
        raise fault("must be a name, or a mapping with one")
    return given


def _parts(given: Any) -> Any:
    if given is None:
        return given
    if not isinstance(given, (dict, list)) or not all(isinstance(k, str) and "/" not in k for k in given):
        raise fault("must map names to methods, such as {assistant: sasrec}")
    return given


Component = Annotated[Any, AfterValidator(_component)]
Settings = dict[str, Any]


class Stage(Schema):
    """A stage of a recipe; what else it holds are settings."""

    name: Name
    trainer: str = ""
    parts: Annotated[Any, AfterValidator(_parts)] = None


class Searches(Closed):
    """The search that a recipe's settings are from."""

    trials: Annotated[int, Ge(0)]
    """Those that were trained to their end."""
    category: str
    data: Annotated[str, Len(12, 64)]


def _of_the_run(given: str) -> str:
    key = given.partition("=")[0].strip()
    if "=" not in given or key.split(".")[0] in ("dataset", "probe", "protocol"):
        raise fault("must be key=value, of what a method does: data, probe and protocol are the same for all")
    return given


class Tuned(Closed):
    """Settings that were found on one version of a category's data."""

    data: Annotated[str, Len(12, 64)]
    trials: Annotated[int, Ge(0)] = 0
    methods: dict[Name, list[Annotated[Text, AfterValidator(_of_the_run)]]]


class DatasetFacts(Closed):
    """What is known of a category (``configs/datasets/*.yaml``)."""

    layout: Name
    published_rows: dict[Literal["train", "valid", "test"], Annotated[int, Ge(0)]] = {}
    tuned: Tuned | None = None


class Protocol(Closed):
    """What an evaluation declares beside the split."""

    seen: Literal["keep", "drop"] = "keep"


class VersionEntry(Closed):
    """A version of a dataset family, a split or a protocol."""

    version: Annotated[int, Ge(1)]
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    what: Annotated[str, Len(1, 500)]
    why: Annotated[str, Len(1, 500)]
    moves: Annotated[str, Len(1, 500)]
    superseded_by: Annotated[int, Ge(1)] | None = None
    reason: str = ""
    unmoved: list[str] = []
    data: list[str] = []
    family: str = ""
    family_version: Annotated[int, Ge(1)] | None = None
    layout: str = ""


class Wrong(Closed):
    """Rows of a kind that some versions of the harness made wrong."""

    why: Annotated[str, Len(1, 500)]
    measured: Annotated[int, Ge(1)] | None = None
    before: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")] | None = None
    revisions: list[Annotated[str, Len(12, 12)]] = []
    methods: list[Name] = []
    decoders: list[Name] = []
    settings: Settings = {}

    @model_validator(mode="after")
    def bounded(self) -> Wrong:
        """It names versions: a kind is wrong up to some version, not for ever."""
        if self.measured is None and self.before is None and not self.revisions:
            raise fault("name the versions that made such rows: measured, before, or revisions")
        return self


def _in_order(entries: list[VersionEntry]) -> list[VersionEntry]:
    numbers = [entry.version for entry in entries]
    if numbers != list(range(1, len(numbers) + 1)):
        raise fault(f"has versions {numbers}; number them 1, 2, … in order")
    for entry in entries:
        if entry.superseded_by is not None and not entry.version < entry.superseded_by <= len(numbers):
            raise fault(f"version {entry.version} is superseded by {entry.superseded_by}, which does not follow it")
    return entries


Changelog = dict[str, Annotated[list[VersionEntry], Len(1), AfterValidator(_in_order)]]


class Versions(Closed):
    """``configs/versions.yaml``."""

    datasets: Changelog
    splits: Changelog
    protocols: Changelog
    wrong: list[Wrong] = []


Hex40 = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class PinnedFile(Closed):
    """A file of a published split."""

    role: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    commit: Hex40
    path: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)*$")]
    blob: Hex40
    bytes: Annotated[int, Ge(1)] = 1
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = "0" * 64


class CatalogueEntry(Closed):
    """A published split that can be fetched."""

    layout: Name
    make: Literal["s3rec", "movielens", "lcrec", ""] = ""
    licence: Annotated[str, Len(1, 1_000)]
    files: Annotated[list[PinnedFile], Len(1)]


class Catalogue(RootModel[dict[Name, CatalogueEntry]]):
    """``configs/catalogue.yaml``."""


class PreparationRecipe(Closed):
    """A published way to prepare data."""

    what: Annotated[str, Len(1, 500)]
    settings: Settings


class Preparations(RootModel[dict[Name, PreparationRecipe]]):
    """``configs/preparations.yaml``."""


class SplitManifest(Schema):
    """``split.yaml`` of a prepared split."""

    name: Annotated[str, Len(1, 200)]
    recipe: Annotated[str, Len(1, 200)]
    version: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    settings: Settings
    left_out: dict[Annotated[str, Len(1, 300)], Annotated[int, Ge(0)]] = Field(alias="left out")

    @model_validator(mode="after")
    def whole(self) -> SplitManifest:
        """It says how the split was cut."""
        if not isinstance(self.settings.get("split"), str):
            raise fault("settings.split must name the kind of split")
        return self


class Recipe(Closed):
    """A method (``configs/methods/*.yaml``)."""

    name: Name
    base: Text | None = None
    called: Annotated[str, Len(1, 200)] | None = None
    without: list[str] | None = None
    summary: Text | None = None
    group: Text | None = None
    reference: Text | None = None
    reported: Text | None = None
    prompts: Text | None = None
    paper: Settings | None = None
    dataset: Settings | None = None
    probe: Settings | None = None
    search: Settings | None = None
    deterministic: bool | None = None
    settings_from: Literal["paper", "search", "choice"] | None = None
    searched: Searches | None = None
    tuned: list[Text] | None = None
    note: Annotated[str, Len(0, 200)] | None = None
    protocol: Protocol | None = None
    tokenizer: Component = None
    backbone: Component = None
    decoder: Component = None
    stages: list[Stage] | None = None

    @model_validator(mode="after")
    def whole(self) -> Recipe:
        """Without a base it is whole; its stages are told apart."""
        if self.without and not self.base:
            raise fault("without names stages of the base, and there is no base")
        for key in () if self.base else ("stages", "decoder"):
            if not getattr(self, key):
                raise fault(f"'{key}' is missing")
        names = [stage.name for stage in self.stages or []]
        if len(set(names)) != len(names) or set(names) & {*COMPONENTS, "dataset", "probe", "prompts"}:
            raise fault(f"stage names {names} must differ from each other and from the recipe's own keys")
        return self


def _override(text: str) -> str:
    if "=" not in text:
        raise fault("is no 'key=value'")
    return text


Override = Annotated[str, AfterValidator(_override)]


class SuiteRow(Closed):
    """A row of a suite."""

    method: Annotated[str, Len(1, 4096)]
    label: Annotated[str, Len(1, 200)] | None = None
    seeds: Annotated[int, Ge(1)] | None = None
    minutes: Annotated[float, Ge(0)] = 1.0
    set: list[Override] = []
    source: str = Field("", alias="from")
    categories: list[CategoryName] = []
    """Those that it is of; empty: all."""
    seeds_on: dict[CategoryName, Annotated[int, Ge(1)]] = {}
    """Another number of seeds on some categories."""

    @property
    def shown(self) -> str:
        """What the row is called."""
        return self.label or self.method


class Suite(Closed):
    """A grid of methods and seeds (``configs/suites/*.yaml``)."""

    name: Name | None = None
    summary: Text = ""
    seeds: Annotated[list[Seed], Len(1, 1000)] = [42]
    methods: Annotated[list[SuiteRow], Len(1, 1000)]
    common: dict[CategoryName, list[Override]] = {}
    """Settings of all rows on a category, such as the longest history of its published tables."""

    @model_validator(mode="before")
    @classmethod
    def names_are_rows(cls, content: Any) -> Any:
        """A row may be the name of a method alone."""
        methods = content.get("methods") if isinstance(content, dict) else None
        if isinstance(methods, list):
            rows = [{"method": row} if isinstance(row, str) else row for row in methods]
            return content | {"methods": rows}
        return content

    @model_validator(mode="after")
    def rows_fit(self) -> Suite:
        """Seeds and rows are told apart; a row that goes on from another stands behind it."""
        if len(set(self.seeds)) < len(self.seeds):
            raise fault("seeds must be different numbers")
        before: dict[str, int] = {}
        for row in self.methods:
            count = row.seeds or len(self.seeds)
            if count > len(self.seeds):
                raise fault(f"seeds of {row.shown} must lie in 1–{len(self.seeds)}")
            if max(row.seeds_on.values(), default=0) > len(self.seeds):
                raise fault(f"seeds_on of {row.shown} must lie in 1–{len(self.seeds)}")
            if row.shown in before:
                raise fault(f"{row.shown} stands twice; give one of them a label")
            if row.source and before.get(row.source, 0) < count:
                raise fault(f"{row.shown} goes on from {row.source}, which must stand before it with as many seeds")
            before[row.shown] = count
        return self


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e12:
        raise fault("must be a number")
    return value


def _step(value: Any) -> Any:
    if not _number(value) > 0:
        raise fault("must be above 0")
    return value


Number = Annotated[Any, AfterValidator(_number)]


class Range(Closed):
    """A range of a search space."""

    low: Number
    high: Number
    step: Annotated[Any, AfterValidator(_step)] = 1
    log: bool = False

    @model_validator(mode="after")
    def low_to_high(self) -> Range:
        """It has a width, and a logarithm where one is asked for."""
        if self.low > self.high:
            raise fault("needs low ≤ high")
        if self.log and (self.low <= 0 or "step" in self.model_fields_set):
            raise fault("is logarithmic; give low above 0 and no step")
        if isinstance(self.low, int) and isinstance(self.high, int) and self.step % 1:
            raise fault("is a range of whole numbers; give a whole step")
        return self


def _searched(key: str) -> str:
    if key.partition(".")[0] in ("dataset", "probe"):
        raise fault(
            "changes what valid numbers are of, so trials would not compare; search it with --set, a search for each "
            "value"
        )
    return key


def _form(entry: Any) -> str | None:
    if isinstance(entry, list) and entry:
        return CHOICES
    return RANGE if isinstance(entry, dict) and {"low", "high"} <= set(entry) else None


CHOICES, RANGE = f"{UNNAMED}choices", f"{UNNAMED}range"
Searched = Annotated[
    Annotated[list[str | int | float | bool | None], Tag(CHOICES)] | Annotated[Range, Tag(RANGE)],
    Discriminator(
        _form, custom_error_type=FAULT, custom_error_message="must be a list of choices or {{low: …, high: …}}"
    ),
]
Space = dict[Annotated[str, AfterValidator(_searched)], Searched]
"""A search space: a list of choices or a range for each setting."""
