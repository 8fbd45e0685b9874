"""What the file layouts share: reading JSON, item texts and index files, and finding folders."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.data.dataset import Items, Samples
from harness.data.problems import Problems
from harness.data.semantic_ids import SemanticIds, parse_tokens
from harness.errors import unknown
from harness.text.parsing import decode, parse_json

REGENERATE = "fetch the file again"
OWN = "a published file: fetch it again; files of your own: bench data prepare makes a category of them"
ITEM_IDS = ("id", "asin", "parent_asin")
"""Keys of an item's own id at its source."""


def folders(root: Path) -> list[Path]:
    """The data directory and its folders, two levels down, in order."""
    deeper = sorted(p for pattern in ("*", "*/*") for p in root.glob(pattern) if p.is_dir())
    return [root, *deeper]


def read_json(path: Path, problems: Problems) -> dict[str, Any] | None:
    """A JSON object, or None with the problem noted."""
    text = read_text(path, problems)
    if text is None:
        return None
    try:
        content = parse_json(text, deep=False, nan_is_null=True)
    except ValueError as error:
        cut = "the file may be cut off: " if text.strip()[-1:] != "}" else ""
        mend = "leave one of them" if "stands twice" in str(error) else f"{cut}{REGENERATE}"
        problems.error(path, None, f"not valid JSON ({error})", mend)
        return None
    if isinstance(content, dict):
        return content
    problems.error(path, None, "must hold a JSON object", REGENERATE)
    return None


def read_text(path: Path, problems: Problems) -> str | None:
    """The text of a data file, a byte-order mark or none, or None with the problem noted."""
    try:
        if path.exists() and not path.is_file():
            problems.error(path, None, "is no file", "put the file there")
            return None
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            problems.error(path, None, "is gzipped", "unpack it (gunzip), or make a category of it: bench data prepare")
            return None
        return decode(content)
    except FileNotFoundError:
        problems.error(path, None, "the file is missing", REGENERATE)
    except OSError as error:
        problems.error(path, None, f"cannot be read ({error.strerror})", "change its rights, or name another folder")
    except ValueError as error:
        problems.error(path, None, str(error).rpartition(": ")[0] or str(error), "save it as UTF-8")
    return None


def folder_of(candidates: Iterable[Path], what: str, problems: Problems) -> Path:
    """The one folder that has a category; where several have, none is taken.

    Raises:
        BenchError: there are several; it names them.
    """
    there = list(candidates)
    if len(there) > 1:
        others = ", ".join(str(path) for path in there[1:])
        problems.error(there[0], None, f"{what} is here and in {others}", "leave one, or name its folder as --data-dir")
        problems.stop_on_errors()
    return there[0]


def numbered(content: dict[str, Any], path: Path, problems: Problems) -> list[Any] | None:
    """The values of an object whose keys are "0" … "n-1", in that order."""
    missing = [str(i) for i in range(len(content)) if str(i) not in content]
    if missing:
        strange = [
            k[:60] for k in content if not (k.isascii() and k.isdigit() and len(k) < 10 and int(k) < len(content))
        ]
        instead = f", but has '{strange[0]}'" if strange else ""
        problems.error(
            path,
            None,
            f"lacks item {missing[0]} of 0–{len(content) - 1}{instead}",
            "item ids must be 0, 1, 2, … without a gap",
        )
        return None
    return [content[str(i)] for i in range(len(content))]


def read_items(path: Path, problems: Problems) -> Items | None:
    """``.item.json``: id → title, description, brand, categories."""
    content = read_json(path, problems)
    rows = numbered(content, path, problems) if content is not None else None
    if rows is None:
        return None
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            problems.error(path, None, f"item {i} is not an object", "give it title, description, brand, categories")
            return None
    if not rows:
        problems.error(path, None, "holds no item", REGENERATE)
        return None
    for i, row in enumerate(rows):
        if not isinstance(row.get("title"), (str, int, float, type(None))) or isinstance(row.get("title"), bool):
            problems.error(path, None, f"the title of item {i} is no text", "give a text, or null where there is none")
    columns = {key: [_text(row.get(key)) for row in rows] for key in ("title", "description", "brand", "categories")}
    return Items(columns["title"], columns["description"], columns["brand"], columns["categories"], _item_ids(rows))


def _item_ids(rows: list[Any]) -> list[str]:
    """What the source calls each item, where it names all, each otherwise; else nothing."""
    ids = next((found for key in ITEM_IDS if all(found := [row.get(key) for row in rows])), [])
    if not all(isinstance(name, str) for name in ids) or len(set(map(str, ids))) != len(ids):
        return []
    return [str(name) for name in ids]


def index_of(folder: Path, category: str, wanted: str) -> tuple[str, Path | None]:
    """The name and file of a category's SIDs, ``<category>.index[.<variant>].json``: the wanted or the first; or none.

    Raises:
        BenchError: the wanted one is not there.
    """
    paths = {
        p.name.removeprefix(f"{category}.index").removesuffix(".json").strip("."): p
        for p in sorted(folder.iterdir())
        if p.name.startswith(f"{category}.index.") and p.name.endswith(".json")
    }
    if wanted and wanted not in paths:
        raise unknown("index variant", wanted, paths, f"of {category} in {folder}")
    if not paths:
        return "", None
    name = wanted or min(paths)
    return name, paths[name]


