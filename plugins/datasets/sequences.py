"""The sequence layout: ``<category>.inter.json`` (user → item ids in time order), leave-one-out.

The last item of a user is the test target, the one before it valid, the rest train (LC-Rec,
arXiv 2311.09049). SIDs stand in ``<category>.index[.<variant>].json``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from harness.data.dataset import MAX_HISTORY, Dataset, Items, Samples
from harness.data.problems import Problems
from harness.data.reading import (
    REGENERATE,
    USERS,
    folder_of,
    folders,
    index_of,
    is_user,
    read_index,
    read_items,
    read_json,
)
from harness.settings import setting

_INTER = ".inter.json"


@dataclass(frozen=True)
class SequencesSettings:
    """Settings of the layout."""

    max_history: Annotated[int, Ge(1), Le(10_000)] = setting(
        MAX_HISTORY, "longest history, in items; older ones are cut"
    )
    index: str = setting("", "which .index.VARIANT.json holds the SIDs; empty: the first by name")


class SequencesReader:
    """Reads user sequences and splits them leave-one-out."""

    Settings = SequencesSettings
    kept_in_columns = True

    def __init__(self, settings: SequencesSettings):
        self.settings = settings

    @staticmethod
    def categories(root: Path | None) -> list[str]:
        """Categories with an ``.inter.json``."""
        if root is None:
            return []
        return [p.name.removesuffix(_INTER) for f in folders(root) for p in sorted(f.glob("*" + _INTER))]

    def read(self, root: Path | None, category: str, problems: Problems) -> Dataset:
        """The dataset, with the checks that ``bench data validate`` lists."""
        assert root is not None
        there = [f for f in folders(root) if (f / f"{category}{_INTER}").exists()]
        folder = folder_of(there, category, problems)
        path = folder / f"{category}{_INTER}"
        sequences = read_json(path, problems) or {}
        texts = folder / f"{category}.item.json"
        variant, index_path = index_of(folder, category, self.settings.index)
        items = read_items(texts, problems) if texts.exists() else None
        problems.stop_on_errors()
        given = read_index(index_path, len(items) if items else None, problems) if index_path else None
        if items is None:  # nobody tells of them: those of the index, or else those that were bought
            sequences, items = (sequences, Items.without_texts(given.n_items)) if given else _bought(sequences)
        splits, left_out = self._split(sequences, path, len(items), problems)
        problems.stop_on_errors()
        caption = "split: leave-one-out" + (f"; SIDs: {variant}" if variant else "")
        return Dataset(
            category, items, splits["train"], splits["valid"], splits["test"], "sequences", given, caption,
            left_out=left_out,
        )  # fmt: skip

    def _split(
        self, content: dict[str, Any], path: Path, n_items: int, problems: Problems
    ) -> tuple[dict[str, Samples], dict[str, int]]:  # fmt: skip
        """The samples of each split, and what is left out, counted."""
        rows: dict[str, tuple[list[str], list[list[int]], list[int]]] = {
            n: ([], [], []) for n in ("train", "valid", "test")
        }
        left_out = Counter[str]()
        for number, (user, sequence) in enumerate(content.items()):
            if not is_user(user):
                problems.error(path, number + 1, f"has the user '{user[:20]}…'" if user else "has no user", USERS)
                continue
            if not isinstance(sequence, list) or not all(type(item) is int for item in sequence):
                problems.error(path, number + 1, f"user {user} has no list of item ids", REGENERATE)
                continue
            bad = next((item for item in sequence if not 0 <= item < n_items), None)
            if bad is not None:
                problems.error(path, number + 1, f"user {user}: item {bad} is out of range 0–{n_items - 1}", REGENERATE)
                continue
            if len(sequence) < 2:
                left_out["users without a sample: fewer than 2 items"] += 1
            elif len(sequence) < 3:
                left_out["users without a valid and test sample: fewer than 3 items"] += 1
            elif len(sequence) < 4:
                left_out["users without a train sample: fewer than 4 items"] += 1
            if len(sequence) > self.settings.max_history + 1:
                left_out[f"users whose history is cut to its last {self.settings.max_history} items"] += 1
            for i in range(1, len(sequence)):
                last = len(sequence) - 1
                name = "train" if i < last - 1 or last < 2 else "valid" if i == last - 1 else "test"
                users, histories, targets = rows[name]
                users.append(user)
                histories.append(sequence[max(0, i - self.settings.max_history) : i])
                targets.append(sequence[i])
        for reason, users in left_out.items():
            problems.warn(path, None, f"{users:,} {reason}", "counted in each record")
        for name, (named, _, _) in rows.items():
            if not named and not problems.errors:
                problems.error(
                    path, None, f"the {name} split is empty", "users need at least 4 items for all three splits"
                )
        built = {name: Samples.build(*columns, self.settings.max_history) for name, columns in rows.items()}
        return built, dict(left_out)


def _bought(sequences: dict[str, Any]) -> tuple[dict[str, Any], Items]:
    """The sequences by item number, and a catalogue of the items in them, of which nothing but their ids is told."""
    known = sorted({i for items in sequences.values() if isinstance(items, list) for i in items if type(i) is int})
    if not known or known[0] < 0 or known[-1] == len(known) - 1:  # in order already; below 0 is told with its user
        return sequences, Items.without_texts(len(known))
    place = {item: number for number, item in enumerate(known)}
    numbered = {
        user: [place[i] if type(i) is int else i for i in items] if isinstance(items, list) else items
        for user, items in sequences.items()
    }
    return numbered, Items.without_texts(len(known), list(map(str, known)))
