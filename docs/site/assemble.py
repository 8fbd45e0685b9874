"""Lay the pages of the site out as they lie in the repository, so that links between them hold.

Links to files that are no pages (code, settings, records) become their names: a site has no such files.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "build/pages"
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "docs/results/*.md", "leaderboard/LEADERBOARD.md",
         "leaderboard/boards/*.md")  # fmt: skip
PICTURES = (".svg", ".png")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def main() -> None:
    """Write ``build/pages``.

    Raises:
        SystemExit: a page links to something that is not there.
    """
    shutil.rmtree(TARGET, ignore_errors=True)
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    wrong: list[str] = []
    for page in pages:
        target = TARGET / _name(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_with_links(page.read_text(encoding="utf-8"), page, set(pages), wrong), encoding="utf-8")
    shutil.copyfile(Path(__file__).parent / "extra.css", TARGET / "extra.css")
    if wrong:
        sys.exit("\n".join(wrong))


def _name(page: Path) -> Path:
    name = page.relative_to(ROOT)
    return Path("index.md") if name == Path("README.md") else name


def _with_links(text: str, page: Path, pages: set[Path], wrong: list[str]) -> str:
    """The text with its links mended; what stands in fences is left as it is."""
    parts = re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(
        part if part.startswith("```") else LINK.sub(lambda link: _mended(link, page, pages, wrong), part)
        for part in parts
    )


def _mended(link: re.Match[str], page: Path, pages: set[Path], wrong: list[str]) -> str:
    picture, words, place = link.groups()
    if re.match(r"[a-z]+:|#", place):
        return link[0]
    name, mark, anchor = place.partition("#")
    path = (page.parent / name).resolve()
    if not path.exists():
        wrong.append(f"{page.relative_to(ROOT)}: {place} is not there")
    elif path in pages:
        up = "../" * (len(_name(page).parts) - 1)
        return f"{picture}[{words}]({up}{_name(path).as_posix()}{mark}{anchor})"
    elif path.suffix in PICTURES:
        copy = TARGET / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        return link[0]
    return words


if __name__ == "__main__":
    main()
