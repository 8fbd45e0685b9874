"""The same command means the same run: what it reads is part of what it is."""

import shutil

import pytest
from click.testing import CliRunner

from harness import files
from harness.runs import run_directory, identity
from harness.cli import cli
from harness.errors import BenchError
from harness.plugins import load
from tests.commands import bench_run, run_whole

PLUGIN = """
import numpy as np

import helper
from harness import hookimpl
from harness.components import NoSettings


class Counts:
    Settings = NoSettings

    def __init__(self, settings):
        pass

    def fit(self, context):
        return {}

    def load(self, context):
        counts = np.bincount(context.train.targets, minlength=len(context.items))
        return type("Model", (), {"score": lambda self, h: np.tile(helper.SIGN * counts, (len(h), 1))})()


@hookimpl
def bench_trainers():
    return {"counts": Counts}


@hookimpl
def bench_methods():
    return [{"name": "counts", "stages": [{"name": "counts"}], "decoder": {"name": "rank", "k": 20},
             "tokenizer": {"name": "given", "optional": True}}]
"""


def test_content_is_what_is_in_a_file_or_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights.bin").write_bytes(bytes(100))
    before = identity.content(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert identity.content(tmp_path / "copy") == before  # names of folders and dates of files say nothing
    (folder / "weights.bin").write_bytes(bytes(99) + b"1")
    assert identity.content(folder) != before
    (folder / ".cache").mkdir()
    (folder / ".cache/x").write_text("x")
    hidden = identity.content(folder)
    (folder / ".cache/x").write_text("y")
    assert identity.content(folder) == hidden


def test_a_run_is_its_settings_and_weights_however_often_it_is_measured(tmp_path):
    (tmp_path / "stages/1-sasrec/checkpoints").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("name: sasrec")
    weights = tmp_path / "stages/1-sasrec/model.safetensors"
    weights.write_bytes(b"1")
    before = identity.content(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "stages/1-sasrec/checkpoints/x.safetensors").write_bytes(b"x")
    assert identity.content(tmp_path) == before
    weights.write_bytes(b"2")
    assert identity.content(tmp_path) != before


def test_a_package_is_all_of_its_files(tmp_path, monkeypatch):
    from harness.plugins import Plugin

    package = tmp_path / "itspackage"
    package.mkdir()
    for name, text in (("__init__", ""), ("plugin", "from itspackage.other import x"), ("other", "x = 1")):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    plugin = Plugin("p", "1", "package", importlib.import_module("itspackage.plugin"))
    before = identity._code(plugin)
    (package / "other.py").write_text("x = 22")
    assert identity._code(plugin) != before


def test_a_changed_plugin_or_what_it_imports_is_another_run(tmp_path, monkeypatch):
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    plugin, helper = tmp_path / "counts.py", tmp_path / "helper.py"
    plugin.write_text(PLUGIN)
    found = []
    for sign in (1, -1, 1):
        helper.write_text(f"SIGN = {sign}\n")
        sys.modules.pop("helper", None)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        before = set((tmp_path / "runs").rglob("metrics.json"))
        sets = ["dataset.items=60", "dataset.users=60"]
        done = bench_run(tmp_path / "runs", "counts", sets, "--plugin", str(plugin))
        assert done.exit_code == 0, (done.output, done.exception)
        found.append(set((tmp_path / "runs").rglob("metrics.json")) - before)
    assert [len(new) for new in found] == [1, 1, 0]  # the third is the first again
    first, second = (files.read_json(path)["stages"]["counts"]["rankings"] for [path] in map(list, found[:2]))
    assert first != second
    [path] = found[0]
    assert "plugin counts" in files.read_json(path.parent / run_directory.MANIFEST)["fingerprints"]["files"]


def test_a_run_without_local_files_has_the_hash_it_always_had(plugins):
    from harness.runs import pipeline
    from harness.runs.config import resolve
    from harness.data import categories

    sizes = {"items": 60, "users": 60}
    data = categories.read(plugins, "Synthetic", None, sizes)
    sets = [f"dataset.{key}={value}" for key, value in sizes.items()]
    config = resolve(plugins.get("method", "markov"), "Synthetic", 1, sets, plugins)
    assert identity.files(config, data, plugins) == {}
    own = config.hash(data=data.fingerprint, given=data.given.fingerprint, origin=None)
    assert pipeline.directory(directory.Path("runs"), config, data, None, plugins).name == f"seed1-{own}"


def test_a_finished_run_says_that_nothing_was_run(tmp_path):
    sets = ["dataset.items=60", "dataset.users=60"]
    run, _ = run_whole(tmp_path, "markov", sets)
    words = ["run", "--method", "markov", "--category", "Synthetic", "--seed", "1", "--runs", str(tmp_path),
             "--no-mlflow", "--no-figures", *(w for s in sets for w in ("--set", s))]  # fmt: skip
    said = CliRunner().invoke(cli, words)
    assert said.exit_code == 0 and "nothing is trained or decoded" in said.output
    assert files.read_json(run / run_directory.MANIFEST)["finished"] in said.output


@pytest.mark.parametrize("seed", ["-1", str(2**32), "99999999999999999999"])
@pytest.mark.parametrize("method", ["markov", "sasrec"])
def test_a_seed_out_of_range_is_one_line_and_leaves_nothing(tmp_path, seed, method):
    done = bench_run(tmp_path / "runs", method, [], "--seed", seed)
    assert done.exit_code == 2 and "0–4294967295" in done.output
    assert not (tmp_path / "runs").exists()


def test_the_last_seed_runs(tmp_path):
    sets = ["dataset.items=60", "dataset.users=60", "gru4rec.epochs=1", "gru4rec.loss=bce"]
    run_whole(tmp_path, "gru4rec", sets, "--seed", str(2**32 - 1))


@pytest.mark.parametrize("command", ["run", "tune", "suite"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, command):
    (tmp_path / "file").write_text("x")
    where = ["--category", "Synthetic", "--runs", str(tmp_path / "file/runs"), "--no-mlflow"]
    words = {
        "run": ["run", "--method", "markov"],
        "tune": ["tune", "--method", "markov", "--trials", "1"],
        "suite": ["suite", "run", "table1", "--only", "markov"],
    }[command]
    done = CliRunner().invoke(cli, [*words, *where])
    assert done.exit_code == 2, (done.output, done.exception)
    assert "cannot be written" in done.output and "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_broken_folder_leaves_none_that_it_made(tmp_path, monkeypatch):
    monkeypatch.setattr(directory.os, "access", lambda *_: False)
    with pytest.raises(BenchError, match="cannot be written"):
        files.make_folder(tmp_path / "a/b/c")
    assert not (tmp_path / "a").exists()


def test_plugins_of_the_shipped_kinds_are_no_files(plugins):
    assert load().registry("trainer").keys() == plugins.registry("trainer").keys()
