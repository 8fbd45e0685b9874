"""A short part of the hostile campaign, the same each time: a later change meets it in CI."""

from __future__ import annotations

import pytest

from tests.campaign import fuzz, processes

SEED = 24


def test_damaged_files_are_refused_in_one_line_or_read_as_they_are(tmp_path):
    outcomes = fuzz.campaign(tmp_path, SEED, mutants=600)
    assert outcomes.number() == 600
    assert not outcomes.bad
    assert outcomes.number("refused") > 200 and outcomes.number("accepted") > 100


def test_first_starts_that_are_killed_end_as_if_nothing_had_been(tmp_path):
    outcome = processes.kills(tmp_path, SEED, trials=2, methods=("sasrec",))
    assert outcome.trials == 2 and outcome.kills and not outcome.bad


def test_first_starts_at_once_are_all_recorded(tmp_path):
    outcome = processes.starts(tmp_path, waves=1, at_once=4)
    assert outcome.trials == 4 and not outcome.bad


def test_a_full_disk_says_so_and_the_run_goes_on_when_there_is_room(tmp_path):
    outcome = processes.full_disk(tmp_path, SEED, trials=1)
    if outcome is None:
        pytest.skip("no tmpfs can be mounted here")
    assert outcome.trials == 1 and not outcome.bad
