"""What ``make release`` refuses: notes that are missing, files that must not be shipped."""

import io
import tarfile
import zipfile

import pytest

from harness.version import __version__
from tests.release import MUST, ROOT, check_contents, notes_of


def test_notes_are_the_section_of_the_version():
    text = "# Changelog\n\n## 2.0.0\n\nnew\n\n## 1.0.0 (old)\n\n### Fixed\n\n- a fault\n"
    assert notes_of(text, "1.0.0") == "## 1.0.0 (old)\n\n### Fixed\n\n- a fault\n"
    assert notes_of(text, "2.0.0") == "## 2.0.0\n\nnew\n"
    with pytest.raises(SystemExit, match=r"no section '## 1.0'"):
        notes_of("## 1.0.1\n", "1.0")


def test_the_changelog_has_this_version():
    assert notes_of((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), __version__)


def archives(folder, more=(), left_out=()):
    wheel, sdist = folder / "a.whl", folder / "a.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (*(n for n in MUST if n not in left_out), "genrec_bench-1.dist-info/METADATA", *more):
            archive.writestr(name, "")
    with tarfile.open(sdist, "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("genrec-1/README.md"), io.BytesIO())
    return wheel, sdist


def test_a_wheel_holds_one_name_and_what_it_must(tmp_path):
    check_contents(*archives(tmp_path))


@pytest.mark.parametrize(
    ("more", "left_out", "line"),
    [
        (("plugins/__init__.py",), (), "other names: plugins"),
        ((), (MUST[0],), f"not in the wheel: {MUST[0]}"),
        (("harness/mlruns/a",), (), "must not be there: harness/mlruns/a"),
        (("harness/builtin/leaderboard/results/a.json",), (), "must not be there"),
    ],
)
def test_a_wheel_with_something_else_is_refused(tmp_path, more, left_out, line):
    with pytest.raises(SystemExit, match=line):
        check_contents(*archives(tmp_path, more, left_out))
