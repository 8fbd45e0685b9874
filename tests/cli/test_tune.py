"""A search: on valid only, resumable, recorded."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from harness.cli import cli
from harness.errors import BenchError
from harness.runs import pipeline, tuning
from harness.runs.run import Prepared

SIZES = ["--set", "dataset.items=60", "--set", "dataset.users=120"]
SPACE = """
sasrec.hidden: [8, 16, 33]
sasrec.dropout: {low: 0.1, high: 0.5, step: 0.1}
sasrec.learning_rate: {low: 0.001, high: 0.01, log: true}
"""
SMALL = ["sasrec.epochs=2", "sasrec.hidden=16", "sasrec.blocks=1"]


def bench(*words):
    return CliRunner().invoke(cli, list(words))


def words(folder, *more, trials=3):
    (folder / "space.yaml").write_text(SPACE)
    where = ["--category", "Synthetic", "--runs", str(folder / "runs"), "--space", str(folder / "space.yaml")]
    small = [*SIZES, *(word for setting in SMALL for word in ("--set", setting))]
    return ["tune", "--method", "sasrec", *where, "--trials", str(trials), "--device", "cpu", "--threads", "1", *small,
            *more]  # fmt: skip


def record(folder):
    return json.loads((folder / "runs/Synthetic/sasrec/tuning/search.json").read_text())


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    return folder, bench(*words(folder, "--record", str(folder / "kept.json")))


def test_the_record_holds_every_trial_and_the_defaults_come_first(searched):
    folder, result = searched
    assert result.exit_code == 0, result.output
    found = record(folder)
    assert len(found["trials"]) == 3
    first = found["trials"][0]["settings"]
    assert (first["sasrec.hidden"], first["sasrec.learning_rate"]) == (16, 0.0012)
    complete = [t for t in found["trials"] if t["state"] == "complete"]
    assert found["best"]["valid"]["NDCG@10"] == max(t["valid"]["NDCG@10"] for t in complete)
    assert len(found["data"]) == 64
    assert found["revision"]
    assert found["caption"] == "generated (seed 0)"
    assert json.loads((folder / "kept.json").read_text())["trials"] == found["trials"]
    assert "best: --set sasrec.hidden=" in result.output
    assert not list((folder / "runs").rglob("*.safetensors"))  # weights are not kept


def test_the_tuned_recipe_runs(searched):
    folder, _ = searched
    recipe = folder / "runs/Synthetic/sasrec/tuning/tuned.yaml"
    where = [
        "--category",
        "Synthetic",
        "--runs",
        str(folder / "r2"),
        "--no-mlflow",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    found = bench("run", "--config", str(recipe), *where)
    assert found.exit_code == 0, found.output
    best = record(folder)["best"]["settings"]
    assert yaml.safe_load(recipe.read_text())["stages"][0]["hidden"] == best["sasrec.hidden"]


def test_the_same_command_counts_the_trials_done(searched):
    folder, _ = searched
    before = record(folder)["trials"]
    again = bench(*words(folder))
    assert again.exit_code == 0, again.output
    assert record(folder)["trials"] == before
    more = bench(*words(folder, trials=4))
    assert more.exit_code == 0, more.output
    assert record(folder)["trials"][:3] == before
    assert len(record(folder)["trials"]) == 4


def test_another_space_in_the_same_place_is_refused(searched):
    folder, _ = searched
    result = bench(*words(folder, "--set", "sasrec.batch=64"))
    assert result.exit_code == 2
    assert "another --set" in result.output


def test_mlflow_holds_a_run_for_each_trial(searched):
    from mlflow.tracking import MlflowClient

    folder, _ = searched
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("Synthetic tuning")
    runs = [r for r in client.search_runs([experiment.experiment_id]) if "mlflow.parentRunId" not in r.data.tags]
    assert len(runs) == len([t for t in record(folder)["trials"] if "error" not in t])
    assert all("valid.NDCG_at_10" in r.data.metrics for r in runs if r.info.status == "FINISHED")
    assert {r.data.params["stages.sasrec.hidden"] for r in runs} >= {"16"}


def test_a_trial_cut_short_is_tried_again_with_the_same_settings(tmp_path, monkeypatch):
    calls = []
    original = pipeline.train

    def cut(run):
        calls.append(run.config.as_dict()["stages"][0]["learning_rate"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(run)

    monkeypatch.setattr(pipeline, "train", cut)
    result = bench(*words(tmp_path, "--no-mlflow", trials=2))
    assert result.exit_code == 130
    result = bench(*words(tmp_path, "--no-mlflow", trials=2))
    assert result.exit_code == 0, result.output
    assert calls[2] == calls[1]
    assert [t["state"] for t in record(tmp_path)["trials"]] == ["complete", "failed", "complete"]


def test_a_search_without_a_completed_trial_is_one_line(tmp_path):
    given = words(tmp_path, "--no-mlflow", trials=1)
    (tmp_path / "space.yaml").write_text("sasrec.hidden: [33]")  # refused: no multiple of two heads
    for _ in range(2):  # before anything has worked, a fault counts for nothing, and is said each time
        result = bench(*given)
        assert result.exit_code == 2, result.output
        assert "no multiple of sasrec.heads" in result.output


def test_no_trial_can_read_a_test_sample(tmp_path, monkeypatch):
    seen = []
    original = Prepared._context

    def context(prepared, *arguments):
        seen.append((len(prepared.run.dataset.test), prepared.run.dataset.oracle))
        return original(prepared, *arguments)

    monkeypatch.setattr(Prepared, "_context", context)
    assert bench(*words(tmp_path, "--no-mlflow", trials=1)).exit_code == 0
    assert seen
    assert set(seen) == {(0, None)}
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("", "must hold a mapping"),
        ("sasrec.hidden: 5", "list of choices"),
        ("sasrec.dropout: {low: 0.1}", "list of choices"),
        ("sasrec.dropout: {low: 0.1, hihg: 0.2, high: 0.3}", "did you mean high"),
        ("sasrec.dropout: {low: 0.5, high: 0.1}", "low ≤ high"),
        ("sasrec.dropout: {low: 0.0, high: 0.1, log: true}", "low above 0"),
        ("sasrec.droput: {low: 0.0, high: 0.1}", "which is no setting of sasrec"),
    ],
)
def test_a_bad_space_is_one_line(space, expected, tmp_path):
    given = words(tmp_path, "--no-mlflow")
    (tmp_path / "space.yaml").write_text(space)
    result = bench(*given)
    assert result.exit_code == 2, result.output
    assert expected in result.output
    assert result.output.count("Error: ") == 1


def test_a_method_without_a_space_says_how_to_give_one(tmp_path):
    result = bench("tune", "--method", "popularity", "--category", "Synthetic", "--runs", str(tmp_path))
    assert result.exit_code == 2
    assert "--space FILE" in result.output


def test_workers_share_the_trials_and_make_none_too_many(tmp_path):
    command = [sys.executable, "-m", "harness", *words(tmp_path, "--workers", "2", "--no-mlflow", trials=5)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = record(tmp_path)["trials"]
    assert [trial["number"] for trial in found] == [0, 1, 2, 3, 4]
    assert len({json.dumps(trial["settings"], sort_keys=True) for trial in found}) > 3  # drawn apart
    assert sum(f"trial {number} " in done.stderr for number in range(5)) == 5 and "best: --set" in done.stdout
    logs = tmp_path / "runs/Synthetic/sasrec/tuning/logs"
    assert sorted(path.name for path in logs.iterdir()) == ["worker-1.log", "worker-2.log"]
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert len(record(tmp_path)["trials"]) == 5 and "complete" not in again.stderr


def test_what_all_workers_fail_at_is_said(tmp_path):
    command = [sys.executable, "-m", "harness", *words(tmp_path, "--workers", "2", "--set", "sasrec.heads=5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2 and done.stderr.count("Error:") == 1 and "heads" in done.stderr


def test_every_shipped_space_names_settings_that_exist_and_hold_the_default(plugins, tiny, tmp_path):
    every = {name: plugins.get("method", name) for name in plugins.registry("method")}
    spaces = {name: recipe for name, recipe in every.items() if recipe.get("search")}
    assert set(every) - set(spaces) == {"popularity", "random", "next-id"}  # which have nothing to set
    assert {"gru4rec", "caser", "sasrec", "hstu", "tiger"} <= set(spaces)
    for name, recipe in spaces.items():
        space = tuning.check_space(recipe["search"], name)
        search = tuning.Search(recipe, "Synthetic", 0, (), space, tiny, plugins, tmp_path, "cpu", False)
        assert set(tuning._defaults(search)) == set(space), name


def test_median_of_nothing_prunes_nothing():
    with pytest.raises(BenchError, match="no search space"):
        tuning.check_space({}, "method x")
    assert np.isfinite(tuning.check_space({"a.b": [1]}, "x")["a.b"][0])


def test_another_seed_or_recipe_is_another_search(searched):
    folder, _ = searched
    found = bench(*words(folder, "--seed", "2"))
    assert found.exit_code == 2 and "holds a search with another seed (42)" in found.output
    recipe = tuning._recipe
    try:
        tuning._recipe = lambda search: "another"
        found = bench(*words(folder))
    finally:
        tuning._recipe = recipe
    assert found.exit_code == 2 and "holds a search with another recipe" in found.output


def test_trials_of_other_semantic_ids_are_compared_by_item(tmp_path):
    """One code a level: hardly any SID, and a SID metric near 1 that says nothing of items."""
    (tmp_path / "space.yaml").write_text("tokenizer.codes: [2, 32]\n")
    found = bench("tune", "--method", "markov", "--category", "Synthetic", "--runs", str(tmp_path / "runs"), "--space",
                  str(tmp_path / "space.yaml"), "--trials", "4", "--threads", "1", "--no-mlflow", *SIZES, "--set",
                  "tokenizer=rqkmeans", "--set", "tokenizer.levels=1")  # fmt: skip
    assert found.exit_code == 0, found.output
    told = json.loads((tmp_path / "runs/Synthetic/markov/tuning/search.json").read_text())
    assert told["metric"] == "valid NDCG@10 by item"
    by_codes = {t["settings"]["tokenizer.codes"]: t["valid"] for t in told["trials"]}
    assert by_codes[2]["NDCG@10"] > by_codes[32]["NDCG@10"]  # what would have chosen
    assert by_codes[2]["NDCG@10 by item"] == pytest.approx(by_codes[32]["NDCG@10 by item"])
    (tmp_path / "space.yaml").write_text("dataset.users: [60, 120]\n")
    found = bench("tune", "--method", "markov", "--category", "Synthetic", "--runs", str(tmp_path / "runs2"), "--space",
                  str(tmp_path / "space.yaml"))  # fmt: skip
    assert found.exit_code == 2 and "changes what valid numbers are of" in found.output


SHAKY = """
import numpy as np
from dataclasses import dataclass
from harness import hookimpl
from harness.components import setting