def read_index(path: Path, n_items: int | None, problems: Problems) -> SemanticIds | None:
    """``.index.json``: id → tokens ``["<a_1>", "<b_2>", …]``; None where it cannot be used."""
    content = read_json(path, problems)
    if content is None:
        return None
    if n_items is not None and len(content) != n_items:
        absent = next((i for i in range(n_items) if str(i) not in content), None)
        what = f"lacks item {absent}" if absent is not None else f"has {len(content)} items, the catalogue {n_items}"
        problems.error(path, None, what, "the index must hold every item of the catalogue and no other")
        return None
    rows = numbered(content, path, problems)
    if rows is None:
        return None
    codes = []
    for i, tokens in enumerate(rows):
        try:
            codes.append(parse_tokens(tokens))
        except ValueError as error:
            mend = "tokens look like <a_12>, the codes of each level are numbered from 0"
            problems.error(path, i + 1, f"the SID of item {i} does not parse: {error}", mend)
            return None
    semantic_ids = SemanticIds.of(codes)
    if semantic_ids.ragged:
        short = int((semantic_ids.lengths < semantic_ids.n_levels).sum())
        what = f"{short:,} of {len(codes):,} SIDs are shorter than {semantic_ids.n_levels} levels"
        problems.warn(path, None, what, "right where only items on one SID have a further token")
    return semantic_ids


def check_repeats(test: Samples, file: Path, problems: Problems) -> None:
    """A test sample that stands twice (the same user, history and target) weighs double: an error."""
    first: dict[tuple[Any, ...], int] = {}
    for row, (user, history, target) in enumerate(test.each()):
        before = first.setdefault((user, tuple(history), target), row)
        if before != row and min([*history, target]) >= 0:  # else the row has an error of its own
            problems.error(
                file, row + 1, f"is row {before + 1} again (user {user}, target {target}), and would count twice",
                "leave one of them out",
            )  # fmt: skip
            return


def check_leakage(splits: dict[str, Samples], files: dict[str, Path], problems: Problems) -> None:
    """Warn of samples (user, history, target) that stand in two splits; where all of a split do, that is an error."""
    again: Counter[tuple[str, str]] = Counter()
    seen: dict[tuple[Any, ...], tuple[str, int]] = {}
    for name, samples in splits.items():
        rows = zip(samples.users.tolist(), samples.histories.items.tolist(), samples.targets.tolist(), strict=True)
        for row, (user, history, target) in enumerate(rows):
            first = seen.setdefault((user, tuple(history), target), (name, row))
            if first[0] != name:
                again[name, first[0]] += 1
                problems.warn(
                    files[name],
                    row + 1,
                    f"is row {first[1] + 1} of {first[0]} again",
                    "the same sample must not be in two splits",
                )
    for (name, other), number in again.items():
        if number == len(splits[name]):
            what = f"all {number:,} of its rows stand in {other} too: a result on them says nothing"
            problems.error(files[name], None, what, "give each split rows of its own")


def check_order(splits: dict[str, Samples], files: dict[str, Path], problems: Problems) -> None:
    """Warn where a user's history in a later split does not go on from the earlier one."""
    latest: dict[str, tuple[str, int, list[int]]] = {}
    for name, samples in splits.items():
        current: dict[str, tuple[str, int, list[int]]] = {}
        for row, (user, history, target) in enumerate(samples.each()):
            known = latest.get(user)
            if known is not None and len(history) <= len(known[2]) and len(history) < samples.histories.items.shape[1]:
                problems.warn(
                    files[name], row + 1, f"user {user} has a history of {len(history)}, shorter than in {known[0]}",
                    "later splits must come later in time",
                )  # fmt: skip
            if user not in current or len(history) >= len(current[user][2]):
                current[user] = (name, row, [*history, target][-samples.histories.items.shape[1] :])
        latest.update({u: (n, r, h[:-1]) for u, (n, r, h) in current.items()})


def parse_literal(cell: str) -> Any:
    """A Python literal (never evaluated).

    Raises:
        ValueError: it is none.
    """
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"'{cell[:60]}' is not a list literal") from error


def _text(value: Any) -> str:
    """A text field; lists (also lists written as a string) are joined by a space."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = parse_literal(value)
        except ValueError:
            return value
    if isinstance(value, Iterable) and not isinstance(value, (str, dict)):
        return " ".join(str(v) for v in value if v is not None)
    return "" if str(value).strip().lower() == "nan" else str(value)  # what pandas writes for a text that is absent


MOST_OF_USER = 200  # characters: ids stand in arrays as wide as the longest


def is_user(name: str) -> bool:
    """Whether a text can be the id of a user: not blank, of a length that ids have, without NUL."""
    return bool(name.strip()) and len(name) <= MOST_OF_USER and "\0" not in name


USERS = f"a user's id has 1 to {MOST_OF_USER} characters, not all of them blank, and no NUL"
