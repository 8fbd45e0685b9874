"""Schemas of files: what each kind must hold, checked once, where it is read, in one line for the user.

A schema is a pydantic model of plain values; it says shape (keys, types) and sense (ranges, names). Keys that it does
not name are let through: files of newer versions stay readable. The rooms that own a kind of file define its schema.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from harness.checks import names
from harness.errors import BenchError

Count = Annotated[int, Ge(0), Le(2**53)]
"""How many there are of something."""
Seconds = Annotated[float, Ge(0), Le(1e12)]
Finite = Annotated[float, Ge(-1e12), Le(1e12)]
"""Any number but infinities and NaN."""
Share = Annotated[float, Ge(0), Le(1 + 1e-9)]
"""A metric or another share."""
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]


def _name(text: str) -> str:
    if not names.is_name(text):
        raise PydanticCustomError("name", f"is no name: {names.RULE}")
    return text


def _category(text: str) -> str:
    if not names.is_category(text):
        raise PydanticCustomError("name", f"is no category's name: {names.CATEGORY_RULE}")
    return text


Name = Annotated[str, AfterValidator(_name)]
CategoryName = Annotated[str, AfterValidator(_category)]


class Schema(BaseModel):
    """The base of schemas: no conversions, further keys allowed."""

    model_config = ConfigDict(extra="allow", strict=True, arbitrary_types_allowed=False)


class Closed(BaseModel):
    """The base of schemas of files that people write: an unknown key is a slip of the pen."""

    model_config = ConfigDict(extra="forbid", strict=True)


def check(schema: Any, content: Any, where: object, mend: str) -> Any:
    """Plain values, if they are as a schema says.

    Args:
        schema: a model, or any type of pydantic's.
        where: the file.
        mend: what to do.

    Raises:
        BenchError: they are not; says where in the file, and what was wrong there.
    """
    try:
        TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))[:120]
        if first["type"] == "missing":
            raise BenchError(f"{where}: '{place}' is missing; {mend}") from None
        what = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        what = what[:1].lower() + what[1:]
        given = "" if first["type"] == "value_error" else f" (it is {_short(first['input'])})"
        raise BenchError(f"{where}: {place or 'the whole'}{':' if not given else ''} {what}{given}; {mend}") from None
    return content


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
