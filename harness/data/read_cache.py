"""What readers made of large files, kept in columns: the second reading of a category takes a fraction of the first.

An entry is named by the content of every file that could matter, the reader's settings and the code that reads; so it
is never stale. What cannot be kept, or is damaged, is read from the files again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.data.dataset import Dataset, Histories, Items, Samples
from harness.data.reading import folders
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError

OFF = "BENCH_READ_CACHE"
"""Set to 0: nothing is kept, and nothing that was kept is used."""
FOLDER = ".read"
LEAST_BYTES = 2 * 2**20
"""Smaller categories are read from their files at once."""
MOST_ENTRIES = 12
FACTS = "facts.json"
TEXTS = ("titles", "descriptions", "brands", "categories", "ids")
ARRAYS = ("users", "items", "lengths", "numbers", "targets", "rows")


class Cache:
    """The entry of one category under one reader.

    Attributes:
        folder: where it is, or will be; None: nothing is kept of it.
    """

    def __init__(self, home: Path, root: Path | None, category: str, reader: Any):
        self.folder: Path | None = None
        if root is None or os.environ.get(OFF) == "0" or not getattr(reader, "kept_in_columns", False):
            return
        with contextlib.suppress(OSError):
            paths = sorted(_files(root, category))
            if sum(path.stat().st_size for path in paths) >= LEAST_BYTES:
                self.folder = home / FOLDER / _key(root, paths, category, reader)

    def read(self) -> Dataset | None:
        """The dataset, as it was kept; None where it was not, or is damaged."""
        if self.folder is None or not self.folder.is_dir():
            return None
        try:
            dataset = _load(self.folder)
            os.utime(self.folder)
        except (OSError, ValueError, KeyError, TypeError, BenchError):
            shutil.rmtree(self.folder, ignore_errors=True)
            return None
        return dataset

    def keep(self, dataset: Dataset) -> None:
        """Write it, where that is possible; the oldest entries go."""
        if self.folder is None or dataset.oracle is not None:
            return
        with contextlib.suppress(OSError, BenchError):
            with files.replace_folder(self.folder) as folder:
                _dump(dataset, folder)
            files.keep_newest(self.folder.parent, MOST_ENTRIES)


def _files(root: Path, category: str) -> Iterator[Path]:
    """Every file that a reader may look at: those that begin with the category's name, and those in its folder."""
    for folder in folders(root):
        for path in folder.iterdir():
            if path.is_file() and (path.name.startswith(category) or folder.name == category):
                yield path


def _key(root: Path, paths: list[Path], category: str, reader: Any) -> str:
    digest = hashlib.sha256(_code(inspect.getfile(type(reader))).encode())
    settings = dataclasses.asdict(reader.settings)
    digest.update(json.dumps([category, settings], sort_keys=True, default=str).encode())
    for path in paths:
        digest.update(f"{path.relative_to(root)}:{files.sha256(path)};".encode())
    return digest.hexdigest()[:32]


@functools.cache
def _code(reader: str) -> str:
    """The source of what reads; `reader` is the file of its class."""
    here = Path(__file__).parent
    names = ("dataset", "prepared", "problems", "ragged", "read_cache", "reading", "semantic_ids")
    parts = [(here / f"{name}.py").read_bytes() for name in names]
    parts.append(Path(reader).read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _dump(dataset: Dataset, folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, part in dataset.splits.items():
        histories = part.histories
        columns = (part.users, histories.items, histories.lengths, histories.users, part.targets, part.rows)
        for kind, array in zip(ARRAYS, columns, strict=True):
            np.save(folder / f"{name}.{kind}.npy", np.asarray(array), allow_pickle=False)
    texts = {name: pa.array(getattr(dataset.items, name) or [None] * len(dataset.items), pa.string()) for name in TEXTS}
    pq.write_table(pa.table(texts), folder / "items.parquet", compression="lz4")
    given = dataset.given
    if given is not None:
        np.save(folder / "codes.npy", given.codes, allow_pickle=False)
    facts = {
        "category": dataset.category,
        "caption": dataset.caption,
        "layout": dataset.layout,
        "rules": dataset.rules,
        "left out": dataset.left_out,
        "source": given.source if given is not None else None,
        "fingerprint": dataset.fingerprint,
    }
    sums = {path.name: files.sha256(path) for path in sorted(folder.iterdir())}
    (folder / FACTS).write_text(json.dumps(facts | {"sums": sums}))


def _load(folder: Path) -> Dataset:
    import pyarrow.parquet as pq

    facts = json.loads((folder / FACTS).read_text())
    for name, digest in facts["sums"].items():
        if files.sha256(folder / name) != digest:
            raise ValueError(f"{name} was changed")
    table = pq.read_table(folder / "items.parquet", partitioning=None)
    texts = {name: table[name].to_pylist() for name in TEXTS}
    if texts["ids"][:1] in ([None], []):
        texts["ids"] = []
    splits = {}
    for name in ("train", "valid", "test"):
        arrays = {kind: np.load(folder / f"{name}.{kind}.npy", allow_pickle=False) for kind in ARRAYS}
        histories = Histories(arrays["items"], arrays["lengths"], arrays["numbers"])
        splits[name] = Samples(arrays["users"], histories, arrays["targets"], arrays["rows"])
    given = None
    if facts["source"] is not None:
        given = SemanticIds(np.load(folder / "codes.npy", allow_pickle=False), facts["source"])
    dataset = Dataset(
        facts["category"], Items(**texts), splits["train"], splits["valid"], splits["test"], facts["layout"], given,
        facts["caption"], left_out=facts["left out"], rules=facts["rules"],
    )  # fmt: skip
    dataset.__dict__["fingerprint"] = facts["fingerprint"]
    return dataset
