"""Settings of components: a dataclass whose fields carry their meaning, validated before anything is made."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.errors import BenchError, unknown


def setting(
    default: Any, help: str, only: tuple[str, Callable[[Any], bool]] | None = None, components: str = "",
    instead: tuple[str, ...] = (),
) -> Any:  # fmt: skip
    """A field of a ``Settings`` dataclass: its default and one line on its meaning (units, source).

    Args:
        only: when it is read at all, in words and as a test of the settings, such as
            ``("loss is not full", lambda s: s.loss != "full")``. Setting it otherwise is an error.
        components: the kind of component that it names (``reward``): a name, or names with weights or settings. The
            harness makes them, and hands them over as ``context.parts.made(<setting>)``.
        instead: words that may stand there and name no component, such as ``none``.
    """
    metadata: dict[str, Any] = {"help": help} | ({"only": only} if only else {})
    metadata |= {"components": components, "instead": instead} if components else {}
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NoSettings:
    """For a component without settings."""


def is_default(field: Any, settings: Any) -> bool:
    """Whether a field of settings has its default."""
    made = field.default_factory() if field.default is dataclasses.MISSING else field.default
    return bool(getattr(settings, field.name) == made)


def unread(settings: Any) -> dict[str, str]:
    """``{setting: when it is read}`` of those that are set and that nothing reads under the others."""
    return {
        field.name: only[0]
        for field in dataclasses.fields(settings)
        if (only := field.metadata.get("only")) and not only[1](settings) and not is_default(field, settings)
    }


def settings(factory: Any, values: dict[str, Any], where: str) -> Any:
    """The validated ``Settings`` of a component class.

    Raises:
        BenchError: the class has none, or a value is unknown or of a wrong type.
    """
    return _validate(settings_class(factory, where), values, where)


def settings_class(factory: Any, where: str) -> type:
    """The ``Settings`` dataclass of a component.

    Raises:
        BenchError: it has none, or it is no dataclass.
    """
    name = getattr(factory, "__name__", str(factory))
    known = getattr(factory, "Settings", None)
    if known is None:
        raise BenchError(
            f"{where}: {name} has no Settings; write Settings = NoSettings in it (from harness.components), or a "
            "frozen dataclass of settings"
        )
    if not (isinstance(known, type) and dataclasses.is_dataclass(known)):
        raise BenchError(f"{where}: {name}.Settings must be a dataclass, not {known!r:.60}; put @dataclass above it")
    return known


def _types(hint: Any) -> set[Any]:
    """The types that a value of an annotation may have: those of a union one by one."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return set(map(type, inside))
    return set().union(*map(_types, inside)) if origin in (typing.Union, types.UnionType) else {hint}


def _validate(settings_class: type, values: dict[str, Any], where: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    names = {f.name for f in dataclasses.fields(settings_class)}
    for key in values:
        if key not in names:
            raise unknown("setting", f"{where}.{key}", [f"{where}.{n}" for n in names])
    try:
        hints = typing.get_type_hints(settings_class)
        for key, value in values.items():  # pydantic takes true for the number 1
            if isinstance(value, bool) and {bool, object, typing.Any}.isdisjoint(_types(hints[key])):
                raise BenchError(f"setting {where}.{key} = {str(value).lower()} is none of its values; it is no switch")
        return TypeAdapter(settings_class).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([where, *map(str, first["loc"])])
        raise BenchError(f"setting {place} = {first['input']!r}: {first['msg']}") from None
    except BenchError:
        raise
    except Exception as error:  # a __post_init__ of a plugin, or annotations that no validator can be made of
        name = f"{settings_class.__module__}.{settings_class.__qualname__}"
        raise BenchError(f"settings of {where} ({name}) cannot be made: {type(error).__name__}: {error}") from error
