"""What the checks share: a promise that must hold, a component made small, settings that say what they mean."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.errors import ContractError
from harness.plugins import Plugins
from harness.runs.chosen import Component
from harness.settings import settings as validated
from harness.settings import settings_class

SEED = 7


def require(condition: Any, reason: str) -> None:
    """Raise what is broken, where a promise does not hold."""
    if not condition:
        raise ContractError(reason)


def settings_documented(kind: str, name: str, plugins: Plugins) -> None:
    """Every setting has a line on its meaning, and its default is valid."""
    factory = plugins.get(kind, name)
    if kind == "reward" and not isinstance(factory, type):
        return
    known = settings_class(factory, f"{kind} {name}")
    bare = [field.name for field in dataclasses.fields(known) if not field.metadata.get("help")]
    require(
        not bare,
        f"settings {', '.join(bare)} of {known.__module__}.{known.__qualname__} say nothing of their meaning; write "
        'name: type = setting(default, "one line: meaning, units") (from harness.components)',
    )
    validated(factory, {f.name: _default(f) for f in dataclasses.fields(known) if _has_default(f)}, f"{kind} {name}")


def _has_default(field: Any) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _default(field: Any) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def made(kind: str, name: str, plugins: Plugins) -> Any:
    """A component with its own small settings."""
    factory = plugins.get(kind, name)
    if kind == "reward" and not isinstance(factory, type):
        return factory
    return Component(kind, name, validated(factory, getattr(factory, "small", {}), f"{kind} {name}")).make(plugins)
