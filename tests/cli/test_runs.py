"""``bench status`` and ``bench runs``: what is there, what it is at, and removing only what nobody needs."""

import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.files import write_json
from harness.progress import JOURNAL, Progress, left, told
from harness.runs.run_directory import LOCK, RunDirectory, append_log
from tests.commands import bench
from tests.recorded import make_run

HOLD = """
import sys, time
from pathlib import Path
from harness.runs.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture()
def shelf(tiny, tmp_path):
    """A finished run, and one that stands at its second stage."""
    done = make_run(tmp_path / "runs", tiny, "done", stages=("sft",))
    (done / "stages/1-sft/checkpoints/checkpoint-8").mkdir(parents=True)
    (done / "stages/1-sft/checkpoints/checkpoint-8/optimizer.pt").write_bytes(b"x" * 50_000)
    open_ = make_run(tmp_path / "runs", tiny, "open", stages=("sft", "grpo"))
    folder = RunDirectory(open_)
    folder.note(done={k: v for k, v in folder.manifest["done"].items() if k not in ("run", "grpo/fit", "grpo/decode")})
    append_log(open_ / "stages/2-grpo", {"loss": 0.25, "eval_NDCG@10": 0.125}, 50)
    return done, open_


@pytest.fixture()
def held(shelf):
    """The open run, with a process at work on it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(shelf[1])], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_status_tells_stage_step_time_left_and_numbers(shelf, held):
    bar = {"label": "grpo", "unit": "step", "done": 60, "total": 100, "before": 20, "seconds": 80.0, "numbers": {}}
    write_json(shelf[1] / JOURNAL, {"at": time.time(), "pid": held.pid, "host": "here", "bars": [bar]})
    done = bench("status", shelf[0].parents[2])
    assert done.exit_code == 0
    wanted = [
        "running  grpo (2 of 2)",
        "grpo: step 60 of 100, about 80 s left of it",
        "loss 0.2500, reward 0.4000, NDCG@10 0.1250",
        f"process {held.pid} on",
        "1 finished",
    ]
    for words in wanted:
        assert words in done.output
    [line] = bench("status", shelf[0].parents[2], "--json").output.splitlines()
    assert json.loads(line)["left"] == 80.0


def test_status_names_who_was_killed_and_what_merely_stopped(shelf, held):
    assert "stopped" not in bench("status", shelf[1]).output
    held.kill()
    held.wait()
    done = bench("status", shelf[1])
    assert f"process {held.pid} on" in done.output
    assert "was killed; the same bench run goes on where it was" in done.output
    (shelf[1] / LOCK).unlink()
    assert "nobody works on it" in bench("status", shelf[1]).output


@pytest.mark.parametrize("content", ["{", "[]", '{"at": 1, "pid": 2, "host": "x", "bars": [{"label": 3}]}'])
def test_a_damaged_note_costs_the_note_alone(shelf, held, content):
    (shelf[1] / JOURNAL).write_text(content)
    done = bench("status", shelf[1])
    assert done.exit_code == 0
    assert "running  grpo (2 of 2)" in done.output


def test_a_damaged_run_is_said_to_be_and_stays(shelf):
    (shelf[1] / "manifest.json").write_text("{")
    assert "damaged" in bench("status", shelf[0].parents[2]).output
    assert bench("runs", "prune", "--runs", shelf[0].parents[2], "--unfinished", "--yes").exit_code == 0
    assert shelf[1].exists()


def test_list_has_states_metrics_and_sizes(shelf):
    done = bench("runs", "list", "--runs", shelf[0].parents[2])
    assert "Synthetic/done/seed1" in done.output
    rows = {row["method"]: row for row in map(json.loads, bench(
        "runs", "list", "--runs", shelf[0].parents[2], "--json").output.splitlines())}  # fmt: skip
    assert rows["done"]["state"] == "finished"
    assert 0 < rows["done"]["NDCG@10"] < 1
    assert rows["done"]["bytes"] > 50_000
    assert rows["open"]["state"] == "stopped"
    assert rows["open"]["NDCG@10"] is None
    assert "is no folder" in bench("runs", "list", "--runs", shelf[0].parents[2] / "absent").output


