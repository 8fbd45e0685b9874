"""A suite: plan, skip, failure, resume, table."""

import contextlib
import dataclasses
import json
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.runs import pool, suite
from leaderboard.collected import read_all
from leaderboard.commands import states

SIZES = ["dataset.items=60", "dataset.users=120"]
SUITE = """
name: small
seeds: [1, 2]
methods:
  - {{method: popularity, seeds: 1, minutes: 0.1, set: [{sizes}]}}
  - {{method: tfidf, seeds: 1, set: [{sizes}]}}
  - {{method: sasrec, label: broken, seeds: 1, set: [{sizes}, sasrec.hidden=33]}}
  - {{method: sasrec, set: [{sizes}, sasrec.epochs=2, sasrec.hidden=16, sasrec.blocks=1]}}
""".format(sizes=", ".join(SIZES))


def bench(*words):
    return CliRunner().invoke(cli, list(words))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    (folder / "small.yaml").write_text(SUITE)
    words = ["suite", "run", str(folder / "small.yaml"), "--category", "Synthetic", "--runs", str(folder / "runs"),
             "--device", "cpu", "--threads", "1", "--no-mlflow", "--output", str(folder / "out")]  # fmt: skip
    plan = bench(*words, "--dry-run")
    return folder, words, plan, bench(*words)


def test_a_dry_run_prints_the_plan_and_does_nothing(finished):
    _, _, plan, _ = finished
    assert plan.exit_code == 0
    assert "5 runs to do" in plan.output or "4 of 5 runs to do" in plan.output
    assert "suite file" in plan.output


def test_a_failure_is_reported_and_the_others_are_done(finished):
    folder, _, _, result = finished
    assert result.exit_code == 1
    assert "failed: broken seed 1: sasrec.hidden = 33 is no multiple of sasrec.heads = 2" in result.output
    assert len(list((folder / "runs").glob("Synthetic/*/*/metrics.json"))) == 4
    assert "[4/5] sasrec seed 1: item HR@10" in result.output


def test_what_is_recorded_is_skipped_and_the_plan_knows_its_time(finished):
    folder, words, _, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "runs").glob("Synthetic/*/*/metrics.json")}
    again = bench(*words)
    assert again.output.count(": recorded") == 4
    assert {p: p.stat().st_mtime_ns for p in (folder / "runs").glob("Synthetic/*/*/metrics.json")} == before
    for path in before:
        if path.parent.parent.name == "popularity":
            path.unlink()
            manifest = path.parent / "manifest.json"
            content = json.loads(manifest.read_text())
            del content["done"]["run"]
            manifest.write_text(json.dumps(content))
    plan = bench(*words, "--dry-run")
    assert "2 of 5 runs to do" in plan.output
    redone = bench(*words)
    assert "popularity seed 1: item" in redone.output


def test_the_table_has_means_intervals_and_a_caption(finished):
    folder, _, _, result = finished
    text = (folder / "out/Synthetic/small.md").read_text()
    assert text.strip() in result.output
    assert "## SID protocol" in text
    assert "## Item protocol" in text
    assert "generated (seed 0)" in text
    assert "seeds 1, 2" in text
    assert "Not recorded: broken seed 1" in text
    assert "Bayes-optimal" in text
    records = read_all(folder / "out")
    assert sorted(record.label for record in records) == ["popularity", "sasrec", "sasrec", "tfidf"]
    pair = [record.metrics("item")["HR@10"] for record in records if record.label == "sasrec"]
    assert f"{sum(pair) / 2:.4f}" in text
    for record in records:
        low, high = record.interval("item", "HR@10")
        assert low <= record.metrics("item")["HR@10"] <= high
        assert record.content["revision"]
        assert record.settings["stages"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("methods: [{method: popularity, sedes: 1}]", "did you mean seeds"),
        ("metods: []", "did you mean methods"),
        ("seeds: []\nmethods: [{method: popularity}]", "seeds must have 1 or more entries"),
        ("methods: [{method: popularity, seeds: 2}]", "must lie in 1–1"),
        ("methods: [{method: popularity}, {method: popularity}]", "twice"),
        ("methods: [{name: x}]", "unknown key 'name'"),
        ("methods: [{method: popularity, minutes: soon}]", "must be a number"),
        ("methods: [{method: popularity, set: a=1}]", "set must be a list"),
        ("name: x", "'methods' is missing"),
    ],
)
def test_a_bad_suite_file_is_one_line(content, expected, tmp_path):
    (tmp_path / "s.yaml").write_text(content)
    result = bench("suite", "run", str(tmp_path / "s.yaml"), "--category", "Synthetic", "--runs", str(tmp_path / "r"))
    assert result.exit_code == 2
    assert expected in result.output
    assert result.output.count("Error: ") == 1
    assert not (tmp_path / "r").exists()


