"""``bench data prepare``: raw files in, a split out, written as a whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness import files
from harness.checks import names
from harness.data import prepared
from harness.data.dataset import Items
from harness.errors import BenchError
from harness.preparation import asked, cores, purchases, splitting
from harness.preparation.asked import Preparation
from harness.preparation.item_table import Table
from harness.preparation.spool import Spool
from harness.progress import Progress
from harness.version import DISTRIBUTION, __version__


@dataclass(frozen=True)
class Prepared:
    """A split that was written, and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]


def prepare(
    name: str, interactions: list[Path], tables: list[Path], made: Preparation, recipe: str, output: Path, force: bool,
    progress: Progress,
) -> Prepared:  # fmt: skip
    """Make a split of raw files.

    Args:
        interactions: files of purchases, read one after another.
        tables: files of items; none: items have no text.
        recipe: its name, for the manifest.
        output: the data directory that gets a folder of that name.
        force: in place of a folder that is there.

    Raises:
        BenchError: a file, a row or a setting is wrong, or nothing is left; nothing is written.
    """
    names.checked_category(name, "--name")
    target = output / name
    _replaceable(target, force)
    left_out = Counter[str]()
    table = Table.of(purchases.look_at(tables, made.encoding, "item"), made) if tables else None
    if made.titles == "clean" and table is None:
        raise BenchError("prepare.titles = clean is a rule for items' titles; give their file: --items FILE")
    _each_once(interactions)
    sources = purchases.look_at(interactions, made.encoding)
    reader = purchases.Reader(sources, made, table.wanted(left_out) if table and made.titles == "clean" else None)
    with files.made_for(output):
        return _made(name, interactions, tables, table, reader, made, recipe, target, left_out, progress)


def _made(
    name: str, interactions: list[Path], tables: list[Path], table: Table | None, reader: purchases.Reader,
    made: Preparation, recipe: str, target: Path, left_out: Counter[str], progress: Progress,
) -> Prepared:  # fmt: skip
    with Spool(target.parent) as spool:
        with progress.bar(0, name, "row") as bar:
            for part in reader:
                spool.add(part)
                bar.update(reader.read - bar.n)
        spool.done()
        left_out.update(reader.left_out)
        places, made = cores.kept(spool, made, left_out)
        if not len(places):
            raise BenchError(f"no purchase is left of {reader.read:,} rows ({_counted(left_out)}); loosen the rules")
        progress.say(f"{name}: {len(places):,} of {reader.read:,} purchases are kept")
        of_users, of_items = spool.numbered(places)
        times = np.asarray(spool.column("times")[places])
    users, items = of_users.codes, of_items.codes
    user_ids, item_ids = of_users.names, of_items.names
    order = splitting.order(users, items, item_ids, times, made)
    users, items, times = users[order], items[order], times[order]
    roles = splitting.roles(users, times, made, left_out)
    texts = table.texts(item_ids, left_out) if table else Items.without_texts(len(item_ids), item_ids)
    settings = dataclasses.asdict(made)
    given = f"given {'in ' + reader.unit if reader.unit else 'as dates'}, kept in microseconds; dates are UTC"
    said = given if reader.timed else "none: the order of the file"
    manifest = {
        "name": name,
        "recipe": recipe or "own",
        "version": version_of(settings),
        "made by": f"{DISTRIBUTION} {__version__}",
        "settings": settings,
        "times": said,
        "sources": [_source(path) for path in [*interactions, *tables]],
        "rows read": reader.read,
        "left out": dict(left_out),
        "kept": {"users": len(user_ids), "items": len(item_ids), "purchases": len(users)},
        "samples": {split: int((roles == number).sum()) for split, number in prepared.SPLITS.items()},
    }
    with files.replace_folder(target) as folder:
        prepared.write(folder, user_ids, texts, {"user": users, "item": items, "time": times, "split": roles})
        text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)
        files.write_text(folder / prepared.MANIFEST, text)
    return Prepared(target, manifest)


def _each_once(paths: list[Path]) -> None:
    """Refuse a file of purchases that is given twice, under whatever name."""
    known: dict[str, Path] = {}
    for path in paths:
        if path.is_file() and sum(p.is_file() and p.stat().st_size == path.stat().st_size for p in paths) > 1:
            before = known.setdefault(files.sha256(path), path)
            if before is not path:
                raise BenchError(f"{path} holds what {before} holds: its purchases would count twice; give it once")


def _replaceable(target: Path, force: bool) -> None:
    """Refuse a target that is there, and with `force` whatever is no prepared split alone."""
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        raise BenchError(f"{target} is there already; --force puts the new one in its place, or give another --name")
    ours = {prepared.MANIFEST, prepared.INTERACTIONS, prepared.USERS_FILE, prepared.ITEMS_FILE}
    if target.is_symlink() or not target.is_dir() or not (target / prepared.MANIFEST).is_file():
        raise BenchError(f"{target} is no prepared split, and --force would remove it; move it, or give another --name")
    if other := sorted(path.name for path in target.iterdir() if path.name not in ours):
        raise BenchError(f"{target} also holds {', '.join(other)[:120]}, which --force would remove; move that first")


def version_of(settings: dict[str, Any]) -> str:
    """12 digits that name the rules of a split; how the files call things is none of them."""
    rules = {key: value for key, value in settings.items() if key not in asked.OF_THE_FILES}
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:12]


def _source(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": files.sha256(path)}


def _counted(left_out: Counter[str]) -> str:
    return "; ".join(f"{number:,} {reason}" for reason, number in left_out.items()) or "none was read"
