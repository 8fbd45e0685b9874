"""Raw purchases, batch by batch: who, what, when, in one form for all files, with what is left out counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.data.reading import MOST_OF_USER
from harness.errors import BenchError, unknown
from harness.preparation import raw
from harness.preparation.asked import PER_SECOND, Preparation, unit_of, units_of
from harness.preparation.raw_source import Source, look

KNOWN = {
    "user": ("user_id", "reviewerID", "user", "userId", "uid", "UserId", "user_name", "visitorid", "SessionId"),
    "item": ("parent_asin", "asin", "item_id", "item", "itemId", "iid", "movieId", "movie_id", "product_id",
             "business_id", "ItemId", "itemid"),
    "time": ("timestamp", "unixReviewTime", "time", "Time", "ts", "unix_timestamp", "date", "datetime", "event_time"),
    "rating": ("rating", "overall", "stars", "score", "Rating"),
}  # fmt: skip
"""Names that columns have in the public files, the first that is there is taken."""
NO_TIME = "none"
"""In place of the column of times: the order of the file."""


@dataclass(frozen=True)
class Columns:
    """Which columns of the file are what; time and rating may be absent ("")."""

    user: str
    item: str
    time: str
    rating: str

    @property
    def asked(self) -> list[str]:
        """Those that are read."""
        return [column for column in (self.user, self.item, self.time, self.rating) if column]


def column(source: Source, role: str, wanted: str, candidates: tuple[str, ...], needed: bool = True) -> str:
    """The column of a role, by the name that was given or by a known one; "" where none is and none must be.

    Raises:
        BenchError: it is not there; lists the columns.
    """
    names = source.names
    if wanted:
        if wanted in source.columns:
            return wanted
        if wanted not in names:
            raise unknown("column", wanted, names, f"of {source.path} (prepare.{role})")
        return names[wanted]
    known = [name for name in candidates if name in names]
    if role == "time" and len(known) > 1:
        raise BenchError(
            f"{source.path} has {len(known)} columns of known names for the time ({', '.join(known)}); name one: --time"
        )
    found = names[known[0]] if known else ""
    if not found and needed:
        there = ", ".join(source.names)[:200]
        option = {"user": "--user", "item": "--item"}.get(role, f"--set {role}=")
        raise BenchError(
            f"{source.path} has no column of a known name for the {role}; name one of {there}: {option} (if that is a "
            "row, write names above it)"
        )
    return found


def columns(source: Source, made: Preparation) -> Columns:
    """The columns of purchases."""
    timed = bool(made.start or made.end or made.split != "leave-one-out")
    untimed = made.time == NO_TIME and NO_TIME not in source.columns and NO_TIME not in source.names
    if untimed and timed:
        raise BenchError("prepare.time = none: a date window or a split by time needs times; name their column")
    chosen = Columns(
        column(source, "user", made.user, KNOWN["user"]), column(source, "item", made.item, KNOWN["item"]),
        "" if untimed else column(source, "time", made.time, KNOWN["time"], needed=timed),
        column(source, "rating", made.rating, KNOWN["rating"], needed=made.least_rating is not None),
    )  # fmt: skip
    named = [c for c in chosen.asked if c]
    twice = next((c for c in named if named.count(c) > 1), "")
    if twice:
        raise BenchError(f"{source.path}: the column {twice} is named for two things; give each its own")
    return chosen


@dataclass(frozen=True)
class Purchases:
    """A batch of purchases that passed what is decided row by row.

    Attributes:
        users, items: ids as text.
        times: ``[n]`` int64, microseconds since 1970; without a time the place in the file.
    """

    users: pa.Array
    items: pa.Array
    times: np.ndarray


class Reader:
    """Reads files of purchases, in order.

    Attributes:
        read: rows so far.
        left_out: rows that were left out, by reason.
        unit: that times were given in, where they are numbers; they are handed on in microseconds.
        timed: whether purchases have times.
    """

    def __init__(self, sources: list[Source], made: Preparation, wanted: pa.Array | None):
        """`wanted` are the ids of the items whose purchases are taken; None: of all."""
        self.sources, self.made, self.wanted = sources, made, wanted
        self.chosen = [columns(source, made) for source in sources]
        self.read = 0
        self.left_out: Counter[str] = Counter()
        self.unit = ""
        self.looks = ""
        self.timed = any(chosen.time for chosen in self.chosen)
        without = next((s.path for s, c in zip(sources, self.chosen, strict=True) if not c.time), None)
        if self.timed and without is not None:
            raise BenchError(f"{without} has no column of times, and another file has one; give all times, or none")

    def __iter__(self) -> Iterator[Purchases]:
        for source, chosen in zip(self.sources, self.chosen, strict=True):
            for first, batch in raw.batches(source, chosen.asked, chosen.rating):
                if batch.num_rows:
                    try:
                        made = self._purchases(source, chosen, first, batch)
                    except pa.ArrowException as error:
                        what = " ".join(str(error).split())[:120]
                        raise BenchError(
                            f"{source.path} behind row {first}: columns of a kind that is not read ({what})"
                        ) from None
                    yield made
                    self.read += batch.num_rows
        if not self.read:
            raise BenchError(f"{self.sources[0].path} names columns and holds no purchase; give a file with rows")

    def _purchases(self, source: Source, chosen: Columns, first: int, batch: pa.RecordBatch) -> Purchases:
        n = batch.num_rows
        users, items = (_ids(batch[name], source, first, name) for name in (chosen.user, chosen.item))
        _not_swapped(batch, source, first, chosen)
        if chosen.time:
            times, known = self._times(batch[chosen.time], source, first, chosen.time)
        else:
            times, known = np.arange(self.read, self.read + n, dtype=np.int64), np.ones(n, dtype=bool)
        keep = np.ones(n, dtype=bool)
        for what, there in (("user", _there(users)), ("item", _there(items)), ("time", known)):
            if there.all():
                continue
            if self.made.incomplete == "refuse":
                row = first + int((~there).argmax())
                raise BenchError(
                    f"{source.path} row {row} has no {what}; mend it, or leave such rows out: --set incomplete=drop"
                )
            self._leave(f"rows without {'an' if what == 'item' else 'a'} {what}", keep & ~there)
            keep &= there
        if self.made.least_rating is not None:
            ratings = _numbers(batch[chosen.rating], source, first, chosen.rating)
            low = ~(ratings >= self.made.least_rating)  # no rating is none that is high enough
            self._leave(f"purchases rated below {self.made.least_rating:g}", keep & low)
            keep &= ~low
        if self.wanted is not None:
            other = ~pc.is_in(items, value_set=self.wanted).to_numpy(zero_copy_only=False)
            self._leave("purchases of items that the title rule leaves out", keep & other)
            keep &= ~other
        mask = pa.array(keep)
        return Purchases(users.filter(mask), items.filter(mask), times[keep])

    def _leave(self, reason: str, rows: np.ndarray) -> None:
        if rows.any():
            self.left_out[reason] += int(rows.sum())

    def _times(self, values: pa.Array, source: Source, first: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Times, and which of them are there.

        Raises:
            BenchError: a time cannot be read, or is of another unit than the first.
        """
        if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
            known = _there(values)
            return values.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).fill_null(0).to_numpy(), known
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values).fill_null(False), pa.scalar(None, values.type), values)
        elif not pa.types.is_integer(values.type):
            texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
            absent = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(["", "nan"]))
            values = _as_numbers(pc.if_else(absent, pa.scalar(None, pa.string()), texts))
        known = _there(values)
        if pa.types.is_string(values.type):
            return _dates(values, known, source, first, name), known
        unit = self.made.unit if self.made.unit != "auto" else ""
        numbers = values.fill_null(0).to_numpy()
        telling = known & (np.abs(numbers) >= LEAST_MOMENT)  # near 1970 all units look alike
        if not unit and not self.looks and known.any() and _is_day(numbers[known][0]):
            self.looks = DAYS
        if self.looks == DAYS:
            return _days(numbers, known, source, first, name), known
        if telling.any():
            self.looks = (
                self.looks or self.unit or unit_of(numbers[telling][0])
            )  # also where a unit is named: all alike?
            other = telling & (units_of(numbers) != self.looks)
            if other.any():
                row = int(other.argmax())
                raise BenchError(
                    f"{source.path} row {first + row}: {name} {numbers[row]} is no time in {self.looks} as those "
                    "before it; write all in one unit"
                )
        self.unit = unit or self.unit or self.looks or "s"
        return _microseconds(numbers, known, self.unit, source, first, name), known


