"""The whole run at toy size: record, determinism, kill and resume, continuation, honesty of the contracts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from harness import files
from harness.cli import cli
from harness.data import categories
from harness.errors import BenchError
from harness.files import read_yaml
from harness.progress import Progress
from harness.recipes import shipped, tuned
from harness.runs import pipeline
from harness.runs.config import resolve
from harness.runs.run import Prepared
from harness.runs.run_directory import RunDirectory
from harness.runs.tracking import Tracker
from tests.conftest import TINY_DATA, TINY_SETTINGS

CUTOFFS = ["1", "3", "5", "10", "20", "50"]


def words(folder, *more, seed=1, mlflow=False):
    settings = [word for setting in TINY_SETTINGS for word in ("--set", setting)]
    plain = [] if mlflow else ["--no-mlflow", "--no-figures"]
    return ["run", "--method", "minionerec", "--category", "Synthetic", "--seed", str(seed), "--runs", str(folder),
            "--quiet", "--device", "cpu", "--threads", "1", *plain, *settings, *more]  # fmt: skip


def bench(*arguments):
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def only(folder):
    [metrics] = Path(folder).glob("*/*/*/metrics.json")
    return metrics.parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished toy run, with MLflow."""
    folder = tmp_path_factory.mktemp("finished") / "runs"
    output = bench(*words(folder, mlflow=True))
    return only(folder), output


def test_the_record_is_whole(finished):
    directory, output = finished
    assert (directory / "config.yaml").exists()
    metrics = json.loads((directory / "metrics.json").read_text())
    assert list(metrics["stages"]) == ["sft", "grpo"]
    for stage in metrics["stages"].values():
        assert set(stage["sid"]) == {f"{m}@{k}" for m in ("HR", "NDCG") for k in CUTOFFS} | {"MRR"}
        assert set(stage["item"]) == set(stage["sid"])
        assert stage["invalid"] == 0
        assert list(stage["levels"]["independent"]) == CUTOFFS
        assert stage["valid"]["NDCG@10"] > 0
    assert metrics["Bayes-optimal"]["sid"]["HR@10"] > metrics["stages"]["sft"]["sid"]["HR@10"]
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["versions"]["torch"]
    assert len(manifest["fingerprints"]["data"]) == 64
    assert manifest["rows"]["test"] > 0
    assert {"sft/fit", "sft/decode", "grpo/fit", "grpo/decode", "run"} <= set(manifest["done"])
    table = pd.read_parquet(directory / "rankings/test-grpo.parquet")
    assert table.columns.tolist() == ["sample", "rank", "sid", "score", "tied"]
    assert len(table) == manifest["rows"]["test"] * 50
    assert table.groupby("sample")["sid"].nunique().eq(50).all()
    assert table.groupby("sample")["rank"].first().eq(1).all()
    assert (directory / "stages/2-grpo/model/model.safetensors").exists()
    assert not list(directory.rglob("*.pkl"))
    assert "Bayes-optimal" in output


def test_the_report_has_the_replication_logs_tables(finished):
    report = (finished[0] / "report.md").read_text()
    titles = ["## Setup", "### SFT", "### GRPO", "## Full results", "Independent per-level hit rate"]
    titles += ["Cumulative level accuracy", "Drop-off (top 1)", "Invalid predictions (CC): SFT 0, GRPO 0"]
    titles += ["## What each stage changes", "## Segments", "## Key observations", "figures/learning-sft.svg"]
    for title in titles:
        assert title in report
    assert report.count("generated (seed 0)") >= 3  # the data caption stands under the tables


