"""Only the holder of a run's lock changes anything in it; who holds it is named; leftovers go at the next lock."""

import math
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import BenchError
from harness.files import replace_file
from harness.runs import locks
from harness.runs.run_directory import RunDirectory
from tests.commands import bench_run

HOLD = """
import sys, time
from pathlib import Path
from harness.runs.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture()
def holder(tmp_path):
    """Another process that holds the run in ``tmp_path / "run"``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_holder_is_named_by_process_and_host(tmp_path, holder):
    folder = RunDirectory(tmp_path / "run")
    assert folder.in_use
    with pytest.raises(BenchError, match=f"in use by process {holder.pid} on {socket.gethostname()}"), folder.lock():
        pass
    holder.kill()
    holder.wait()
    with folder.lock():  # a killed process lets go
        pass
    assert not folder.in_use


def test_waiting_says_whom_for_and_goes_on(tmp_path, holder):
    said = []
    threading.Timer(0.5, holder.kill).start()
    with RunDirectory(tmp_path / "run").lock(wait=True, say=said.append):
        pass
    assert len(said) == 1 and f"process {holder.pid}" in said[0]


def test_a_lock_on_a_folder_that_its_holder_removed_is_taken_anew(tmp_path):
    folder = RunDirectory(tmp_path / "run")
    taken = []

    def second():
        with folder.lock(wait=True):
            taken.append((tmp_path / "run/.lock").exists())

    with folder.lock():
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        (tmp_path / "run").rmdir()
    thread.join(10)
    assert taken == [True]


def test_a_refused_second_start_leaves_the_first_one_alone(tmp_path, plugins):
    sizes = ["dataset.items=60", "dataset.users=60"]
    done = bench_run(tmp_path, "popularity", sizes)
    assert done.exit_code == 0
    [run] = tmp_path.glob("*/*/*")
    for path in sorted(run.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    run.rmdir()
    code = HOLD.replace('print("held"', '(Path(sys.argv[1]) / "precious").write_text("x"); print("held"')
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()
        done = bench_run(tmp_path, "popularity", sizes)
        assert done.exit_code == 2 and f"process {process.pid}" in done.output
        assert (run / "precious").read_text() == "x"
    finally:
        process.kill()
        process.wait()


def test_what_dead_processes_left_half_written_goes_at_the_next_lock(tmp_path):
    folder = RunDirectory(tmp_path / "run")
    (tmp_path / "run/stages/1-a").mkdir(parents=True)
    left = [tmp_path / "run/.metrics.json.99999.tmp", tmp_path / "run/stages/1-a/.model.77777.tmp"]
    left[0].write_text("half")
    left[1].mkdir()
    (left[1] / "part").write_text("half")
    kept = [tmp_path / "run/.mine.tmp", tmp_path / "run/stages/1-a/model.tmp"]
    for path in kept:
        path.write_text("x")
    with folder.lock():
        assert not any(path.exists() for path in left) and all(path.exists() for path in kept)
        with replace_file(tmp_path / "run/metrics.json") as temporary:
            assert str(os.getpid()) in temporary.name
            temporary.write_text("{}")


def test_a_link_in_place_of_a_lock_is_refused_and_what_it_names_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "mine")
    with pytest.raises(BenchError, match="is a link"), locks.held(tmp_path / "lock", "it"):
        pass
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_place_where_no_lock_can_be_is_said_and_not_tried_for_ever():
    with pytest.raises(BenchError, match="cannot be written"), locks.held(Path("/proc/lock"), "it", math.inf):
        pass