def test_show_tells_what_takes_room_and_what_came_out(shelf):
    done = bench("runs", "show", shelf[0])
    assert done.exit_code == 0
    assert "stages/1-sft/checkpoints" in done.output
    assert "NDCG@10" in done.output
    assert bench("runs", "show", shelf[0].parent).exit_code == 2


def test_rm_removes_a_run_whole_and_asks_first(shelf):
    asked = CliRunner().invoke(cli, ["runs", "rm", str(shelf[0])], input="n\n")
    assert asked.exit_code == 1
    assert shelf[0].exists()
    assert bench("runs", "rm", shelf[0], "--yes").exit_code == 0
    assert not shelf[0].parent.exists()
    assert shelf[1].exists()


def test_rm_takes_all_or_none_and_nothing_that_is_no_run(shelf, tmp_path):
    done = bench("runs", "rm", shelf[0], tmp_path, "--yes")
    assert done.exit_code == 2
    assert "is not the directory of a run" in done.output
    assert shelf[0].exists()
    link = tmp_path / "link"
    link.symlink_to(shelf[0])
    assert "is a link" in bench("runs", "rm", link, "--yes").output


def test_what_a_process_works_on_is_left_alone(shelf, held):
    done = bench("runs", "rm", shelf[1], "--yes")
    assert done.exit_code == 2
    assert f"in use by process {held.pid}" in done.output
    assert bench("runs", "prune", "--runs", shelf[0].parents[2], "--unfinished", "--yes").exit_code == 0
    assert shelf[1].exists()


def test_a_run_that_another_loads_stays_unless_forced(shelf, tiny):
    made = make_run(
        shelf[0].parents[2], tiny, "over", stages=("memory",), settings={"parts": {"network": f"run:{shelf[0]}"}}
    )
    done = bench("runs", "rm", shelf[0], "--yes")
    assert done.exit_code == 2
    assert f"is needed by {made.resolve()}" in done.output
    assert "needed by Synthetic/over" in bench("runs", "show", shelf[0]).output
    assert bench("runs", "rm", shelf[0], made, "--yes").exit_code == 0  # both go: nobody is left behind
    assert not shelf[0].exists()


def test_prune_takes_checkpoints_of_finished_runs_and_keeps_what_is_measured(shelf):
    root = shelf[0].parents[2]
    dry = bench("runs", "prune", "--runs", root, "--dry-run")
    assert "49 KiB" in dry.output
    assert (shelf[0] / "stages/1-sft/checkpoints").exists()
    assert bench("runs", "prune", "--runs", root, "--older-than", "1", "--yes").output == "nothing to remove\n"
    assert bench("runs", "prune", "--runs", root, "--yes").exit_code == 0
    assert not (shelf[0] / "stages/1-sft/checkpoints").exists()
    assert shelf[1].exists()
    assert bench("results", "measure", shelf[0]).exit_code == 0
    assert bench("runs", "prune", "--runs", root, "--yes").output == "nothing to remove\n"
    assert bench("runs", "prune", "--runs", root, "--unfinished", "--yes").exit_code == 0
    assert not shelf[1].exists()


def test_a_pruned_run_cannot_go_on_from_a_checkpoint(tmp_path):
    from tests.commands import bench_run, run_whole
    from tests.conftest import TINY_SETTINGS

    sets = [s for s in TINY_SETTINGS if not s.startswith("grpo.") and s != "sft.epochs=3"]
    folder, _ = run_whole(tmp_path / "a", "minionerec-sft", [*sets, "sft.epochs=1"])
    assert bench("runs", "prune", "--runs", tmp_path / "a", "--yes").exit_code == 0
    more = [*sets, "sft.epochs=2"]
    done = bench_run(tmp_path / "b", "minionerec-sft", more, "--from-run", str(folder))
    assert done.exit_code == 2
    assert "its checkpoints were pruned" in done.output
    assert bench_run(tmp_path / "b", "minionerec-sft", more, "--from-run", str(folder), "--anew").exit_code == 0


