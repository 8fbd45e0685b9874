"""Damage to files, drawn from a seed: of any file, of text, of JSON and YAML values, of CSV cells."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from typing import Any

import yaml

HOSTILE: list[Any] = [
    None, [], {}, "", " ", "x" * 50_000, -1, 0, 1, 0.5, True, False, 2**31, 2**63, 10**30, -(2**40), 1e308, 1e-320,
    "²", "٣", "../../escape", "/tmp/escape", "..", ".", "a/b", "a\\b", "a\x00b", "a\nb", "a\rb", "\x1b[31mred",
    "\u202eevil", "=1+1", "<script>alert(1)</script>", "|", "`x`", "[a](b)", "NaN", "nan", "null", "true", "1", "1e5",
    ["a"], [1, [2]], {"a": {"b": 1}}, [None], {"": 1}, "é", "𝕏", "\ufeff", 3.0, [[]], [{}], "<a_0>",
    "<a_99999999999>", "<i_1>", "<a_²>",
]  # fmt: skip
"""Values in place of what stands there."""
OF_DATA = frozenset({"key twice", "infinity", "deep", "cut", "empty", "zeros"})
"""Damage to a JSON file of data that must never pass in silence."""
OF_RUNS = OF_DATA | {"NaN"}
"""The same for files that the harness wrote itself."""


def mutate(content: bytes, form: str, rng: random.Random) -> tuple[str, bytes]:
    """A damaged copy of a file.

    Args:
        form: ``json``, ``yaml``, ``jsonl``, ``csv``, ``text`` or ``binary``.

    Returns:
        What was done, and the bytes.
    """
    own: dict[str, Callable[[bytes, random.Random], tuple[str, bytes]]] = {
        "json": _json, "yaml": _yaml, "csv": _csv, "jsonl": _lines, "text": _lines,
    }  # fmt: skip
    if form in own and rng.random() < 0.7:
        try:
            return own[form](content, rng)
        except (ValueError, TypeError, KeyError, IndexError):
            pass
    return _any(content, rng)


def _any(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    place, size = rng.randrange(len(content) + 1), rng.randrange(1, 40)
    kinds: list[tuple[str, Callable[[], bytes]]] = [
        ("cut", lambda: content[:place]),
        ("empty", lambda: b""),
        ("zeros", lambda: bytes(len(content))),
        ("half zeros", lambda: content[:place] + bytes(len(content) - place)),
        ("byte flipped", lambda: content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]),
        ("bytes put in", lambda: content[:place] + rng.randbytes(size) + content[place:]),
        ("chunk gone", lambda: content[:place] + content[place + size :]),
        ("chunk twice", lambda: content[:place] + content[place - min(place, size) :]),
        ("BOM", lambda: b"\xef\xbb\xbf" + content),
        ("UTF-16", lambda: content.decode("utf-8", "replace").encode("utf-16")),
        ("Latin-1", lambda: content[:place] + "é".encode("latin-1") + content[place:]),
        ("NUL", lambda: content[:place] + b"\x00" + content[place:]),
        ("CRLF", lambda: content.replace(b"\n", b"\r\n")),
        ("pickle", lambda: b"\x80\x04cos\nsystem\n(S'touch PWNED'\ntR."),
        ("brackets", lambda: b"[" * 60_000),
        ("braces", lambda: b'{"a":' * 60_000),
        ("dashes", lambda: b"- " * 60_000),
    ]
    name, make = rng.choice(kinds)
    return name, make()


def _places(value: Any, trail: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = [trail] if trail else []
    if isinstance(value, dict):
        for key, part in value.items():
            inner += _places(part, (*trail, key))
    elif isinstance(value, list):
        for number, part in enumerate(value[:30]):
            inner += _places(part, (*trail, number))
    return inner


def change(value: Any, rng: random.Random) -> str:
    """Damage a value in place; says how."""
    trail = rng.choice(_places(value))
    holder = value
    for step in trail[:-1]:
        holder = holder[step]
    last, old = trail[-1], holder[trail[-1]]
    how = rng.randrange(6)
    if how == 0:
        del holder[last]
        return f"{trail}: gone"
    if how == 1 and isinstance(holder, dict):
        holder[rng.choice(["unknown", "", "²", "a.b", "../x"])] = old
        return f"{trail}: a key beside it"
    if how == 2 and isinstance(old, (int, float)) and not isinstance(old, bool):
        holder[last] = rng.choice([old + 1, -old, old * 1000, str(old), float(old), old + 0.01])
        return f"{trail}: another number"
    if how == 3:
        holder[last] = [old]
        return f"{trail}: in a list"
    holder[last] = rng.choice(HOSTILE)
    return f"{trail}: {holder[last]!r:.30}"


def _json(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    value = json.loads(content)
    how = rng.randrange(12)
    text = content.decode()
    if how == 0 and isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return "key twice", ("{" + json.dumps(key) + ": " + json.dumps(value[key]) + ", " + text.lstrip()[1:]).encode()
    if how in (1, 2):
        numbers = [t for t in _places(value) if _is_number(value, t)]
        trail = rng.choice(numbers)
        name, written = ("NaN", "NaN") if how == 1 else ("infinity", "1e999")
        _put(value, trail, "@@here@@")
        return name, json.dumps(value).replace('"@@here@@"', written).encode()
    if how == 3:
        trail = rng.choice(_places(value))
        _put(value, trail, "@@here@@")
        return "deep", json.dumps(value).replace('"@@here@@"', "[" * 3000 + "]" * 3000).encode()
    if how == 4:
        trail = rng.choice(_places(value))
        _put(value, trail, "@@here@@")
        return "half a character", json.dumps(value).replace("@@here@@", "\\ud800").encode()
    said = change(value, rng)
    return said, json.dumps(value).encode()


def _is_number(value: Any, trail: tuple[Any, ...]) -> bool:
    for step in trail:
        value = value[step]
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _put(value: Any, trail: tuple[Any, ...], new: Any) -> None:
    for step in trail[:-1]:
        value = value[step]
    value[trail[-1]] = new


def _yaml(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    value = yaml.safe_load(content)
    how = rng.randrange(8)
    odd = [
        "!!python/object:os.system x", "!!int abc", "!!bool maybe", "!!timestamp x", "!!binary aGk=", "!!set {a}",
        ".nan", ".inf", "&x [*x]", "*nobody", "2020-01-01", "1_000", "0x1F", "? [a]\n: b", "[" * 500, "{a: " * 500,
        "|\n  x", "~",
    ]  # fmt: skip
    if how == 0:
        trail = rng.choice(_places(value))
        _put(value, trail, "HERE")
        chosen = rng.choice(odd)
        return f"yaml {chosen[:20]}", yaml.safe_dump(value).replace("HERE", chosen, 1).encode()
    if how == 1:
        lines = content.decode().splitlines()
        line = rng.choice([one for one in lines if ":" in one])
        return "key twice in yaml", "\n".join([*lines, line]).encode()
    said = change(value, rng)
    return said, yaml.safe_dump(value, allow_unicode=True).encode()


def _csv(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    rows = list(csv.reader(io.StringIO(content.decode())))
    column, row = rng.randrange(len(rows[0])), rng.randrange(1, len(rows))
    how = rng.randrange(9)
    if how == 0:
        other = rng.randrange(len(rows[0]))
        rows[0][column], rows[0][other] = rows[0][other], rows[0][column]
        said = "headers swapped"
    elif how == 1:
        rows[row].append("")
        said = "a comma too many"
    elif how == 2:
        for line in rows[1:]:
            line.append("")
        said = "a comma too many in every row"
    elif how == 3:
        del rows[row][column]
        said = "a cell gone"
    elif how == 4:
        for line in rows:
            del line[column]
        said = "a column gone"
    elif how == 5:
        rows.insert(row, rows[row])
        said = "a row twice"
    elif how == 6:
        rows[0].append(rows[0][column])
        for line in rows[1:]:
            line.append(line[column])
        said = "a column twice"
    else:
        odd = [
            "", "²", "99999999999999999999", "-1", "[", "[]", "['B000A']", "nan", "1.5", "[1, 'x']",
            "[1" + "0" * 30 + "]", "__import__('os')", "[" * 2000, "1" * 5000, '"', "\x00", "[True]", "[1.0]",
            "{1: 2}", "é",
        ]  # fmt: skip
        rows[row][column] = rng.choice(odd)
        said = f"cell {rows[0][column]}: {rows[row][column][:20]!r}"
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return said, out.getvalue().encode()


def _lines(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    lines = content.decode().split("\n")
    number = rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        del lines[number]
        said = "a line gone"
    elif how == 1:
        lines.insert(number, lines[number])
        said = "a line twice"
    elif how == 2:
        other = rng.randrange(len(lines))
        lines[number], lines[other] = lines[other], lines[number]
        said = "lines swapped"
    elif how == 3:
        lines[number] = str(rng.choice(HOSTILE))
        said = f"a line: {lines[number][:20]!r}"
    else:
        lines[number] = lines[number].replace("\t", " ")[: rng.randrange(len(lines[number]) + 1)]
        said = "a line cut"
    return said, "\n".join(lines).encode("utf-8", "surrogatepass")
