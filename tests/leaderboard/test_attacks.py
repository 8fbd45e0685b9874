"""What an attacker changed in records and runs: one line, or the right number; never a silent one."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from harness.checks import outlines, schemas
from harness.cli import cli
from harness.errors import BenchError
from harness.evaluation import user_index
from leaderboard import docs, verify
from leaderboard.record import Record, checksum
from tests.commands import bench_run
from tests.recorded import make_record, make_run

SIZES = ["dataset.items=60", "dataset.users=80"]


def bench(*arguments):
    done = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert "Traceback" not in done.output and not isinstance(done.exception, (TypeError, AttributeError, KeyError))
    return done


def edited(record, path, change):
    content = json.loads(json.dumps(record.content))
    change(content)
    path.write_text(json.dumps(content | {"checksum": checksum(content)}))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["stages"]["sft"].update({"first measured": None}),
        lambda c: c["settings"].update({"protocol": "x"}),
        lambda c: c.update({"ground": {"split": None}}),
        lambda c: c["settings"].update({"searched": "x"}),
        lambda c: c["settings"].update({"searched": {"trials": None}}),
        lambda c: c["settings"].update({"tuned": 5}),
        lambda c: c["settings"].update({"deterministic": "no"}),
        lambda c: c["stages"]["sft"]["train"].update({"steps": "x"}),
        lambda c: c["stages"]["sft"]["train"].update({"best epoch": "x"}),
        lambda c: c.update({"origin": "x"}),
        lambda c: c.update({"ground": {"split": {"name": "generated", "version": 99}}}),
        lambda c: c["stages"]["sft"].update({"beyond accuracy": {"novelty (bits)@10": -3.0}}),
    ],
    ids=["first", "protocol", "split", "searched", "trials", "tuned", "flag", "steps", "epoch", "origin", "version",
         "novelty"],
)  # fmt: skip
def test_one_bad_record_is_left_out_by_name(change, tiny, tmp_path):
    record = make_record(tmp_path / "runs", tiny, stages=("sft",))
    (tmp_path / "r").mkdir()
    record.write(tmp_path / "r" / "good.json")
    bad = edited(record, tmp_path / "r" / "bad.json", change)
    done = bench("leaderboard", "--results", tmp_path / "r")
    assert done.exit_code == 0 and f"Left out: {bad}" in done.output and "1 damaged left out" in done.output
    done = bench("report", bad)
    assert done.exit_code == 2 and str(bad) in done.output


def test_what_was_left_out_of_the_data_cannot_be_taken_away(tiny, tmp_path, plugins):
    cut = dataclasses.replace(tiny, left_out={"users without a sample: fewer than 2 items": 3})
    record = make_record(tmp_path / "runs", cut, stages=("sft",))
    record.content["left_out"] = cut.left_out
    assert not verify.verify(record, cut, plugins).false
    record.content["left_out"] = {}
    assert "it says that nothing was left out" in " ".join(verify.verify(record, cut, plugins).false)


def test_one_user_says_nothing_and_breaks_nothing(tiny, tmp_path):
    record = make_record(tmp_path / "runs", tiny, stages=("sft",))
    n = int(record.content["rows"]["test"])

    def alone(content):
        content["users"] = user_index.encode(np.zeros(n, dtype=np.int64))
        for stage in content["stages"].values():
            stage.pop("intervals"), stage.pop("design effects")

    path = edited(record, tmp_path / "one.json", alone)
    assert Record.read(path).interval("item", "HR@10") is None
    for form in ("json", "markdown"):
        done = bench("leaderboard", "--results", tmp_path, "--format", form)
        assert done.exit_code == 0 and "nan" not in done.output.lower()
    done = bench("compare", path, path, "--output", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "c.json").read_text())["protocols"]["item"]["HR@10"]["low"] is None
    assert bench("results", "migrate", path).exit_code == 0 and bench("results", "lint", path).exit_code == 0


def test_a_contradictory_record_is_not_made_sound_by_migrating(tiny, tmp_path):
    record = make_record(tmp_path / "runs", tiny, stages=("sft",))
    path = edited(record, tmp_path / "x.json", lambda c: c["stages"]["sft"]["sid"].update({"HR@10": 0.9}))
    before = path.read_text()
    done = bench("results", "migrate", path)
    assert done.exit_code == 2 and path.read_text() == before


def test_scores_and_ties_of_a_rankings_file_cannot_be_taken_away(tmp_path):
    assert bench_run(tmp_path, "popularity", SIZES).exit_code == 0
    (run,) = (tmp_path / "Synthetic" / "popularity").glob("seed*")
    path = run / "rankings" / "test-popularity.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["score", "tied"]), path)
    done = bench("results", "measure", run, "--no-figures")
    assert done.exit_code == 2 and "does not hold the rankings" in done.output


def test_a_run_is_of_the_protocol_that_it_was_decoded_under(tmp_path):
    assert bench_run(tmp_path, "popularity", SIZES).exit_code == 0
    (run,) = (tmp_path / "Synthetic" / "popularity").glob("seed*")
    path = run / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"protocol": {"seen": "drop"}}))
    for command in (["results", "measure", run, "--no-figures"], ["report", run]):
        done = bench(*command)
        assert done.exit_code == 2 and "protocol.seen is keep" in done.output, done.output


def test_a_damaged_metrics_file_does_not_make_an_old_run_new(tiny, tmp_path):
    run = make_run(tmp_path, tiny, stages=("sft",))
    (run / "metrics.json").write_text("{")
    assert bench("results", "measure", run, "--no-figures").exit_code == 0
    assert json.loads((run / "metrics.json").read_text())["stages"]["sft"]["first measured"] == 1


def test_the_settings_of_a_run_with_tuned_ones_run_again(tmp_path):
    assert bench_run(tmp_path, "popularity", SIZES).exit_code == 0
    (run,) = (tmp_path / "Synthetic" / "popularity").glob("seed*")
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"tuned": ["popularity.half_life=3"]}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(config))
    done = bench("run", "--config", tmp_path / "again.yaml", "--category", "Synthetic", "--no-mlflow", "--quiet",
                 "--runs", tmp_path / "two")  # fmt: skip
    assert done.exit_code == 0, done.output


def test_a_protocol_that_drops_has_no_optimum_of_one_that_keeps(tmp_path):
    assert bench_run(tmp_path, "popularity", [*SIZES, "protocol.seen=drop"]).exit_code == 0
    (run,) = (tmp_path / "Synthetic" / "popularity").glob("seed*")
    assert "Bayes-optimal" not in json.loads((run / "metrics.json").read_text())


def test_places_that_nobody_is_left_for_are_no_invalid_predictions(tmp_path):
    small = ["dataset.items=12", "dataset.users=80", "protocol.seen=drop", "decoder.k=12"]
    assert bench_run(tmp_path, "markov", small).exit_code == 0
    (run,) = (tmp_path / "Synthetic" / "markov").glob("seed*")
    (stage,) = json.loads((run / "metrics.json").read_text())["stages"].values()
    assert stage["invalid"] == 0


def test_a_recorded_file_of_the_documentation_that_is_damaged_is_one_line(tmp_path, monkeypatch):
    for content in ('{"rounds": NaN}', "{", "{}"):
        (tmp_path / "speed.json").write_text(content)
        monkeypatch.setattr(docs, "SPEED", tmp_path / "speed.json")
        monkeypatch.setattr("sys.argv", ["docs", "--check"])
        with pytest.raises(SystemExit, match="missing or damaged"):
            docs.main()
    assert bench("results", "export", tmp_path, "--output", "").exit_code == 2


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    with pytest.raises(BenchError, match="no regular file"):
        from harness import files

        files.check_output("/dev/null")
    done = bench("suite", "tune", "table1", "--category", "Synthetic", "--minutes", "nan")
    assert done.exit_code == 2 and "give a number of minutes" in done.output


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"layout": "x", "tuned": "x"}, "tuned"),
        ({"layout": "x", "tuned": {"methods": {}}}, "data"),
        ({"layout": "x", "tuned": {"data": "0" * 64, "methods": {"m": "a=1"}}}, "methods.m"),
        ({"layout": "x", "tuned": {"data": "0" * 64, "methods": {"m": ["dataset.items=3"]}}}, "the same for all"),
        ({"layout": "x", "tuned": {"data": "0" * 64, "methods": {"m": ["abc"]}}}, "key=value"),
    ],
)
def test_settings_of_a_category_have_one_form(facts, words, tmp_path):
    with pytest.raises(BenchError, match=words):
        schemas.check(outlines.DatasetFacts, facts, tmp_path / "facts.yaml", "mend it")


def test_versions_are_numbered_in_order(tmp_path):
    entry = {"version": 1, "date": "2026-01-01", "what": "a", "why": "b", "moves": "c"}
    whole = {"datasets": {}, "protocols": {}}
    for entries in ([entry, entry], [entry | {"version": 2}], [entry | {"superseded_by": 2}]):
        with pytest.raises(BenchError):
            schemas.check(outlines.Versions, whole | {"splits": {"s": entries}}, tmp_path / "v.yaml", "mend it")
    schemas.check(outlines.Versions, whole | {"splits": {"s": [entry]}}, tmp_path / "v.yaml", "mend it")
