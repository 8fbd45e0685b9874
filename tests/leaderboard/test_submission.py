"""A record's way into the leaderboard: exported, verified against its rankings, linted."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from harness import files
from harness.cli import cli
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.runs import run_directory
from leaderboard.record import Record, checksum
from leaderboard.verify import verify
from tests.leaderboard.test_board import ROOT
from tests.recorded import make_record, make_run


def bench(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def run(tiny, tmp_path):
    return make_run(tmp_path / "runs", tiny)


@pytest.fixture
def exported(run, tmp_path):
    done = bench("results", "export", run, "--output", tmp_path / "results", "--with-rankings")
    assert done.exit_code == 0, done.output
    [path] = (tmp_path / "results").rglob("seed*.json")
    assert path.relative_to(tmp_path / "results").parts[:2] == ("Synthetic", "model")
    return path


def forged(path, change):
    """The record with its content changed and a fitting checksum, as a forger would leave it."""
    content = json.loads(path.read_text())
    content.pop("checksum")
    change(content)
    path.write_text(json.dumps(content | {"checksum": checksum(content)}))


def test_an_exported_record_is_verified_from_its_rankings(exported):
    assert {p.name for p in exported.with_suffix("").iterdir()} >= {"test-sft.parquet", "test-grpo.parquet"}
    done = bench("results", "verify", exported, "--strict")
    assert done.exit_code == 0, done.output
    assert "all metrics, intervals, segments and sizes follow from the rankings (sft, grpo)" in done.output


def test_slim_rankings_keep_the_candidates_and_drop_what_no_metric_needs(run, exported, tiny):
    import pyarrow.parquet as pq

    slim = exported.with_suffix("") / "test-sft.parquet"
    assert pq.read_table(slim).column_names == ["sample", "rank", "sid", "score", "tied"]
    whole, kept = (Rankings.read(path, tiny.given) for path in (run / "rankings/test-sft.parquet", slim))
    assert np.array_equal(whole.ids, kept.ids) and whole.fingerprint == kept.fingerprint


def test_without_rankings_the_target_ranks_speak_and_strict_fails(exported):
    shutil.rmtree(exported.with_suffix(""))
    done = bench("results", "verify", exported)
    assert done.exit_code == 0 and "metrics follow from the target ranks; no rankings file" in done.output
    assert bench("results", "verify", exported, "--strict").exit_code == 1


def test_the_run_directory_proves_a_record_too(run, exported):
    shutil.rmtree(exported.with_suffix(""))
    done = bench("results", "verify", exported, "--rankings", run, "--strict")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["stages"]["grpo"]["sid"].update({"HR@10": 0.9}), "HR@10 is 0."),
        (lambda c: c["stages"]["grpo"].update({"invalid": 7}), "invalid is 0, the record says 7"),
        (lambda c: c["stages"]["sft"]["levels"]["cumulative"]["1"].update({"L1": 0.99}), "levels.cumulative.1.L1"),
        (lambda c: c["stages"]["sft"].update({"ranks": c["stages"]["grpo"]["ranks"]}), "the record says"),
        (lambda c: c["stages"]["sft"]["intervals"]["sid"].update({"HR@1": [0.9, 0.99]}), "outside its own interval"),
        (lambda c: c["fingerprints"].update({"data": "0" * 64}), "it is of data 000000000000"),
        (lambda c: c["stages"]["sft"].pop("ranks"), "no target ranks"),
        (lambda c: c["rows"].update({"test": 3}), "test has 3 samples"),
    ],
)
def test_a_record_that_does_not_tell_the_truth_is_found(exported, change, words):
    forged(exported, change)
    done = bench("results", "verify", exported)
    assert done.exit_code == 1
    assert "FALSE" in done.output and words in done.output, done.output


def test_other_rankings_do_not_prove_a_record(tiny, exported, tmp_path):
    other = make_run(tmp_path / "other", tiny, seed=5)
    done = bench("results", "verify", exported, "--rankings", other)
    assert done.exit_code == 1 and "rankings is" in done.output


def test_damaged_rankings_and_hand_edits_are_one_line(exported):
    (exported.with_suffix("") / "test-sft.parquet").write_bytes(b"nothing")
    done = bench("results", "verify", exported)
    assert done.exit_code == 1 and "FALSE" in done.output and "cannot be read" in done.output
    exported.write_text(exported.read_text().replace('"seed": 1', '"seed": 2', 1))
    done = bench("results", "verify", exported)
    assert done.exit_code == 2 and "was changed after its export" in done.output and done.output.count("\n") == 1


def test_own_semantic_ids_travel_with_the_rankings(tiny, tmp_path):
    codes = SemanticIds(tiny.given.codes[:, ::-1].copy(), "rqkmeans")
    run = make_run(tmp_path / "runs", tiny, semantic_ids=codes)
    assert bench("results", "export", run, "--output", tmp_path / "out", "--with-rankings").exit_code == 0
    [path] = (tmp_path / "out").rglob("seed*.json")
    done = bench("results", "verify", path, "--strict")
    assert done.exit_code == 0, done.output
    (path.with_suffix("") / run_directory.SEMANTIC_IDS).unlink()
    done = bench("results", "verify", path)
    assert done.exit_code == 1 and "export the run again with --with-rankings" in done.output


def test_without_the_data_only_the_ranks_are_looked_at(tiny, plugins, tmp_path):
    record = make_record(tmp_path, tiny)
    verdict = verify(record, None, plugins)
    assert not verdict.false and "is not here" in verdict.open


def test_nothing_is_written_where_a_rankings_file_is_missing(run, tmp_path):
    (run / "rankings/test-grpo.parquet").unlink()
    done = bench("results", "export", run, "--output", tmp_path / "out", "--with-rankings")
    assert done.exit_code == 2 and "test-grpo.parquet" in done.output
    assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("verify", "nowhere"), "does not exist"),
        (("lint", "nowhere.json"), "does not exist"),
        (("export", "nowhere"), "nowhere"),
        (("measure", "nowhere"), "not the directory of a finished run"),
    ],
)
def test_bad_paths_are_one_line(words, message):
    done = bench("results", *words)
    assert done.exit_code == 2 and message in done.output and done.output.count("\n") == 1


def test_lint_reads_records_and_reported_rows(exported, tmp_path):
    done = bench("results", "lint", exported)
    assert done.exit_code == 0 and "4 rows, 0 that cannot be true" in done.output
    forged(exported, lambda c: c["stages"]["sft"]["sid"].update({"NDCG@10": 0.99}))
    assert bench("results", "lint", exported).exit_code == 1
    table = tmp_path / "mine.yaml"
    table.write_text(
        "- source: {id: me}\n  category: X\n  columns: [HR@5, NDCG@5, HR@10]\n"
        "  rows: {good: [0.1, 0.08, 0.12], bad: [0.1, 0.12, 0.09]}\n"
    )
    done = bench("results", "lint", table)
    assert done.exit_code == 1 and "me, X, bad: HR falls with K" in done.output and "2 rows, 1 that" in done.output
    for text, words in (("- 1", "a list of tables"), ("- {category: X}", "'source' is missing"), (
        "- {source: {id: a}, category: X, columns: [HIT@1], rows: {m: [1]}}", "unknown metric 'HIT@1'"), (
        "- {source: {id: a}, category: X, columns: [HR@1], rows: {m: [1, 1]}}", "row m has 2 numbers")):  # fmt: skip
        table.write_text(text)
        done = bench("results", "lint", table)
        assert done.exit_code == 2 and words in done.output, done.output


def test_lint_without_paths_flags_the_shipped_rows_that_cannot_be_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bench("results", "lint")
    assert done.exit_code == 1 and "5 that cannot be true" in done.output
    assert "minionerec-paper, Industrial_and_Scientific, D3: NDCG falls with K" in done.output


@pytest.mark.data
def test_committed_floors_are_what_a_fresh_run_gives(industrial, plugins, tmp_path):
    """Counting is exact: a run today proves the record, candidate by candidate."""
    for method in ("hybrid", "skip-markov"):
        [path] = (ROOT / "leaderboard/results/Industrial_and_Scientific" / method).glob("*.json")
        record = Record.read(path)
        done = bench("run", "--method", method, "--category", record.category, "--runs", tmp_path, "--no-mlflow",
                     "--no-figures", "--quiet")  # fmt: skip
        assert done.exit_code == 0, done.output
        [run] = (tmp_path / record.category / method).iterdir()
        assert run.name == path.stem
        verdict = verify(record, industrial, plugins, run)
        assert verdict.false == [] and verdict.checked == [method]


def test_every_committed_record_follows_from_its_ranks(plugins):
    from leaderboard.submission import verify_all

    verdicts = verify_all([str(ROOT / "leaderboard/results")], plugins, None)
    assert [v.line for v in verdicts if v.false] == []
    assert len(verdicts) > 20


def test_an_analysis_in_a_file_is_documented_and_measures_recorded_runs(run):
    plugin = ROOT / "tests/external/coverage.py"
    assert f"```python\n{plugin.read_text()}```" in (ROOT / "docs/plugins.md").read_text()
    done = bench("results", "measure", run, "--no-figures", "--plugin", plugin)
    assert done.exit_code == 0, done.output
    found = files.read_json(run / run_directory.METRICS)["stages"]["sft"]["coverage"]
    assert 0 < found["coverage@10"] <= 1 and found["popularity@10"] > 0
    assert Record.of_run(run).stages["sft"]["coverage"] == found