@dataclass(frozen=True)
class Settings:
    off: float = setting(0.0, "taken off every count")


class Roots:
    Settings = Settings

    def __init__(self, settings):
        self.settings = settings

    def fit(self, context):
        return {}

    def load(self, context):
        with np.errstate(invalid="ignore"):
            roots = np.sqrt(np.bincount(context.train.targets, minlength=len(context.items)) - self.settings.off)
        return type("Model", (), {"score": lambda self, h: np.tile(roots, (len(h), 1))})()


@hookimpl
def bench_trainers():
    return {"roots": Roots}


@hookimpl
def bench_methods():
    return [{"name": "roots", "stages": [{"name": "roots"}], "decoder": "rank", "search": {"roots.off": [0.0, 3.0]},
             "tokenizer": {"name": "given", "optional": True}}]
"""


def test_a_trial_whose_scores_are_no_numbers_has_failed(tmp_path):
    (tmp_path / "roots.py").write_text(SHAKY)
    found = bench("tune", "--plugin", str(tmp_path / "roots.py"), "--method", "roots", "--category", "Synthetic",
                  "--runs",
                  str(tmp_path / "runs"), "--trials", "6", "--threads", "1", "--no-mlflow", *SIZES)  # fmt: skip
    assert found.exit_code == 0, found.output
    told = json.loads((tmp_path / "runs/Synthetic/roots/tuning/search.json").read_text())
    failed = [t for t in told["trials"] if t["settings"]["roots.off"] == 3.0]
    assert failed and all(t["state"] == "failed" and t["valid"] is None for t in failed)
    assert "NaN score" in failed[0]["error"] and told["best"]["settings"]["roots.off"] == 0.0
    assert len(told["trials"]) == 6  # a failed one counts: the same command has nothing left to do
