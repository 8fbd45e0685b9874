"""Recipes: YAML in the form of ``configs/methods/*.yaml``, a method as its components and their settings.

A recipe may name a ``base`` and give only what differs. It says what a method does; nothing here runs it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.builtin import HOME
from harness.checks import outlines, schemas
from harness.checks.outlines import COMPONENTS
from harness.errors import BenchError, unknown
from harness.files import read_yaml

INHERITED = (*COMPONENTS, "prompts", "stages", "dataset", "probe", "protocol")
"""What a recipe has from its base: what the method does. What it says of itself (summary, reference …) is its own."""
GROUPS = ("counting", "traditional", "generative", "llm", "ours", "community")
"""The sections of the leaderboard; a method from outside is the community's unless its recipe says otherwise."""
EARLIER_GROUPS = {"floor": "counting"}
"""Names of groups in older recipes and records."""


def shipped(*parts: str) -> Path:
    """A file of the packaged ``configs`` folder."""
    return HOME.joinpath("configs", *parts)


def deepspeed(name: str) -> Path:
    """A DeepSpeed configuration: a shipped one by its name, or a file."""
    own = shipped("deepspeed", f"{name}.yaml")
    return own if name == Path(name).name and own.is_file() else Path(name)


def group_of(name: str) -> str:
    """A group by the name it has now."""
    return EARLIER_GROUPS.get(name, name)


def read_recipe(source: Any, group: str = "ours") -> dict[str, Any]:
    """A recipe from a path or a dict, its outline checked (its settings are checked by :func:`resolve`).

    Args:
        group: where the recipe names none.
    """
    if not isinstance(source, (dict, str, Path)):
        raise BenchError(f"a recipe must be a path or a dict, not {type(source).__name__}")
    recipe = dict(source) if isinstance(source, dict) else read_yaml(Path(source))
    where = f"recipe {recipe.get('name', source)}"
    schemas.check(outlines.Recipe, recipe, where, "mend the recipe")
    recipe["group"] = group_of(recipe.get("group") or group)
    if recipe["group"] not in GROUPS:
        raise unknown("group", recipe["group"], GROUPS, f"in {where}")
    return recipe


def with_base(recipe: Mapping[str, Any], find: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """A whole recipe: what it gives itself, and the rest from its base, and that one's base, and so on.

    Args:
        find: the recipe of a name, as :func:`read_recipe` gave it.

    Raises:
        BenchError: a base does not exist, bases go in a circle, or a stage to leave out is not there.
    """
    trail = [str(recipe["name"])]
    chain = [recipe]
    while chain[-1].get("base"):
        base = str(chain[-1]["base"])
        if base in trail:
            raise BenchError(f"recipe {trail[0]}: its bases go in a circle: {' → '.join([*trail, base])}")
        trail.append(base)
        chain.append(find(base))
    whole: dict[str, Any] = {key: copy.deepcopy(chain[-1][key]) for key in INHERITED if key in chain[-1]}
    for layer in reversed(chain[:-1]):
        _lay_over(whole, layer)
    own = {key: copy.deepcopy(value) for key, value in recipe.items() if key not in (*INHERITED, "without")}
    for key in ("stages", "decoder"):
        if not whole.get(key):
            raise BenchError(f"recipe {recipe['name']} lacks '{key}', and so do its bases")
    return own | whole


def _lay_over(whole: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Put what a recipe gives over what it has from its base."""
    for key in (*COMPONENTS, "dataset", "probe", "protocol"):
        if key in layer:
            whole[key] = _merged(whole.get(key), layer[key])
    if "prompts" in layer:
        whole["prompts"] = layer["prompts"]
    stages = {stage["name"]: stage for stage in whole.get("stages", [])}
    for name in layer.get("without") or []:
        if name not in stages:
            raise unknown("stage", str(name), stages, f"in without of recipe {layer['name']}")
        del stages[name]
    for stage in layer.get("stages") or []:
        before = stages.get(stage["name"], {})
        same = stage.get("trainer", before.get("trainer")) == before.get("trainer")
        stages[stage["name"]] = (before if same else {}) | copy.deepcopy(dict(stage))
    whole["stages"] = list(stages.values())


def _merged(before: Any, given: Any) -> Any:
    """A component's settings over those of the base's; another component starts from its own defaults."""
    old = {"name": before} if isinstance(before, str) else dict(before or {})
    new = {"name": given} if isinstance(given, str) else copy.deepcopy(given)
    if not isinstance(new, dict):
        return new  # null: the method does without
    return old | new if new.get("name", old.get("name")) == old.get("name") else new


def tuned(method: str, category: str, data: str) -> tuple[str, ...]:
    """``key=value`` settings that a search on the category's own valid found for a method; most have none.

    They stand in ``configs/datasets/<category>.yaml``, go before all ``--set``, and are written into the run's
    ``config.yaml`` like any other setting. They belong to the data that was searched on, and to no other of its name.

    Args:
        data: the fingerprint of the data as it is here.
    """
    return tuple(_tuned_on(category, data).get("methods", {}).get(method, []))


def tuned_trials(category: str, data: str) -> int:
    """How many trainings on that data the settings of :func:`tuned` are from; 0 where there are none."""
    return int(_tuned_on(category, data).get("trials", 0))


def _tuned_on(category: str, data: str) -> dict[str, Any]:
    found: dict[str, Any] = facts(category).get("tuned") or {}
    return found if found and data.startswith(found["data"]) else {}


def facts(category: str) -> dict[str, Any]:
    """What ``configs/datasets/<category>.yaml`` says of a category; nothing where there is none.

    Raises:
        BenchError: the file is damaged.
    """
    path = shipped("datasets", f"{category}.yaml")
    return read_yaml(path, outlines.DatasetFacts, "restore it from the package") if path.is_file() else {}