def test_work_is_noted_while_it_goes_on_and_told_once_a_minute(tmp_path, monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("harness.progress.time.monotonic", lambda: now[0])
    progress, note = Progress(), tmp_path / JOURNAL
    with progress.noted(note), progress.bar(100, "sft", "step") as bar:
        bar.update(10)  # resumed
        for _ in range(40):
            now[0] += 2.0
            bar.update(1)
            bar.set_postfix(loss="0.5")
        content = json.loads(note.read_text())
        assert content["pid"] == os.getpid()
        [seen] = content["bars"]
        assert (seen["label"], seen["total"], seen["before"]) == ("sft", 100, 10)
        assert 45 <= seen["done"] <= 50
        assert left(bar.as_dict()) == pytest.approx(100.0)
    assert not note.exists()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["sft: step 40 of 100, 60 s, about 2.0 min left; loss 0.5"]
    assert told({**seen, "total": 0}).startswith("sft: step ")


def test_quiet_work_says_nothing_and_a_full_disk_costs_the_note_alone(tmp_path, monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("harness.progress.time.monotonic", lambda: now[0])
    progress = Progress(quiet=True)
    with progress.noted(tmp_path / "absent" / JOURNAL), progress.bar(10, "sft") as bar:
        for _ in range(5):
            now[0] += 70.0
            bar.update()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"start": {"run:RUN": 0.5, "tfidf": 1}},
        {"rewards": {"cf": {"weight": 0.1, "run": "RUN"}}},
        {"parts": {"network": "run:RELATIVE"}},
    ],
)
def test_a_run_is_needed_however_it_is_named(shelf, tiny, settings):
    relative = shelf[0].relative_to(shelf[0].parents[3])
    text = json.dumps(settings).replace("RUN", str(shelf[0])).replace("RELATIVE", str(relative))
    make_run(shelf[0].parents[2], tiny, "over", stages=("memory",), settings=json.loads(text))
    assert "is needed by" in bench("runs", "rm", shelf[0], "--yes").output


def test_runs_are_removed_from_within_their_folder_and_copies_shown(shelf, tmp_path, monkeypatch):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(shelf[0], copy)
    assert bench("runs", "show", copy).exit_code == 0
    monkeypatch.chdir(shelf[0].parent)
    assert bench("runs", "rm", shelf[0].name, "--yes").exit_code == 0
    monkeypatch.chdir(tmp_path)
    assert not shelf[0].exists()
    assert bench("runs", "rm", "copy", "--yes").exit_code == 0
    assert tmp_path.is_dir()


def test_a_run_that_changed_while_the_question_waited_stays(shelf, monkeypatch):
    folder = RunDirectory(shelf[1])

    def confirm(*_, **__):
        folder.finish("run")  # another process went on with it

    monkeypatch.setattr("harness.cli.runs.click.confirm", confirm)
    done = bench("runs", "rm", shelf[1])
    assert done.exit_code == 2
    assert "has changed since it was looked at" in done.output
    assert shelf[1].exists()


def test_prune_leaves_linked_runs_alone(shelf, tmp_path):
    root, elsewhere = shelf[0].parents[2], tmp_path / "elsewhere"
    shelf[1].rename(elsewhere)
    shelf[1].symlink_to(elsewhere)
    assert bench("runs", "prune", "--runs", root, "--unfinished", "--yes").exit_code == 0
    assert elsewhere.is_dir()
    assert shelf[1].is_symlink()


def test_looking_at_a_run_does_not_refuse_one_that_starts(shelf):
    import fcntl
    import threading

    with open(shelf[1] / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with RunDirectory(shelf[1]).lock():
            pass
