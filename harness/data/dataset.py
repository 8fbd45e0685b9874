"""What a dataset is: items, train/valid/test samples, and the fingerprint of both.

It knows no file layout; the readers beside it do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array

from harness.data.ragged import taken
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds

MAX_HISTORY = 10
"""The benchmark's limit: the last 10 items of a history (MiniOneRec, arXiv 2510.24431)."""


@dataclass(frozen=True)
class Items:
    """Texts of the catalogue; item i is entry i of each list.

    Attributes:
        ids: what the source calls them (ASINs and the like), for output; empty where it has no names.
    """

    titles: list[str]
    descriptions: list[str]
    brands: list[str]
    categories: list[str]
    ids: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def without_texts(cls, n: int, ids: list[str] | None = None) -> Items:
        """A catalogue of which nothing is told."""
        return cls([""] * n, [""] * n, [""] * n, [""] * n, ids or [])

    def __len__(self) -> int:
        return len(self.titles)


def places_of_ids(ids: list[str]) -> np.ndarray:
    """The place of each id among all ``[n]``: numbers as numbers where all are, else as texts."""
    numbers = all(name.isascii() and name.isdigit() and len(name) < 19 for name in ids)
    keys = np.array([int(name) for name in ids]) if numbers else np.array(ids, dtype=object)
    found = np.empty(len(keys), dtype=np.int64)
    found[np.argsort(keys, kind="stable")] = np.arange(len(keys))
    return found


@dataclass(frozen=True)
class Bought:
    """What must not be recommended to each of n histories, since its user bought it before.

    Attributes:
        starts: ``[n + 1]`` where the items of each history begin in `items`.
        items: ``[…]`` int32 item ids, one history after another, each once in a history.
    """

    starts: np.ndarray
    items: np.ndarray

    @property
    def _rows(self) -> np.ndarray:
        """``[…]`` whose history each of `items` belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def take(self, rows: np.ndarray) -> Bought:
        """Those of some histories."""
        return Bought(*taken(self.starts, self.items, rows))

    def has(self, items: np.ndarray) -> np.ndarray:
        """``[n]``: whether each history's item of `items` ``[n]`` is one of them."""
        rows, found = self._rows, np.zeros(len(items), dtype=bool)
        found[rows[self.items == items[rows]]] = True
        return found

    def counts(self, of_item: np.ndarray, n_groups: int) -> csr_array:
        """``[n, n_groups]``, sparse: how many items of each SID were bought; items of group -1 are in none."""
        groups = of_item[self.items]
        known, rows = groups >= 0, self._rows
        cells = (rows[known], groups[known])
        return csr_array((np.ones(len(cells[0]), dtype=np.int64), cells), (len(self.starts) - 1, n_groups))

    def items_mask(self, n_items: int) -> np.ndarray:
        """``[n, n_items]`` booleans."""
        mask = np.zeros((len(self.starts) - 1, n_items), dtype=bool)
        mask[self._rows, self.items] = True
        return mask

    def mask(self, of_item: np.ndarray, n_groups: int) -> np.ndarray:
        """``[n, n_groups]``: the SIDs (or titles) all of whose items were bought; items of group -1 are in none."""
        sizes = np.bincount(of_item[of_item >= 0], minlength=n_groups)
        return (self.counts(of_item, n_groups).toarray() == sizes) & (sizes > 0)


@dataclass(frozen=True)
class Histories:
    """Purchase histories without their targets: all that a decoder sees of the test split.

    Attributes:
        items: ``[n, max_history]`` int32, oldest first, padded on the right with -1.
        lengths: ``[n]`` int32, at least 1.
        users: ``[n]`` int32, the number of each history's user among the train users (from 0, the same number in every
            split), -1 for a user that train does not know; None where histories are of nobody in particular.
        bought: what must not be recommended, under ``protocol.seen: drop``; None: everything may be.
    """

    items: np.ndarray
    lengths: np.ndarray
    users: np.ndarray | None = None
    bought: Bought | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: np.ndarray) -> Histories:
        """The histories of those rows."""
        users = self.users[rows] if self.users is not None else None
        bought = self.bought.take(rows) if self.bought is not None else None
        return Histories(self.items[rows], self.lengths[rows], users, bought)

    @classmethod
    def of(cls, histories: list[list[int]], longest: int | None = None) -> Histories:
        """From lists of item ids, oldest first; they keep their last `longest` items."""
        width = longest or max((len(history) for history in histories), default=1)
        items = np.full((len(histories), width), -1, dtype=np.int32)
        lengths = np.zeros(len(histories), dtype=np.int32)
        for row, history in enumerate(histories):
            kept = history[-width:]
            items[row, : len(kept)] = kept
            lengths[row] = len(kept)
        return cls(items, lengths)

    def lists(self) -> list[list[int]]:
        """The histories as lists of item ids."""
        return [row[:n] for row, n in zip(self.items.tolist(), self.lengths.tolist(), strict=True)]

    def last(self, back: int = 1) -> np.ndarray:
        """The `back`-th last item of each history ``[n]``, -1 where it is shorter."""
        column = self.lengths - back
        return np.where(column >= 0, self.items[np.arange(len(self)), np.maximum(column, 0)], -1)


