"""A recipe resolved on the data that it will run on: settings of a search belong to that data, and come with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.data.dataset import Dataset
from harness.plugins import Plugins
from harness.recipes import tuned
from harness.runs.config import RunConfig, resolve


def resolve_on(
    recipe: dict[str, Any], category: str, seed: int, overrides: Sequence[str], plugins: Plugins,
    read: Callable[[dict[str, Any]], Dataset], method: str = "",
) -> tuple[RunConfig, Dataset]:  # fmt: skip
    """The settings of a run, those that were found on this very data included, and the data.

    Args:
        read: gives the category under dataset settings.
        method: the name that settings are looked up by; empty for a recipe of one's own, which has what it says.

    Raises:
        BenchError: a setting is wrong, or the category cannot be read.
    """
    config = resolve(recipe, category, seed, overrides, plugins)
    dataset = read(config.dataset)
    found = tuned(method, category, dataset.fingerprint) if method else ()
    if found:
        config = resolve(recipe, category, seed, overrides, plugins, tuned=found)
    return config, dataset
