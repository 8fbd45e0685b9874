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
NOT_HERE = ("git clone", "python3 -m venv", "pip install")
"""What makes the environment that the test is in."""
FETCHED = ("bench data fetch Beauty", "bench run --method sasrec --category Beauty", "bench data prepare Beauty_5")
"""What downloads, or reads what a reader has downloaded (tests/data has servers and files of that kind)."""
TRAINED = ("bench score --model",)
"""What reads a folder that a reader brings (tests/data/test_foreign.py has such a one)."""


def own_data(folder):
    """A reader's CSV of purchases, and what another system recommends to the same users."""
    users, items = 60, 60
    bought = {user: [(user * 5 + step * 7) % items for step in range(6)] for user in range(users)}
    lines = [f"u{user},p{item},{user * 100 + step}" for user, own in bought.items() for step, item in enumerate(own)]
    (folder / "my.csv").write_text("u,i,t\n" + "\n".join(lines) + "\n")
    lines = [f"u{user},p{(user + place) % items},{place + 1}" for user in bought for place in range(10)]
    (folder / "theirs.csv").write_text("user,item,rank\n" + "\n".join(lines) + "\n")


PAGES = {"tutorial.md": None, "serving.md": None, "data.md": own_data}


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
            elif found:
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
    if PAGES[page] is not None:
        PAGES[page](tmp_path)
    for command, lines in typed((DOCS / page).read_text(encoding="utf-8")):
        if command.startswith((*NOT_HERE, *FETCHED, *TRAINED)):
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
