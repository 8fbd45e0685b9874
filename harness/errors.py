"""Errors for the user: one line that says what is wrong, where, and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click


class BenchError(click.ClickException):
    """Bad input or a failed contract; the command line prints the message and exits with 2."""

    exit_code = 2


def unknown(kind: str, name: str, known: Iterable[str], mend: str = "") -> BenchError:
    """The error for a name that does not exist, with the nearest names that do."""
    known = sorted(set(known))
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=3, cutoff=0.45)
    near = [k for k in known if k.lower() in near]
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known:
        shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
        hint = f"known: {shown}"
    else:
        hint = "none is registered"
    return BenchError(f"unknown {kind} '{name}'; {hint}{' ' + mend if mend else ''}")
