"""Rankings: the top-k candidates of every sample. They are the only thing that metrics see.

It does not know targets, nor how candidates were found.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from harness.data.semantic_ids import SemanticIds
from harness.data.ties import UNKNOWN, Tied
from harness.errors import BenchError, ContractError, NotFinite

KEYS = b"sample keys"
"""In the file's metadata: the key of each sample (:attr:`harness.data.dataset.Samples.keys`), as bytes."""
TIES = b"tied candidates"
"""In the file's metadata: who was cut among ties (:meth:`harness.data.ties.Tied.pack`)."""


class Keyed(Protocol):
    """Samples as rankings are joined to them (:class:`harness.data.dataset.Samples`)."""

    @property
    def keys(self) -> np.ndarray:
        """``[n]`` the key of each sample."""
        ...

    @property
    def rows(self) -> np.ndarray | None:
        """``[n]`` where each stood in its file."""
        ...

    def __len__(self) -> int: ...


def repeated(ids: np.ndarray) -> np.ndarray:
    """Which entries of each row ``[n, k]`` stand earlier in it already, as booleans ``[n, k]``."""
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return again


@dataclass(frozen=True)
class Rankings:
    """The best candidates of each sample, best first.

    Attributes:
        kind: ``"sid"`` (ids index the distinct SIDs) or ``"item"`` (ids are item ids).
        ids: ``[n, k]`` int32; -1 is a candidate that is not in the catalogue.
        scores: ``[n, k]`` float32 or float64, non-increasing along a row.
        keys: ``[n]`` the sample keys of the file that they were read from; None where it has none.
        tied: who scores as the last candidate of a ranking and was cut; None: nobody that is known of.
    """

    kind: Literal["sid", "item"]
    ids: np.ndarray
    scores: np.ndarray
    keys: np.ndarray | None = None
    tied: Tied | None = None

    def take(self, rows: np.ndarray) -> Rankings:
        """The rankings of those samples, in that order."""
        keys = self.keys[rows] if self.keys is not None else None
        tied = self.tied.take(rows) if self.tied is not None else None
        return Rankings(self.kind, self.ids[rows], self.scores[rows], keys, tied)

    @property
    def fingerprint(self) -> str:
        """sha256 of the candidates in order (not of their scores, whose last digits differ between machines)."""
        header = f"{self.kind};{'x'.join(map(str, self.ids.shape))};".encode()
        return hashlib.sha256(header + np.ascontiguousarray(self.ids, dtype="<i4").tobytes()).hexdigest()

    @property
    def order(self) -> str:
        """sha256 of which candidates are tied: where a score falls, and who was cut; not of the scores' digits."""
        falls = self.scores[:, 1:] < self.scores[:, :-1]
        parts = [falls.tobytes(), *([self.tied.count.tobytes(), self.tied.ids.tobytes()] if self.tied else [])]
        return hashlib.sha256(b";".join(parts)).hexdigest()

    def catalogue(self, semantic_ids: SemanticIds | None, n_items: int) -> int:
        """How many candidates there are of its kind: distinct SIDs, or items."""
        return len(semantic_ids.distinct) if self.kind == "sid" and semantic_ids is not None else n_items

    def check(self, catalogue: int, k: int = 0, more: bool = False) -> None:
        """Hold a decoder to its contract: k distinct candidates of the catalogue, finite scores that do not rise.

        Args:
            catalogue: how many candidates there are.
            k: how many there must be of each sample; 0: any number.
            more: whether there may be more (items, of which several share a SID).

        Raises:
            ContractError: the contract is broken; the line names the first sample that breaks it.
        """
        if np.ndim(self.ids) != 2 or np.shape(self.ids) != np.shape(self.scores):
            raise ContractError(
                f"it returned ids {np.shape(self.ids)} and scores {np.shape(self.scores)}; both must be [n, k]"
            )
        if self.ids.dtype.kind not in "iu" or self.scores.dtype.kind != "f":
            raise ContractError(
                f"it returned ids of {self.ids.dtype} and scores of {self.scores.dtype}; give integers and floats"
            )
        if k and (self.ids.shape[1] < k or (self.ids.shape[1] > k and not more)):
            raise ContractError(f"it returned {self.ids.shape[1]} candidates a sample; its settings ask for {k}")
        if not self.ids.shape[1]:
            raise ContractError("it returned no candidate at all")
        if np.isnan(self.scores).any():
            raise NotFinite(f"it returned a NaN score for sample {int(np.isnan(self.scores).any(1).argmax())}")
        endless = (~np.isfinite(self.scores) & (self.ids >= 0)).any(axis=1)
        if endless.any():
            raise ContractError(f"it returned an infinite score for sample {int(endless.argmax())}")
        with np.errstate(invalid="ignore"):
            rising = (np.diff(self.scores, axis=1) > 0).any(axis=1)
        if rising.any():
            raise ContractError(f"it returned rising scores for sample {int(rising.argmax())}; best comes first")
        if self.ids.size and self.ids.max() >= catalogue:
            raise ContractError(f"it returned candidate {int(self.ids.max())}; the catalogue ends at {catalogue - 1}")
        if self.ids.size and self.ids.min() < -1:
            raise ContractError(f"it returned candidate {int(self.ids.min())}; -1 is what is not in the catalogue")
        ordered = np.sort(self.ids, axis=1)
        twice = ((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] >= 0)).any(axis=1)
        if twice.any():
            raise ContractError(f"it returned a candidate twice for sample {int(twice.argmax())}")
        if self.tied is not None:
            self.tied.check(self.ids, catalogue)

    def write(
        self, path: Path, semantic_ids: SemanticIds | None, samples: Keyed | None = None, slim: bool = False
    ) -> None:
        """Write the parquet file: columns sample, rank (from 1), sid, score, tied, and item where ranked by item.

        ``tied`` is how many more candidates score as the last of the sample; who they are stands in the metadata.

        Args:
            samples: whose rankings they are; the file keeps their keys, and is joined by them ever after. Without
                them it keeps the keys that were read.
            slim: leave out what no metric needs, the SIDs of a ranking by item.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        n, k = self.ids.shape
        columns: dict[str, pa.Array] = {
            "sample": pa.array(np.repeat(np.arange(n, dtype=np.int32), k)),
            "rank": pa.array(np.tile(np.arange(1, k + 1, dtype=np.int16), n)),
        }
        flat = self.ids.reshape(-1)
        if self.kind == "item":
            columns["item"] = pa.array(flat)
        if semantic_ids is not None and not (slim and self.kind == "item"):
            sids = flat if self.kind == "sid" else np.where(flat < 0, -1, semantic_ids.of_item[flat])
            indices = pa.array(sids, mask=sids < 0)
            columns["sid"] = pa.DictionaryArray.from_arrays(indices, pa.array(semantic_ids.strings))
        columns["score"] = pa.array(self.scores.reshape(-1))
        tied = self.tied or Tied.none(n)
        columns["tied"] = pa.array(np.repeat(tied.count.astype(np.int32), k))
        keys = samples.keys if samples is not None else self.keys
        metadata = {KEYS: keys.tobytes()} if keys is not None else {}
        metadata |= {TIES: tied.pack()} if tied.count.any() else {}
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata or None), path, compression="zstd")

    @classmethod
    def read(
        cls, path: Path, semantic_ids: SemanticIds | None, samples: Keyed | None = None, items: int = UNKNOWN
    ) -> Rankings:
        """Read what :meth:`write` wrote, in the order of `samples`; without them in the order of the file.

        A file of an older version has no keys: its samples are the rows of the test file, as that was then.

        Args:
            items: of the catalogue.

        Raises:
            BenchError: the file is missing, damaged, ranks other samples, or names an SID that the catalogue lacks.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            numbers = _whole_numbers(table, "sample")
            kind: Literal["sid", "item"] = "item" if "item" in table.column_names else "sid"
            k = int((numbers == 0).sum())
            n = len(numbers) // k if k else 0
            if not n or not np.array_equal(numbers, np.repeat(np.arange(n), k)):
                raise ValueError("its rows are not samples 0, 1, 2, … with as many candidates each")
            if not np.array_equal(_whole_numbers(table, "rank"), np.tile(np.arange(1, k + 1), n)):
                raise ValueError("the ranks of a sample are not 1, 2, 3, …")
            if "score" in table.column_names:
                scores = table["score"].to_numpy().reshape(n, k)
            else:
                scores = np.tile(-np.arange(k, dtype=np.float32), (n, 1))
            if kind == "item":
                ids = _whole_numbers(table, "item")
                if ids.max() >= 2**31:
                    raise ValueError(f"it has item {ids.max()}")
            else:
                if semantic_ids is None:
                    raise BenchError(f"rankings {path} hold SIDs, and the run has none")
                index = {s: i for i, s in enumerate(semantic_ids.strings)}
                column = table["sid"].combine_chunks().dictionary_encode()
                own = np.array([index[s] for s in column.dictionary.to_pylist()] + [-1], dtype=np.int32)
                ids = own[column.indices.fill_null(len(own) - 1).to_numpy()]
            stored = (table.schema.metadata or {}).get(KEYS)
            keys = np.frombuffer(stored, dtype="<u8") if stored is not None else None
            tied = _tied(table, n, k)
        except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
            raise BenchError(f"rankings {path} cannot be read ({error}); run the method again") from None
        if keys is not None and len(keys) != n:
            raise BenchError(f"rankings {path} have {len(keys)} sample keys for {n} samples; run the method again")
        rankings = cls(kind, ids.reshape(n, k).astype(np.int32), scores, keys, tied)
        try:
            rankings.check(items if kind == "item" else len(index))
        except BenchError as error:
            raise BenchError(f"rankings {path} are damaged ({error.message}); run the method again") from None
        return rankings if samples is None else rankings.of(samples, path)

    def of(self, samples: Keyed, path: Path) -> Rankings:
        """The same in the order of `samples`; `path` is where they were read, for errors.

        Raises:
            BenchError: they are of other samples.
        """
        return self.take(_places(self.keys, len(self.ids), samples, path))


