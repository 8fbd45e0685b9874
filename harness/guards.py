"""What stands around a plugin's hooks, so that pluggy's calls say who gave what, and who failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from harness.errors import BenchError


@dataclass
class Offer:
    """What a registration hook returned, and the plugin that it is of."""

    content: Any
    plugin: str


def offering(implementation: Any, hook: str, place: str, _: bool = False) -> Callable[..., Any]:
    """A registration hook's function whose result carries its plugin, and whose failure names it."""
    function, plugin = implementation.function, implementation.plugin_name

    def offered(*arguments: Any) -> Any:
        try:
            content = function(*arguments)
        except BenchError:
            raise
        except Exception as error:
            raise BenchError(f"{place} fails in {hook}: {type(error).__name__}: {error}") from error
        return content if hook == "bench_commands" else Offer({} if content is None else content, plugin)

    return offered


def guard(implementation: Any, hook: str, place: str, observes: bool) -> Callable[..., Any]:
    """An observer that never fails a run, or a wrapper whose failure names its plugin."""
    wraps = implementation.wrapper or implementation.hookwrapper
    if not observes:
        return _named(implementation.function, hook, place)
    return _wrapper(implementation.function, hook, place) if wraps else _observer(implementation.function, hook, place)


def _warn(hook: str, place: str, error: Exception | str) -> None:
    reason = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    click.echo(f"Warning: {place} failed in {hook}: {' '.join(reason.split())}", err=True)


def _observer(function: Callable[..., Any], hook: str, place: str) -> Callable[..., Any]:
    def observed(*arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            _warn(hook, place, error)

    return observed


def _wrapper(function: Callable[..., Any], hook: str, place: str) -> Callable[..., Any]:
    """A lifecycle wrapper: where it fails, before or after its ``yield``, it is as if it were not there."""

    def wrapped(*arguments: Any) -> Iterator[Any]:
        inner = None
        try:
            inner = function(*arguments)
            next(inner)
        except StopIteration:
            inner = None
            _warn(hook, place, "it did not yield")
        except Exception as error:
            inner = None
            _warn(hook, place, error)
        result = yield
        if inner is None:
            return result
        try:
            inner.send(result)
            _warn(hook, place, "it yields twice")
        except StopIteration as stop:
            return stop.value
        except Exception as error:
            _warn(hook, place, error)
        return result

    return wrapped


def _named(function: Callable[..., Any], hook: str, place: str) -> Callable[..., Any]:
    def wrapped(*arguments: Any) -> Iterator[Any]:
        try:
            return (yield from function(*arguments))
        except BenchError:
            raise
        except Exception as error:
            raise BenchError(f"{place} fails in its wrapper of {hook}: {type(error).__name__}: {error}") from error

    return wrapped
