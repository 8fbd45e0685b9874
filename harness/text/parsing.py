"""Text of JSON and YAML files as plain values, strict and bounded: what every reader of files goes through.

Plain values are dicts with text keys, lists, texts, whole and finite numbers, true, false and null. Anything else
(a key twice, NaN, nesting without end, a number beyond 64 bits, half a character) is an error, and no input ends in a
crash of the interpreter. This file opens nothing and knows no file's form (:mod:`harness.checks.schemas`).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml

DEEPEST = 64
"""Levels of nesting that a file may have; ours have at most eight."""
MOST_NUMBER = 2**63 - 1
MOST_NODES = 200_000
"""Values that a YAML file may hold, those behind its aliases counted each time."""
_LONG_NUMBER = re.compile(r"\d{19}")
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def decode(content: bytes) -> str:
    """The text of a file: UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Raises:
        ValueError: it is neither; says at which line, and which encoding would read it.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError:
            raise ValueError("it begins as UTF-16 and does not go on so") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); it may be Latin-1 or Windows-1252: "
            "save it as UTF-8"
        ) from None


def parse_json(text: str, deep: bool = True, nan_is_null: bool = False) -> Any:
    """The values of a JSON text.

    Args:
        nan_is_null: read NaN, which pandas writes for what is absent, as null.
        deep: whether nesting is measured too; a reader that checks each value's form itself may do without.

    Raises:
        ValueError: it is no JSON, or holds what is no plain value.
    """
    try:
        constant = _null if nan_is_null else _no_constant
        content = json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=constant)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # Python's own bound on the digits of a whole number
        raise ValueError("a number has thousands of digits" if "digits" in str(error) else str(error)) from None
    if deep or _LONG_NUMBER.search(text) or _HALF_CHARACTER.search(text):
        check_plain(content)
    return content


def parse_yaml(text: str) -> Any:
    """The values of a YAML text; a date is a text.

    Raises:
        ValueError: it is no YAML, or holds what is no plain value.
    """
    try:
        _bound(text)
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except (RecursionError, AttributeError, KeyError, TypeError, OverflowError) as error:  # of a tag's constructor
        raise ValueError(f"not valid YAML: {type(error).__name__}: {error}") from None
    except ValueError as error:
        raise ValueError(f"not valid YAML: {error}") from None
    check_plain(content)
    return content


def check_plain(content: Any, deepest: int = DEEPEST) -> None:
    """Hold values to what is plain.

    Raises:
        ValueError: one of them is not; says where.
    """
    left: list[tuple[Any, str, int]] = [(content, "", 0)]
    while left:
        value, place, depth = left.pop()
        where = f" at {place[:80]}" if place else ""
        if depth > deepest:
            raise ValueError(f"it is nested deeper than {deepest} levels{where}")
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise ValueError(f"the key {key!r:.60}{where} is no text; quote it")
                _check_text(key, where)
                left.append((inner, f"{place}.{key}" if place else key, depth + 1))
        elif isinstance(value, list):
            left += [(inner, f"{place}[{number}]", depth + 1) for number, inner in enumerate(value)]
        elif isinstance(value, str):
            _check_text(value, where)
        elif isinstance(value, bool) or value is None:
            continue
        elif isinstance(value, int):
            if abs(value) > MOST_NUMBER:
                raise ValueError(f"the number {str(value)[:20]}…{where} is beyond 64 bits")
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError(f"the number {value}{where} is not finite")
        else:
            raise ValueError(f"{type(value).__name__}{where} is no plain value; write a text, a number, a list, a map")


def _check_text(value: str, where: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the text {value[:40]!a}{where} holds half a character (a lone surrogate)") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        values = [str(value) for key, value in pairs if key == twice]
        held = f": {values[0][:40]!r} and {values[1][:40]!r}"  # where it is, which the parser does not tell
        raise ValueError(f"the key '{twice[:60]}' stands twice in one object{held}")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _null(text: str) -> None:
    """NaN as null; an infinity is no value at all."""
    if text != "NaN":
        _no_constant(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _bound(text: str) -> None:
    """Count depth and values before anything is built: building is recursive, in C where libyaml is there.

    Raises:
        ValueError: too deep, or too many values.
    """
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_SAFE_LOADER):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            opened.append((event.anchor, total))
            if len(opened) > DEEPEST:
                raise ValueError(f"it is nested deeper than {DEEPEST} levels")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = total - before + 1
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise ValueError(f"the alias *{event.anchor} stands inside what it names")
            total += sizes.get(str(event.anchor), 1)
        total += 1
        if total > MOST_NODES:
            raise ValueError(f"it holds more than {MOST_NODES:,} values")


class _Loader(_SAFE_LOADER):
    """The safe loader, with keys that stand once and without dates."""

    yaml_implicit_resolvers = {
        first: [(tag, expression) for tag, expression in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in _SAFE_LOADER.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping whose keys differ."""
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            if len(set(keys)) != len(keys):
                twice = next(key for key in keys if keys.count(key) > 1)
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{twice[:60]}' stands twice in one mapping", node.start_mark
                )
        return super().construct_mapping(node, deep)
