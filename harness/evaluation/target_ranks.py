"""Where the target of each test sample stands: all that HR, NDCG and MRR depend on.

It knows rankings and targets, no split and no run. SID protocol: a hit is equality of the SID, so items on one SID
are hit together. Item protocol (collision-corrected): a beam stands for its items in a random order, and a metric is
the expectation over that order. Under both, candidates of equal score stand in a random order: a tied target has its
expected rank, wherever the ranking happens to list it, and also where it was cut.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.data.dataset import Bought
from harness.data.ragged import others
from harness.data.rankings import Rankings, repeated
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError

CUTOFFS = (1, 3, 5, 10, 20, 50)
Protocol = Literal["sid", "item"]
PROTOCOLS: tuple[Protocol, ...] = ("sid", "item")
METRICS = (*(f"HR@{k}" for k in CUTOFFS), *(f"NDCG@{k}" for k in CUTOFFS), "MRR")
NOBODY = -2
"""No candidate's id, and not that of what is outside the catalogue."""
NOWHERE = 2**16 - 1  # stored for a target that is not among the candidates


@dataclass(frozen=True)
class TargetRanks:
    """The ranks of n targets.

    Attributes:
        before: ``[n]`` float64, how many candidates stand before the target's; infinity where it is none of them.
        group: ``[n]`` int, on how many ranks from `before` on the target stands with equal probability.
        most: how many ranks there are: the k of the rankings, or more where they hold every SID of the catalogue.
    """

    before: np.ndarray
    group: np.ndarray
    most: int

    def __len__(self) -> int:
        return len(self.before)

    @classmethod
    def of(
        cls, rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None, protocol: Protocol,
        bought: Bought | None = None,
    ) -> TargetRanks:  # fmt: skip
        """The ranks of targets ``[n]`` (item ids) in rankings; the SID protocol needs semantic IDs.

        A ranking by item is mapped to SIDs for the SID protocol: a SID scores as the best of its items, and later
        occurrences of it are dropped. Equal scores are a group, with what was cut of it
        (:class:`harness.data.ties.Tied`).

        Args:
            bought: items that must not be recommended: a SID stands for its other items alone.
        """
        ids, scores, own = rankings.ids, rankings.scores, targets
        sizes: np.ndarray | None = None  # of candidates that stand for several
        counted = np.ones(ids.shape, dtype=bool)
        if protocol == "sid":
            assert semantic_ids is not None
            own = semantic_ids.of_item[targets]
            if rankings.kind == "item":
                ids = np.where(ids < 0, -1, semantic_ids.of_item[ids])
                counted = ~(repeated(ids) & (ids >= 0))
        elif rankings.kind == "sid":
            assert semantic_ids is not None
            own = semantic_ids.of_item[targets]
            sizes = sizes_left(ids, semantic_ids, bought)
            if bought is not None:
                own = np.where(bought.has(targets), NOBODY, own)  # its SID is there for others
        weights = counted.astype(np.int64) if sizes is None else sizes * counted
        hit = (ids == own[:, None]) & counted
        column = hit.argmax(axis=1)
        found = hit.any(axis=1)
        rows = np.arange(len(ids))
        score = scores[rows, column]
        cut, member = _cut(rankings, own, semantic_ids, protocol, bought)
        last = scores[:, -1]
        score = np.where(found, score, last)
        same = scores == score[:, None]
        same[rows[found], column[found]] = True  # also where its score is no number to compare
        group = (weights * same).sum(axis=1) + np.where(score == last, cut, 0)
        before = np.where(np.arange(ids.shape[1]) < same.argmax(axis=1)[:, None], weights, 0).sum(axis=1)
        known = found | member
        whole = rankings.kind == "sid" and semantic_ids is not None and ids.shape[1] >= len(semantic_ids.distinct)
        most = max(ids.shape[1], max(CUTOFFS)) if whole else ids.shape[1]  # there is nothing behind a whole catalogue
        return cls(np.where(known, before.astype(float), np.inf), np.where(known, group, 1), most)

    @classmethod
    def of_each(
        cls, rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None, bought: Bought | None = None
    ) -> dict[str, TargetRanks]:
        """The ranks under each protocol that there is: the SID protocol needs semantic IDs."""
        return {
            protocol: cls.of(rankings, targets, semantic_ids, protocol, bought)
            for protocol in PROTOCOLS
            if protocol == "item" or semantic_ids is not None
        }

    def values(self, only: Collection[str] = ()) -> dict[str, np.ndarray]:
        """HR@K, NDCG@K and MRR (or `only` some of them) of each sample ``[n]``; the metrics are their means.

        With P candidates before the target and G items on its SID: ItemHit@K = min(G, max(0, K − P)) / G.
        """
        most, reach = min(self.most, max(CUTOFFS)), max(CUTOFFS) + 1
        place, group = self.before, self.group
        discounts = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(reach) + 2.0))]  # up to a rank
        reciprocal = np.r_[0.0, np.cumsum(1 / (np.arange(most) + 1.0))]
        result: dict[str, np.ndarray] = {}
        start = np.minimum(place, reach).astype(int)
        cutoffs = [k for k in CUTOFFS if k <= most]
        for k in (k for k in cutoffs if not only or f"HR@{k}" in only):
            result[f"HR@{k}"] = np.clip(k - place, 0, group) / group
        for k in (k for k in cutoffs if not only or f"NDCG@{k}" in only):
            inside = np.clip(k - place, 0, group)
            gain = discounts[np.minimum(start + inside.astype(int), reach)] - discounts[start]
            result[f"NDCG@{k}"] = np.where(inside > 0, gain, 0) / group
        if not only or "MRR" in only:
            begin = np.minimum(place, most).astype(int)
            inside = np.clip(most - place, 0, group).astype(int)
            result["MRR"] = (reciprocal[begin + inside] - reciprocal[begin]) / group
        return result

    def means(self) -> dict[str, float]:
        """The metrics: means over the samples."""
        return {name: float(value.mean()) for name, value in self.values().items()}

    def take(self, rows: np.ndarray) -> TargetRanks:
        """The ranks of those samples, in that order."""
        return TargetRanks(self.before[rows], self.group[rows], self.most)

    def encode(self) -> dict[str, Any]:
        """The file form: a few kilobytes for thousands of samples."""
        before = np.where(np.isinf(self.before), NOWHERE, np.minimum(self.before, NOWHERE - 1)).astype("<u2")
        content = {"most": self.most, "before": pack(before)}
        return content | ({"group": pack(self.group.astype("<u4"))} if (self.group != 1).any() else {})

    @classmethod
    def decode(cls, content: dict[str, Any]) -> TargetRanks:
        """Read what :meth:`encode` wrote.

        Raises:
            BenchError: it is damaged.
        """
        try:
            stored = np.frombuffer(unpack(content["before"]), dtype="<u2")
            before = np.where(stored == NOWHERE, np.inf, stored.astype(np.float64))
            group = (
                np.frombuffer(unpack(content["group"]), dtype="<u4").astype(np.int64)
                if "group" in content
                else np.ones(len(before), dtype=np.int64)
            )
            most = int(content["most"])
            if len(group) != len(before) or most < 1 or (group < 1).any():
                raise ValueError("lengths differ")
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise BenchError(f"the target ranks are damaged ({error})") from None
        return cls(before, group, most)


