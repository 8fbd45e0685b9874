"""Tables of the documentation from recorded files: ``python -m tests.benchmarks.docs [--check]``.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from harness.report import table

ROOT = Path(__file__).parents[2]
SPEED = ROOT / "docs" / "benchmarks.json"


def speed_table(record: dict[str, Any]) -> str:
    """The rows of a benchmark run, and what they were measured on."""

    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    lines = [
        [r["what"], number(r["fast"]), number(r["usual"]), r["unit"], f"{r['ratio']:.1f}×", r["same"]]
        for r in record["rows"]
    ]
    hardware = record["hardware"]
    caption = (
        f"{hardware['processor']}, {record['threads']} threads, {record['category']}, {record['date']}, revision "
        f"{record['revision']}, peak memory of the whole process {record['peak memory GiB']:g} GiB."
    )
    return table(["what", "fast", "usual", "unit", "ratio", "same result"], lines) + "\n\n" + caption


def tables() -> dict[str, str]:
    """``{name: table}`` of all recorded files."""
    return {"speed": speed_table(json.loads(SPEED.read_text(encoding="utf-8")))}


def filled(text: str, found: dict[str, str]) -> str:
    """A document with its named tables replaced."""
    for name, content in found.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda m, content=content: f"{m[1]}{content}\n{m[2]}", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a document differs")
    options = parser.parse_args()
    found = tables()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        new = filled(text, found)
        if new != text and options.check:
            raise SystemExit(f"{path.name} does not hold the recorded tables; run python -m tests.benchmarks.docs")
        if new != text:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