def test_mlflow_holds_the_same_record(finished):
    from mlflow.tracking import MlflowClient

    directory, _ = finished
    client = MlflowClient(f"sqlite:///{directory.parents[3] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("Synthetic")
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    stages = {
        run.data.tags["stage"]: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert set(stages) == {"sft", "grpo"}
    assert all(run.info.status == "FINISHED" for run in runs)
    metrics = json.loads((directory / "metrics.json").read_text())
    assert parent.data.metrics["sid.HR_at_10"] == metrics["stages"]["grpo"]["sid"]["HR@10"]
    assert stages["sft"].data.metrics["sid.HR_at_10"] == metrics["stages"]["sft"]["sid"]["HR@10"]
    assert len(client.get_metric_history(stages["grpo"].info.run_id, "reward")) > 3
    assert len(client.get_metric_history(stages["sft"].info.run_id, "eval_NDCG_at_10")) == 4
    assert parent.data.params["stages.sft.epochs"] == "3.0"
    manifest = json.loads((directory / "manifest.json").read_text())
    assert parent.data.tags["data fingerprint"] == manifest["fingerprints"]["data"]
    assert parent.inputs.dataset_inputs[0].dataset.name == "Synthetic"
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} >= {
        "metrics.json",
        "report.md",
        "rankings",
        "figures",
    }


def rankings(directory):
    return [(directory / f"rankings/test-{stage}.parquet").read_bytes() for stage in ("sft", "grpo")]


def test_one_seed_gives_the_same_bytes_and_another_seed_others(finished, tmp_path):
    bench(*words(tmp_path / "again"))
    bench(*words(tmp_path / "other", seed=2))
    assert rankings(only(tmp_path / "again")) == rankings(finished[0])
    assert rankings(only(tmp_path / "other")) != rankings(finished[0])


def test_a_finished_run_is_not_done_again(finished):
    directory, output = finished
    before = {p: p.stat().st_mtime_ns for p in directory.glob("rankings/*")}
    again = bench(*words(directory.parents[2], mlflow=True))
    assert again.splitlines()[:5] == output.splitlines()[:5]
    assert {p: p.stat().st_mtime_ns for p in directory.glob("rankings/*")} == before


EXACT = ["--set", "grpo.rollout=exact", "--set", "grpo.average=0.9", "--set", "grpo.learning_rate=1e-3"]
MOVING = ["--set", "grpo.sync_reference=true", "--set", "grpo.sync_steps=5", "--set", "grpo.beta=0.5",
          "--set", "grpo.learning_rate=1e-3"]  # fmt: skip


AVERAGED = ["--set", "sft.average=0.9", "--set", "sft.softmax=catalogue", "--set", "sft.packed=true",
            "--set", "sft.tasks={next_sid: 1.0, alike: 0.5, again: 0.1, title_to_sid: 0.5}"]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "number", "more"),
    [("sft", 1, []), ("sft", 1, AVERAGED), ("grpo", 2, []), ("grpo", 2, MOVING), ("grpo", 2, EXACT)],
)
def test_kill_in_a_stage_then_the_same_command_ends_in_the_same_rankings(finished, tmp_path, stage, number, more):
    """SIGKILL once the stage has written a checkpoint that is not its last."""
    expected = finished[0]
    if more:
        bench(*words(tmp_path / "whole", *more))
        expected = only(tmp_path / "whole")
    command = [sys.executable, "-m", "harness", *words(tmp_path / "runs", *more)]
    environment = {k: v for k, v in os.environ.items() if k != "BENCH_PLUGINS"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    pattern = f"*/*/*/stages/{number}-{stage}/checkpoints/checkpoint-*/trainer_state.json"
    deadline = time.monotonic() + 300
    while not list((tmp_path / "runs").glob(pattern)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [manifest] = (tmp_path / "runs").glob("*/*/*/manifest.json")
    assert f"{stage}/fit" not in json.loads(manifest.read_text())["done"]
    checkpoint = next((tmp_path / "runs").glob(pattern)).parent
    kept = checkpoint.parent / "checkpoint-99999"  # a save that the kill cut short
    kept.mkdir()
    (kept / "model.safetensors").write_bytes(b"half")
    bench(*words(tmp_path / "runs", *more))
    assert rankings(only(tmp_path / "runs")) == rankings(expected)


def test_what_was_tuned_on_a_category_goes_before_the_users_settings(plugins):
    recipe, category = plugins.get("method", "minionerec"), "Industrial_and_Scientific"
    plain = resolve(recipe, category, 1, [], plugins)
    searched = next(iter(read_yaml(shipped("datasets", f"{category}.yaml"))["tuned"].values()))
    mine = resolve(recipe, category, 1, ["sft.tasks.again=0"], plugins, tuned=tuned("minionerec", category, searched))
    assert mine.about["tuned"] and mine.hash() != plain.hash()
    assert tuned("minionerec", category, "0" * 64) == ()  # other data of the same name: nothing was searched there
    assert (plain.prompts, mine.prompts) == ("compact", "compact-items")
    before, after = (config.stages[0].trainer.settings.tasks for config in (plain, mine))
    assert (before["alike"], after["alike"], after["again"]) == (0, 0.25, 0)
    assert tuned("minionerec", "Synthetic", searched) == tuned("hybrid", category, searched) == ()


def test_accumulated_micro_batches_are_one_large_batch(finished, tmp_path):
    bench(*words(tmp_path / "runs", "--set", "grpo.batch=32", "--set", "grpo.accumulation=2"))
    scores = [
        pd.read_parquet(d / "rankings/test-grpo.parquet")["score"] for d in (finished[0], only(tmp_path / "runs"))
    ]
    np.testing.assert_allclose(*scores, atol=1e-2)


def test_a_memory_is_weighed_on_valid_beside_a_finished_runs_model(finished, tmp_path):
    """``--from-run`` takes over all stages of a run that has fewer; the new one is trained after them."""
    directory, _ = finished
    more = ("--method", "minionerec-memory", "--from-run", str(directory))
    bench(*words(tmp_path / "runs", *more))
    new = only(tmp_path / "runs")
    first, second = (json.loads((d / "metrics.json").read_text())["stages"] for d in (directory, new))
    assert {stage: second[stage]["sid"] for stage in first} == {stage: first[stage]["sid"] for stage in first}
    found = json.loads((new / "stages/3-memory/memory.json").read_text())
    assert len(found["coefficients"]) == len(found["features"]) == 9
    assert found["cross-validated valid NDCG@10"] > 0
    bench(*words(tmp_path / "mixed", *more, "--set", "memory.combine=mixture"))
    new = only(tmp_path / "mixed")
    stages = json.loads((new / "metrics.json").read_text())["stages"]
    found = json.loads((new / "stages/3-memory/memory.json").read_text())
    values = np.array(found["grid"]["values"])
    assert found["best valid NDCG@10"] == values.max() >= values[0, 0]
    assert values[0, 0] == pytest.approx(stages["grpo"]["valid"]["NDCG@10"], abs=0.02)  # weight 0 is the model alone
    assert stages["memory"]["valid"]["NDCG@10"] >= stages["grpo"]["valid"]["NDCG@10"]


def test_everything_that_the_replications_rl_had_in_one_run(tmp_path):
    """Mixed prompts, mixed rewards (one a recorded run's scores), siblings, draws, refill, a moving reference."""
    data = [word for key, value in TINY_DATA.items() for word in ("--set", f"dataset.{key}={value}")]
    bench("run", "--method", "skip-markov", "--category", "Synthetic", "--runs", str(tmp_path / "cf"), "--no-mlflow",
          "--quiet", "--device", "cpu", "--threads", "1", *data)  # fmt: skip
    recorded = only(tmp_path / "cf")
    sets = ["sft.epochs=1", "sft.tasks={next_sid: 1.0, title_to_sid: 1.0}", "grpo.epochs=0.5", "grpo.log_every=1",
            "grpo.tasks={next_sid: 0.5, title_to_sid: 1.0, description_to_sid: 1.0, titles_to_sid: 0.2}",
            f"grpo.rewards={{rule: 1, cf: {{weight: 0.2, run: {recorded}}}, semantic: {{weight: 0.1, dimensions: 8}}}}",
            "grpo.advantage=sibling", "grpo.rollout=sample_distinct", "grpo.refill=1", "grpo.beta=0.01",
            "grpo.sync_reference=true", "grpo.sync_steps=2", "grpo.idle=skip", "grpo.loss=dapo"]  # fmt: skip
    bench(*words(tmp_path / "runs", *[word for setting in sets for word in ("--set", setting)]))
    directory = only(tmp_path / "runs")
    [state] = sorted((directory / "stages/2-grpo/checkpoints").glob("*/trainer_state.json"))[-1:]
    logged = [entry for entry in json.loads(state.read_text())["log_history"] if "reward" in entry]
    assert {"rewards/rule", "rewards/cf", "rewards/semantic", "groups/zero_advantage_after_refill"} <= set(logged[0])
    assert any(entry["rewards/cf"] != 0 for entry in logged)
    assert all(entry["groups/zero_advantage"] < 0.5 for entry in logged)  # dense rewards leave few idle groups
    other = CliRunner().invoke(cli, words(tmp_path / "x", "--set", f"grpo.rewards={{cf: {{run: {tmp_path}}}}}"))
    assert other.exit_code == 2
    assert "is not the directory of a finished run" in other.output
    more = ("--set", f"grpo.rewards={{cf: {{run: {recorded}}}}}", "--set", "dataset.users=140")
    other = CliRunner().invoke(cli, words(tmp_path / "y", *more))
    assert "is a run on other data" in other.output


def test_a_third_epoch_goes_on_from_checkpoint_and_optimiser(finished, tmp_path):
    directory, _ = finished
    more = ("--from-run", str(directory), "--set", "grpo.epochs=2")
    bench(*words(tmp_path / "runs", *more))
    new = only(tmp_path / "runs")
    first, second = (json.loads((d / "metrics.json").read_text())["stages"] for d in (directory, new))
    assert second["sft"]["sid"] == first["sft"]["sid"]  # taken over, not trained again
    assert second["grpo"]["train"]["steps"] == 2 * first["grpo"]["train"]["steps"]
    states = sorted((new / "stages/2-grpo/checkpoints").glob("*/trainer_state.json"), key=lambda p: p.stat().st_mtime)
    history = json.loads(states[-1].read_text())["log_history"]
    steps = [entry["step"] for entry in history if "reward" in entry]
    assert steps == sorted(steps)
    assert steps[0] <= first["grpo"]["train"]["steps"] < steps[-1]  # one curve over both runs
    assert json.loads(states[-1].read_text())["best_model_checkpoint"] is None or str(new) in states[-1].read_text()
    bench(*words(tmp_path / "anew", *more, "--anew", "--set", "grpo.epochs=1", "--set", "grpo.rewards=rule"))
    anew = json.loads((only(tmp_path / "anew") / "metrics.json").read_text())["stages"]
    assert anew["sft"]["sid"] == first["sft"]["sid"]
    assert anew["grpo"]["train"]["steps"] == first["grpo"]["train"]["steps"]  # from its beginning
    refused = CliRunner().invoke(cli, words(tmp_path / "x", "--anew"))
    assert "give --from-run DIR too" in refused.output
    refused = CliRunner().invoke(cli, words(tmp_path / "x", "--from-run", str(directory)))
    assert refused.exit_code == 2
    assert "same settings" in refused.output
    older = tmp_path / "older"  # a run of before a setting came into being has the setting's default
    shutil.copytree(directory, older)
    settings = yaml.safe_load((older / "config.yaml").read_text())
    for stage in settings["stages"]:
        del stage["log_every"]
    (older / "config.yaml").write_text(yaml.safe_dump(settings))
    refused = CliRunner().invoke(cli, words(tmp_path / "x", "--from-run", str(older)))
    assert "same settings" in refused.output
    refused = CliRunner().invoke(cli, words(tmp_path / "x", "--from-run", str(directory), seed=5))
    assert "differs in seed" in refused.output


def test_another_decoder_decodes_the_models_of_a_run_anew(finished, tmp_path):
    directory, _ = finished
    bench(*words(tmp_path, "--from-run", str(directory), "--set", "decoder.beams=20"))
    first, second = (json.loads((d / "metrics.json").read_text())["stages"] for d in (directory, only(tmp_path)))
    for stage in ("sft", "grpo"):
        assert second[stage]["train"] == first[stage]["train"]
        assert "HR@50" not in second[stage]["sid"] and second[stage]["rankings"] != first[stage]["rankings"]
        assert second[stage]["sid"]["HR@1"] == pytest.approx(first[stage]["sid"]["HR@1"], abs=0.02)


def test_a_run_of_another_method_is_taken_over_as_far_as_it_is_the_same(finished, tmp_path):
    """S-DPO from MiniOneRec's run: the SFT stage is taken over, the rest is its own; without --anew it is refused."""
    directory, _ = finished
    sets = [s for s in TINY_SETTINGS if not s.startswith("grpo.")]
    command = ["run", "--method", "sdpo", "--category", "Synthetic", "--seed", "1", "--runs", str(tmp_path), "--quiet",
               "--no-mlflow", "--no-figures", "--device", "cpu", "--threads", "1", "--from-run", str(directory),
               "--set", "sdpo.eval_every=1.0", *(word for s in sets for word in ("--set", s))]  # fmt: skip
    refused = CliRunner().invoke(cli, command)
    assert refused.exit_code == 2 and "has other stages" in refused.output
    bench(*command, "--anew")
    first, second = (json.loads((d / "metrics.json").read_text())["stages"] for d in (directory, only(tmp_path)))
    assert list(second) == ["sft", "sdpo"] and second["sft"]["rankings"] == first["sft"]["rankings"]


def test_no_component_sees_a_test_target(plugins, tiny, tmp_path, monkeypatch):
    """Runs with true and with scrambled test targets end in the same rankings and see the same contexts."""
    import dataclasses

    found = []
    for name in ("true", "scrambled"):
        data = tiny
        if name == "scrambled":
            targets = np.random.default_rng(0).permutation(tiny.test.targets)
            data = dataclasses.replace(tiny, test=dataclasses.replace(tiny.test, targets=targets))
        recipe = plugins.get("method", "markov")
        config = resolve(recipe, "Synthetic", 1, [], plugins)
        run = pipeline.Run(
            config, data, plugins, RunDirectory(tmp_path / name), Progress(quiet=True), "cpu", Tracker(tmp_path, False)
        )
        contexts = []
        original = Prepared._context

        def kept(*arguments, original=original, contexts=contexts):
            contexts.append(original(*arguments))
            return contexts[-1]

        with monkeypatch.context() as patch:
            patch.setattr(Prepared, "_context", kept)
            pipeline.execute(run)
        assert contexts
        for context in contexts:
            held = [getattr(context, f.name) for f in dataclasses.fields(context)]
            assert not any(value is data.test or value is data for value in held)
            assert len(context.dataset.test) == 0 and context.dataset.oracle is None
        found.append(pd.read_parquet(tmp_path / name / "rankings/test-markov.parquet"))
    pd.testing.assert_frame_equal(*found)


def test_a_decoder_that_breaks_its_contract_is_stopped(plugins, tiny, tmp_path, monkeypatch):
    from harness.data.rankings import Rankings

    def cheat(self, model, histories, *_):
        n = len(histories)
        return Rankings("item", np.zeros((n, 50), dtype=np.int32), np.zeros((n, 50), dtype=np.float32))

    monkeypatch.setattr(plugins.get("decoder", "rank"), "decode", cheat)
    config = resolve(plugins.get("method", "popularity"), "Synthetic", 1, [], plugins)
    run = pipeline.Run(
        config, tiny, plugins, RunDirectory(tmp_path / "r"), Progress(True), "cpu", Tracker(tmp_path, False)
    )
    with pytest.raises(BenchError, match="a candidate twice for sample 0"):
        pipeline.execute(run)
    assert not (tmp_path / "r/metrics.json").exists()


def test_a_failure_before_training_leaves_no_directory(plugins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, words(tmp_path / "runs", "--set", "decoder.beams=5000"))
    assert result.exit_code == 2
    assert not list((tmp_path / "runs").rglob("*.json"))


def test_a_full_disk_leaves_a_resumable_run(finished, tmp_path, monkeypatch):

    real = files.os.replace

    def full(source, target):
        if "rankings" in str(target):
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full)
        failed = CliRunner().invoke(cli, words(tmp_path / "runs"))
        assert isinstance(failed.exception, OSError)
    assert not list((tmp_path / "runs").rglob("*.parquet*"))
    bench(*words(tmp_path / "runs"))
    assert rankings(only(tmp_path / "runs")) == rankings(finished[0])


def test_two_processes_do_not_work_on_one_run(plugins, tmp_path):
    run = RunDirectory(tmp_path / "r")
    with run.lock(), pytest.raises(BenchError, match="in use by process"), RunDirectory(tmp_path / "r").lock():
        pass


def test_a_runs_config_file_repeats_it(finished, tmp_path):
    directory, _ = finished
    config = directory / "config.yaml"
    assert yaml.safe_load(config.read_text())["stages"][0]["epochs"] == 3.0
    bench("run", "--config", str(config), "--category", "Synthetic", "--seed", "1", "--runs", str(tmp_path / "runs"),
          "--no-mlflow", "--quiet", "--device", "cpu")  # fmt: skip
    assert only(tmp_path / "runs").name == directory.name
    assert rankings(only(tmp_path / "runs")) == rankings(directory)


def test_the_tokenizer_sees_train_alone(plugins, tiny, tmp_path, monkeypatch):
    seen = []
    given = plugins.get("tokenizer", "given")
    real = given.tokenize
    monkeypatch.setattr(given, "tokenize", lambda self, context: seen.append(context.dataset) or real(self, context))
    config = resolve(plugins.get("method", "popularity"), "Synthetic", 1, [], plugins)
    run = pipeline.Run(
        config, tiny, plugins, RunDirectory(tmp_path / "r"), Progress(True), "cpu", Tracker(tmp_path, False)
    )
    pipeline.execute(run)
    assert [(len(d.valid), len(d.test), len(d.train)) for d in seen] == [(0, 0, len(tiny.train))]
    assert seen[0].oracle is None


def test_the_leaderboard_chooses_on_valid_and_shows_both_protocols(finished):
    runs = finished[0].parents[2]
    bench("run", "--method", "popularity", "--category", "Synthetic", "--no-mlflow", "--quiet", "--runs", str(runs),
          *[w for s in TINY_SETTINGS if s.startswith("dataset") for w in ("--set", s)])  # fmt: skip
    text = bench("leaderboard", "--category", "Synthetic", "--runs", str(runs))
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    for name in ("minionerec", "popularity"):  # a row a protocol, its effort, and what its lists are like
        assert sum(f"| {name}" in line for line in lines) == 4
    assert sum("Bayes-optimal" in line for line in lines) == 2
    assert "generated (seed 0)" in text
    out = runs / "board.md"
    bench("leaderboard", "--category", "Synthetic", "--runs", str(runs), "--stages", "--output", str(out))
    assert out.read_text().count("| minionerec") == 8


def test_datasets_without_sids_get_them_from_their_texts(plugins, tiny, tmp_path):
    import dataclasses

    bare = dataclasses.replace(tiny, given=None, oracle=None)
    config = resolve(plugins.get("method", "popularity"), "Synthetic", 1, ["tokenizer=given"], plugins)
    run = pipeline.Run(
        config, bare, plugins, RunDirectory(tmp_path / "a"), Progress(True), "cpu", Tracker(tmp_path, False)
    )
    with pytest.raises(BenchError, match="--tokenizer rqkmeans"):
        pipeline.execute(run)
    overrides = ["tokenizer=rqkmeans", "tokenizer.codes=8", "tokenizer.dimensions=16"]
    config = resolve(plugins.get("method", "popularity"), "Synthetic", 1, overrides, plugins)
    run = pipeline.Run(
        config, bare, plugins, RunDirectory(tmp_path / "b"), Progress(True), "cpu", Tracker(tmp_path, False)
    )
    result = pipeline.execute(run)
    assert "sid" in result["stages"]["popularity"]
    assert categories.find(plugins, None)
