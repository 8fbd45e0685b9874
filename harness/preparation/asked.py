"""What a preparation is asked for: its settings, and the recipes that name the published rules."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from harness import files, recipes
from harness.checks import outlines
from harness.errors import BenchError, unknown
from harness.settings import setting, settings, unread

OF_THE_FILES = ("user", "item", "time", "rating", "item_id", "title", "encoding", "unit", "incomplete")
"""Settings that say how to read the files, and are no rules of a split."""
CORE = Annotated[int, Ge(0), Le(1_000_000)]
SIZES = (("s", 10**11), ("ms", 10**14), ("us", 10**17), ("ns", 2**63 - 1))
"""Times below these numbers are of that unit."""
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True)
class Preparation:
    """Settings of ``bench data prepare``."""

    user: str = setting("", "the column of users; empty: the one of a known name")
    item: str = setting("", "the column of items; empty: the one of a known name")
    time: str = setting("", "the column of times; empty: the one of a known name; none: the order of the file")
    rating: str = setting("", "the column of ratings; empty: the one of a known name")
    item_id: str = setting("", "the item table's column of ids; empty: the one of a known name")
    title: str = setting("", "the item table's column of titles; empty: the one of a known name")
    encoding: str = setting("utf-8", "of text files")
    unit: Literal["auto", "s", "ms", "us", "ns"] = setting("auto", "of times that are numbers; auto: by their size")
    least_rating: float | None = setting(None, "purchases rated lower are left out; empty: none is")
    start: str | int = setting("", "purchases before this date (00:00 UTC) are left out; empty: none is")
    end: str | int = setting("", "purchases after this date (00:00 UTC, itself included) are left out; empty: none is")
    least_items: Annotated[int, Ge(0)] = setting(
        0, "where fewer items than this are left, the start goes back a year, again and again; 0: it stays"
    )
    titles: Literal["any", "clean"] = setting(
        "any", "clean: entities are decoded, and items left out that have no title, one of a single character, of more "
        "than 20 words, or with markup"
    )  # fmt: skip
    first_category: bool = setting(True, "whether an item's first category, often the shop's department, is kept")
    repeats: Literal["keep", "first", "last"] = setting(
        "keep", "purchases of one item by one user: all, the first, or the last"
    )
    core_users: CORE = setting(0, "purchases that a user has at least; others are left out, until nothing changes")
    core_items: CORE = setting(0, "purchases that an item has at least, likewise")
    ties: Literal["file", "item", "shuffle"] = setting(
        "file", "order of a user's purchases of one time: as in the file, by item id, or shuffled with the seed"
    )
    seed: Annotated[int, Ge(0)] = setting(0, "of the shuffle", ("ties is shuffle", lambda s: s.ties == "shuffle"))
    split: Literal["leave-one-out", "time", "times"] = setting(
        "leave-one-out",
        "a user's last purchase is test and the one before it valid; or all samples by time, cut at shares or times",
    )
    valid: float = setting(
        0.1, "share of the samples, or from 1 on their number", ("split is time", lambda s: s.split == "time")
    )
    test: float = setting(
        0.1, "share of the samples, or from 1 on their number", ("split is time", lambda s: s.split == "time")
    )
    valid_from: str | int = setting(
        "", "the first time of valid, a date or a number", ("split is times", lambda s: s.split == "times")
    )
    test_from: str | int = setting(
        "", "the first time of test, a date or a number", ("split is times", lambda s: s.split == "times")
    )
    incomplete: Literal["refuse", "drop"] = setting(
        "refuse", "rows without a user, an item or a time: an error, or left out and counted"
    )


@dataclass(frozen=True)
class Recipe:
    """A published way to prepare data.

    Attributes:
        what: whose rules they are.
        values: its settings, by name.
    """

    name: str
    what: str
    values: dict[str, Any]


def known() -> dict[str, Recipe]:
    """The recipes that come with the package, by name."""
    content = files.read_yaml(
        recipes.shipped("preparations.yaml"), outlines.Preparations, "restore it from the package"
    )
    return {name: Recipe(name, entry["what"], entry["settings"]) for name, entry in content.items()}


def asked(recipe: str, values: dict[str, Any]) -> Preparation:
    """The settings of a recipe, and those given on top of it.

    Raises:
        BenchError: an unknown recipe or setting, a wrong value, or settings that do not go together.
    """
    found = known()
    if recipe and recipe not in found:
        raise unknown("recipe", recipe, found, "(--recipe)")
    made: Preparation = settings(_Named, (found[recipe].values if recipe else {}) | values, "prepare")
    for name, when in unread(made).items():
        raise BenchError(f"prepare.{name} is read only where {when}; leave it out")
    for name in ("start", "end"):
        moment(getattr(made, name), name)
    if made.split == "time":
        for name in ("valid", "test"):
            share = getattr(made, name)
            if not share > 0 or (share >= 1 and share % 1):
                raise BenchError(
                    f"prepare.{name} = {share}: give a share between 0 and 1, or a whole number of samples"
                )
        if made.valid < 1 and made.test < 1 and made.valid + made.test >= 1:
            raise BenchError(
                f"prepare.valid + prepare.test = {made.valid + made.test}, which leaves nothing to train on"
            )
    if made.split == "times" and not (made.valid_from and made.test_from):
        raise BenchError("prepare.split = times needs prepare.valid_from and prepare.test_from, dates or numbers")
    if made.least_items and not made.start:
        raise BenchError("prepare.least_items takes the start back and there is none; set prepare.start")
    return made


class _Named:
    Settings = Preparation


def unit_of(number: float) -> str:
    """The unit of a time since 1970, by its size."""
    return str(units_of(np.asarray([number]))[0])


def units_of(numbers: np.ndarray) -> np.ndarray:
    """The unit of each time ``[n]``, by its size; see :func:`unit_of`."""
    names, bounds = zip(*SIZES, strict=True)
    place = np.searchsorted(np.asarray(bounds[:-1], dtype=np.float64), np.abs(numbers.astype(np.float64)), "right")
    found: np.ndarray = np.asarray(names)[place]
    return found


def moment(given: str | int, name: str) -> int | None:
    """A date (00:00 UTC), a date with a time, or a number as in the data, in microseconds; None where empty.

    Raises:
        BenchError: it is none of these.
    """
    text = str(given).strip()
    if not text:
        return None
    if text.lstrip("-").isdigit() and len(text) < 20:
        return int(text) * 1_000_000 // PER_SECOND[unit_of(int(text))]
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        what = f"prepare.{name} = {text[:40]!r} is no date"
        raise BenchError(f"{what}; write 2016-10-01, or a number as in the data") from None
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)
    return int(Decimal(str(parsed.timestamp())) * 1_000_000)


def a_year_before(made: Preparation) -> Preparation:
    """The same with a start a year earlier."""
    text = str(made.start).strip()
    try:
        start = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise BenchError(f"prepare.least_items takes the start back by years; write {text} as a date") from None
    day = 28 if (start.month, start.day) == (2, 29) else start.day
    return replace(made, start=start.replace(year=start.year - 1, day=day).isoformat()[: max(10, len(text))])
