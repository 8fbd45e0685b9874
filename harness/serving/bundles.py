"""What is exported of a run: its settings and weights, the items, and how often each was bought. No purchase of anyone.

::

    bundle/
      bundle.json      category, fingerprint, how much of a history is read
      items.parquet    id, texts and popularity of each item
      run/             manifest, settings, semantic IDs and the stages' models
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le, Len

from harness import files
from harness.checks.schemas import CategoryName, Count, Schema
from harness.data.dataset import Dataset, Items, Samples
from harness.errors import BenchError
from harness.runs.run_directory import CONFIG, MANIFEST, SEMANTIC_IDS, RunDirectory

RUN = "run"
FACTS = "bundle.json"
ITEMS = "items.parquet"
PLACES = (".", "artifacts/bundle")
"""Where a bundle lies: in a folder of its own, or in an MLflow model."""
TEXTS = ("titles", "descriptions", "brands", "categories")
AGAIN = "export the run again (bench export …)"
LEFT = ("checkpoint*", "log.jsonl", "clock.json", "*.tmp")
"""What a stage needs while it trains alone."""


class BundleFacts(Schema):
    """``bundle.json``."""

    category: CategoryName
    fingerprint: Annotated[str, Len(64, 64)]
    caption: str = ""
    longest: Annotated[int, Ge(1), Le(1_000_000)]
    items: Count
    named: bool
    sums: dict[str, Annotated[str, Len(64, 64)]]
    sum: Annotated[str, Len(64, 64)]


def inside(directory: Path) -> Path | None:
    """The bundle within an exported folder; None where the folder is none."""
    return next((directory / place for place in PLACES if (directory / place / FACTS).is_file()), None)


def write(folder: Path, run: RunDirectory, dataset: Dataset) -> None:
    """Write the bundle of a finished run into an empty folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    items, popularity = dataset.items, np.bincount(dataset.train.targets, minlength=len(dataset.items))
    columns = {name: pa.array(getattr(items, name), pa.string()) for name in TEXTS}
    columns["id"] = pa.array(items.ids, pa.string()) if items.ids else pa.nulls(len(items), pa.string())
    columns["popularity"] = pa.array(popularity)
    pq.write_table(pa.table(columns), folder / ITEMS, compression="zstd")
    copy = folder / RUN
    copy.mkdir()
    for name in (MANIFEST, CONFIG, SEMANTIC_IDS):
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, copy / name)
    shutil.copytree(run.path / "stages", copy / "stages", ignore=shutil.ignore_patterns(*LEFT))
    facts = {
        "category": dataset.category,
        "fingerprint": dataset.fingerprint,
        "caption": dataset.caption,
        "longest": int(dataset.train.histories.items.shape[1]),
        "items": len(items),
        "named": bool(items.ids),
        "sums": {str(path.relative_to(folder)): files.sha256(path) for path in _files(folder)},
    }
    files.write_json(folder / FACTS, facts | {"sum": _sum(facts)})


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FACTS)


def _sum(facts: dict[str, Any]) -> str:
    told = {key: value for key, value in facts.items() if key != "sum"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _check(bundle: Path, facts: dict[str, Any]) -> None:
    """Every file is as it was written.

    Raises:
        BenchError: one is missing, or is not.
    """
    if facts["sum"] != _sum(facts):
        raise BenchError(f"{bundle / FACTS} is not what was written; {AGAIN}")
    for name, digest in facts["sums"].items():
        path = bundle / name
        if ".." in Path(name).parts or not path.is_file() or files.sha256(path) != digest:
            raise BenchError(f"{path} is missing or not what was written; {AGAIN}")


def read(bundle: Path) -> tuple[Dataset, np.ndarray]:
    """The catalogue of a bundle as a dataset without samples, and the items' popularity ``[n_items]``.

    Raises:
        BenchError: a file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = files.read_json(bundle / FACTS, AGAIN, BundleFacts)
    _check(bundle, facts)
    try:
        table = pq.read_table(bundle / ITEMS, partitioning=None)
        texts = {name: [text or "" for text in table[name].to_pylist()] for name in TEXTS}
        ids = table["id"].to_pylist() if facts["named"] else []
        popularity = np.asarray(table["popularity"].to_numpy(), dtype=np.int64)
        if len(table) != facts["items"] or None in ids:
            raise ValueError(f"{len(table)} items of {facts['items']}")
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise BenchError(f"{bundle / ITEMS} is damaged ({' '.join(str(error).split())[:100]}); {AGAIN}") from None
    nobody: Any = Samples.build([], [], [], facts["longest"])
    dataset = Dataset(
        facts["category"], Items(**texts, ids=ids), nobody, nobody, nobody, "bundle", caption=facts["caption"]
    )
    dataset.__dict__["fingerprint"] = facts["fingerprint"]
    return dataset, popularity
