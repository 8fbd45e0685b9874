"""The same command means the same run: what it reads is part of what it is."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import files
from harness.cli import cli
from harness.errors import BenchError
from harness.plugins import load
from harness.runs import identity, run_directory
from tests.commands import bench_run, run_whole


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


def test_a_run_without_local_files_has_the_hash_it_always_had(plugins):
    from harness.data import categories
    from harness.runs import pipeline
    from harness.runs.config import resolve

    sizes = {"items": 60, "users": 60}
    data = categories.read(plugins, "Synthetic", None, sizes)
    sets = [f"dataset.{key}={value}" for key, value in sizes.items()]
    config = resolve(plugins.get("method", "markov"), "Synthetic", 1, sets, plugins)
    assert identity.files(config) == {}
    own = config.hash(data=data.fingerprint, given=data.given.fingerprint, origin=None)
    assert pipeline.directory(Path("runs"), config, data, None, plugins).name == f"seed1-{own}"


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
    monkeypatch.setattr(files.os, "access", lambda *_: False)
    with pytest.raises(BenchError, match="cannot be written"):
        files.make_folder(tmp_path / "a/b/c")
    assert not (tmp_path / "a").exists()


def test_plugins_of_the_shipped_kinds_are_no_files(plugins):
    assert load().registry("trainer").keys() == plugins.registry("trainer").keys()


def test_a_run_that_goes_on_from_another_has_one_name_wherever_the_two_are_kept(plugins, tiny, tmp_path):
    from harness.runs import pipeline
    from harness.runs.config import identified, resolve
    from harness.runs.continuation import Origin

    config = resolve(plugins.get("method", "popularity"), "Synthetic", 1, [], plugins)
    origins = [Origin(tmp_path / place / "Synthetic/sasrec/seed1-0a") for place in ("here", "there")]
    first, second = (pipeline.directory(tmp_path / "runs", config, tiny, origin).name for origin in origins)
    assert first == second != pipeline.directory(tmp_path / "runs", config, tiny).name
    other = Origin(tmp_path / "here/Synthetic/sasrec/seed1-0b")
    assert pipeline.directory(tmp_path / "runs", config, tiny, other).name != first
    assert pipeline.directory(tmp_path, config, tiny, Origin(origins[0].directory, anew=True)).name != first
    # a folder that was named by the whole path, as it was before, is still found
    told = identified(tiny.fingerprint, tiny.given.fingerprint, str(origins[0].directory.resolve()), None)
    before = tmp_path / "runs/Synthetic/popularity" / f"seed1-{config.hash(**told)}"
    before.mkdir(parents=True)
    assert pipeline.directory(tmp_path / "runs", config, tiny, origins[0]) == before
    assert pipeline.directory(tmp_path / "runs", config, tiny, origins[1]).name == first