def distinct_sids(rankings: Rankings, semantic_ids: SemanticIds) -> np.ndarray:
    """SID indices ``[n, k]``, best first, each once a row; -1 fills the end, and is also what is no SID."""
    return scored_sids(rankings, semantic_ids)[0]


def scored_sids(rankings: Rankings, semantic_ids: SemanticIds) -> tuple[np.ndarray, np.ndarray]:
    """:func:`distinct_sids` and their scores ``[n, k]``, those of their best items; -inf fills the end."""
    if rankings.kind == "sid":
        return rankings.ids, rankings.scores
    ids = np.where(rankings.ids < 0, -1, semantic_ids.of_item[rankings.ids])
    again = repeated(ids) & (ids >= 0)
    front = np.argsort(again, axis=1, kind="stable")
    ids, scores = np.where(again, -1, ids), np.where(again, -np.inf, rankings.scores)
    return np.take_along_axis(ids, front, axis=1), np.take_along_axis(scores, front, axis=1)


AT_ONCE = 2**26


def sizes_left(ids: np.ndarray, semantic_ids: SemanticIds, bought: Bought | None) -> np.ndarray:
    """How many items each SID of ``[n, k]`` stands for, less those that must not be recommended; nothing known: 1."""
    sizes = np.where(ids < 0, 1, semantic_ids.group_sizes[ids])  # nothing known takes its rank too
    if bought is None:
        return sizes
    gone = bought.counts(semantic_ids.of_item, len(semantic_ids.group_sizes))
    return sizes - np.where(ids < 0, 0, gone[np.arange(len(ids))[:, None], np.maximum(ids, 0)].toarray())