LEAST_MOMENT = 10**8
"""Seconds since 1970 from which on a number is taken for a time, and for no rating: 1973."""
MOST_RATING = 1_000
DAYS = "YYYYMMDD"


def _is_day(number: float) -> bool:
    """Whether a number is a day without dashes, 20181130: as seconds it would be one of 1970."""
    year, rest = divmod(float(number), 10_000)
    month, day = divmod(rest, 100)
    return 1900 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31 and day % 1 == 0


def _not_swapped(batch: pa.RecordBatch, source: Source, first: int, chosen: Columns) -> None:
    """Refuse a column of times that holds ratings beside one of ratings that holds times."""
    if not (chosen.time and chosen.rating):
        return
    times, ratings = (_first_number(batch[name]) for name in (chosen.time, chosen.rating))
    if times is not None and ratings is not None and abs(times) <= MOST_RATING and ratings >= LEAST_MOMENT:
        raise BenchError(
            f"{source.path} row {first}: {chosen.time} is {times:g} and {chosen.rating} {ratings:.0f}, as if their "
            f"names were swapped; mend the header, or name them: --time {chosen.rating} --rating {chosen.time}"
        )


def _first_number(values: pa.Array) -> float | None:
    """The first value that is there, as a number; None where it is none, or nothing is there."""
    there = values.drop_null()
    try:
        return float(there[0].as_py()) if len(there) else None
    except (TypeError, ValueError):
        return None