def test_unknown_suites_rows_and_categories_are_one_line(tmp_path):
    assert "did you mean table1" in bench("suite", "run", "tabel1", "--category", "Synthetic").output
    assert "of suite table1" in bench("suite", "run", "table1", "--category", "Synthetic", "--only", "sasrek").output
    assert "looked in" in bench("suite", "run", "table1", "--category", "Nothing").output
    result = bench("suite", "table", "table1", "--category", "Synthetic", "--runs", str(tmp_path))
    assert result.exit_code == 2
    assert "bench suite run table1" in result.output


def test_every_shipped_suite_resolves(plugins):
    for name in suite.shipped():
        found = suite.read(name)
        planned = suite.plan(found, "Synthetic", None, Path("/nonexistent"), plugins)
        assert not [run.problem for run in planned if run.problem]
    assert [e.label for e in suite.read("table1").entries][:8] == ["popularity", "recency", "markov", "skip-markov",
                                                                   "itemknn", "ease", "tfidf", "hybrid"]  # fmt: skip


def test_a_row_goes_on_from_the_same_seeds_run_of_a_row_before_it(tmp_path, plugins):
    from harness.errors import BenchError
    from harness.runs import suite as suites

    path, later = tmp_path / "s.yaml", "{method: minionerec-memory, from: minionerec}"
    path.write_text(f"seeds: [1, 2]\nmethods: [minionerec, {later[:-1]}, seeds: 1}}]\n")
    suite = suites.read(str(path))
    planned = suites.plan(suite, "Synthetic", None, tmp_path / "runs", plugins)
    assert [p.source for p in planned] == [None, None, planned[0].directory]
    assert len({p.directory for p in planned}) == 3
    narrowed = suites.select(suite, ["minionerec-memory"], None)
    assert [e.label for e in narrowed.entries] == ["minionerec", "minionerec-memory"]  # its source comes along
    path.write_text(f"seeds: [1]\nmethods: [{later}, minionerec]\n")
    with pytest.raises(BenchError, match="goes on from minionerec, which must stand before it"):
        suites.read(str(path))


def test_few_candidates_are_enough_for_every_table(tmp_path):
    """decoder.k = 5: what stands above five is absent, and nothing falls over it."""
    sizes = "dataset.items=80, dataset.users=80, decoder.k=5"
    suite = tmp_path / "k5.yaml"
    suite.write_text(f"methods: [{{method: markov, set: [{sizes}]}}, {{method: popularity, set: [{sizes}]}}]\n")
    runs = tmp_path / "runs"
    common = ["--runs", str(runs), "--no-mlflow", "--device", "cpu", "--threads", "1"]
    done = CliRunner().invoke(cli, ["suite", "run", str(suite), "--category", "Synthetic", *common])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "item HR@1 " in done.output
    first, second = (str(next(runs.glob(f"Synthetic/{name}/seed*"))) for name in ("markov", "popularity"))
    for words in (["compare", first, second], ["report", first], ["show", "run", first], ["results", "measure", first],
                  ["leaderboard", "--category", "Synthetic", "--runs", str(runs)]):  # fmt: skip
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, (words, done.output, done.exception)


def test_rows_seeds_and_settings_of_a_category(tmp_path):
    from harness.errors import BenchError
    from harness.runs import suite as suites

    path = tmp_path / "s.yaml"
    path.write_text(
        "seeds: [1, 2, 3]\ncommon: {Beauty: ['dataset.max_history=20']}\nmethods:\n"
        "  - {method: markov, seeds: 1, seeds_on: {Yelp: 3}}\n"
        "  - {method: ease, seeds: 1, categories: [Beauty], set: ['dataset.max_history=5']}\n"
        "  - {method: markov, label: again, from: markov, seeds: 1, categories: [Beauty]}\n"
    )
    suite = suites.read(str(path))
    beauty, yelp = (suites.on_category(suite, name) for name in ("Beauty", "Yelp"))
    assert [(e.label, e.seeds, e.overrides) for e in beauty.entries] == [
        ("markov", 1, ("dataset.max_history=20",)),
        ("ease", 1, ("dataset.max_history=20", "dataset.max_history=5")),  # a row's own is the last word
        ("again", 1, ("dataset.max_history=20",)),
    ]
    assert [(e.label, e.seeds, e.overrides) for e in yelp.entries] == [("markov", 3, ())]
    assert suites.on_category(suites.select(suite, [], 2), "Yelp").entries[0].seeds == 2
    only = suites.select(suite, ["ease"], None)
    with pytest.raises(BenchError, match="has no row of Yelp"):
        suites.on_category(only, "Yelp")
    path.write_text("seeds: [1]\nmethods: [{method: markov, seeds_on: {Yelp: 3}}]\n")
    with pytest.raises(BenchError, match="seeds_on of markov must lie in 1–1"):
        suites.read(str(path))


