"""Where the target of each test sample stands: all that HR, NDCG and MRR depend on.

It knows rankings and targets, no split and no run. SID protocol: a hit is equality of the SID, so items on one SID
are hit together. Item protocol (collision-corrected): a beam stands for its items in a random order, and a metric is
the expectation over that order; for rankings by item both are plain ranks.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.data.rankings import Rankings, repeated
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError

CUTOFFS = (1, 3, 5, 10, 20, 50)
Protocol = Literal["sid", "item"]
PROTOCOLS: tuple[Protocol, ...] = ("sid", "item")
METRICS = (*(f"HR@{k}" for k in CUTOFFS), *(f"NDCG@{k}" for k in CUTOFFS), "MRR")
NOWHERE = 2**16 - 1  # stored for a target that is not among the candidates


@dataclass(frozen=True)
class TargetRanks:
    """The ranks of n targets.

    Attributes:
        before: ``[n]`` float64, how many candidates stand before the target's; infinity where it is none of them.
        group: ``[n]`` int, on how many ranks from `before` on the target stands with equal probability.
        most: how many ranks there are (the k of the rankings).
    """

    before: np.ndarray
    group: np.ndarray
    most: int

    def __len__(self) -> int:
        return len(self.before)

    @classmethod
    def of(
        cls, rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None, protocol: Protocol
    ) -> TargetRanks:
        """The ranks of targets ``[n]`` (item ids) in rankings; the SID protocol needs semantic IDs.

        A ranking by item is mapped to SIDs for the SID protocol, and later occurrences of one SID are dropped.
        """
        single = np.ones(len(targets), dtype=np.int64)
        if protocol == "sid":
            assert semantic_ids is not None
            ids = distinct_sids(rankings, semantic_ids)
            return cls(_place(ids == semantic_ids.of_item[targets][:, None], None), single, ids.shape[1])
        most = rankings.ids.shape[1]
        if rankings.kind == "item":
            return cls(_place(rankings.ids == targets[:, None], None), single, most)
        assert semantic_ids is not None
        sizes = np.where(
            rankings.ids < 0, 1, semantic_ids.group_sizes[rankings.ids]
        )  # nothing known takes its rank too
        own = semantic_ids.of_item[targets]
        place = _place(rankings.ids == own[:, None], np.cumsum(sizes, axis=1) - sizes)
        return cls(place, semantic_ids.group_sizes[own].astype(np.int64), most)

    @classmethod
    def of_each(
        cls, rankings: Rankings, targets: np.ndarray, semantic_ids: SemanticIds | None
    ) -> dict[str, TargetRanks]:
        """The ranks under each protocol that there is: the SID protocol needs semantic IDs."""
        return {
            protocol: cls.of(rankings, targets, semantic_ids, protocol)
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
        content = {"most": self.most, "before": _pack(before)}
        return content | ({"group": _pack(self.group.astype("<u4"))} if (self.group != 1).any() else {})

    @classmethod
    def decode(cls, content: dict[str, Any]) -> TargetRanks:
        """Read what :meth:`encode` wrote.

        Raises:
            BenchError: it is damaged.
        """
        try:
            stored = np.frombuffer(_unpack(content["before"]), dtype="<u2")
            before = np.where(stored == NOWHERE, np.inf, stored.astype(np.float64))
            group = (
                np.frombuffer(_unpack(content["group"]), dtype="<u4").astype(np.int64)
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
    if rankings.kind == "sid":
        return rankings.ids
    ids = np.where(rankings.ids < 0, -1, semantic_ids.of_item[rankings.ids])
    again = repeated(ids) & (ids >= 0)
    front = np.argsort(again, axis=1, kind="stable")
    return np.take_along_axis(np.where(again, -1, ids), front, axis=1)


def _place(hit: np.ndarray, ranks: np.ndarray | None) -> np.ndarray:
    """The rank (from 0, or of `ranks`) of the first hit of each row ``[n]``, infinity where there is none."""
    first = hit.argmax(axis=1)
    place = first if ranks is None else ranks[np.arange(len(hit)), first]
    return np.where(hit.any(axis=1), place.astype(float), np.inf)


def _pack(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text, validate=True))
