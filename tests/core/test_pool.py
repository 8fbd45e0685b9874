"""Processes side by side: how many, in what order, what ends them, and what they leave."""

import os
import sys

import pytest

from harness.runs.pool import Here, Job

NOTE = "import os, sys, time; open(sys.argv[1], 'a').write(f'{sys.argv[2]} ')"


def job(folder, key, then="", waits_for=(), first=NOTE):
    return Job(
        key,
        [sys.executable, "-c", f"{first}; {then}", str(folder / "order"), str(key)],
        folder / f"{key}.log",
        waits_for,
    )


def run(jobs, workers, watch=lambda running, queued: None):
    ended = []
    Here(workers).work_off(jobs, lambda job, problem: ended.append((job.key, problem)), watch)
    return ended


def test_as_many_run_at_once_as_there_are_workers(tmp_path):
    most = []
    jobs = [job(tmp_path, key, "time.sleep(0.6)") for key in range(5)]
    ended = run(jobs, 2, lambda running, queued: most.append((len(running), len(queued))))
    assert sorted(ended) == [(key, "") for key in range(5)]
    assert most and max(running for running, _ in most) == 2 and max(queued for _, queued in most) >= 2


def test_one_after_another_keeps_the_order(tmp_path):
    assert run([job(tmp_path, key) for key in range(4)], 1) == [(key, "") for key in range(4)]
    assert (tmp_path / "order").read_text() == "0 1 2 3 "


def test_a_job_waits_for_what_it_goes_on_from_and_others_do_not_wait_with_it(tmp_path):
    slow = job(tmp_path, "slow", "time.sleep(1)", first="import os, sys, time")
    jobs = [slow, job(tmp_path, "after", waits_for=["slow"]), job(tmp_path, "other")]
    assert [key for key, _ in run(jobs, 2)] == ["other", "slow", "after"]
    assert (tmp_path / "order").read_text() == "other after "


def test_what_fails_says_its_own_line_and_ends_those_that_wait_for_it(tmp_path):
    jobs = [job(tmp_path, "bad", "print('Error: no such data'); sys.exit(2)"), job(tmp_path, "next", waits_for=["bad"]),
            job(tmp_path, "last", waits_for=["next"]), job(tmp_path, "killed", "os.kill(os.getpid(), 9)"),
            job(tmp_path, "silent", "sys.exit(3)"), job(tmp_path, "good")]  # fmt: skip
    found = dict(run(jobs, 1))
    assert found["bad"] == "no such data" and found["good"] == ""
    assert found["next"] == found["last"] == "the run that it goes on from failed"
    assert found["killed"].startswith("killed by signal 9") and found["silent"].startswith("exit 3; see ")
    assert "next" not in (tmp_path / "order").read_text()


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_interrupt_leaves_nothing_running(tmp_path, monkeypatch, stubborn):
    from harness.runs import pool

    monkeypatch.setattr(pool, "PATIENCE", 0.5)
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    jobs = [job(tmp_path, key, f"{ignore}print(os.getpid(), flush=True); time.sleep(60)") for key in (1, 2, 3)]

    def watch(running, queued):
        if all((tmp_path / f"{key}.log").exists() and (tmp_path / f"{key}.log").read_text() for key in (1, 2)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(jobs, 2, watch)
    assert not (tmp_path / "3.log").exists()
    for key in (1, 2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"{key}.log").read_text()), 0)
