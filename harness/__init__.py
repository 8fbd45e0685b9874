"""The core of genrec-bench: it owns the way from data to table, and imports no plugin.

A plugin needs one name from here: ``from harness import hookimpl``.
"""

import pluggy

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("bench")
"""Marks a function as the implementation of a hook of :mod:`harness.hookspecs`."""

__all__ = ["__version__", "hookimpl"]
