"""Progress bars on the terminal, and nothing where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click


class Progress:
    """Bars for work of over two seconds; on a pipe or with `quiet`, only the lines of :meth:`say`."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet

    @contextmanager
    def bar(self, total: int, label: str, unit: str = "it") -> Iterator[Any]:
        """A bar with ``update(n)`` and ``set_postfix(**values)``; it appears after two seconds."""
        from tqdm import tqdm

        hidden = self.quiet or not sys.stderr.isatty()
        with tqdm(total=total, desc=label, unit=unit, delay=2, disable=hidden, leave=False, dynamic_ncols=True) as bar:
            yield bar

    def over(self, values: Iterable[Any], total: int, label: str, unit: str = "it") -> Iterator[Any]:
        """The values, one step of a bar each."""
        with self.bar(total, label, unit) as bar:
            for value in values:
                yield value
                bar.update(1)

    def say(self, line: str) -> None:
        """A line for the person at the terminal (stderr; results go to stdout)."""
        if not self.quiet:
            click.echo(line, err=True)
