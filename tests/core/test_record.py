"""Records: a run as a small file that says when it was touched."""

import json

import pytest

from harness import files
from harness.errors import BenchError
from harness.runs import run_directory
from leaderboard.collected import finished_runs, read_all
from leaderboard.record import Record, load
from tests.recorded import make_record, make_run


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs"), tiny)


def test_a_record_survives_its_file_and_is_small(run, tmp_path):
    record = Record.of_run(run, "another label")
    record.write(tmp_path / "r.json")
    again = Record.read(tmp_path / "r.json")
    assert again.content == record.content
    assert (again.label, again.method, again.seed, again.last) == ("another label", "model", 1, "grpo")
    assert again.ranks("item").means() == pytest.approx(record.metrics("item"))
    assert (tmp_path / "r.json").stat().st_size < 60_000
    assert record.metrics("sid", "grpo")["HR@10"] > record.metrics("sid", "sft")["HR@10"]


def test_a_record_edited_by_hand_is_refused(run, tmp_path):
    path = tmp_path / "r.json"
    Record.of_run(run).write(path)
    content = json.loads(path.read_text())
    content["stages"]["grpo"]["sid"]["HR@10"] += 0.01
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match="was changed after its export"):
        Record.read(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"),
        ("[]", "no record of a run"),
        ("{}", "no record of a run"),
        ('{"format": 99}', "has format 99"),
        ('{"format": 1}', "'label' is missing"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BenchError, match=words):
        Record.read(tmp_path / "r.json")


def test_what_is_no_run_is_one_line(tiny, tmp_path):
    for path, words in (
        (tmp_path, "not the directory of a finished run"),
        (tmp_path / "x.json", "is missing"),
        (tmp_path / "x.txt", "no run directory and no record"),
    ):
        with pytest.raises(BenchError, match=words):
            load(path)
    with pytest.raises(BenchError, match="no record in"):
        read_all(tmp_path)
    with pytest.raises(BenchError, match=r"no finished run in .* holds no run"):
        finished_runs(tmp_path)


def test_a_run_of_an_older_version_says_how_to_measure_it(tiny, tmp_path):
    run = make_run(tmp_path, tiny)
    result = files.read_json(run / run_directory.METRICS)
    del result["stages"]["sft"]["ranks"]
    files.write_json(run / run_directory.METRICS, result)
    with pytest.raises(BenchError, match="bench results measure"):
        Record.of_run(run)


def test_metrics_changed_in_a_run_directory_are_refused(tiny, tmp_path):
    run = make_run(tmp_path, tiny)
    result = files.read_json(run / run_directory.METRICS)
    result["stages"]["grpo"]["sid"]["HR@10"] += 0.01
    files.write_json(run / run_directory.METRICS, result)
    with pytest.raises(BenchError, match="by the target ranks, the record says"):
        load(run)


def test_seeds_share_a_variant_and_settings_do_not(tiny, tmp_path):
    one, two = (make_record(tmp_path, tiny, seed=seed) for seed in (1, 2))
    other = make_record(tmp_path, tiny, seed=1, settings={"rate": 0.1})
    assert one.variant == two.variant != other.variant
