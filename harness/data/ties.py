"""Ties at the end of a ranking: candidates that score as the last one kept, and were not kept.

A ranking of k candidates cuts a group of equal scores where it happens to end. Which of the group stand inside is
chance; who they are is kept here, so that each of them can be given its expected rank.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.data.ragged import others, taken
from harness.errors import ContractError

UNKNOWN = 2**31 - 1
"""The size of a catalogue that is not known."""


@dataclass(frozen=True)
class Tied:
    """What was cut of the last group of each of n rankings.

    Attributes:
        count: ``[n]`` int64, how many more candidates score as the last one kept.
        inverse: ``[n]`` bool, whether `ids` are those that score *less* in place of those that are tied: whichever
            are fewer are listed.
        starts: ``[n + 1]`` where the ids of each ranking begin in `ids`.
        ids: the listed candidates of all rankings, one ranking after another, ascending.
    """

    count: np.ndarray
    inverse: np.ndarray
    starts: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.count)

    @classmethod
    def none(cls, n: int) -> Tied:
        """Nothing was cut of any of n rankings."""
        return cls(np.zeros(n, np.int64), np.zeros(n, bool), np.zeros(n + 1, np.int64), np.zeros(0, np.int32))

    @classmethod
    def of(cls, scores: np.ndarray, kept: np.ndarray) -> Tied:
        """From all candidates' scores ``[n, catalogue]`` and the ids of those kept ``[n, k]``, best first.

        A last score of -inf is no candidate's: nothing is tied with it.
        """
        last = np.take_along_axis(scores, kept[:, -1:], axis=1)
        last = np.where((kept[:, -1:] >= 0) & np.isfinite(last), last, np.nan)
        tied = scores == last
        inside = np.count_nonzero(np.take_along_axis(scores, kept, axis=1) == last, axis=1)
        rows = np.flatnonzero(np.count_nonzero(tied, axis=1) > inside)
        if not len(rows):
            return cls.none(len(kept))
        open_ = others(kept[rows], scores.shape[1])
        return cls.of_members(tied[rows] & open_, open_, rows, len(kept))

    @classmethod
    def of_cut(cls, cut: np.ndarray, kept: np.ndarray) -> Tied:
        """From who was cut ``[n, catalogue]``, and the ids of those kept ``[n, k]``, -1 for nobody."""
        rows = np.flatnonzero(cut.any(axis=1))
        return cls.of_members(cut[rows], others(kept[rows], cut.shape[1]), rows, len(kept))

    @classmethod
    def of_members(cls, tied: np.ndarray, open_: np.ndarray, rows: np.ndarray, n: int) -> Tied:
        """From who is tied, and who was not kept, of some rankings ``[len(rows), catalogue]`` of n."""
        count = np.zeros(n, np.int64)
        count[rows] = tied.sum(axis=1)
        inverse = np.zeros(n, bool)
        inverse[rows] = open_.sum(axis=1) - count[rows] < count[rows]
        listed = np.where(inverse[rows][:, None], open_ & ~tied, tied)
        sizes = np.zeros(n, np.int64)
        sizes[rows] = listed.sum(axis=1)
        return cls(count, inverse, np.r_[0, np.cumsum(sizes)], np.nonzero(listed)[1].astype(np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Tied]) -> Tied:
        """Those of several batches, one after another."""
        sizes = np.concatenate([np.diff(part.starts) for part in parts])
        count, inverse = (np.concatenate([getattr(part, name) for part in parts]) for name in ("count", "inverse"))
        return cls(count, inverse, np.r_[0, np.cumsum(sizes)], np.concatenate([part.ids for part in parts]))

    def take(self, rows: np.ndarray) -> Tied:
        """Those of some rankings, in that order."""
        return Tied(self.count[rows], self.inverse[rows], *taken(self.starts, self.ids, rows))

    def members(self, kept: np.ndarray, catalogue: int) -> np.ndarray:
        """Who is tied and was cut ``[n, catalogue]``, as booleans; `kept` are the ids of the rankings ``[n, k]``."""
        own = np.repeat(np.arange(len(self)), np.diff(self.starts))
        listed = np.zeros((len(self), catalogue), dtype=bool)
        listed[own, self.ids] = True
        found = np.where(self.inverse[:, None], others(kept, catalogue) & ~listed, listed)
        found[self.count == 0] = False
        return found

    def has(self, kept: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Whether one candidate of each ranking is tied and was cut ``[n]``; `kept` as for :meth:`members`.

        A negative candidate is nobody's.
        """
        own = np.repeat(np.arange(len(self)), np.diff(self.starts))
        listed = np.zeros(len(self), dtype=bool)
        listed[own[self.ids == candidates[own]]] = True
        outside = ~(kept == candidates[:, None]).any(axis=1)
        return np.where(self.inverse, outside & ~listed, listed) & (self.count > 0) & (candidates >= 0)

    def narrowed(self, kept: np.ndarray, scores: np.ndarray, width: int, catalogue: int) -> Tied:
        """The same of rankings cut further.

        Args:
            kept: ids of the rankings that they are of ``[n, k]``.
            scores: theirs ``[n, k]``, best first.
            width: how many are kept now.
        """
        if width >= kept.shape[1]:
            return self
        last = scores[:, width - 1]
        off = np.where(scores[:, width:] == last[:, None], kept[:, width:], -1)
        more = (scores[:, -1] == last) & (self.count > 0)
        rows = np.flatnonzero((off >= 0).any(axis=1) | more)
        if not len(rows):
            return Tied.none(len(kept))
        tied = ~others(off[rows], catalogue)
        tied |= self.take(rows).members(kept[rows], catalogue) & more[rows][:, None]
        return Tied.of_members(tied, others(kept[rows, :width], catalogue), rows, len(kept))

    def check(self, kept: np.ndarray, catalogue: int) -> None:
        """Hold it to its contract.

        Raises:
            ContractError: it is of other rankings, names what is not in the catalogue or was kept, or counts wrongly.
        """
        n = len(kept)
        if len(self.count) != n or len(self.starts) != n + 1 or len(self.inverse) != n:
            raise ContractError(f"its ties are of {len(self.count)} rankings, not of {n}")
        if (np.diff(self.starts) < 0).any() or self.starts[0] != 0 or self.starts[-1] != len(self.ids):
            raise ContractError("its ties do not say where the candidates of each ranking begin")
        if self.ids.size and not 0 <= self.ids.min() <= self.ids.max() < catalogue:
            raise ContractError(f"its ties name candidates outside 0–{catalogue - 1}")
        rows = np.flatnonzero(self.count)
        if not len(rows):
            return
        sizes, real = np.diff(self.starts)[rows], (kept[rows] >= 0).sum(axis=1)
        if catalogue == UNKNOWN:  # all that is said of others must be said of one catalogue
            catalogue = int((self.count[rows] + real + sizes)[self.inverse[rows]].max(initial=0))
        expected = np.where(self.inverse[rows], catalogue - real - sizes, sizes)
        wrong = (self.count[rows] != expected) | (self.count[rows] < 0)
        if wrong.any():
            row = int(rows[wrong.argmax()])
            named = int(expected[wrong.argmax()])
            raise ContractError(f"it counts {int(self.count[row])} ties of sample {row}, and names {named}")

    def pack(self) -> bytes:
        """The file form of all but the counts."""
        parts = (np.packbits(self.inverse), np.diff(self.starts).astype("<i4"), self.ids.astype("<i4"))
        return zlib.compress(b"".join(part.tobytes() for part in parts), 6)

    @classmethod
    def unpack(cls, packed: bytes, count: np.ndarray) -> Tied:
        """Read what :meth:`pack` wrote.

        Raises:
            ValueError: it is damaged.
        """
        try:
            content = zlib.decompress(packed)
        except zlib.error as error:
            raise ValueError(f"its ties are damaged ({error})") from None
        n, bits = len(count), -(-len(count) // 8)
        if len(content) < bits + 4 * n or (len(content) - bits) % 4:
            raise ValueError("its ties are damaged")
        inverse = np.unpackbits(np.frombuffer(content[:bits], np.uint8), count=n).astype(bool)
        numbers: Any = np.frombuffer(content[bits:], "<i4")
        if (numbers[:n] < 0).any() or numbers[:n].sum(dtype=np.int64) != len(numbers) - n:
            raise ValueError("its ties are damaged")
        starts = np.r_[0, np.cumsum(numbers[:n], dtype=np.int64)]
        return cls(count.astype(np.int64), inverse, starts, numbers[n:].astype(np.int32))
