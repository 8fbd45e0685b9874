"""Errors for the user: one line that says what is wrong, where, and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click

from harness.text.plain import line, masked


class BenchError(click.ClickException):
    """Bad input or a failed contract; the command line prints the message and exits with 2."""

    exit_code = 2

    def format_message(self) -> str:
        """The message as it is shown: one line, without control characters and credentials."""
        return shown(self.message)


def shown(message: str) -> str:
    """A message as it is shown: one line, without control characters and credentials."""
    return masked(line(message))


class NotFinite(BenchError):
    """A loss, a gradient or a score that is no number: the model has diverged."""


class NoTexts(BenchError):
    """No item has a text, where something is made of texts."""


class ContractError(BenchError):
    """A component does not keep what :mod:`harness.components` promises: a fault of its code, not of data."""


def unknown(kind: str, name: str, known: Iterable[str], mend: str = "") -> BenchError:
    """The error for a name that does not exist, with the nearest names that do."""
    known = sorted(set(known))
    by_lower = {k.lower(): k for k in known}
    near = [by_lower[k] for k in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.55)]
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known:
        shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
        hint = f"known: {shown}"
    else:
        hint = "none is registered"
    return BenchError(f"unknown {kind} '{name}'; {hint}{' ' + mend if mend else ''}")
