"""Every console block of the pages that teach is typed in, one after another, and its output compared.

An output line holds as it stands; ``…`` in it is anything, and a line of ``…`` alone is any lines.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("tutorial.md", "serving.md")
NOT_HERE = ("git clone", "python3 -m venv", "pip install")
"""What makes the environment that the test is in."""


def typed(text):
    """``[(command, [output lines])]`` of a page's console blocks."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        quoted = False
        for line in block.splitlines():
            if quoted:
                found[-1] = (found[-1][0] + "\n" + line, [])
            elif line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
            if line.count("'") % 2:
                quoted = not quoted
    return found


def as_pattern(lines):
    parts = [r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in lines]
    return re.compile("".join(parts) + r"\Z")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page, tmp_path):
    threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | threads | {"PATH": path}
    for command, lines in typed((DOCS / page).read_text(encoding="utf-8")):
        if command.startswith(NOT_HERE):
            continue
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        if lines:
            assert as_pattern(lines).match(done.stdout.rstrip("\n") + "\n"), (command, lines, done.stdout)


def test_the_pages_are_read_as_they_are_written():
    text = "```console\n$ python -c '\nx = 1\n'\none …\n…\n$ two\n```\n"
    assert typed(text) == [("python -c '\nx = 1\n'", ["one …", "…"]), ("two", [])]
    assert as_pattern(["one …", "…"]).match("one or two\nthree\n")
    assert as_pattern(["one"]).match("one\n")
    assert not as_pattern(["one"]).match("one\ntwo\n")
    assert not as_pattern(["one", "two"]).match("two\none\n")
    for page in PAGES:
        assert len(typed((DOCS / page).read_text(encoding="utf-8"))) > 5
