"""Samples in canonical order, and rankings joined to them by key: whatever order files have, or had."""

import dataclasses
import json

import numpy as np
import pytest
import yaml

from harness.data.dataset import Dataset, Samples
from harness.data.rankings import Rankings
from harness.errors import BenchError
from harness.runs import measuring, run_directory
from harness.runs.run_directory import RunDirectory
from tests.recorded import make_run, skilled

USERS = ["bob", "bob", "ann", "cy", "cy"]
HISTORIES = [[3, 1], [3], [2], [0, 1], [0]]
TARGETS = [4, 1, 0, 5, 1]


def samples(order=range(5), names=None):
    users = [(names or {}).get(u, u) for u in USERS]
    return Samples.build([users[i] for i in order], [HISTORIES[i] for i in order], [TARGETS[i] for i in order], 10)


def content(found):
    return list(zip(found.histories.lists(), found.targets.tolist(), strict=True))


def test_the_order_hangs_neither_on_the_file_nor_on_names():
    expected = content(samples().in_order())
    assert [history for history, _ in expected] == [[0], [0, 1], [2], [3], [3, 1]]  # a user's samples stay together
    for order in ([4, 3, 2, 1, 0], [2, 0, 4, 1, 3]):
        assert content(samples(order).in_order()) == expected
        assert content(samples(order, {"bob": "a", "ann": "z", "cy": "m"}).in_order()) == expected
    found = samples([4, 3, 2, 1, 0]).in_order()
    assert [TARGETS[4 - row] for row in found.rows] == found.targets.tolist()  # and knows its rows of the file
    assert found.in_order() is found
    assert found.user_numbers.tolist() == [0, 0, 1, 2, 2]


def test_draws_and_keys_are_of_samples_not_of_places(tiny):
    shuffled = np.random.default_rng(0).permutation(len(tiny.valid))
    again = tiny.valid.take(shuffled)
    assert again.rows is None
    again = again.in_order()
    assert set(again.keys) == set(tiny.valid.keys) and len(set(again.keys)) == len(again)
    assert content(again.drawn(7, 3)) == content(tiny.valid.drawn(7, 3))


def test_every_dataset_is_in_order(tiny):
    turned = {name: split.take(np.arange(len(split))[::-1]) for name, split in tiny.splits.items()}
    again = dataclasses.replace(tiny, **turned)
    assert isinstance(again, Dataset)
    for name, split in tiny.splits.items():
        assert content(getattr(again, name)) == content(split)
    assert again.fingerprint == tiny.fingerprint


def test_rankings_are_read_in_the_order_of_the_samples(tiny, tmp_path):
    rankings = skilled(tiny, tiny.given, 0.4, 1)
    path = tmp_path / "r.parquet"
    rankings.write(path, tiny.given, tiny.test)
    turned = np.random.default_rng(1).permutation(len(tiny.test))
    again = Rankings.read(path, tiny.given, tiny.test.take(turned))
    np.testing.assert_array_equal(again.ids, rankings.ids[turned])
    other = dataclasses.replace(tiny.test, targets=(tiny.test.targets + 1) % len(tiny.items))
    with pytest.raises(BenchError, match="are of other samples than test has"):
        Rankings.read(path, tiny.given, other)
    Rankings.read(path, tiny.given).write(tmp_path / "copy.parquet", tiny.given)  # a copy keeps the keys
    np.testing.assert_array_equal(Rankings.read(tmp_path / "copy.parquet", tiny.given, tiny.test).ids, rankings.ids)


def without_keys(run, tiny, rows):
    """The rankings file of a run as older versions wrote it: no keys, samples in the order of the test file's rows."""
    path = RunDirectory(run).rankings("sft")
    found = Rankings.read(path, tiny.given, tiny.test)
    back = np.argsort(rows)
    dataclasses.replace(found, ids=found.ids[back], scores=found.scores[back], keys=None).write(path, tiny.given)


def test_a_file_of_an_older_version_is_held_to_the_ranks_recorded_with_it(tiny, plugins, tmp_path):
    run = make_run(tmp_path, tiny, stages=("sft",))
    before = json.loads((run / run_directory.METRICS).read_text())["stages"]["sft"]
    without_keys(run, tiny, tiny.test.rows)
    again = measuring.again(RunDirectory(run), plugins, None)["stages"]["sft"]
    assert again["sid"] == before["sid"] and again["ranks"] == before["ranks"]
    without_keys(run, tiny, np.random.default_rng(2).permutation(len(tiny.test)))  # of a file re-sorted since
    with pytest.raises(BenchError, match="whose order has changed since"):
        measuring.again(RunDirectory(run), plugins, None)


def test_seconds_of_a_stage_are_those_of_all_its_processes(tmp_path):
    clock = run_directory.Clock(tmp_path)
    clock.started -= 100
    clock.noted -= 100
    clock.note()
    again = run_directory.Clock(tmp_path)
    assert 100 <= again.seconds < 105
    (tmp_path / run_directory.CLOCK).write_text("{")
    assert run_directory.Clock(tmp_path).seconds < 5


def test_the_optimum_looks_at_no_more_than_the_history(plugins):
    """With histories of one item the generator follows from one item too, so that its optimum is one."""
    from harness.data import categories

    sizes = {"items": 40, "users": 3000, "max_history": 1, "first_order": 0.0, "second_order": 0.9, "repeat": 0.0}
    data = categories.read(plugins, "Synthetic", None, sizes)
    found = data.oracle.rankings(data.train.histories, "item", 10)
    hits = (found.ids[:, :1] == data.train.targets[:, None]).mean()
    counted = np.zeros((40, 40))
    np.add.at(counted, (data.train.histories.items[:, 0], data.train.targets), 1)
    best = counted.max(axis=1).sum() / len(data.train)  # the best that any ranking of last items does on these samples
    assert hits == pytest.approx(best, abs=0.02)


def test_a_configuration_keeps_its_seed(tiny, plugins, tmp_path):
    from tests.commands import run_whole

    sets = [f"dataset.{k}={v}" for k, v in {"items": 60, "users": 60}.items()]
    run, _ = run_whole(tmp_path / "a", "markov", sets)
    config = run / run_directory.CONFIG
    assert yaml.safe_load(config.read_text())["seed"] == 1
    from click.testing import CliRunner

    from harness.cli import cli

    words = ["run", "--config", str(config), "--category", "Synthetic", "--no-mlflow", "--no-figures", "--quiet"]
    done = CliRunner().invoke(cli, [*words, "--runs", str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    assert [p.name for p in (tmp_path / "b/Synthetic/markov").iterdir()] == [run.name]
    done = CliRunner().invoke(cli, [*words, "--runs", str(tmp_path / "c"), "--seed", "2"])
    assert [p.name[:6] for p in (tmp_path / "c/Synthetic/markov").iterdir()] == ["seed2-"]
