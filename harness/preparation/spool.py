"""All purchases on disk, as hashes of who and what, and when; the names of those that are kept are read back last.

What is in memory grows with the purchases that are kept, not with those that are read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from harness.errors import BenchError
from harness.preparation.purchases import Purchases

PREFIX = ".preparing."
FIELDS = {"users": np.uint64, "items": np.uint64, "times": np.int64}


def _swept(folder: Path) -> None:
    """Remove what killed processes left."""
    for path in folder.glob(f"{PREFIX}*"):
        number = path.name.removeprefix(PREFIX).partition(".")[0]
        if number.isdigit() and not Path(f"/proc/{number}").exists() and Path("/proc/self").exists():
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Numbered:
    """Ids by number, in the order in which they first appear.

    Attributes:
        codes: ``[n]`` int64 number of each purchase's.
        names: the id of each number.
    """

    codes: np.ndarray
    names: list[str]


def _numbered(parts: list[pa.Array]) -> Numbered:
    coded = pa.chunked_array(parts, pa.string()).combine_chunks().dictionary_encode()
    return Numbered(coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist())


class Spool:
    """A temporary folder with columns of numbers and a file of names; it is there inside ``with``.

    Attributes:
        n: purchases so far.
        folder: its place, beside the result.
    """

    def __init__(self, beside: Path):
        """`beside` is a folder on the disk where the result goes."""
        self.folder = beside / f"{PREFIX}{os.getpid()}.{secrets.token_hex(4)}"
        self.n = 0

    def __enter__(self) -> Spool:
        _swept(self.folder.parent)
        try:  # a signal may come at any line; what was made until then goes
            self._open()
            return self
        except BaseException as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise _full(self.folder, error) from None
            raise

    def _open(self) -> None:
        self.folder.mkdir(mode=0o700)
        self._columns = {name: open(self.folder / name, "wb") for name in FIELDS}  # noqa: SIM115 (closed by done)
        self._schema = pa.schema([("user", pa.string()), ("item", pa.string())])
        self._file = pa.OSFile(str(self.folder / "names"), "wb")
        options = pa.ipc.IpcWriteOptions(compression="lz4" if pa.Codec.is_available("lz4") else None)
        self._names = pa.ipc.new_file(self._file, self._schema, options=options)

    def add(self, part: Purchases) -> None:
        """Take a batch in.

        Raises:
            BenchError: the disk is full.
        """
        if not len(part.times):
            return
        try:
            columns = {"users": hashed(part.users), "items": hashed(part.items), "times": part.times}
            for name, values in columns.items():
                values.astype(FIELDS[name], copy=False).tofile(self._columns[name])
            self._names.write_batch(pa.record_batch([part.users, part.items], schema=self._schema))
        except OSError as error:
            raise _full(self.folder, error) from None
        self.n += len(part.times)

    def done(self) -> None:
        """Nothing more comes."""
        try:
            self._names.close()
            self._file.close()
            for file in self._columns.values():
                file.close()
        except OSError as error:
            raise _full(self.folder, error) from None

    def column(self, name: str) -> np.ndarray:
        """A column ``[n]``, left on disk."""
        if not self.n:
            return np.zeros(0, FIELDS[name])
        return np.memmap(self.folder / name, FIELDS[name], "r")

    def numbered(self, kept: np.ndarray) -> tuple[Numbered, Numbered]:
        """The users and items of some purchases, given by their places, ascending.

        Raises:
            BenchError: two ids have one hash.
        """
        found: tuple[list[pa.Array], list[pa.Array]] = ([], [])
        start = 0
        for batch in self._batches():
            first, last = np.searchsorted(kept, [start, start + batch.num_rows])
            mine = batch.take(pa.array(kept[first:last] - start))
            for parts, column in zip(found, mine.columns, strict=True):
                parts.append(column)
            start += batch.num_rows
        users, items = (_numbered(parts) for parts in found)
        for name, what in (("users", users), ("items", items)):
            if len(np.unique(self.column(name)[kept])) != len(what.names):
                raise BenchError(
                    f"two {name} have one hash of 64 bits; rename one of them (a letter before all ids does)"
                )
        return users, items

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(self.folder / "names")) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            self.done()
        shutil.rmtree(self.folder, ignore_errors=True)


def hashed(texts: pa.Array) -> np.ndarray:
    """64 bits of each text ``[n]``; whether two texts share them is checked for those that are kept."""
    from pandas.util import hash_array

    coded = texts.dictionary_encode()
    values = hash_array(coded.dictionary.to_numpy(zero_copy_only=False), categorize=False)
    return np.asarray(values)[coded.indices.to_numpy()]


def _full(folder: Path, error: OSError) -> BenchError:
    if error.errno == errno.ENOSPC:
        return BenchError(
            f"{folder.parent} is full: the purchases that are read go there for a while; make room, or --output"
        )
    return BenchError(f"{folder.parent} cannot be written ({error.strerror}); name another folder with --output")
