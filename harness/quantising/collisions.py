"""Repairs of collisions: items that share a SID get others, or one more token.

``zcr``: within each group of items of equal prefix the last codes are dealt anew, fewest moves first, then least
distance (CollisionGenRec, CIKM 2026; the Hungarian method). ``sinkhorn``: items that collide are coded again at the
last level by optimal transport, in rounds, as MiniOneRec does. ``extra-token``: items that share a SID get one more
token, and SIDs are of unequal length; ``extra-token-all``: all items do (TIGER).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.data.semantic_ids import ABSENT, MOST_LEVELS, SemanticIds
from harness.errors import BenchError
from harness.quantising.clusters import squared_distances
from harness.quantising.quantisers import books_of, coded_again

REPAIRS = ("none", "zcr", "sinkhorn", "extra-token", "extra-token-all")
EPSILON = 0.003
"""MiniOneRec's Sinkhorn."""


@dataclass(frozen=True)
class Repaired:
    """What a repair made.

    Attributes:
        moved: how many items have other codes now.
        left: items that still share a SID.
        too_large: groups of equal prefix with more items than codes, and the items in them.
        by_code: whether ties of equal moves went by code, since no vectors were at hand.
    """

    semantic_ids: SemanticIds
    moved: int
    left: int
    too_large: tuple[int, int] = (0, 0)
    by_code: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For a record."""
        groups, items = self.too_large
        return {
            "items moved": self.moved,
            "items still on a shared SID": self.left,
            **({"groups larger than the codebook": groups, "items in them": items} if groups else {}),
            **({"ties of equal moves": "by code"} if self.by_code else {}),
        }

    @property
    def told(self) -> str:
        """In words."""
        groups, items = self.too_large
        parts = [f"{self.moved:,} items moved", f"{self.left:,} still on a shared SID"]
        if groups:
            parts.append(f"{groups:,} groups of equal prefix are larger than the codebook ({items:,} items): they stay")
        if self.by_code:
            parts.append("ties of equal moves went by code, since there are no vectors")
        return "; ".join(parts)


def repair(semantic_ids: SemanticIds, how: str, vectors: np.ndarray | None = None, codes: int = 0) -> Repaired:
    """Semantic IDs with fewer collisions.

    Args:
        how: one of :data:`REPAIRS`.
        vectors: ``[n_items, d]`` that distances are measured in; None: ties of equal moves go by code.
        codes: codes of the last level; 0: as many as up to its largest.

    Raises:
        BenchError: it needs vectors and there are none, SIDs are of unequal length, or there are no levels left.
    """
    name = semantic_ids.source if how == "none" else f"{semantic_ids.source}, {how}"
    if how == "none":
        return Repaired(semantic_ids, 0, _shared(semantic_ids))
    if how.startswith("extra-token"):
        made = SemanticIds(_with_one_more(semantic_ids, how == "extra-token-all"), name)
        moved = int((made.lengths > semantic_ids.lengths).sum())
        return Repaired(made, moved, _shared(made))
    if semantic_ids.ragged:
        raise BenchError(f"repair={how} takes SIDs of equal length; take repair=extra-token")
    codes = codes or int(semantic_ids.codes[:, -1].max()) + 1
    if how == "zcr":
        found, too_large = _dealt(semantic_ids.codes, vectors, codes)
    elif vectors is None:
        raise BenchError("repair=sinkhorn needs vectors of the items: name an embedder, or take repair=zcr")
    else:
        far = _last_level(semantic_ids.codes, vectors, codes)
        found, too_large = coded_again(semantic_ids.codes, far, EPSILON), (0, 0)
    made = SemanticIds(found, name)
    moved = int((found != semantic_ids.codes).any(axis=1).sum())
    return Repaired(made, moved, _shared(made), too_large, how == "zcr" and vectors is None)


def _shared(semantic_ids: SemanticIds) -> int:
    sizes = semantic_ids.group_sizes
    return int(sizes[sizes > 1].sum())


def _with_one_more(semantic_ids: SemanticIds, everywhere: bool) -> np.ndarray:
    """One more level: 0 for an item alone on its SID (or none), 0, 1, … in a group, in the order of items.

    Raises:
        BenchError: there are as many levels as there can be.
    """
    if semantic_ids.n_levels >= MOST_LEVELS:
        raise BenchError(f"the SIDs have {semantic_ids.n_levels} levels, and there cannot be one more")
    of_item, sizes = semantic_ids.of_item, semantic_ids.group_sizes
    order = np.argsort(of_item, kind="stable")
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    place = np.empty(len(of_item), dtype=np.int32)
    place[order] = np.arange(len(of_item)) - starts[of_item[order]]
    more = place if everywhere else np.where(sizes[of_item] > 1, place, ABSENT)
    if not everywhere and (more < 0).all():
        return semantic_ids.codes
    table = np.concatenate([semantic_ids.codes, np.full((len(place), 1), ABSENT, np.int32)], axis=1)
    if not everywhere and semantic_ids.ragged:
        more = _not_taken(semantic_ids, more)
    table[np.arange(len(place)), semantic_ids.lengths] = more  # behind the item's own last level
    return table


def _not_taken(semantic_ids: SemanticIds, more: np.ndarray) -> np.ndarray:
    """The same tokens, raised past those with which a longer SID goes on already."""
    found = more.copy()
    taken = {tuple(row[row >= 0].tolist()) for row in semantic_ids.distinct}
    given: dict[tuple[int, ...], int] = {}
    for item in np.flatnonzero(more >= 0).tolist():
        row = semantic_ids.codes[item]
        own = tuple(row[row >= 0].tolist())
        code = given.get(own, 0)
        while (*own, code) in taken:
            code += 1
        found[item], given[own] = code, code + 1
    return found


def _dealt(codes: np.ndarray, vectors: np.ndarray | None, n_codes: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The last codes dealt anew in each group of equal prefix that has collisions; what does not fit stays."""
    from scipy.optimize import linear_sum_assignment

    found = codes.copy()
    _, group = np.unique(codes[:, :-1], axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    cuts = np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1
    far = _last_level(codes, vectors, n_codes) if vectors is not None else None
    groups, items = 0, 0
    for rows in np.split(order, cuts):
        own = codes[rows, -1]
        if len(np.unique(own)) == len(own):
            continue
        if len(rows) > n_codes:
            groups, items = groups + 1, items + len(rows)
            continue
        moved = np.arange(n_codes) != own[:, None]
        if far is None:  # how far the code is, and the lower first
            cost = np.abs(np.arange(n_codes) - own[:, None]) / n_codes + np.arange(n_codes) * 1e-6
        else:
            cost = far(rows)
            cost = cost / max(float(cost.max()), 1e-12)
        least = cost.max() * len(rows) + 1.0  # one move more costs more than any distance
        _, dealt = linear_sum_assignment(cost + least * moved)
        found[rows, -1] = dealt
    return found, (groups, items)


def _last_level(codes: np.ndarray, vectors: np.ndarray, n_codes: int) -> Callable[[np.ndarray], np.ndarray]:
    """Of some items ``[m]`` the distance of what the levels before leave over to each last code ``[m, n_codes]``."""
    made = books_of(codes, vectors)
    book = np.zeros((n_codes, vectors.shape[1]), dtype=np.float32)
    book[: len(made.books[-1])] = made.books[-1]
    before = made.left + made.books[-1][codes[:, -1]]
    return lambda rows: squared_distances(before[rows], book)