"""Samples × candidates of the catalogue that are looked at together for ties: bounds memory."""


def cut_members(
    rankings: Rankings, semantic_ids: SemanticIds | None, protocol: Protocol, catalogue: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Who was cut of the last group of a ranking, some rankings at a time.

    Args:
        catalogue: how many candidates there are, where there are no semantic IDs.

    Yields:
        Rows ``[m]``, and who is tied with their last candidate and stands not among them ``[m, catalogue]``: SIDs for
        rankings by SID and under the SID protocol, else items.
    """
    tied = rankings.tied
    rows = np.flatnonzero(tied.count) if tied is not None else np.zeros(0, dtype=np.int64)
    if tied is None or not len(rows):
        return
    if semantic_ids is not None:
        catalogue = len(semantic_ids.of_item if rankings.kind == "item" else semantic_ids.distinct)
    by_sid = None
    if protocol == "sid" and rankings.kind == "item":
        assert semantic_ids is not None
        by_sid = np.argsort(semantic_ids.of_item, kind="stable")
    step = max(1, AT_ONCE // catalogue)
    for some in np.split(rows, range(step, len(rows), step)):
        kept = rankings.ids[some]
        open_ = tied.take(some).members(kept, catalogue)
        if by_sid is not None:  # SIDs that stand in the ranking already are not there again
            assert semantic_ids is not None
            starts = np.r_[0, np.cumsum(semantic_ids.group_sizes)[:-1]]
            open_ = np.logical_or.reduceat(open_[:, by_sid], starts, axis=1)
            open_ &= others(np.where(kept < 0, -1, semantic_ids.of_item[kept]), open_.shape[1])
        yield some, open_


def _cut(
    rankings: Rankings, own: np.ndarray, semantic_ids: SemanticIds | None, protocol: Protocol, bought: Bought | None
) -> tuple[np.ndarray, np.ndarray]:
    """Of each sample how many candidates of the protocol were cut from its last group, and whether the target was.

    Args:
        own: ``[n]`` the targets, as SIDs or items; :data:`NOBODY` where the target must not be recommended.
    """
    n, tied = len(rankings.ids), rankings.tied
    if tied is not None and protocol == rankings.kind:
        return tied.count, tied.has(rankings.ids, own)
    count, member = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    catalogue = 1 + max(int(rankings.ids.max(initial=0)), int(own.max(initial=0)))
    if tied is not None:
        kept = (rankings.ids >= 0).sum(axis=1)
        catalogue = max(catalogue, 1 + int(tied.ids.max(initial=-1)), int((tied.count + kept).max(initial=0)))
    for rows, open_ in cut_members(rankings, semantic_ids, protocol, catalogue):
        if protocol == "item" and rankings.kind == "sid":
            assert semantic_ids is not None
            count[rows] = open_ @ semantic_ids.group_sizes.astype(np.int64)
            if bought is not None:
                gone = bought.take(rows).counts(semantic_ids.of_item, open_.shape[1])
                count[rows] -= np.asarray(gone.multiply(open_).sum(axis=1)).ravel()
        else:
            count[rows] = open_.sum(axis=1)
        member[rows] = open_[np.arange(len(rows)), own[rows]] & (own[rows] >= 0)
    return count, member


def pack(values: np.ndarray) -> str:
    """An array as text, for a file."""
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")


def unpack(text: str) -> bytes:
    """The bytes of what :func:`pack` wrote.

    Raises:
        ValueError, zlib.error: it is damaged.
    """
    return zlib.decompress(base64.b64decode(text, validate=True))
