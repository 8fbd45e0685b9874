"""Finished runs read back: their data, their semantic IDs, and their model for methods that build on it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness import store
from harness.components import Context
from harness.config import RunConfig, read_yaml, resolve
from harness.data import catalogue
from harness.data.dataset import Dataset
from harness.errors import BenchError
from harness.plugins import Plugins
from harness.semantic_ids import SemanticIds
from harness.store import Store


def need_finished(keep: Store) -> dict[str, Any]:
    """The manifest of a finished run.

    Raises:
        BenchError: the directory holds no finished run.
    """
    manifest = keep.manifest
    if "run" not in manifest.get("done", {}):
        raise BenchError(f"{keep.directory} is not the directory of a finished run; give one that bench run printed")
    return manifest


def stage_names(keep: Store) -> list[str]:
    """The stages of a run, in order."""
    return [stage["name"] for stage in read_yaml(keep.directory / store.CONFIG)["stages"]]


def settings(keep: Store, plugins: Plugins) -> RunConfig:
    """The settings of a run; those that came into being since have their defaults.

    Raises:
        BenchError: one of them is no longer known.
    """
    recipe = read_yaml(keep.directory / store.CONFIG)
    category, seed = recipe.pop("category"), recipe.pop("seed")
    for stage in recipe.get("stages", []):  # allowed before there were bounds: steps in place of a share, no patience
        if isinstance(stage.get("eval_every"), float):
            stage["eval_every"] = min(stage["eval_every"], 1.0) if stage["eval_every"] > 0 else 1.0
        if isinstance(stage.get("patience"), int):
            stage["patience"] = max(stage["patience"], 0)
    return resolve(recipe, category, seed, [], plugins)


def semantic_ids(keep: Store) -> SemanticIds | None:
    """The semantic IDs that a run used, or None where it did without.

    Raises:
        BenchError: the run had some, and their file is missing, damaged or another's.
    """
    expected = keep.manifest["fingerprints"]["semantic_ids"]
    if expected is None:
        return None
    return SemanticIds.read(keep.directory / store.SEMANTIC_IDS, "run the method again", expected)


def read_dataset(keep: Store, plugins: Plugins, data_dir: str | None) -> Dataset:
    """The category that a run was made on, as it is now.

    Raises:
        BenchError: it cannot be found, or its content is not what the run saw.
    """
    config, manifest = read_yaml(keep.directory / store.CONFIG), keep.manifest
    dataset = catalogue.read(plugins, config["category"], data_dir, config["dataset"])
    if dataset.fingerprint != manifest["fingerprints"]["data"]:
        raise BenchError(
            f"{keep.directory} was run on {config['category']} with fingerprint "
            f"{manifest['fingerprints']['data'][:12]}; what is found there now has {dataset.fingerprint[:12]}"
        )
    return dataset


def recorded_model(directory: Path, context: Context) -> Any:
    """The model of the last stage of a finished run, as its own decoder would take it.

    Raises:
        BenchError: the directory holds no finished run, or one of other data.
    """
    keep = Store(directory)
    manifest = need_finished(keep)
    data = manifest.get("fingerprints", {}).get("data")
    if data != context.data:
        raise BenchError(
            f"{directory} is a run on other data: {manifest.get('category')}, fingerprint {str(data)[:8]} there, "
            f"{context.data[:8]} here"
        )
    config = settings(keep, context.plugins)
    number, stage = len(config.stages), config.stages[-1]
    trainer = stage.trainer.make(context.plugins)
    theirs = dataclasses.replace(
        context,
        backbone=config.backbone.make(context.plugins) if config.backbone is not None else None,
        directory=keep.stage(number, stage.name),
        previous=keep.stage(number - 1, config.stages[-2].name) if number > 1 else None,
        prompts=config.prompts,
    )
    return trainer.load(theirs)
