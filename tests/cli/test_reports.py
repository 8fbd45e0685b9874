"""``bench leaderboard``, ``bench report`` and ``bench results`` as a new user meets them."""

import json

import pytest
from click.testing import CliRunner

from harness.cli import cli
from tests.recorded import make_run


def bench(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("store") / "runs"
    make_run(root, tiny, "model", seed=1, skill=0.5)
    make_run(root, tiny, "model", seed=2, skill=0.5)
    make_run(root, tiny, "hybrid", group="floor", stages=("hybrid",))
    return root


def test_the_leaderboard_goes_to_the_terminal_or_to_a_file_by_its_ending(runs, tmp_path):
    shown = bench("leaderboard", "--runs", runs)
    assert shown.exit_code == 0, shown.output
    assert "# Leaderboard" in shown.output and "| hybrid " in shown.output and "## Synthetic" in shown.output
    for name, words in (
        ("a.md", "# Leaderboard"), ("a.csv", "category,protocol,kind"), ("a.tex", "\\toprule"), ("a.json", '"rows"'),
        ("a.html", "<!doctype html>"),
    ):  # fmt: skip
        done = bench("leaderboard", "--runs", runs, "--category", "Synthetic", "--output", tmp_path / name)
        assert done.exit_code == 0, done.output
        assert "2 rows of 3 runs" in done.output
        assert words in (tmp_path / name).read_text()


def test_the_leaderboard_of_exported_records_is_that_of_the_runs(runs, tmp_path):
    done = bench("results", "export", *runs.glob("*/*/*"), "--output", tmp_path)
    assert done.exit_code == 0, done.output
    ours, theirs = bench("leaderboard", "--results", tmp_path), bench("leaderboard", "--runs", runs)
    assert ours.output == theirs.output


def test_the_report_of_one_run_goes_beside_it_and_of_several_where_told(runs, tmp_path):
    [run] = (runs / "Synthetic/hybrid").iterdir()
    done = bench("report", run, "--no-figures")
    assert done.exit_code == 0 and f"wrote {run / 'report.md'}" in done.output
    done = bench("report", *runs.glob("*/*/*"), "--output", tmp_path, "--no-figures")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "report.md").read_text()
    assert "Against the counting baseline hybrid" in text and "## Cost" in text and "model grpo" in text


def test_a_report_can_be_written_from_records_alone(runs, tmp_path):
    bench("results", "export", *runs.glob("*/model/*"), "--output", tmp_path)
    records = list(tmp_path.rglob("seed*.json"))
    done = bench("report", *records, "--output", tmp_path / "out", "--no-figures")
    assert done.exit_code == 0 and "mean of 2" in (tmp_path / "out/report.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("leaderboard", "--runs", "nowhere"), "no finished run"),
        (("leaderboard", "--results", "nowhere"), "no record in nowhere"),
        (("leaderboard", "--runs", "{runs}", "--category", "Sinthetic"), "recorded are Synthetic"),
        (("leaderboard", "--runs", "{runs}", "--output", "x.docx"), "end it in .md, .csv"),
        (("report", "nowhere"), "no run directory"),
        (("report", "{runs}"), "not the directory of a finished run"),
    ],
)
def test_bad_input_is_one_line(runs, words, message):
    done = bench(*(word.format(runs=runs) for word in words))
    assert done.exit_code == 2 and message in done.output and done.output.count("\n") == 1, done.output


def test_an_unknown_category_of_records_names_the_near_ones(runs, tmp_path):
    bench("results", "export", *runs.glob("*/model/*"), "--output", tmp_path)
    done = bench("leaderboard", "--results", tmp_path, "--category", "Sinthetic")
    assert done.exit_code == 2 and "did you mean Synthetic?" in done.output


def test_a_damaged_run_is_one_line(tiny, tmp_path):
    run = make_run(tmp_path, tiny)
    (run / "metrics.json").write_text("{")
    done = bench("leaderboard", "--runs", tmp_path)
    assert done.exit_code == 2 and "metrics.json is damaged" in done.output and done.output.count("\n") == 1


def test_mixed_runs_are_refused_and_marked_on_request(tiny, tmp_path):
    run = make_run(tmp_path, tiny, "model")
    make_run(tmp_path, tiny, "hybrid", stages=("hybrid",), group="floor")
    make_run(tmp_path, tiny, "other", stages=("other",))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["fingerprints"]["data"] = "0" * 64
    (run / "manifest.json").write_text(json.dumps(manifest))
    done = bench("leaderboard", "--runs", tmp_path)
    assert done.exit_code == 2 and "--allow-mixed marks them" in done.output and "model" in done.output
    done = bench("leaderboard", "--runs", tmp_path, "--allow-mixed")
    assert done.exit_code == 0 and "model ⚠" in done.output
