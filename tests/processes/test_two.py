"""One run on two processes: weights and rankings as of one, one line an error, and nothing left of a killed one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from tests.commands import bench_run, only_run, run_whole

CATEGORY = ["dataset.items=60", "dataset.users=120"]
MODEL = [*CATEGORY, "backbone.hidden=32", "backbone.layers=2", "backbone.heads=2", "backbone.intermediate=64",
         "backbone.attention_dropout=0", "sft.embedding_dropout=0", "sft.epochs=1", "sft.eval_every=0.5"]  # fmt: skip
GRPO = ["grpo.generations=4", "grpo.epochs=0.4", "grpo.learning_rate=1e-3"]


def words(runs, method, sets, *more):
    given = [word for s in sets for word in ("--set", s)]
    return ["run", "--method", method, "--category", "Synthetic", "--seed", "1", "--runs", str(runs), "--no-mlflow",
            "--no-figures", "--quiet", "--device", "cpu", "--threads", "1", *given, *more]  # fmt: skip


def started(runs, method, sets, *more, launcher=()):
    command = [sys.executable, *launcher, "-m", "harness", *words(runs, method, sets, *more)]
    command += [] if launcher else ["--processes", "2"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def whole(runs, method, sets, *more, **how):
    done = started(runs, method, sets, *more, **how)
    assert done.returncode == 0, done.stderr
    return only_run(runs)


def batches(rows, *stages):
    return [f"{stage}.batch={rows}" for stage in stages]


CASES = {
    "GRPO under ZeRO": (
        "minionerec", ("sft", "grpo"),
        [*GRPO, "grpo.beta=0.01", "grpo.sync_reference=true", "grpo.sync_steps=2", "sft.average=0.9"],
        ["sft.deepspeed=zero1", "grpo.deepspeed=zero2"],
    ),
    "GRPO over tokens, drawn, refilled": (
        "minionerec", ("sft", "grpo"), [*GRPO, "grpo.loss=dapo", "grpo.rollout=sample", "grpo.refill=2", "grpo.beta=0"],
    ),
    "GRPO with accumulation, all groups": (
        "minionerec", ("sft", "grpo"),
        [*GRPO, "grpo.loss=bnpo", "grpo.accumulation=2", "grpo.idle=keep", "grpo.beta=0.01"],
    ),
    "GRPO over all SIDs": (
        "minionerec", ("sft", "grpo"),
        [*GRPO, "grpo.rollout=exact", "grpo.average=0.9", "grpo.beta=0.01", "grpo.accumulation=2"],
    ),
    "preferences, after a stage under ZeRO": (
        "sdpo", ("sft", "sdpo"), ["sdpo.negatives=3", "sdpo.epochs=1", "sdpo.eval_every=0.5"], ["sft.deepspeed=zero1"],
    ),
    "titles": (
        "d3", ("sft",),
        ["decoder.beams=20", "decoder.k=20", "assistant.samples=20", "assistant.alphas=[0.1, 0.5]",
         "assistant.method=markov", "sft.select=loss"],
    ),
}  # fmt: skip


SAME = [*MODEL, *batches(64, "sft"), "decoder.batch_tokens=2000"]
OTHER = [*SAME, "decoder.beams=30"]
SASREC = [*CATEGORY, "sasrec.epochs=2", "sasrec.hidden=16"]
BEGUN = [*MODEL, "sft.weight_decay=0.1"]
FURTHER = [*MODEL, "sft.weight_decay=0.3", "sft.learning_rate=0.005", "sft.epochs=2"]
KILLED = [*MODEL, *batches(16, "sft"), "sft.epochs=6", "sft.eval_every=0.2", "sft.patience=0", "sft.deepspeed=zero2"]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Folders of the runs that two processes made one after another, by name."""
    root = tmp_path_factory.mktemp("together")
    source, _ = run_whole(root / "source", "minionerec-sft", SAME)
    zero = [*batches(16, "sft"), "sft.deepspeed=zero2"]
    jobs = {
        "rankings": words(root / "rankings", "minionerec-sft", OTHER, "--from-run", str(source), "--anew"),
        "sasrec": words(root / "sasrec", "sasrec", SASREC),
    }
    for case, (method, stages, more, *engine) in sorted(CASES.items(), key=lambda case: len(case[1])):  # ZeRO last
        sets = [*MODEL, *more, *batches(32, *stages), *(word for sets in engine for word in sets)]
        jobs[case] = words(root / case, method, sets)
    jobs["begun"] = words(root / "begun", "minionerec-sft", [*BEGUN, *zero])
    begun = str(root / "begun/*/*/seed*")
    jobs["further"] = words(root / "further", "minionerec-sft", [*FURTHER, *zero], "--from-run", begun)
    jobs["straight"] = words(root / "straight", "minionerec-sft", KILLED)
    (root / "jobs.json").write_text(json.dumps(list(jobs.values())))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "tests.processes.together", str(root / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return {job: only_run(root / job) for job in ("source", *jobs)}


@pytest.mark.parametrize("case", CASES)
def test_two_with_half_the_batch_are_one_with_all_of_it(case, together, tmp_path):
    method, stages, more, *engine = CASES[case]
    first, expected = run_whole(tmp_path, method, [*MODEL, *more, *batches(64, *stages)])
    second, found = together[case]
    for number, stage in enumerate(stages, start=1):
        (one,) = first.glob(f"stages/{number}-{stage}/model/model.safetensors")
        (two,) = second.glob(f"stages/{number}-{stage}/model/model.safetensors")
        assert load_file(one).keys() == load_file(two).keys()
        saved = [sorted(folder.glob(f"stages/{number}-{stage}/checkpoints/*/model*")) for folder in (first, second)]
        assert [path.parent.name for path in saved[0]] == [path.parent.name for path in saved[1]]
        for left, right in [(one, two), *zip(*saved, strict=True)]:  # of GRPO the model may be the start
            left, right = load_file(left), load_file(right)
            assert max(float((left[name] - right[name]).abs().max()) for name in left) < 1e-5
        for fact in ("steps", "best step"):
            assert expected[stage]["train"][fact] == found[stage]["train"][fact]
    for stage, entry in expected.items():
        assert found[stage]["item"] == pytest.approx(entry["item"], abs=1e-6)
    for number, stage in enumerate(stages, start=1):
        under = any(f"{stage}.deepspeed" in word for word in next(iter(engine), []))
        saved = list(second.glob(f"stages/{number}-{stage}/checkpoints/*/optimizer.pt"))
        assert bool(saved) != under and ("deepspeed" in found[stage]["train"]) == under  # it holds for its stage alone
    facts = json.loads((second / "manifest.json").read_text())
    assert facts["hardware"]["processes"] == 2 and facts["hardware"]["nodes"] == 1
    log = [json.loads(line) for line in (second / f"stages/1-{stages[0]}/log.jsonl").read_text().splitlines()]
    assert len(log) == len((first / f"stages/1-{stages[0]}/log.jsonl").read_text().splitlines())  # once, not twice


def test_rankings_of_the_same_weights_are_the_same_to_the_last_bit(together, tmp_path):
    source, _ = together["source"]
    one, _ = run_whole(tmp_path, "minionerec-sft", OTHER, "--from-run", str(source), "--anew")
    two, _ = together["rankings"]
    frames = [pd.read_parquet(folder / "rankings/test-sft.parquet") for folder in (one, two)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_what_does_not_share_is_trained_by_one_while_the_other_waits(together, tmp_path):
    _, expected = run_whole(tmp_path, "sasrec", SASREC)
    _, found = together["sasrec"]
    assert found["sasrec"]["item"] == expected["sasrec"]["item"]
    assert found["sasrec"]["valid"] == expected["sasrec"]["valid"]


def test_torchrun_starts_it_too(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    folder, _ = whole(tmp_path, "popularity", CATEGORY, launcher=launcher)
    assert json.loads((folder / "manifest.json").read_text())["hardware"]["processes"] == 2


def test_a_trainer_that_does_not_say_whether_it_shares_is_refused_by_name(monkeypatch):
    from harness.errors import BenchError
    from harness.runs import pipeline
    from harness.runs.run import StageOf
    from harness.world import Place, world

    class Silent:
        pass

    class Says:
        distributed = False

    stage = type("Stage", (), {"name": "own"})()
    pipeline._works_together(StageOf(1, stage, Silent(), None))  # alone, nobody asks
    monkeypatch.setitem(world.__dict__, "place", Place(0, 2, 0))
    pipeline._works_together(StageOf(1, stage, Says(), None))
    with pytest.raises(BenchError, match="stage own does not say whether its trainer works on several processes"):
        pipeline._works_together(StageOf(1, stage, Silent(), None))


@pytest.mark.parametrize(
    ("codes", "line", "code"),
    [
        ({0: 2, 1: 2}, "", 2),
        ({0: -15, 1: 2}, "", 2),  # the main one was ended while it left
        ({0: 1, 1: 2}, "", 1),
        ({0: 75, 1: 1}, "", 1),
        ({0: 75, 1: -9}, "process 1 of the run was ended by signal 9", 1),
        ({0: -15, 1: -9}, "process 1 of the run was ended by signal 9", 1),
        ({0: 1, 1: -9}, "process 1 of the run was ended by signal 9", 1),
        ({0: 2, 1: -6}, "", 2),  # a watchdog's abort, after the other one refused
        ({0: -6, 1: -9}, "process 1 of the run was ended by signal 9", 1),  # gloo's, after the other one was killed
        ({0: -6, 1: 1}, "", 1),
        ({0: -6, 1: 75}, "process 0 of the run was ended by signal 6", 1),
        ({0: 75, 1: -15}, "the processes of the run were ended by signal 15", 1),
        ({0: -15, 1: -15}, "the processes of the run were ended by signal 15", 1),
        ({0: 75, 1: 75}, "the processes of the run lost each other", 1),
    ],
)
def test_the_cause_is_told_from_what_follows_from_it(codes, line, code):
    from harness.cli.launch import verdict

    assert verdict(codes) == (line, code)


def test_an_error_is_one_line_however_slowly_the_main_process_says_it_and_leaves(tmp_path):
    late = tmp_path / "late.py"
    late.write_text("import time, harness.errors as e\nshow = e.BenchError.show\n"
                    "def slow(self, file=None):\n    time.sleep(1)\n    show(self, file)\n    time.sleep(1)\n"
                    "e.BenchError.show = slow\n")  # fmt: skip
    done = started(tmp_path / "runs", "minionerec-sft", [*MODEL, "sft.level_weights=[1]"], "--plugin", str(late))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("Error:") == 1 and "sft.level_weights has 1 weights" in done.stderr
    assert "Traceback" not in done.stderr and not list((tmp_path / "runs").rglob("manifest.json"))


def children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def test_a_checkpoint_of_zero_is_gone_on_from_under_other_settings(together, tmp_path):
    whole_batch = batches(32, "sft")
    begun, _ = run_whole(tmp_path / "one", "minionerec-sft", [*BEGUN, *whole_batch])
    one, expected = run_whole(tmp_path / "on", "minionerec-sft", [*FURTHER, *whole_batch], "--from-run", str(begun))
    two, found = together["further"]
    one, two = (load_file(folder / "stages/1-sft/model/model.safetensors") for folder in (one, two))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert found["sft"]["train"]["steps"] == expected["sft"]["train"]["steps"]
    assert json.loads(found["sft"]["train"]["deepspeed"])["zero_optimization"]["stage"] == 2


def test_a_killed_process_ends_the_run_which_then_goes_on(together, tmp_path):
    given = [*words(tmp_path / "killed", "minionerec-sft", KILLED), "--processes", "2"]
    command = [sys.executable, "-m", "harness", *given]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("killed/Synthetic/*/*/stages/1-sft/checkpoints/checkpoint-*/whole.json")):
        assert process.poll() is None
        time.sleep(0.05)
    below = children(process.pid)
    assert len(below) == 2
    os.kill(below[1], signal.SIGKILL)
    started = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 1 and "was ended by signal 9; the same command goes on" in said
    assert said.count("Error:") == 1 and "Traceback" not in said
    for pid in below:
        assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    refused = bench_run(tmp_path / "killed", "minionerec-sft", KILLED)
    assert refused.exit_code == 2 and "was begun by 2 processes and is not finished" in refused.output
    resumed, _ = whole(tmp_path / "killed", "minionerec-sft", KILLED)
    straight, _ = together["straight"]
    one, two = (load_file(folder / "stages/1-sft/model/model.safetensors") for folder in (resumed, straight))
    assert all((one[name] == two[name]).all() for name in one)


def test_peers_that_do_not_come_are_named(tmp_path):
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29123",
             "BENCH_PEERS_TIMEOUT": "2"}  # fmt: skip
    command = [sys.executable, "-m", "harness", *words(tmp_path, "popularity", CATEGORY)]
    done = subprocess.run(command, env=os.environ | alone, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("Error:") == 1
    assert "process 0 of 2" in done.stderr and "did not meet the others at 127.0.0.1:29123" in done.stderr
