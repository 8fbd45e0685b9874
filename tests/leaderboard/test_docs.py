"""The tables of the documentation are what the recorded files give."""

from leaderboard.docs import ROOT, filled, tables


def test_the_documentation_holds_the_recorded_tables():
    found = tables()
    shown = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        assert filled(text, found) == text, f"{path.name}: run make docs"
        shown |= {name for name in found if f"<!-- {name} -->" in text}
    assert shown == set(found)
