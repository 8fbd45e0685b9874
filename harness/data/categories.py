"""Where data is looked for, which categories are there, and reading one of them by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import recipes
from harness.checks import names
from harness.data import fetching, published, read_cache
from harness.data.dataset import Dataset
from harness.data.problems import Problems
from harness.errors import BenchError, unknown
from harness.plugins import Plugins
from harness.progress import Progress
from harness.settings import settings as validated

ENVIRONMENT_VARIABLE = "BENCH_DATA"


@dataclass(frozen=True)
class Category:
    """A category and where it was found; root is None where it is generated."""

    name: str
    layout: str
    root: Path | None


def roots(data_dir: str | None) -> list[Path]:
    """Data directories in order: --data-dir, $BENCH_DATA, ./data, the user's cache."""
    candidates = [data_dir, os.environ.get(ENVIRONMENT_VARIABLE), "data"]
    known = [Path(c) for c in candidates if c]
    try:
        return [*known, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genrec-bench"]
    except RuntimeError:  # nobody's home: a user without HOME and without an entry in the list of users
        return known


def find(plugins: Plugins, data_dir: str | None) -> list[Category]:
    """All categories; of several with one name the first found counts.

    Raises:
        BenchError: --data-dir was given and is no folder.
    """
    if data_dir and not Path(data_dir).is_dir():
        raise BenchError(f"--data-dir {data_dir} is not a folder")
    by_name: dict[str, Category] = {}
    for root in [*(r for r in roots(data_dir) if r.is_dir()), None]:
        for layout in plugins.registry("dataset"):
            for name in _listed(plugins.get("dataset", layout), layout, root):
                by_name.setdefault(name, Category(name, layout, root))
    return list(by_name.values())


def _listed(reader: Any, layout: str, root: Path | None) -> list[str]:
    """The categories that a reader finds.

    Raises:
        BenchError: it fails, or gives what are no names; says which reader.
    """
    try:
        found = list(reader.categories(root))
    except BenchError:
        raise
    except Exception as error:
        raise BenchError(
            f"dataset reader {layout}: categories({root}) failed ({type(error).__name__}: {error}); mend its plugin"
        ) from error
    if not all(isinstance(name, str) for name in found):
        raise BenchError(f"dataset reader {layout}: categories({root}) gave {found!r:.60}, no texts; mend its plugin")
    return found


def read(
    plugins: Plugins, name: str, data_dir: str | None, settings: dict[str, Any], problems: Problems | None = None
) -> Dataset:
    """Read a category.

    Args:
        settings: of the reader, from the recipe's or ``--set``'s ``dataset``.
        problems: collects what is wrong; without it the first error is raised.

    A category that is not here and can be fetched is fetched where ``BENCH_FETCH`` is 1.

    Raises:
        BenchError: no such category (with where it was looked for, or how it is fetched), or the data is unusable.
    """
    names.checked_category(name)
    categories = {c.name: c for c in find(plugins, data_dir)}
    if name not in categories and (entry := published.find(name)) is not None:
        if os.environ.get(fetching.FETCH) != "1":
            raise BenchError(entry.offer)
        fetching.fetch(entry, roots(data_dir)[-1], Progress())
        categories = {c.name: c for c in find(plugins, data_dir)}
    if name not in categories:
        looked = ", ".join(str(r) for r in roots(data_dir))
        mend = f"(looked in {looked}; give --data-dir or set {ENVIRONMENT_VARIABLE}, or use the embedded Synthetic)"
        raise unknown("category", name, categories, mend)
    category = categories[name]
    _alone(plugins, category)
    reader = plugins.get("dataset", category.layout)
    made = reader(validated(reader, settings, "dataset"))
    cache = read_cache.Cache(roots(None)[-1], category.root, name, made)
    dataset = cache.read() if problems is None else None
    if dataset is None:
        collected = problems if problems is not None else Problems()
        dataset = made.read(category.root, name, collected)
        collected.stop_on_errors()
        cache.keep(dataset)
    return dataset.with_caption("; ".join(c for c in (dataset.caption, _published(dataset)) if c))


def _alone(plugins: Plugins, category: Category) -> None:
    """Refuse a category that one data directory holds in two layouts: which is meant?

    Raises:
        BenchError: it does; names both.
    """
    if category.root is None:
        return
    layouts = [
        layout
        for layout in plugins.registry("dataset")
        if category.name in _listed(plugins.get("dataset", layout), layout, category.root)
    ]
    if len(layouts) > 1:
        raise BenchError(
            f"{category.root} holds {category.name} in {len(layouts)} layouts ({', '.join(layouts)}); leave one of "
            "them, or name the folder of one as --data-dir"
        )


def read_if_here(plugins: Plugins, name: str, data_dir: str | None, settings: dict[str, Any]) -> Dataset | None:
    """A category, or None where it is not found; for what can be said without it too."""
    if name not in {category.name for category in find(plugins, data_dir)}:
        return None
    return read(plugins, name, data_dir, settings)


def _published(dataset: Dataset) -> str:
    """How the rows compare with the published split, where one is known (``configs/datasets``)."""
    facts = recipes.facts(dataset.category)
    if dataset.layout != facts.get("layout"):
        return ""
    notes = []
    for split, rows in facts.get("published_rows", {}).items():
        here = len(dataset.splits[split])
        if here != rows:
            notes.append(f"{split}: reconstructed ({here:,}/{rows:,} rows)")
    return "; ".join(notes) or "the published split"
