"""Models of finished runs, for methods that build on another method's run (a reward, an assistant, a memory)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness import store
from harness.components import Context
from harness.config import read_yaml, resolve
from harness.errors import BenchError
from harness.store import Store


def recorded_model(directory: Path, context: Context) -> Any:
    """The model of the last stage of a finished run, as its own decoder would take it.

    Raises:
        BenchError: the directory holds no finished run, or one of other data.
    """
    keep = Store(directory)
    manifest = keep.manifest
    if "run" not in manifest.get("done", {}):
        raise BenchError(f"{directory} is not the directory of a finished run; give one that bench run printed")
    data = manifest.get("fingerprints", {}).get("data")
    if data != context.data:
        raise BenchError(
            f"{directory} is a run on other data: {manifest.get('category')}, fingerprint {str(data)[:8]} there, "
            f"{context.data[:8]} here"
        )
    recipe = read_yaml(directory / store.CONFIG)
    category, seed = recipe.pop("category"), recipe.pop("seed")
    config = resolve(recipe, category, seed, [], context.plugins)
    number, stage = len(config.stages), config.stages[-1]
    trainer = context.plugins.get("trainer", stage.trainer.name)(stage.trainer.settings)
    theirs = dataclasses.replace(
        context,
        directory=keep.stage(number, stage.name),
        previous=keep.stage(number - 1, config.stages[-2].name) if number > 1 else None,
        prompts=config.prompts,
    )
    return trainer.load(theirs)
