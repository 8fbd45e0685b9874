import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import plugins as manager
from harness.cli import cli
from harness.errors import BenchError

ROOT = Path(__file__).parents[2]
OUTSIDE = ROOT / "tests/external"

GOOD = """
from harness import hookimpl
__version__ = "9.9"
class Own:
    Settings = None
@hookimpl
def bench_decoders():
    return {"NAME": Own}
"""


def write(path, text):
    path.write_text(text)
    return str(path)


def test_built_ins_register_under_the_four_hooks_of_the_user(plugins):
    assert {"given", "rqkmeans"} <= set(plugins.registry("tokenizer"))
    assert {"minionerec-sft", "minionerec-grpo"} <= set(plugins.registry("trainer"))
    assert {"beam", "exact", "hf-generate"} <= set(plugins.registry("decoder"))
    assert {"sid", "item", "invalid", "levels"} <= set(plugins.registry("metric"))


def test_a_plugin_file_is_loaded_and_listed(tmp_path):
    file = write(tmp_path / "mine.py", GOOD.replace("NAME", "my-decoder"))
    result = CliRunner().invoke(cli, ["plugins", "--plugin", file])
    assert result.exit_code == 0, result.output
    assert "mine 9.9 (file" in result.output
    assert "my-decoder" in result.output


def test_a_name_clash_names_both_plugins(tmp_path):
    plugins = manager.load([write(tmp_path / "mine.py", GOOD.replace("NAME", "beam"))])
    with pytest.raises(BenchError, match=r"decoder 'beam' is registered by both plugins\.decoders.*and mine"):
        plugins.registry("decoder")


def test_a_broken_plugin_is_named_and_skipped_or_an_error(tmp_path, monkeypatch, capsys):
    broken = write(tmp_path / "broken.py", "import no_such_package")
    monkeypatch.setenv("BENCH_PLUGINS", broken)
    plugins = manager.load()
    assert "beam" in plugins.registry("decoder")
    assert "broken.py" in plugins.broken[0]
    assert "no_such_package" in capsys.readouterr().err
    with pytest.raises(BenchError, match="no_such_package"):
        manager.load(strict=True)


def test_a_misspelt_hook_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(BenchError, match="bench_decoders"):
        manager.load([write(tmp_path / "typo.py", GOOD.replace("bench_decoders", "bench_decoder"))])


def test_the_environment_loads_plugins_and_keeps_others_out(tmp_path, monkeypatch):
    file = write(tmp_path / "mine.py", GOOD.replace("NAME", "my-decoder"))
    monkeypatch.setenv("BENCH_PLUGINS", f"{file},-plugins.minionerec")
    plugins = manager.load()
    assert "my-decoder" in plugins.registry("decoder")
    assert "minionerec" not in plugins.registry("method")


def test_a_failing_observer_never_fails_the_run(tmp_path, capsys):
    text = "from harness import hookimpl\n@hookimpl\ndef bench_run_started(run):\n    raise ValueError('no')\n"
    plugins = manager.load([write(tmp_path / "watch.py", text)])
    plugins.notify("bench_run_started", run=None)
    assert "watch.py) failed in bench_run_started: ValueError: no" in capsys.readouterr().err


def test_without_the_minionerec_folder_the_harness_works(tmp_path):
    for folder in ("harness", "plugins", "baselines", "configs", "leaderboard"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(tmp_path / "plugins/minionerec")
    # an editable install's finder would find the folder at its origin
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "from harness.cli import main; main()"
    )
    command = [sys.executable, "-c", script, "run", "--method", "popularity", "--category", "Synthetic", "--no-mlflow"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([sys.executable, "-c", script, "methods"], cwd=tmp_path, capture_output=True, text=True)
    assert "popularity" in listed.stdout
    assert "minionerec" not in listed.stdout


def test_an_outside_package_is_installed_and_run_by_name(tmp_path):
    """A real package in a real venv, whose entry point is all that it declares."""
    source = shutil.copytree(OUTSIDE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv/bin/python"
    site = next((tmp_path / "venv/lib").glob("python*")) / "site-packages"
    # what this interpreter has is there too, so that only the plugin itself is installed
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n{ROOT}\n")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", source]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def bench(*words):
        return subprocess.run(
            [python, "-m", "harness", *words], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
        )

    listed = bench("plugins").stdout
    assert "lastitem 1.2.3 (package bench-lastitem)" in listed
    done = bench("run", "--method", "lastitem", "--category", "Synthetic", "--no-mlflow")
    assert done.returncode == 0, done.stderr
    assert "lastitem" in done.stdout
    assert bench("hello").stdout == "hello from lastitem\n"
