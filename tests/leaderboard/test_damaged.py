"""A damaged run or record among many is named and left out with a count; no number is shown that does not follow."""

import csv
import io
import json
import os

import pytest
from click.testing import CliRunner

from harness.cli import cli
from leaderboard import board, formats, page
from leaderboard.collected import collect_files, collect_runs
from leaderboard.record import Record
from tests.recorded import make_record, make_run


def bench(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture()
def runs(tiny, tmp_path):
    """Two finished runs; the first is to be harmed."""
    return [make_run(tmp_path / "runs", tiny, name, stages=("s",)) for name in ("harmed", "whole")]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _segment(content):
    return next(iter(next(iter(content["stages"]["s"]["segments"].values())).values()))


def _chain(content):
    return content["stages"]["s"]["levels"]["cumulative"]["10"]


HARM = {
    "metrics that do not follow": (
        lambda r: edit(r / "metrics.json", lambda c: c["stages"]["s"]["item"].update({"NDCG@10": 0.9})),
        "by the target ranks",
    ),
    "a metric too many": (
        lambda r: edit(r / "metrics.json", lambda c: c["stages"]["s"]["item"].update({"HR@7": 0.9})), "does not follow",
    ),
    "NaN": (
        lambda r: edit(r / "metrics.json", lambda c: c["stages"]["s"]["sid"].update({"MRR": float("nan")})), "NaN",
    ),
    "no stages": (lambda r: (r / "metrics.json").write_text('{"stages": {}}'), "stages"),
    "null": (lambda r: (r / "metrics.json").write_text("null"), "metrics.json"),
    "no metrics": (lambda r: (r / "metrics.json").unlink(), "metrics.json is missing"),
    "no manifest": (lambda r: (r / "manifest.json").unlink(), "no manifest.json"),
    "an empty manifest": (lambda r: (r / "manifest.json").write_text("{}"), "says nothing of its run"),
    "a seed that is a text": (lambda r: edit(r / "manifest.json", lambda c: c.update(seed="one")), "seed"),
    "a name that is a path": (lambda r: edit(r / "manifest.json", lambda c: c.update(method="../x")), "is no name"),
    "no fingerprints": (lambda r: edit(r / "manifest.json", lambda c: c.pop("fingerprints")), "fingerprints"),
    "an interval beside its value": (
        lambda r: edit(r / "metrics.json", lambda c: c["stages"]["s"]["intervals"]["item"].update({"MRR": [0.9, 1.0]})),
        "outside its own interval",
    ),
    "segments that do not add up": (
        lambda r: edit(r / "metrics.json", lambda c: _segment(c)["item"].update({"HR@10": 1.0})), "over the segments",
    ),
    "a segment above all": (
        lambda r: edit(r / "metrics.json", lambda c: _segment(c)["item"].update({"HR@10": 5.0})), "at most 1",
    ),
    "levels that are another's": (
        lambda r: edit(r / "metrics.json", lambda c: _chain(c).update({[*_chain(c)][-1]: 0.999})), "the levels say",
    ),
    "levels without one": (lambda r: edit(r / "metrics.json", lambda c: _chain(c).clear()), "1 or more entries"),
    "an optimum above all": (
        lambda r: edit(r / "metrics.json", lambda c: c.update({"Bayes-optimal": {"sid": {"MRR": 77.0}}})), "at most 1",
    ),
    "another category": (lambda r: edit(r / "manifest.json", lambda c: c.update(category="Other")), "category is"),
    "another method": (lambda r: edit(r / "manifest.json", lambda c: c.update(method="markov")), "method is"),
    "another seed": (lambda r: edit(r / "manifest.json", lambda c: c.update(seed=7)), "seed is"),
    "no group of ours": (lambda r: edit(r / "manifest.json", lambda c: c.update(group="x")), "group is none of"),
    "a pipe": (lambda r: ((r / "metrics.json").unlink(), os.mkfifo(r / "metrics.json")), "is no file"),
    "no config": (lambda r: (r / "config.yaml").unlink(), "config.yaml is missing"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HARM)
def test_a_damaged_run_is_named_and_left_out(runs, tmp_path, kind):
    harm, words = HARM[kind]
    harm(runs[0])
    collected = collect_runs(tmp_path / "runs")
    assert [record.label for record in collected.records] == ["whole"]
    [line] = collected.damaged
    assert str(runs[0]) in line and words in line
    shown = bench("leaderboard", "--runs", tmp_path / "runs")
    assert shown.exit_code == 0 and "1 damaged left out" in shown.output and "| harmed " not in shown.output
    strict = bench("leaderboard", "--runs", tmp_path / "runs", "--strict")
    assert strict.exit_code == 2 and words in strict.output and strict.output.count("\n") == 1


@pytest.mark.parametrize("kind", ["metrics that do not follow", "a metric too many", "NaN"])
@pytest.mark.parametrize("command", ["report", "compare", "show", "api"])
def test_every_command_refuses_numbers_that_do_not_follow(runs, kind, command):
    from harness import load_run
    from harness.errors import BenchError

    HARM[kind][0](runs[0])
    if command == "api":
        with pytest.raises(BenchError):
            load_run(runs[0]).metrics("item")
        return
    words = {"report": ["report", runs[0]], "compare": ["compare", *runs], "show": ["show", "run", runs[0]]}[command]
    done = bench(*words)
    assert done.exit_code == 2 and "Error: " in done.output


def test_a_damaged_record_is_left_out_too(tiny, tmp_path):
    for name in ("harmed", "whole"):
        make_record(tmp_path / "runs", tiny, name).write(tmp_path / f"records/{name}.json")
    path = tmp_path / "records/harmed.json"
    path.write_text(path.read_text()[:-200])
    collected = collect_files(tmp_path / "records")
    assert [r.label for r in collected.records] == ["whole"] and str(path) in collected.damaged[0]
    assert bench("leaderboard", "--results", tmp_path / "records", "--strict").exit_code == 2


HOSTILE = "evil\r\n# heading | <b>x</b> \x1b[31m\u202e @DATA@ $y$ \\input{x}"


def test_free_text_is_one_plain_line_in_every_form(tiny, tmp_path):
    record = make_record(tmp_path, tiny, "evil", label=HOSTILE)
    record = Record(record.content | {"caption": HOSTILE, "revision": HOSTILE}, record.place)
    record.write(tmp_path / "evil.json")
    boards = [board.build([Record.read(tmp_path / "evil.json"), make_record(tmp_path, tiny, "other")], ["sid"])]
    markdown = formats.markdown(boards)
    assert (
        "\n# heading" not in markdown and "<b>" not in markdown and "\x1b" not in markdown and "\u202e" not in markdown
    )
    rows = list(csv.DictReader(io.StringIO(formats.comma_separated(boards))))
    assert {row["method"] for row in rows} == {"other", "evil  # heading | <b>x</b> [31m @DATA@ $y$ \\input{x}"}
    latex = formats.latex(boards)
    assert "\\input" not in latex and "$y$" not in latex and "\n# heading" not in latex
    html = page.html(boards, False)
    assert "<b>x</b>" not in html and html.count("@DATA@") >= 1 and "\x1b" not in html
    assert json.loads(formats.as_json(boards))["rows"]


@pytest.mark.parametrize("text", [" =1+1", "\t=1+1", "+1", "-1+1", "@SUM(A1)"])
def test_a_text_that_a_spreadsheet_would_compute_is_quoted(tiny, tmp_path, text):
    record = make_record(tmp_path, tiny, "evil", label=text)
    [row] = list(csv.DictReader(io.StringIO(formats.comma_separated([board.build([record], ["sid"])]))))
    assert row["method"].startswith("'")


def test_labels_of_a_suite_are_free_text_and_its_logs_stay_where_they_belong(tmp_path):
    suite = tmp_path / "s.yaml"
    rows = [{"method": "popularity", "label": "../../memory without: the model", "set": ["decoder.k=5"]}]
    suite.write_text(json.dumps({"name": "small", "seeds": [1], "methods": rows}))
    words = [
        "suite",
        "run",
        suite,
        "--category",
        "Synthetic",
        "--runs",
        tmp_path / "a/b/runs",
        "--no-mlflow",
        "--quiet",
    ]
    suite.write_text(suite.read_text().replace("decoder.k=5", "dataset.items=60"))
    done = bench(*words)
    assert done.exit_code == 0, done.output
    logs = list(tmp_path.rglob("*.log"))
    assert len(logs) == 1 and logs[0].parent == tmp_path / "a/b/runs/Synthetic/suites/small"
