"""For tests of plugins: the conformance suite as functions, and as one test for each promise.

::

    from harness.testing import check_method, load, parametrize_with_checks

    plugins = load("my_plugin.py")

    @parametrize_with_checks("my_plugin.py")
    def test_conformance(check):
        check.run()

    def test_my_method():
        check_method("my-method", plugins)

With pytest, the fixture ``bench_plugins`` gives the built-in and installed plugins, and those of ``BENCH_PLUGINS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.kit.conformance import Check
    from harness.plugins import Plugins

__all__ = [
    "check_backbone", "check_dataset", "check_decoder", "check_method", "check_metric",
    "check_plugin", "check_reward", "check_tokenizer", "load", "parametrize_with_checks", "plugin_checks",
]  # fmt: skip


def load(*files: str | Path) -> Plugins:
    """The built-in plugins, and those of files, package folders, project folders or modules."""
    from harness import plugins

    return plugins.load([str(file) for file in files])


def plugin_checks(*files: str | Path, beside: Sequence[str | Path] = ()) -> list[Check]:
    """Every check of what the plugins of those files register.

    Args:
        beside: further plugins that they build on.
    """
    from harness.kit.conformance import checks_of

    own = load(*beside, *files)
    before = {plugin.name for plugin in load(*beside).loaded}
    return [check for plugin in own.loaded if plugin.name not in before for check in checks_of(plugin, own)]


def check_plugin(*files: str | Path) -> None:
    """Hold all that plugins register to its promises.

    Raises:
        BenchError: the first promise that is broken.
    """
    for check in plugin_checks(*files):
        check.run()


def _check(kind: str, name: str, plugins: Plugins | None = None) -> None:
    """Hold one component to its promises.

    Args:
        name: as it is registered.
        plugins: where it is registered (:func:`load`); the built-ins and installed ones by default.

    Raises:
        BenchError: the first promise that is broken.
    """
    from harness.kit.conformance import checks

    for check in checks(kind, name, plugins if plugins is not None else load()):
        check.run()


check_method = partial(_check, "method")
check_tokenizer = partial(_check, "tokenizer")
check_embedder = partial(_check, "embedder")
check_decoder = partial(_check, "decoder")
check_metric = partial(_check, "metric")
check_reward = partial(_check, "reward")
check_dataset = partial(_check, "dataset")
check_backbone = partial(_check, "backbone")


def parametrize_with_checks(*files: str | Path) -> Callable[[Any], Any]:
    """Decorate a test that takes ``check``: it becomes one test for each promise of the plugins of those files."""
    import pytest

    checks = plugin_checks(*files)
    return pytest.mark.parametrize("check", checks, ids=[check.label for check in checks])
