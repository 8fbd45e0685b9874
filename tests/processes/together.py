"""Runs one after another in processes that start and meet once: ``torchrun -m tests.processes.together JOBS.json``.

A start costs several times what the run of a test does. Each job is the words of a ``bench`` command; the word after
``--from-run`` may be a pattern that one earlier run answers to. The first that fails ends all.
"""

from __future__ import annotations

import json
import sys
from glob import glob
from pathlib import Path

from harness.cli import cli
from harness.world import world


def main(jobs: Path) -> None:
    part, world.stop = world.stop, lambda: None  # at the end
    for words in json.loads(jobs.read_text()):
        for place, word in enumerate(words):
            if word == "--from-run":
                [words[place + 1]] = glob(words[place + 1])
        cli.main(words, prog_name="bench", standalone_mode=False)
    part()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
