"""Schemas of files: what each kind must hold, checked once, where it is read, in one line for the user.

A schema is a pydantic model of plain values; it says shape (keys, types) and sense (ranges, names). Keys that it does
not name are let through: files of newer versions stay readable. The rooms that own a kind of file define its schema.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from harness.checks import names
from harness.errors import BenchError, unknown

Count = Annotated[int, Ge(0), Le(2**53)]
"""How many there are of something."""
Seconds = Annotated[float, Ge(0), Le(1e12)]
Finite = Annotated[float, Ge(-1e12), Le(1e12)]
"""Any number but infinities and NaN."""
Share = Annotated[float, Ge(0), Le(1 + 1e-9)]
"""A metric or another share."""
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]


FAULT = "fault"
"""The type of our own errors; their message is whole."""
UNNAMED = "·"
"""What a part of an error's place begins with that the file does not hold."""


def fault(what: str) -> PydanticCustomError:
    """The error of a validator, in words that go on behind the place in the file."""
    return PydanticCustomError(FAULT, "{what}", {"what": what})


def _name(text: str) -> str:
    if not names.is_name(text):
        raise fault(f"is no name: {names.RULE}")
    return text


def _category(text: str) -> str:
    if not names.is_category(text):
        raise fault(f"is no category's name: {names.CATEGORY_RULE}")
    return text


Name = Annotated[str, AfterValidator(_name)]
CategoryName = Annotated[str, AfterValidator(_category)]


class Schema(BaseModel):
    """The base of schemas: no conversions, further keys allowed."""

    model_config = ConfigDict(extra="allow", strict=True)


class Closed(BaseModel):
    """The base of schemas of files that people write: an unknown key is a slip of the pen."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def known_keys(cls, content: Any) -> Any:
        """Its keys are those of the schema; the nearest of them is named."""
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in content if isinstance(content, dict) else ():
            if key not in known:
                raise fault(f"has an {unknown('key', str(key)[:60], known).message}")
        return content


def check(schema: Any, content: Any, where: object, mend: str) -> Any:
    """Plain values themselves, if they are as a schema says (:func:`parsed`)."""
    parsed(schema, content, where, mend)
    return content


def parsed(schema: Any, content: Any, where: object, mend: str) -> Any:
    """What a schema makes of plain values.

    Args:
        schema: a model, or any type of pydantic's.
        where: the file.
        mend: what to do.

    Raises:
        BenchError: they are not; says where in the file, and what was wrong there.
    """
    try:
        return TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        parts = [str(part) for part in first["loc"] if not str(part).startswith(("function-", UNNAMED))]
        place = ".".join(part for part in parts if part != "[key]")[:120]
        if first["type"] == "missing":
            raise BenchError(f"{where}: '{place}' is missing; {mend}") from None
        if first["type"] in WORDS:
            what = WORDS[first["type"]].format(**first.get("ctx", {}))
        else:
            what = first["msg"].removeprefix("Input ").replace("should be", "must be")
            what = what[:1].lower() + what[1:]
        whole = isinstance(first["input"], (dict, BaseModel)) or "[key]" in parts
        given = "" if whole else f" (it is {_short(first['input'])})"
        raise BenchError(f"{where}: {place}{' ' if place else ''}{what}{given}; {mend}") from None


WORDS = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a mapping"),
    "list_type": "must be a list",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    **dict.fromkeys(("int_type", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "finite_number"), "must be a number"),
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have {max_length} or fewer characters",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
}
"""Our words for pydantic's types of errors."""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
