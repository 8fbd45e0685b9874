"""``make release``: build, check what was built in empty environments, and write the notes of the version.

    python -m tests.release [--dirty]

Nothing is uploaded. ``dist/`` holds the sdist, the wheel and ``NOTES.md``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from harness.version import __version__

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PYTHONS = ("3.11", "3.14")
"""The oldest that is supported, and the newest that is tried; one that is not on this machine is said to be."""
TRIED = (
    ("bench", "--version"),
    ("bench", "run", "--method", "hybrid", "--category", "Synthetic", "--set", "dataset.items=200", "--set",
     "dataset.users=400", "--no-mlflow", "--no-figures", "--quiet"),
    ("bench", "runs", "list"),
)  # fmt: skip
MUST = ("harness/py.typed", "harness/serving/page/page.html", "harness/builtin/configs/methods/minionerec.yaml")


def main() -> None:
    """Build and check, or say in one line what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dirty", action="store_true", help="also from a tree with changes that are not committed")
    options = parser.parse_args()
    changes = _out("git", "status", "--porcelain")
    if changes and not options.dirty:
        sys.exit("the tree has changes that are not committed; commit them, or --dirty for a trial")
    notes = notes_of((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), __version__)
    shutil.rmtree(DIST, ignore_errors=True)
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST), str(ROOT))
    [wheel], [sdist] = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    check_contents(wheel, sdist)
    for version in PYTHONS:
        python = shutil.which(f"python{version}")
        print(f"Python {version}: {tried(wheel, python) if python else 'not on this machine, not tried'}", flush=True)
    (DIST / "NOTES.md").write_text(notes, encoding="utf-8")
    print(f"{wheel.name} {wheel.stat().st_size:,} bytes, {sdist.name} {sdist.stat().st_size:,} bytes, NOTES.md")


def notes_of(text: str, version: str) -> str:
    """The section of a version in the changelog.

    Raises:
        SystemExit: there is none.
    """
    found = re.search(rf"^## {re.escape(version)}(?=[ \n]).*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        sys.exit(f"CHANGELOG.md has no section '## {version}'; write one, or mend harness/version.py")
    return found[0].strip() + "\n"


def check_contents(wheel: Path, sdist: Path) -> None:
    """One importable name, what must be there, and nothing of data, runs or secrets.

    Raises:
        SystemExit: something else is in it, or something is missing.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    with tarfile.open(sdist) as packed:
        inside = [name.partition("/")[2] for name in packed.getnames()]
    tops = {name.partition("/")[0] for name in names}
    odd = sorted(top for top in tops if top != "harness" and not top.endswith(".dist-info"))
    missing = [name for name in MUST if name not in names]
    wrong = [
        n for n in [*names, *inside] if re.search(r"(^|/)(mlruns|mlartifacts|\.env|__pycache__)/|^(runs|shared)/", n)
    ]
    wrong += [n for n in names if "leaderboard/results" in n]
    for what, found in (("other names", odd), ("not in the wheel", missing), ("must not be there", wrong)):
        if found:
            sys.exit(f"{wheel.name}: {what}: {', '.join(found[:5])}")


def tried(wheel: Path, python: str) -> str:
    """Install the wheel in an empty environment, away from the repository, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        _run(python, "-m", "venv", f"{folder}/venv")
        binaries = Path(folder) / "venv/bin"
        _run(str(binaries / "pip"), "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel))
        for words in TRIED:
            _run(str(binaries / words[0]), *words[1:], at=folder)
    return "installed and used"


def _run(*words: str, at: str = "") -> None:
    done = subprocess.run(words, cwd=at or ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)[:200]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}")


def _out(*words: str) -> str:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