def test_the_families_suite_says_its_rows_of_each_category(plugins):
    from harness.runs import suite as suites

    suite = suites.read("families")
    known = set(plugins.registry("method"))
    for category in ("Beauty", "Yelp", "MovieLens-100k", "Industrial_and_Scientific", "Scientific", "Games"):
        entries = suites.on_category(suite, category).entries
        assert {e.method for e in entries} <= known
        assert {"random", "popularity", "skip-markov", "gru4rec", "sasrec", "hstu"} <= {e.method for e in entries}
        dropped = [e.label for e in entries if "protocol.seen=drop" in e.overrides]
        assert bool(dropped) == (category not in ("Yelp", "Industrial_and_Scientific"))  # where purchases recur


def test_one_that_is_asked_to_end_stops_the_run_below_it(tmp_path):
    sets = ", ".join([*SIZES, "sasrec.epochs=5000", "sasrec.patience=5000"])
    (tmp_path / "long.yaml").write_text(f"name: long\nseeds: [1]\nmethods: [{{method: sasrec, set: [{sets}]}}]\n")
    words = ["suite", "run", str(tmp_path / "long.yaml"), "--category", "Synthetic", "--runs", str(tmp_path / "runs"),
             "--device", "cpu", "--threads", "1", "--no-mlflow"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "harness", *words], stdout=subprocess.DEVNULL)
    while not (logs := list(tmp_path.glob("runs/Synthetic/sasrec/*/stages/*/log.jsonl"))):
        assert process.poll() is None
        time.sleep(0.05)
    (below,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert logs[0].is_file() and not Path("/proc", below).exists()


PAIR = """
name: pair
seeds: [1]
methods:
  - {{method: popularity, set: [{sizes}]}}
  - {{method: tfidf, set: [{sizes}]}}
  - {{method: popularity, label: short, from: popularity, set: [{sizes}, decoder.k=20]}}
""".format(sizes=", ".join(SIZES))


def test_several_at_a_time_give_what_one_after_another_gives(tmp_path):
    (tmp_path / "pair.yaml").write_text(PAIR)
    words = ["suite", "run", str(tmp_path / "pair.yaml"), "--category", "Synthetic", "--device", "cpu"]
    found = {}
    for workers in ("1", "2"):
        done = bench(
            *words, "--runs", str(tmp_path / workers), "--workers", workers, *["--no-mlflow"][: workers == "1"]
        )
        assert done.exit_code == 0, done.output
        assert "[3/3] short seed 1: item HR@10" in done.output
        found[workers] = {
            path.parent.parent.name + path.parent.name: json.loads(path.read_text())["stages"]
            for path in tmp_path.glob(f"{workers}/Synthetic/*/*/metrics.json")
        }
    assert len(found["1"]) == 3 and list(found["1"]) and found["1"].keys() == found["2"].keys()
    for run, stages in found["1"].items():
        for name, stage in stages.items():
            assert stage["item"] == found["2"][run][name]["item"]
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:  # however many wrote at a time
        logged = store.execute("SELECT status FROM runs WHERE name LIKE '% seed %'").fetchall()
    assert logged == [("FINISHED",)] * 3


def test_the_printed_jobs_do_what_the_suite_does(tmp_path):
    (tmp_path / "pair.yaml").write_text(PAIR)
    words = [
        "suite",
        "run",
        str(tmp_path / "pair.yaml"),
        "--category",
        "Synthetic",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    words += ["--device", "cpu", "--no-mlflow", "--runs", str(tmp_path / "r u n s")]
    printed = bench(*words, "--print-jobs")
    lines = printed.output.splitlines()
    assert printed.exit_code == 0 and len(lines) == 2 and not (tmp_path / "r u n s").exists()
    assert [line.count(" && ") for line in lines] == [1, 0]  # a row that goes on from another stands behind it
    for line in lines:
        for command in line.split(" && "):
            done = bench(*shlex.split(command)[1:])
            assert done.exit_code == 0, done.output
    assert "0 of 3 runs to do" in bench(*words, "--dry-run").output
    assert bench(*words, "--print-jobs").output == ""


def test_a_live_table_shows_what_runs_and_goes_when_it_ends(tmp_path, capsys):
    run = suite.Planned(suite.Entry("m", "row", 1, 1.0, ()), 3, tmp_path, False, 100.0, True)
    other = dataclasses.replace(run, recorded=True)
    job = pool.Job(0, ["x"], tmp_path / "log", seconds=40.0)
    with states.States([run, other], print, live=True) as shown:
        shown.show([job], [])
        first = capsys.readouterr().err
        assert "row seed 3: starting, 40 s, about 60 s left" in first
        assert "1 done, 0 failed, 1 running, 0 queued" in first
        (tmp_path / "stages/1-sft").mkdir(parents=True)
        (tmp_path / "stages/1-sft/log.jsonl").write_text('{"step": 5}\n{"step": 12}\n{"st')
        shown.show([job], [])
        assert "row seed 3: 1-sft, step 12, 40 s" in capsys.readouterr().err
    assert capsys.readouterr().err == "\033[2F\033[J"
    states.States([run], print, live=False).show([job], [])
    assert capsys.readouterr().err == ""
