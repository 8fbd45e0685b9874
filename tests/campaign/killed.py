"""``python -m tests.campaign.killed CALL NUMBER WORDS…``: ``bench WORDS``, killed at a rename, a sync or a write.

CALL is ``rename``, ``fsync`` or ``mkdir``; the process kills itself with SIGKILL right before its NUMBERth such call.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

CALLS = {"rename": ("replace", "rename"), "fsync": ("fsync", "fdatasync"), "mkdir": ("mkdir", "unlink")}


def arm(call: str, number: int) -> None:
    """Count the calls from here on."""
    seen = 0

    def counted(function: Any) -> Any:
        def before(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return before

    for name in CALLS[call]:
        setattr(os, name, counted(getattr(os, name)))


if __name__ == "__main__":
    what, number = sys.argv[1], int(sys.argv[2])
    sys.argv[1:] = sys.argv[3:]
    if what != "never":
        arm(what, number)
    from harness.cli import main

    main()
