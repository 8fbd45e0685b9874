"""The C library's memory allocator, told to keep what is freed: for a process of ours alone.

A training step asks for the same tens of megabytes again and again. glibc gives each back to the system at once and
lets the kernel fill it with zeros at the next step: up to a third of a small model's time. A library must not change
that behind its user's back, so only the command ``bench`` does, and leaves it where the user has settings of their own.
"""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""``mallopt``'s names of its settings (malloc.h)."""
KEPT = 2**30
"""Bytes: what is smaller comes from the heap, and this much of its free end is not given back."""
OWN = ("MALLOC_", "GLIBC_TUNABLES")
"""Environment variables by which a user sets the allocator; with them nothing is changed."""


def keep() -> bool:
    """Keep what is freed in this process; whether it is done."""
    if not sys.platform.startswith("linux") or any(name.startswith(OWN) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(name, KEPT) == 1 for name in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
