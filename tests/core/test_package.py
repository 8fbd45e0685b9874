"""The built wheel in a fresh venv and an empty directory."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("harness", "plugins", "baselines", "configs", "leaderboard")


def test_the_wheel_works_in_an_empty_directory(tmp_path):
    source = tmp_path / "source"
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv/bin/python"
    site = next((tmp_path / "venv/lib").glob("python*")) / "site-packages"
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*words):
        return subprocess.run(words, cwd=empty, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "."})

    assert {p.name for p in site.iterdir()} & {*FOLDERS, "tests"} == {"harness"}  # one importable name
    # research folders of the same names, first on the path, change nothing
    for folder in ("plugins", "configs", "baselines", "leaderboard"):
        (empty / folder).mkdir()
        (empty / folder / "__init__.py").write_text("raise RuntimeError('not mine')\n")
    bench = tmp_path / "venv/bin/bench"
    done = run(bench, "run", "--method", "popularity", "--category", "Synthetic", "--no-mlflow")
    assert done.returncode == 0, done.stderr
    assert (empty / "runs").is_dir()
    assert "minionerec" in run(bench, "methods").stdout
    script = "from harness.builtin.leaderboard import reported; print(len(reported.rows('Industrial_and_Scientific')))"
    assert int(run(python, "-c", script).stdout) > 15
    page = "from importlib.resources import files; print((files('harness.serving') / 'page/page.html').is_file())"
    assert run(python, "-c", page).stdout == "True\n"
