"""The core of genrec-bench: it owns the way from data to table, and imports no plugin.

A plugin needs one name from here: ``from harness import hookimpl``. A script or notebook has :func:`run`,
:func:`evaluate`, :func:`load_dataset` and :func:`load_run` (see :mod:`harness.api`).
"""

from typing import TYPE_CHECKING, Any

import pluggy

from harness import moved
from harness.version import __version__

if TYPE_CHECKING:
    from harness.api import evaluate, load_dataset, load_run, run

hookimpl = pluggy.HookimplMarker("bench")
"""Marks a function as the implementation of a hook of :mod:`harness.hookspecs`."""

__all__ = ["__version__", "evaluate", "hookimpl", "load_dataset", "load_run", "run", "score"]

moved.install()


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """The Python API, imported when it is first asked for: the command line stays instant."""
    if name in ("evaluate", "load_dataset", "load_run", "run", "score"):
        from harness import api

        return getattr(api, name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
