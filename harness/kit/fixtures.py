"""Fixtures for tests of plugins; pytest finds them by the entry point ``pytest11``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.plugins import Plugins


@pytest.fixture(scope="session")
def bench_plugins() -> Plugins:
    """The built-in plugins, installed ones, and those that ``BENCH_PLUGINS`` names."""
    from harness import plugins

    return plugins.load()