def _tied(table: Any, n: int, k: int) -> Tied | None:
    """Who was cut among ties; None where the file, of an older version, does not say.

    Raises:
        ValueError: it is damaged.
    """
    if "tied" not in table.column_names:
        return None
    counts = _whole_numbers(table, "tied").reshape(n, k)
    if (counts != counts[:, :1]).any():
        raise ValueError("the candidates of a sample are tied with different numbers of others")
    packed = (table.schema.metadata or {}).get(TIES)
    if packed is None and counts.any():
        raise ValueError("it counts ties and does not say who is tied")
    return Tied.unpack(packed, counts[:, 0]) if packed is not None else Tied.none(n)


def _whole_numbers(table: Any, column: str) -> np.ndarray:
    """A column of whole numbers, none of them absent.

    Raises:
        ValueError: it is something else.
    """
    values: np.ndarray = table[column].to_numpy()
    if values.dtype.kind not in "iu":
        raise ValueError(f"column {column} holds no whole numbers, or not in each row")
    return values.astype(np.int64)


def _places(keys: np.ndarray | None, n: int, samples: Keyed, path: Path) -> np.ndarray:
    """Where in a file the ranking of each sample stands ``[len(samples)]``."""
    if n != len(samples):
        raise BenchError(f"rankings {path} are of {n} samples, test has {len(samples)}; run the method again")
    if keys is None:
        return samples.rows if samples.rows is not None else np.arange(n)
    order = np.argsort(keys, kind="stable")
    place = np.minimum(np.searchsorted(keys, samples.keys, sorter=order), n - 1)
    rows: np.ndarray = order[place]
    if not np.array_equal(keys[rows], samples.keys):
        raise BenchError(f"rankings {path} are of other samples than test has; run the method again")
    return rows
