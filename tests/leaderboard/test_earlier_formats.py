"""Records of every earlier format stay readable, and are brought to the newest; versions are never mixed."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.data import versions
from harness.errors import BenchError
from harness.evaluation import user_index
from leaderboard import denied, effort, formats
from leaderboard.board import build
from leaderboard.migration import migrated
from leaderboard.record import Record, load
from tests.recorded import make_record, make_run

KEPT = sorted((Path(__file__).parent / "formats").glob("*.json"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_record_of_an_earlier_format_is_read_and_its_intervals_are_rows_only(path, plugins):
    record = load(path)
    assert record.metrics("item")["HR@10"] > 0
    assert record.users is None
    text = formats.markdown([build([record], ["sid", "item"], mixed=True)])
    assert "²" in text and "rows only" in text
    new = migrated(record, None, plugins)
    assert new.metrics("item") == pytest.approx(record.metrics("item")) and new.users is None


@pytest.mark.data
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_users_are_joined_from_the_data(path, tmp_path):
    shutil.copy(path, tmp_path / path.name)
    done = CliRunner().invoke(cli, ["results", "migrate", str(tmp_path)])
    assert done.exit_code == 0 and "written" in done.output, done.output
    record = load(tmp_path / path.name)
    assert len(record.users) == 4533 and record.users.max() == 1986
    assert record.ground["split"] == {"name": "industrial-reconstructed", "version": 1}
    assert 1.2 < record.stages[record.last]["design effects"]["item"]["HR@10"] < 3
    wider = [high - low for low, high in (record.interval("item", "HR@10"), load(path).interval("item", "HR@10"))]
    assert wider[0] > wider[1]
    again = CliRunner().invoke(cli, ["results", "migrate", str(tmp_path)])
    assert "new " in again.output and "written" not in again.output


def test_ties_of_item_scorers_move_and_beams_do_not():
    by_measuring = {load(path).settings["decoder"]["name"]: load(path).ground["protocol"]["version"] for path in KEPT}
    assert by_measuring == {"beam": 2, "rank": 1}
    with pytest.raises(BenchError, match="another version"):
        build([load(path) for path in KEPT], ["item"])


def test_a_value_that_was_fitted_on_valid_is_not_chosen_by(tiny, tmp_path):
    record = make_record(tmp_path, tiny)
    stage = record.stages[record.last]
    assert record.valid == stage["valid"]["NDCG@10"]
    stage["train"] |= {"combine": "mixture", "best valid NDCG@10": 0.9}
    assert record.valid is None and record.valid_by_item is None
    stage["train"]["cross-validated valid NDCG@10"] = 0.25
    assert record.valid == 0.25 and record.valid_by_item is None
    stage["train"]["valid out of sample"] = stage["valid"]
    assert record.valid == stage["valid"]["NDCG@10"]


def told(measured=3, revision="0" * 12, method="bigrec", decoder="rank", release="0.1.0", **settings):
    return {
        "stages": {"sft": {"measured": measured}},
        "settings": {"decoder": {"name": decoder}, "stages": [{"name": "sft", "eval_every": 0.5}], **settings},
        "revision": revision, "method": method, "versions": {"genrec-bench": release},
    }  # fmt: skip


def test_the_list_of_wrong_rows_names_versions_and_kinds():
    eager = {"backbone": {"name": "hf", "attention": "eager"}}
    assert "masks" in denied.reason(told(1, decoder="beam", **eager))
    assert not denied.reason(told(2, decoder="beam", **eager)) and not denied.reason(told(1, decoder="rank", **eager))
    again = told(3, decoder="beam", **eager)
    again["stages"]["sft"]["first measured"] = 1
    assert "masks" in denied.reason(again)
    assert "every step" in denied.reason(told(1, stages=[{"name": "sft", "eval_every": 1}]))
    assert "tokens" in denied.reason(told(revision="a71fff628787-dirty"))
    assert not denied.reason(told(revision="a71fff628787", method="sdpo"))
    entry = denied.Denied("why", before="0.2.0")
    assert entry.holds(told()) and entry.holds(told(release="odd")) and not entry.holds(told(release="0.2.0"))
    assert all(entry.measured or entry.before or entry.revisions for entry in denied.listed())


def test_a_row_that_is_known_to_be_wrong_is_refused_everywhere(tiny, tmp_path, monkeypatch):
    record = make_record(tmp_path / "results", tiny)
    path = tmp_path / "one.json"
    record.write(path)
    monkeypatch.setattr(denied, "listed", lambda: (denied.Denied("it counted twice", before="99"),))
    for arguments in (["leaderboard", "--results", str(tmp_path)], ["compare", str(path), str(path)],
                      ["report", str(path)], ["results", "verify", str(path)]):  # fmt: skip
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code and "it counted twice" in done.output and "Traceback" not in done.output, done.output


def test_measuring_again_keeps_what_it_was_first_measured_at(tiny, tmp_path, plugins):
    run = make_run(tmp_path, tiny)
    path = run / "metrics.json"
    content = json.loads(path.read_text())
    for stage in content["stages"].values():
        stage["measured"] = 2
        stage.pop("first measured", None)
    path.write_text(json.dumps(content))
    for _ in range(2):
        done = CliRunner().invoke(cli, ["results", "measure", str(run), "--no-figures"])
        assert done.exit_code == 0, done.output
    for stage in json.loads(path.read_text())["stages"].values():
        assert stage["first measured"] == 2 and stage["measured"] == 3


def test_a_report_and_a_comparison_mix_no_versions(tiny, tmp_path):
    kept, dropped = make_record(tmp_path, tiny), make_record(tmp_path, tiny, seed=2)
    dropped.content["settings"] = dropped.settings | {"protocol": {"seen": "drop"}}
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for record, path in zip((kept, dropped), paths, strict=True):
        record.write(Path(path))
    for command in ("report", "compare"):
        done = CliRunner().invoke(cli, [command, *paths])
        assert done.exit_code == 2 and "seen drop, not keep" in done.output, done.output


def test_a_version_that_is_not_known_names_the_newest_known(tiny, tmp_path):
    record = make_record(tmp_path, tiny)
    ground = {"dataset": {"name": "synthetic", "version": 9}, "split": {"name": "generated", "version": 1}}
    with pytest.raises(BenchError, match="version 9; the newest known here is 1"):
        build([Record(record.content | {"ground": ground}, record.place)], ["item"])
    future = {"protocol": {"name": "next-item", "version": 99}}
    with pytest.raises(BenchError, match="version 99; the newest known here is 2"):
        build([Record(record.content | {"ground": future}, record.place)], ["item"])


def test_every_entry_of_the_changelog_is_whole_and_each_name_has_one_newest():
    content = versions._listed()
    for kind, section in versions.KINDS.items():
        for name in content[section]:
            entries = versions.history(kind, name)
            assert [entry.version for entry in entries] == list(range(1, len(entries) + 1))
            assert [bool(entry.superseded_by) for entry in entries] == [True] * (len(entries) - 1) + [False]
            assert all(entry.reason for entry in entries if entry.superseded_by)
    assert versions.newest("protocol", "next-item") == 2
    assert versions.of_data("0" * 64, "minionerec")["split"]["name"] == "in-time"
    assert versions.of_data("0" * 64, "somebodys")["dataset"] == versions.OWN


def test_users_of_a_record_are_numbers_without_names_and_hold_their_form(tiny, tmp_path):
    record = make_record(tmp_path, tiny)
    users = record.users
    assert users.tolist() == user_index.of(tiny.test).tolist() and (users[1:] >= users[:-1]).all()
    assert not any(name in json.dumps(record.content["users"]) for name in tiny.test.users.tolist() if len(name) > 3)
    with pytest.raises(BenchError, match="damaged"):
        user_index.decode("no", len(users))
    with pytest.raises(BenchError, match="samples"):
        user_index.decode(record.content["users"], len(users) + 1)


def test_effort_is_what_the_record_says(tiny, tmp_path):
    folder = make_run(tmp_path, tiny, settings={"a": 1})
    record = Record.of_run(folder)
    found = effort.of([record])
    assert (found.trials, found.tuned_here, found.converged) == (None, None, None)
    said = record.settings | {
        "settings_from": "search",
        "searched": {"trials": 7, "category": "Synthetic", "data": tiny.fingerprint},
    }
    stages = {name: stage | {"train": stage["train"] | {"steps": 20}} for name, stage in record.stages.items()}
    ended = effort.of([Record(record.content | {"settings": said, "stages": stages}, record.place)])
    assert (ended.trials, ended.tuned_here, ended.source, ended.best) == (7, True, "search", 1.0)
    assert ended.converged is False and "not converged" in ended.cells()[4]
    other = said | {"searched": {"trials": 7, "category": "X", "data": "0" * 64}}
    assert effort.of([Record(record.content | {"settings": other}, record.place)]).tuned_here is False


def test_a_method_that_says_it_is_deterministic_and_is_not_is_named(tiny, tmp_path):
    records = [make_record(tmp_path, tiny, method="noisy", seed=seed, skill=0.3) for seed in (1, 2)]
    said = [Record(r.content | {"settings": r.settings | {"deterministic": True}}, r.place) for r in records]
    text = formats.markdown([build(said, ["item"])])
    assert "says that it is deterministic and its seeds differ" in text
    one = Record(said[0].content, said[0].place)
    assert "¹" not in formats.markdown([build([one], ["item"])])
    assert "¹" in formats.markdown([build([records[0]], ["item"])])
