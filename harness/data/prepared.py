"""The prepared layout: ``interactions.parquet``, ``users.parquet``, ``items.parquet`` and ``split.yaml`` in a folder.

An interaction is a purchase: the numbers of its user and item, its time, and which split it is a target of. They stand
by user, in order. Histories are not stored: they are what stands before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from harness.data.dataset import Histories, Items, Samples
from harness.data.problems import Problems
from harness.data.reading import USERS, is_user

MANIFEST = "split.yaml"
INTERACTIONS = "interactions.parquet"
USERS_FILE = "users.parquet"
ITEMS_FILE = "items.parquet"
SPLITS = {"train": 1, "valid": 2, "test": 3}
"""A purchase of 0 is a target of none: the first of its user."""
TEXTS = ("title", "description", "brand", "categories")
AGAIN = "prepare the data again (bench data prepare … --force)"
WRITTEN: dict[str, Any] = {"user": pa.int32(), "item": pa.int32(), "time": pa.int64(), "split": pa.int8()}


def write(folder: Path, users: list[str], items: Items, columns: Mapping[str, np.ndarray]) -> None:
    """Write all but the manifest into a folder.

    Args:
        users: their names, by number.
        items: with ids.
        columns: ``user``, ``item``, ``time``, ``split``, each ``[n]``.
    """
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(columns[name], kind) for name, kind in WRITTEN.items()})
    pq.write_table(table, folder / INTERACTIONS, compression="zstd")
    pq.write_table(pa.table({"id": pa.array(users, pa.string())}), folder / USERS_FILE, compression="zstd")
    texts = (items.titles, items.descriptions, items.brands, items.categories)
    rows = {"id": items.ids} | dict(zip(TEXTS, texts, strict=True))
    kept = {name: pa.array(column, pa.string()) for name, column in rows.items() if name == "id" or any(column)}
    pq.write_table(pa.table(kept), folder / ITEMS_FILE, compression="zstd")


def read(folder: Path, longest: int, problems: Problems) -> tuple[Items, dict[str, Samples], int]:
    """The items, the samples of each split, and how many users' histories were cut.

    Args:
        longest: the most items of a history.

    Raises:
        BenchError: a file is missing or damaged.
    """
    users = _texts(folder / USERS_FILE, ("id",), problems)["id"]
    for row, user in enumerate(users, start=1):
        if not is_user(user):
            problems.error(folder / USERS_FILE, row, f"has the user '{user[:20]}…'" if user else "has no user", USERS)
    if len(set(users)) != len(users):
        problems.error(folder / USERS_FILE, None, "holds a user twice", AGAIN)
    found = _texts(folder / ITEMS_FILE, ("id", *TEXTS), problems)
    ids = found["id"]
    if len(set(ids)) != len(ids):
        problems.error(folder / ITEMS_FILE, None, "holds an item twice", AGAIN)
    titles, descriptions, brands, kinds = (found[name] or [""] * len(ids) for name in TEXTS)
    items = Items(titles, descriptions, brands, kinds, ids)
    columns = _numbers(folder / INTERACTIONS, len(users), len(ids), problems)
    problems.stop_on_errors()
    splits, cut = samples(columns, np.asarray(users, dtype=np.str_), longest)
    for name, part in splits.items():
        if not len(part):
            problems.error(folder / INTERACTIONS, None, f"the {name} split is empty", AGAIN)
    problems.stop_on_errors()
    return items, splits, cut


def samples(columns: Mapping[str, np.ndarray], users: np.ndarray, longest: int) -> tuple[dict[str, Samples], int]:
    """The samples of each split: every purchase that is a target, after those of its user that stand before it."""
    user, item, split = columns["user"], columns["item"], columns["split"]
    place = np.arange(len(user))
    begins = np.r_[True, user[1:] != user[:-1]]
    start = np.maximum.accumulate(np.where(begins, place, 0))
    sizes = np.diff(np.r_[np.flatnonzero(begins), len(user)])
    found = {}
    for name, number in SPLITS.items():
        targets = np.flatnonzero(split == number)
        lengths = np.minimum(targets - start[targets], longest)
        steps = np.arange(longest)
        inside = steps < lengths[:, None]
        items = np.where(inside, item[np.minimum((targets - lengths)[:, None] + steps, len(item) - 1)], -1)
        histories = Histories(items.astype(np.int32), lengths.astype(np.int32))
        found[name] = Samples(users[user[targets]], histories, item[targets].astype(np.int32))
    return found, int((sizes > longest + 1).sum())


def _table(path: Path, problems: Problems) -> pa.Table:
    import pyarrow.parquet as pq

    table = None
    if not path.is_file():
        problems.error(path, None, "is missing" if not path.exists() else "is no file", AGAIN)
    else:
        try:
            table = pq.read_table(path, partitioning=None)
        except (OSError, pa.ArrowException, ValueError) as error:
            problems.error(path, None, f"cannot be read ({' '.join(str(error).split())[:120]})", AGAIN)
    problems.stop_on_errors()
    return table


def _texts(path: Path, names: tuple[str, ...], problems: Problems) -> dict[str, list[str]]:
    """Columns of text; absent ones but the first are empty."""
    table = _table(path, problems)
    found: dict[str, list[str]] = {}
    for name in names:
        if name not in table.column_names:
            found[name] = []
            continue
        if table[name].type != pa.string() or (name == "id" and table[name].null_count):
            problems.error(path, None, f"its column {name} holds other than texts", AGAIN)
        else:
            found[name] = [text or "" for text in table[name].to_pylist()]
    if not found.get(names[0]):
        problems.error(path, None, f"has no column {names[0]}, or no row", AGAIN)
    problems.stop_on_errors()
    return found


def _numbers(path: Path, n_users: int, n_items: int, problems: Problems) -> dict[str, np.ndarray]:
    table = _table(path, problems)
    columns = {}
    for name, kind in WRITTEN.items():
        if name not in table.column_names or table[name].type != kind or table[name].null_count:
            problems.error(path, None, f"has no column {name} of {kind} without gaps", AGAIN)
            problems.stop_on_errors()
        columns[name] = table[name].to_numpy()
    for name, most in (("user", n_users), ("item", n_items), ("split", 4)):
        wrong = (columns[name] < 0) | (columns[name] >= most)
        if wrong.any():
            row = int(wrong.argmax())
            problems.error(path, row + 1, f"{name} {int(columns[name][row])} is not in 0–{most - 1}", AGAIN)
    problems.stop_on_errors()
    user = columns["user"]
    if len(user) and (np.diff(user) < 0).any():
        row = int((np.diff(user) < 0).argmax())
        problems.error(path, row + 2, f"user {int(user[row + 1])} stands behind user {int(user[row])}", AGAIN)
    first = np.r_[True, user[1:] != user[:-1]]
    if (columns["split"][first] != 0).any():
        row = int(np.flatnonzero(first & (columns["split"] != 0))[0])
        problems.error(path, row + 1, "a user's first purchase is a target, and has no history", AGAIN)
    back = ~first[1:] & (np.diff(columns["time"]) < 0)
    if back.any():
        problems.error(path, int(back.argmax()) + 2, "stands behind a later purchase of its user", AGAIN)
    return columns


def manifest(folder: Path) -> dict[str, Any]:
    """What a split was made of and how.

    Raises:
        BenchError: it is missing or damaged.
    """
    from harness import files
    from harness.checks import outlines

    content: dict[str, Any] = files.read_yaml(folder / MANIFEST, outlines.SplitManifest, AGAIN)
    return content
