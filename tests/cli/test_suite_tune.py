"""``bench suite tune``: the same budget for every row, resumable, one table."""

import json

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.runs import trials

SUITE = """
name: small
methods:
  - {method: popularity}
  - {method: skip-markov, set: ["dataset.items=60", "dataset.users=100"]}
  - {method: skip-markov, label: short memory, set: ["dataset.items=60", "dataset.users=100", "skip-markov.reach=1"]}
  - {method: sasrec, set: ["dataset.items=60", "dataset.users=100", "sasrec.epochs=0"]}
"""


def bench(folder, *words):
    (folder / "s.yaml").write_text(SUITE)
    return CliRunner().invoke(cli, ["suite", "tune", str(folder / "s.yaml"), "--category", "Synthetic", "--runs",
                                    str(folder / "runs"), "--no-mlflow", "--threads", "1", *words])  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite-tune")
    return folder, bench(folder, "--trials", "3", "--output", str(folder / "table.md"))


def test_every_row_has_the_budget_and_a_line(tuned):
    folder, done = tuned
    record = json.loads((folder / "runs/Synthetic/suites/small/tuning.json").read_text())
    assert record["budget"] == "3 trials"
    searched = [row for row in record["rows"].values() if "trials" in row]
    assert [len(row["trials"]) for row in searched] == [3, 3]
    assert "reach" not in json.dumps(record["rows"]["short memory"]["space"])  # what a row fixes is not searched
    text = (folder / "table.md").read_text()
    for label in ("popularity", "skip-markov", "short memory", "sasrec"):
        assert f"| {label}" in text
    assert "nothing to search" in text
    assert done.exit_code == 1 and "sasrec.epochs" in done.output  # a row that fails is named, the others are done


def test_it_goes_on_where_it_was(tuned, monkeypatch):
    folder, _ = tuned
    monkeypatch.setattr(trials, "run_trial", lambda *_: pytest.fail("a trial was done again"))
    again = bench(folder, "--trials", "3", "--only", "skip-markov")
    assert again.exit_code == 0, again.output


def test_minutes_are_a_budget_too(tmp_path):
    done = bench(tmp_path, "--minutes", "0.02", "--only", "skip-markov")
    assert done.exit_code == 0, done.output
    [path] = tmp_path.glob("runs/Synthetic/skip-markov/*/search.json")
    trials = json.loads(path.read_text())["trials"]
    assert sum(trial["seconds"] for trial in trials[:-1]) < 1.2 <= sum(t["seconds"] for t in trials) + 1.2
    assert "0.02 minutes" in done.output


@pytest.mark.parametrize("words", [[], ["--trials", "2", "--minutes", "1"]])
def test_one_budget_is_needed(words, tmp_path):
    done = bench(tmp_path, *words)
    assert done.exit_code == 2 and "--trials N or --minutes M" in done.output


def test_the_recipe_that_was_found_says_where_its_settings_are_from(tuned):
    folder, _ = tuned
    text = (folder / "runs/Synthetic/skip-markov/tuning/tuned.yaml").read_text()
    assert "settings_from: search" in text and "trials: 3" in text