@dataclass(frozen=True)
class Samples:
    """Samples of one split: user, history, target item.

    Attributes:
        users: ``[n]`` user names (numpy strings).
        histories: the n histories.
        targets: ``[n]`` int32 item ids.
        rows: ``[n]`` where each sample stood in its file, where they are in canonical order; None where they are not.
    """

    users: np.ndarray
    histories: Histories
    targets: np.ndarray
    rows: np.ndarray | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray) -> Samples:
        """The samples of those rows."""
        histories = self.histories.take(rows)
        places = self.rows[rows] if self.rows is not None and (np.diff(rows) > 0).all() else None
        return Samples(self.users[rows], histories, self.targets[rows], places)

    def drawn(self, n: int, seed: int) -> Samples:
        """`n` of the samples, drawn at random and left in order; all of them where `n` is 0 or too many."""
        if not 0 < n < len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:n]))

    def of_strangers(self) -> Samples:
        """The same samples of users whom no model knows."""
        unknown = np.full(len(self), -1, dtype=np.int32)
        return replace(self, histories=replace(self.histories, users=unknown))

    @classmethod
    def build(cls, users: list[str], histories: list[list[int]], targets: list[int], max_history: int) -> Samples:
        """From Python lists; histories keep their last `max_history` items."""
        cut = Histories.of(histories, max_history)
        return cls(np.asarray(users, dtype=np.str_), cut, np.asarray(targets, dtype=np.int32))

    def each(self) -> Iterator[tuple[str, list[int], int]]:
        """``(user, history, target)`` of each sample."""
        return zip(self.users.tolist(), self.histories.lists(), self.targets.tolist(), strict=True)

    def in_order(self) -> Samples:
        """The same samples in canonical order: free of the order of the file and of the names of users.

        Users stand in the order of their samples' content, a user's samples in that of length, history and target. So
        a shuffle, a draw or a batch is the same however a file lists its rows and whatever its users are called.
        """
        return self if self.rows is not None else self._placed(np.arange(len(self)))

    def _placed(self, places: np.ndarray) -> Samples:
        content = np.column_stack([self.histories.lengths, self.histories.items, self.targets])
        kinds = np.unique(content, axis=0, return_inverse=True)[1].reshape(-1)
        users = np.unique(self.users, return_inverse=True)[1].reshape(-1)
        by_user = np.lexsort((kinds, users))
        parts = np.split(kinds[by_user].astype(">u4"), np.cumsum(np.bincount(users))[:-1]) if len(self) else []
        signatures = [part.tobytes() for part in parts]  # big-endian: bytes compare as the numbers do
        rank = np.empty(len(parts), dtype=np.int64)
        rank[sorted(range(len(parts)), key=signatures.__getitem__)] = np.arange(len(parts))
        order = np.lexsort((kinds, rank[users])) if len(self) else np.zeros(0, dtype=np.int64)
        return replace(self.take(order), rows=places[order])

    @cached_property
    def user_numbers(self) -> np.ndarray:
        """``[n]`` the number of each sample's user, by first appearance: what names stand for, without the names."""
        _, first, number = np.unique(self.users, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        return rank[number.reshape(-1)]

    @cached_property
    def keys(self) -> np.ndarray:
        """``[n]`` uint64, one for each sample: a hash of user, history and target. What is stored is joined by it."""
        seen: dict[str, int] = {}
        hashes = np.empty(len(self), dtype="<u8")
        for number, (user, history, target) in enumerate(self.each()):
            text = json.dumps([user, history, target])
            again = seen[text] = seen.get(text, -1) + 1  # the same sample twice: they are interchangeable
            digest = hashlib.sha256(f"{text}{again}".encode()).digest()
            hashes[number] = int.from_bytes(digest[:8], "little")
        return hashes

    @cached_property
    def _table(self) -> np.ndarray:
        _, numbers = np.unique(self.users, return_inverse=True)
        return np.column_stack([numbers, self.histories.lengths, self.histories.items, self.targets]).astype("<i4")

    @cached_property
    def order(self) -> np.ndarray:
        """The rows by user name, length, history and target ``[n]``: the order of the target ranks in a record."""
        return np.lexsort(self._table.T[::-1])

    def canonical(self) -> np.ndarray:
        """``[n, 3 + max_history]``: user number, length, history, target, in the order of :attr:`order`."""
        return self._table[self.order]


class Oracle(Protocol):
    """Knows the true next-item distribution of generated data."""

    def rankings(self, histories: Histories, kind: str, k: int) -> Rankings:
        """The Bayes-optimal top k by true probability; kind ``"item"`` or ``"sid"``."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A category, read. Its samples stand in canonical order (:meth:`Samples.in_order`), whatever the files' was.

    Attributes:
        given: the semantic IDs shipped with the data, or None.
        caption: what must be said wherever results on it are shown.
        layout: the reader's name.
        oracle: the true distribution, where the data is generated.
        left_out: how many rows, users or items the reader left out or cut, by reason; it stands in each record.
        rules: the version of the rules that it was prepared by, where ``bench data prepare`` did; part of its split's.
    """

    category: str
    items: Items
    train: Samples
    valid: Samples
    test: Samples
    layout: str
    given: SemanticIds | None = None
    caption: str = ""
    oracle: Oracle | None = field(default=None, compare=False)
    left_out: dict[str, int] = field(default_factory=dict, compare=False)
    rules: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, samples in self.splits.items():
            object.__setattr__(self, name, samples.in_order())
        if any(samples.histories.users is None for samples in self.splits.values()):
            known, first = np.unique(self.train.users, return_index=True)
            numbers = self.train.user_numbers[first]
            for name, samples in self.splits.items():
                histories = replace(samples.histories, users=_numbers(samples.users, known, numbers))
                object.__setattr__(self, name, replace(samples, histories=histories))

    @property
    def n_users(self) -> int:
        """How many users train knows."""
        return int(self.train.user_numbers.max(initial=-1)) + 1

    @property
    def splits(self) -> dict[str, Samples]:
        """Train, valid and test by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def with_caption(self, caption: str) -> Dataset:
        """The dataset under another caption."""
        other = replace(self, caption=caption)
        if "fingerprint" in self.__dict__:  # of the content, which is the same
            other.__dict__["fingerprint"] = self.fingerprint
        return other

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical content: item texts and the samples of each split.

        Free of row order, line endings and file names; semantic IDs have their own.
        """
        digest = hashlib.sha256()
        texts = [self.items.titles, self.items.descriptions, self.items.brands, self.items.categories]
        for column in texts:
            normalised = [text.replace("\r\n", "\n").replace("\r", "\n") for text in column]
            digest.update(json.dumps(normalised, ensure_ascii=True).encode())
        for name, samples in self.splits.items():
            digest.update(name.encode())
            digest.update(json.dumps(np.unique(samples.users).tolist()).encode())
            digest.update(np.ascontiguousarray(samples.canonical()).tobytes())
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        """The numbers of ``bench data show``: sizes, history lengths, repeats, cold targets."""
        users = np.unique(np.concatenate([s.users for s in self.splits.values()]))
        trained = np.zeros(len(self.items), dtype=bool)
        trained[self.train.targets] = True
        seen = trained.copy()
        seen[self.train.histories.items[self.train.histories.items >= 0]] = True
        facts: dict[str, Any] = {"users": len(users), "items": len(self.items), "splits": {}}
        for name, samples in self.splits.items():
            repeat = (samples.histories.items == samples.targets[:, None]).any(axis=1)
            facts["splits"][name] = {
                "rows": len(samples),
                "users": len(np.unique(samples.users)),
                "mean history": float(samples.histories.lengths.mean()),
                "history lengths": np.bincount(samples.histories.lengths)[1:].tolist(),
                "target in history": float(repeat.mean()),
                "target = last item": float((samples.histories.last() == samples.targets).mean()),
                "target never a train target": int((~trained[samples.targets]).sum()),
                "target never in train": int((~seen[samples.targets]).sum()),
            }
            if self.given is not None:
                shared = self.given.group_sizes[self.given.of_item[samples.targets]] > 1
                facts["splits"][name]["target on a shared SID"] = int(shared.sum())
        return facts


def _numbers(users: np.ndarray, known: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The number of each user ``[n]`` among sorted known names, -1 where the name is not known."""
    if not len(known):
        return np.full(len(users), -1, dtype=np.int32)
    place = np.minimum(np.searchsorted(known, users), len(known) - 1)
    return np.where(known[place] == users, numbers[place], -1).astype(np.int32)
