"""From published files to the sequence layout: ``<category>.inter.json``, ``.item.json`` and ``.index.<variant>.json``.

Each conversion takes the files of a category by role and writes into a folder. It downloads nothing, and leaves out no
user, item or purchase.
"""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import BenchError

Items = dict[str, dict[str, str]]
MOST = 1 << 30
LEAST_USED = 5
"""S3-Rec numbers the attributes that so many items have at least."""


def convert(make: str, category: str, there: Mapping[str, Path], folder: Path) -> None:
    """Write a category from its files, by role.

    Raises:
        BenchError: a file is not what it should be.
    """
    try:
        sequences, items = MAKERS[make](there)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        names = ", ".join(str(path) for path in there.values())
        raise BenchError(f"{category} cannot be made from {names} ({type(error).__name__}: {error})") from error
    for kind, content in (("inter", sequences), ("item", items)):
        files.write_text(folder / f"{category}.{kind}.json", json.dumps(content, ensure_ascii=False))
    for role, path in there.items():
        if role.startswith("index."):
            shutil.copyfile(path, folder / f"{category}.{role}.json")


def _text(path: Path) -> str:
    return files.read_text(path, "fetch it again", MOST)


def _json(path: Path) -> Any:
    return files.read_json(path, "fetch it again")


def _blank(**told: str) -> dict[str, str]:
    return {"title": "", "description": "", "brand": "", "categories": ""} | told


def s3rec(there: Mapping[str, Path]) -> tuple[dict[str, list[int]], Items]:
    """S3-Rec's text: a line a user, its number and the numbers of its items in order of time, both from 1.

    Texts come from elsewhere: ``items`` (LETTER's, by number), or ``names`` (who the numbers are), ``titles`` (by ASIN)
    and ``attributes``.
    """
    names = _json(there["names"]) if "names" in there else {}
    users = names.get("id2user", {})
    sequences: dict[str, list[int]] = {}
    for line in _text(there["sequences"]).splitlines():
        user, *items = line.split()
        sequences[users.get(user, user)] = [int(item) - 1 for item in items]
    n = 1 + max(max(items) for items in sequences.values())
    if "items" in there:
        given = _json(there["items"])
        return sequences, {
            str(i): _blank(title=given[str(i)]["title"], categories=given[str(i)]["description"]) for i in range(n)
        }
    if "titles" not in there:
        return sequences, {str(i): _blank() for i in range(n)}
    titles = dict(line.split(" ", 1) for line in _text(there["titles"]).splitlines())
    attributes = _attributes(names, _json(there["attributes"]))
    found = {}
    for i in range(n):
        asin = names["id2item"][str(i + 1)]
        found[str(i)] = _blank(title=titles[asin]) | attributes.get(str(i + 1), {}) | {"asin": asin}
    return sequences, found


def _attributes(names: Mapping[str, Any], of_item: Mapping[str, list[int]]) -> dict[str, dict[str, str]]:
    """Brand and categories of each item. An item's list begins with its brand, if it has one.

    S3-Rec's numbers are those of the attributes that enough items have, counted anew from 1. A number that stands
    behind another one somewhere is a category.
    """
    used = [key for key in names["id2attribute"] if names["attributeid2num"][key] >= LEAST_USED]
    name = {number: html.unescape(names["id2attribute"][key]) for number, key in enumerate(used, start=1)}
    categories = {number for numbers in of_item.values() for number in numbers[1:]}
    found = {}
    for item, numbers in of_item.items():
        branded = bool(numbers) and numbers[0] not in categories and bool(name[numbers[0]])
        found[item] = {
            "brand": name[numbers[0]] if branded else "",
            "categories": ", ".join(name[number] for number in numbers[branded:]),
        }
    return found


def movielens(there: Mapping[str, Path]) -> tuple[dict[str, list[int]], Items]:
    """RecBole's atomic files of MovieLens-100k: users' films in order of time, equal times as in the file."""
    rated = [line.split("\t") for line in _text(there["ratings"]).splitlines()[1:]]
    films = [line.split("\t") for line in _text(there["items"]).splitlines()[1:]]
    number = {film[0]: i for i, film in enumerate(films)}
    sequences: dict[str, list[int]] = {}
    for user, film, _, _ in sorted(rated, key=lambda row: float(row[3])):
        sequences.setdefault(user, []).append(number[film])
    items = {
        str(i): _blank(title=f"{title} ({year})" if year else title, categories=kinds)
        for i, (_, title, year, kinds) in enumerate(films)
    }
    return sequences, items


def lcrec(there: Mapping[str, Path]) -> tuple[dict[str, list[int]], Items]:
    """LC-Rec's layout, which is the one that is read; items have texts, or ASINs alone (``ids``)."""
    sequences = _json(there["sequences"])
    if "items" in there:
        return sequences, _json(there["items"])
    asins = (line.split("\t") for line in _text(there["ids"]).splitlines())
    return sequences, {number: _blank(asin=asin) for asin, number in asins}


MAKERS: dict[str, Callable[[Mapping[str, Path]], tuple[dict[str, list[int]], Items]]] = {
    "s3rec": s3rec, "movielens": movielens, "lcrec": lcrec,
}  # fmt: skip