def _microseconds(
    numbers: np.ndarray, known: np.ndarray, unit: str, source: Source, first: int, name: str
) -> np.ndarray:
    """Times as microseconds ``[n]`` int64, fractions of a second kept.

    Raises:
        BenchError: a time is beyond what 64 bits hold.
    """
    scaled = numbers.astype(np.float64) * (1_000_000 / PER_SECOND[unit])
    beyond = known & ~(np.abs(scaled) < 2.0**62)
    if beyond.any():
        row = int(beyond.argmax())
        raise BenchError(f"{source.path} row {first + row}: {name} {numbers[row]} is no time; mend it")
    if numbers.dtype.kind in "iu" and unit != "ns":  # whole numbers stay exact
        return numbers.astype(np.int64) * (1_000_000 // PER_SECOND[unit])
    if numbers.dtype.kind in "iu":
        return numbers.astype(np.int64) // 1_000
    return np.rint(scaled).astype(np.int64)


def _ids(values: pa.Array, source: Source, first: int, name: str) -> pa.Array:
    """Ids as text; each whole number without a point.

    Raises:
        BenchError: one is too long, or holds NUL.
    """
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values).fill_null(False), pa.scalar(None, values.type), values)
        whole = values.cast(pa.int64(), safe=False)
        same = pc.equal(whole.cast(values.type), values)  # one by one: another block may hold none that is whole
        values = pc.if_else(same, whole.cast(pa.string()), values.cast(pa.string()))
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        texts = values.cast(pa.string())
    except pa.ArrowException:
        raise BenchError(f"{source.path}: {name} holds {values.type}; give texts or numbers") from None
    bad = pc.or_(pc.greater(pc.utf8_length(texts), MOST_OF_USER), pc.match_substring(texts, "\0")).fill_null(False)
    if pc.any(bad, min_count=0).as_py():
        row = int(bad.to_numpy(zero_copy_only=False).argmax())
        what = f"{name} '{texts[row].as_py()[:20]!a}…'"
        raise BenchError(
            f"{source.path} row {first + row}: {what} is no id; ids have 1 to {MOST_OF_USER} characters, no NUL"
        )
    blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), texts)


def _there(values: pa.Array) -> np.ndarray:
    found: np.ndarray = pc.is_valid(values).to_numpy(zero_copy_only=False)
    return found


def _as_numbers(texts: pa.Array) -> pa.Array:
    """Texts as whole numbers, or as any numbers; as they are where they are none."""
    for kind in (pa.int64(), pa.float64()):
        try:
            return texts.cast(kind)
        except pa.ArrowException:
            continue
    return texts


def _dates(values: pa.Array, known: np.ndarray, source: Source, first: int, name: str) -> np.ndarray:
    """Dates in text (ISO 8601; without a zone UTC) as microseconds."""
    import pandas as pd

    texts = values.cast(pa.string()).to_pandas()
    parsed = pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce")
    wrong = parsed.isna().to_numpy() & known
    numbers = pd.to_numeric(texts, errors="coerce").notna().to_numpy()
    if wrong.any() and numbers[known.argmax()]:  # numbers, and something among them that is none
        wrong = known & ~numbers
    if wrong.any():
        row = int(wrong.argmax())
        raise BenchError(
            f"{source.path} row {first + row}: {name} {texts[row][:40]!r} is no time; write a number (seconds or "
            "milliseconds since 1970) or a date such as 2018-11-30T12:00:00"
        )
    return _since_1970(parsed)


def _days(numbers: np.ndarray, known: np.ndarray, source: Source, first: int, name: str) -> np.ndarray:
    """Days as numbers, 20181130, as microseconds ``[n]``."""
    import pandas as pd

    texts = pd.Series(numbers).astype("int64").astype(str)
    parsed = pd.to_datetime(texts, utc=True, format="%Y%m%d", errors="coerce")
    wrong = known & (parsed.isna().to_numpy() | (numbers % 1 != 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise BenchError(
            f"{source.path} row {first + row}: {name} {numbers[row]} is no day as 20181130 and those before it are; "
            "mend it, or name the unit: --set unit=s"
        )
    return _since_1970(parsed)


def _since_1970(parsed: Any) -> np.ndarray:
    """A pandas series of moments in UTC as microseconds ``[n]``; what is absent as 0."""
    import pandas as pd

    found: np.ndarray = parsed.fillna(pd.Timestamp(0, tz="UTC")).dt.as_unit("us").astype("int64").to_numpy()
    return found


def _numbers(values: pa.Array, source: Source, first: int, name: str) -> np.ndarray:
    """Ratings ``[n]`` float64, absent ones NaN."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        try:
            values = pc.utf8_trim_whitespace(values).cast(pa.float64())
        except pa.ArrowException:
            import pandas as pd

            parsed = pd.to_numeric(values.to_pandas(), errors="coerce")
            row = int((parsed.isna().to_numpy() & _there(values)).argmax())
            raise BenchError(
                f"{source.path} row {first + row}: {name} {values[row].as_py()[:40]!r} is no number; mend it"
            ) from None
    found: Any = values.cast(pa.float64()).fill_null(np.nan).to_numpy()
    return np.asarray(found)


def look_at(paths: list[Path], encoding: str, of: str = "purchase") -> list[Source]:
    """The files, looked at; `of` is what a row of theirs is."""
    return [look(path, encoding, of) for path in paths]
