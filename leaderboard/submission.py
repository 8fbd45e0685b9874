"""A record's way into the leaderboard: exported with its rankings, verified, accepted.

It knows folders of records; what is true of one is :mod:`leaderboard.verify`'s.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from harness import files
from harness.data import categories
from harness.data.dataset import Dataset
from harness.data.earlier import under
from harness.data.rankings import Rankings
from harness.errors import BenchError
from harness.plugins import Plugins
from harness.runs import finished, run_directory
from harness.runs.run_directory import RunDirectory

from .collected import read_all
from .migration import migrated
from .record import Record, trusted
from .verify import Verdict, evidence_folder, verify


def export(record: Record, output: Path, with_rankings: bool = False) -> Path:
    """Write a run's record below ``output/<category>``, and with it its rankings and, where needed, its SIDs.

    Raises:
        BenchError: a rankings file is missing or damaged; nothing is written then.
    """
    path = output / record.category / record.file_name
    if with_rankings:
        run = RunDirectory(record.place)
        semantic_ids = finished.semantic_ids(run)
        with files.replace_folder(evidence_folder(Record(record.content, path))) as folder:
            for stage in record.stages:
                rankings = Rankings.read(run.rankings(stage), semantic_ids)
                rankings.write(folder / f"test-{stage}.parquet", semantic_ids, slim=True)
            if semantic_ids is not None and semantic_ids.source != "given":
                shutil.copyfile(run.path / run_directory.SEMANTIC_IDS, folder / run_directory.SEMANTIC_IDS)
    record.write(path)
    return path


def migrate_all(paths: Sequence[str], plugins: Plugins, data_dir: str | None) -> list[str]:
    """Bring the records of files and folders to the newest format, in place; a line each.

    Raises:
        BenchError: a path holds no record, or one is damaged or contradicts itself; nothing is written then.
    """
    records, here = [trusted(record) for record in _records(paths)], _Datasets(plugins, data_dir)
    found = [(record, migrated(record, here.of(record), plugins)) for record in records]
    lines = []
    for record, new in found:
        if new is record:
            lines.append(f"new     {record.place}")
            continue
        new.write(record.place)
        users = "" if new.users is not None else "; its users are unknown, since its data is not here"
        lines.append(f"written {record.place}{users}")
    return lines


class _Datasets:
    """Categories as records were made on them, each read once."""

    def __init__(self, plugins: Plugins, data_dir: str | None):
        self.plugins, self.data_dir = plugins, data_dir
        self.known: dict[str, Dataset | None] = {}

    def of(self, record: Record) -> Dataset | None:
        """The record's category as it is here, under the record's protocol."""
        settings, protocol = record.settings.get("dataset") or {}, record.settings.get("protocol") or {}
        key = f"{record.category} {sorted(settings.items())} {sorted(protocol.items())}"
        if key not in self.known:
            here = categories.read_if_here(self.plugins, record.category, self.data_dir, settings)
            self.known[key] = under(here, protocol) if here is not None else None
        return self.known[key]


def _records(paths: Sequence[str]) -> list[Record]:
    """The records of files and folders."""
    records: list[Record] = []
    for path in map(Path, paths):
        if not path.exists():
            raise BenchError(f"{path} does not exist; give a record (.json) or a folder of records")
        records += read_all(path) if path.is_dir() else [Record.read(path)]
    return records


def verify_all(
    paths: Sequence[str], plugins: Plugins, data_dir: str | None, rankings: str | None = None
) -> list[Verdict]:
    """The verdict on each record of files and folders.

    Raises:
        BenchError: a path holds no record, or `rankings` is given for several records.
    """
    records, here = _records(paths), _Datasets(plugins, data_dir)
    if rankings and len(records) != 1:
        raise BenchError(f"--rankings {rankings} is for one record; {len(records)} are given")
    if rankings and not Path(rankings).is_dir():
        raise BenchError(f"--rankings {rankings} is no folder; give a run directory")
    folder = Path(rankings) if rankings else None
    return [verify(record, here.of(record), plugins, folder) for record in records]
