"""Finished runs read back: their data, their semantic IDs, and their model for methods that build on it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.checks.schemas import check as checked
from harness.components import RunInfo
from harness.data import categories
from harness.data.dataset import Dataset
from harness.data.earlier import under
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.files import read_json, read_yaml
from harness.plugins import Plugins
from harness.runs import config, run_files
from harness.runs.config import RunConfig, resolve
from harness.runs.run_directory import CONFIG, DAMAGED, MANIFEST, METRICS, SEMANTIC_IDS, RunDirectory


def need_finished(folder: RunDirectory) -> dict[str, Any]:
    """The manifest of a finished run.

    Raises:
        BenchError: the directory holds no finished run.
    """
    manifest = folder.manifest
    if "run" not in manifest.get("done", {}):
        raise BenchError(f"{folder.path} is not the directory of a finished run; give one that bench run printed")
    return begun(folder)


def begun(folder: RunDirectory) -> dict[str, Any]:
    """The manifest of a run that has begun, finished or not.

    Raises:
        BenchError: it is damaged, or not that of the settings beside it.
    """
    content: dict[str, Any] = checked(run_files.BegunManifest, folder.manifest, folder.path / MANIFEST, DAMAGED)
    settings = configuration(folder)
    for key, name in (("method", "name"), ("category", "category"), ("seed", "seed")):
        if content[key] != settings[name]:
            raise BenchError(
                f"{folder.path}: {key} is {content[key]!r:.60} in {MANIFEST}, {settings[name]!r:.60} in {CONFIG}; "
                f"{DAMAGED}"
            )
    began = ((content.get("ground") or {}).get("protocol") or {}).get("seen", "keep")
    now = (settings.get("protocol") or {}).get("seen", "keep")
    if began != now:
        raise BenchError(f"{folder.path}: protocol.seen is {began} in {MANIFEST}, {now} in {CONFIG}; {DAMAGED}")
    return content


def configuration(folder: RunDirectory) -> dict[str, Any]:
    """The resolved configuration of a run, as ``config.yaml`` has it.

    Raises:
        BenchError: the file is missing or damaged.
    """
    return read_yaml(folder.path / CONFIG, run_files.Config, DAMAGED)


def metrics(folder: RunDirectory) -> dict[str, Any]:
    """The metrics of a finished run, as ``metrics.json`` has them.

    Raises:
        BenchError: the file is missing or damaged.
    """
    mend = f"bench results measure {folder.path} computes it again"
    content: dict[str, Any] = read_json(folder.path / METRICS, mend, run_files.Metrics)
    if list(content["stages"]) != stage_names(folder):
        raise BenchError(f"{folder.path / METRICS} has other stages than {CONFIG}; {mend}")
    return content


def stage_names(folder: RunDirectory) -> list[str]:
    """The stages of a run, in order."""
    return [stage["name"] for stage in configuration(folder)["stages"]]


def settings(folder: RunDirectory, plugins: Plugins) -> RunConfig:
    """The settings of a run; those that came into being since have their defaults.

    Raises:
        BenchError: one of them is no longer known.
    """
    recipe = configuration(folder)
    category, seed = recipe.pop("category"), recipe.pop("seed")
    for stage in recipe.get("stages", []):  # allowed before there were bounds: steps in place of a share, no patience
        if isinstance(stage.get("eval_every"), float):
            stage["eval_every"] = min(stage["eval_every"], 1.0) if stage["eval_every"] > 0 else 1.0
        if isinstance(stage.get("patience"), int):
            stage["patience"] = max(stage["patience"], 0)
    return resolve(recipe, category, seed, [], plugins)


def semantic_ids(folder: RunDirectory) -> SemanticIds | None:
    """The semantic IDs that a run used, or None where it did without.

    Raises:
        BenchError: the run had some, and their file is missing, damaged or another's.
    """
    expected = folder.manifest["fingerprints"]["semantic_ids"]
    if expected is None:
        if (folder.path / SEMANTIC_IDS).exists():
            raise BenchError(f"{folder.path} has {SEMANTIC_IDS}, and {MANIFEST} knows of none; {DAMAGED}")
        return None
    return SemanticIds.read(folder.path / SEMANTIC_IDS, "run the method again", expected)


def read_dataset(folder: RunDirectory, plugins: Plugins, data_dir: str | None) -> Dataset:
    """The category that a run was made on, as it is now, under the run's protocol.

    Raises:
        BenchError: it cannot be found, or its content is not what the run saw.
    """
    config, manifest = configuration(folder), folder.manifest
    dataset = categories.read(plugins, config["category"], data_dir, config.get("dataset") or {})
    if dataset.fingerprint != manifest["fingerprints"]["data"]:
        raise BenchError(
            f"{folder.path} was run on {config['category']} with fingerprint "
            f"{manifest['fingerprints']['data'][:12]}; what is found there now has {dataset.fingerprint[:12]}"
        )
    return under(dataset, config.get("protocol") or {})


def info(folder: RunDirectory, manifest: dict[str, Any], recipe: dict[str, Any], figures: bool = True) -> RunInfo:
    """A finished run as lifecycle hooks see it."""
    method, category, seed = manifest["method"], manifest["category"], manifest["seed"]
    return RunInfo(method, category, seed, folder.path, recipe, figures)


def variant_of(folder: RunDirectory) -> str:
    """The variant of a finished run (:func:`variant`)."""
    manifest = need_finished(folder)
    return variant(
        configuration(folder), manifest["fingerprints"], (manifest["semantic_ids"] or {}).get("source"),
        origin_of(manifest),
    )  # fmt: skip


def origin_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Which run a finished one went on from, and how; None where it started from its own beginning."""
    origin = manifest.get("done", {}).get("from")
    if not origin:
        return None
    more = {key: origin[key] for key in ("anew", "goes_on", "changed", "variant") if key in origin}
    return {"run": Path(origin["run"]).name, "continued": origin.get("continued"), **more}


def variant(
    recipe: dict[str, Any], fingerprints: dict[str, Any], sid_source: str | None, origin: dict[str, Any] | None
) -> str:
    """Hash of all that tells runs apart but the seed: settings, data, given SIDs, and the run gone on from.

    Runs that share it differ by seed only. SIDs that a run made for itself hang on the seed and are not in it.
    """
    told: dict[str, Any] = config.told(recipe)
    told["data"] = str(fingerprints["data"])
    if sid_source == "given":
        told["semantic_ids"] = fingerprints.get("semantic_ids")
    if origin:
        told["origin"] = {k: v for k, v in origin.items() if k != "run"}
    if fingerprints.get("files"):
        told["files"] = fingerprints["files"]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
