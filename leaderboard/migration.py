"""Records of older formats brought to the newest: nothing of a run is invented, what follows from it is computed anew.

Metrics, intervals and design effects follow from the target ranks; users of the samples are joined from the data, in
its canonical order; where the settings are from is known where they are those of a shipped recipe.
"""

from __future__ import annotations

import math
import time
from typing import Any

from harness.data import versions
from harness.data.dataset import Dataset
from harness.errors import BenchError
from harness.evaluation import statistics, user_index
from harness.plugins import Plugins
from harness.recipes import tuned
from harness.runs.config import ABOUT, resolve, told

from .record import Record


def migrated(record: Record, dataset: Dataset | None, plugins: Plugins) -> Record:
    """The record in the newest format; itself where there is nothing to do.

    Args:
        dataset: the category as it is here; None, or of another fingerprint: users stay unknown.

    Raises:
        BenchError: its target ranks are damaged.
    """
    content: dict[str, Any] = dict(record.content)
    if dataset is not None and dataset.fingerprint == record.data:
        if user_index.KEY not in content:
            content[user_index.KEY] = user_index.encode(user_index.of(dataset.test))
        ground = versions.of(dataset, {}) | (content.get("ground") or {})
        ground["protocol"] = record.ground["protocol"]
        content["ground"] = ground
    content["settings"] = _about(record, plugins)
    stages = {}
    for name, stage in record.stages.items():
        ranks = {protocol: record.ranks(protocol, name) for protocol in ("sid", "item")}
        known = {protocol: one for protocol, one in ranks.items() if one is not None}
        found: dict[str, Any] = {protocol: one.means() for protocol, one in known.items()}
        users = None
        if "users" in content and known:
            users = user_index.decode(content["users"], len(next(iter(known.values()))))
        if users is not None:
            found |= statistics.recorded({p: statistics.of_one_run(one.values(), users) for p, one in known.items()})
        stages[name] = stage | {key: value for key, value in found.items() if not _close(stage.get(key), value)}
    content["stages"] = stages
    if content == record.content:
        return record
    return Record(content | {"migrated": time.strftime("%F")}, record.place)


def _close(before: Any, now: Any) -> bool:
    """Whether numbers differ by rounding alone: such a difference is no reason to write a file."""
    if isinstance(now, dict):
        return isinstance(before, dict) and before.keys() == now.keys() and all(_close(before[k], now[k]) for k in now)
    if isinstance(now, list):
        return isinstance(before, list) and len(before) == len(now) and all(map(_close, before, now))
    return isinstance(before, float) and math.isclose(before, now, rel_tol=1e-9, abs_tol=1e-12)


def _about(record: Record, plugins: Plugins) -> dict[str, Any]:
    """The settings, with what the shipped recipe says of them where they are the recipe's."""
    settings = dict(record.settings)
    if record.method not in plugins.registry("method"):
        return settings
    recipe = plugins.get("method", record.method)
    for taken in {(), tuned(record.method, record.category, record.data)}:
        try:
            config = resolve(recipe, record.category, record.seed, [], plugins, tuned=taken).as_dict()
        except BenchError:
            continue
        if _same(told(config), told(settings)):
            return settings | {key: config[key] for key in ABOUT if key in config}
    if "settings_from" in settings:
        return settings
    said = {"deterministic": recipe["deterministic"]} if recipe.get("deterministic") is not None else {}
    return settings | said


def _same(config: Any, settings: Any) -> bool:
    """Whether settings that were recorded are those of a recipe; what came into being since is not looked at."""
    if isinstance(settings, dict) and isinstance(config, dict):
        return all(key in config and _same(config[key], value) for key, value in settings.items())
    if isinstance(settings, list) and isinstance(config, list) and len(settings) == len(config):
        return all(_same(a, b) for a, b in zip(config, settings, strict=True))
    return bool(config == settings)
