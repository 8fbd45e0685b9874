"""The leaderboard: what may stand in one table, what is chosen, who is better, and the forms it is written in."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from leaderboard import formats
from leaderboard.board import boards, build
from leaderboard.collected import read_all
from leaderboard.overview import overview
from leaderboard.record import Record
from tests.commands import bench_run
from tests.recorded import make_record

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def records(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [
        make_record(root, tiny, "model", seed=1, skill=0.5),
        make_record(root, tiny, "model", seed=2, skill=0.5),
        make_record(root, tiny, "hybrid", group="floor", stages=("hybrid",), skill=0.3),
        make_record(root, tiny, "sasrec", group="traditional", stages=("sasrec",), skill=0.2),
        make_record(root, tiny, "sasrec", group="traditional", stages=("sasrec",), skill=0.2, seed=3),
        make_record(root, tiny, "weak", group="traditional", stages=("weak",), skill=0.05),
    ]


def changed(record, **fingerprints):
    prints = record.content["fingerprints"] | fingerprints
    return Record(record.content | {"fingerprints": prints}, record.place)


def test_the_committed_leaderboard_is_what_the_committed_records_give():
    found = boards(read_all(ROOT / "leaderboard/results"), ["sid", "item"])
    made = formats.pages(found, "boards")
    for name, text in made.items():
        path = ROOT / "leaderboard" / (f"boards/{name}" if name else "LEADERBOARD.md")
        assert path.read_text(encoding="utf-8") == text, "make leaderboard"
    assert {path.name for path in (ROOT / "leaderboard/boards").iterdir()} == set(made) - {""}


def test_the_overview_names_the_published_rows_below_the_best_counting_baseline():
    board = next(b for b in boards(read_all(ROOT / "leaderboard/results"), ["sid", "item"]) if b.category == "Beauty")
    table = next(one for one in board.tables if one.protocol == "item")
    best = max(row.system.metric("item", "NDCG@10") for row in table.rows if row.group == "counting")
    published = [r for r in board.reported if "NDCG@10" in r.metrics and not r.problems]
    under = [r for r in published if r.metrics["NDCG@10"] < best]
    assert 0 < len(under) <= len(published)
    line = next(line for line in "\n".join(overview([board])).splitlines() if line.startswith("- **Beauty**"))
    assert f"({best:.4f}) {len(under)} of {len(published)} published rows" in line
    for row in published:
        assert (f"{row.method} {row.metrics['NDCG@10']:.4f} ({row.source})" in line) == (row in under)


def test_pages_are_written_beside_the_overview(tiny, tmp_path):
    from click.testing import CliRunner

    from harness.cli import cli

    make_record(tmp_path / "runs", tiny, "model", seed=1, skill=0.5)
    words = ["leaderboard", "--runs", str(tmp_path / "runs"), "--pages"]
    done = CliRunner().invoke(cli, [*words, "--output", str(tmp_path / "out" / "B.md")])
    assert done.exit_code == 0, done.output
    assert "## Overview" in (tmp_path / "out/B.md").read_text()
    assert "## Synthetic" in (tmp_path / "out/boards/Synthetic.md").read_text()
    for more in ([], ["--output", str(tmp_path / "B.csv")]):
        done = CliRunner().invoke(cli, [*words, *more])
        assert done.exit_code == 2
        assert "--pages writes markdown" in done.output


def test_every_committed_record_is_of_a_clean_revision():
    for record in read_all(ROOT / "leaderboard/results"):
        assert not record.content["revision"].endswith("-dirty"), record.place


def test_rows_are_grouped_and_seeds_averaged(records):
    board = build(records, ["sid", "item"])
    assert [row.name for row in board.rows] == ["hybrid", "sasrec", "weak", "model"]
    row = board.rows[-1]
    values = [record.metrics("item")["HR@10"] for record in records[:2]]
    assert row.system.metric("item", "HR@10") == pytest.approx(sum(values) / 2)
    assert row.spread("item", "HR@10") == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert board.rows[0].spread("item", "HR@10") is None


def test_significance_is_against_the_floor_and_the_best_baseline(records):
    [table] = build(records, ["item"]).tables
    assert table.baseline == "sasrec"
    assert set(table.versus_counting) == {"sasrec", "weak", "model"}
    assert table.versus_counting["model"].difference > 0 and table.versus_counting["model"].significant
    weak = table.versus_counting["weak"]
    assert weak.difference < -0.1 and weak.p is None and not weak.significant  # one seed bears no claim
    assert table.versus_counting["sasrec"].p is not None
    difference = table.rows[-1].system.metric("item", "NDCG@10") - table.rows[0].system.metric("item", "NDCG@10")
    assert table.versus_counting["model"].difference == pytest.approx(difference)


def test_of_several_settings_the_best_on_valid_is_shown_not_the_best_on_test(tiny, tmp_path):
    lucky = make_record(tmp_path, tiny, skill=0.7, valid=0.1, settings={"rate": 1})
    chosen = make_record(tmp_path, tiny, skill=0.3, valid=0.2, settings={"rate": 22})
    board = build([lucky, chosen], ["sid"])
    assert [row.records for row in board.rows] == [(chosen,)]
    assert len(board.passed_over) == 1 and "valid NDCG@10 0.1000" in board.passed_over[0]
    assert "chosen on valid NDCG@10 before" in formats.markdown([board])


def test_runs_on_other_data_are_refused_or_marked(records):
    odd = changed(records[-1], data="0" * 64)
    with pytest.raises(BenchError, match=r"1 of 4 rows do not compare.*weak .*data 000000000000.*--allow-mixed"):
        build([*records[:-1], odd], ["item"])
    [table] = build([*records[:-1], odd], ["item"], mixed=True).tables
    assert [row.name for row in table.rows if row.mixed] == ["weak"]
    assert "weak" not in table.versus_counting
    text = formats.markdown([build([*records[:-1], odd], ["item"], mixed=True)])
    assert "weak ⚠" in text and "it does not compare" in text


def test_other_semantic_ids_are_refused_in_the_sid_table_only(tiny, records, tmp_path):
    codes = tiny.given.codes[:, ::-1].copy()
    other = make_record(tmp_path, tiny, "own-sids", semantic_ids=SemanticIds(codes, "rqkmeans"))
    with pytest.raises(BenchError, match=r"SIDs .*--protocol item compares them by item"):
        build([*records, other], ["sid"])
    assert "own-sids" in [row.name for row in build([*records, other], ["item"]).rows]


def test_a_run_without_semantic_ids_is_named_under_the_sid_table(records):
    stages = {"weak": {k: v for k, v in records[-1].stages["weak"].items() if k != "sid"}}
    bare = Record(
        records[-1].content | {"stages": stages, "fingerprints": {"data": records[0].data, "semantic_ids": None}},
        records[-1].place,
    )
    board = build([*records[:-1], bare], ["sid", "item"])
    assert board.tables[0].absent == ["weak"]
    assert "run without semantic IDs: weak" in formats.markdown([board])
    with pytest.raises(BenchError, match="no run of Synthetic has the SID protocol"):
        build([bare], ["sid"])


def test_stages_are_rows_on_request(records):
    names = [row.name for row in build(records, ["sid"], stages=True).rows]
    assert names == ["hybrid", "sasrec", "weak", "model sft", "model grpo"]


def test_markdown_marks_best_and_second(records):
    text = formats.markdown([build(records, ["item"])])
    best, second = (
        next(line for line in text.splitlines() if line.startswith(f"| {name} ")) for name in ("model", "hybrid")
    )
    assert best.count("**") >= 10 and second.count("<ins>") >= 5 and " ± " in best
    assert "*Traditional*" in text and "code abc123" in text and "item protocol; Synthetic" in text


def test_csv_and_json_hold_every_number(records):
    found = [build(records, ["sid", "item"])]
    rows = list(csv.DictReader(io.StringIO(formats.comma_separated(found))))
    assert len(rows) == 8
    assert float(rows[3]["HR@10"]) == found[0].rows[-1].system.metric("sid", "HR@10")
    assert json.loads(formats.as_json(found))["rows"][3]["HR@10"] == float(rows[3]["HR@10"])
    assert rows[3]["seeds"] == "1 2" and rows[3]["data"] == records[0].data and rows[3]["kind"] == "measured"


def test_a_name_is_no_formula_markup_or_command(tiny, tmp_path):
    evil = make_record(tmp_path, tiny, "evil", label="=1+1|<b>&_%\\x")
    found = [build([evil, make_record(tmp_path, tiny, "other")], ["sid"])]
    assert "'=1+1" in formats.comma_separated(found)
    assert "=1+1\\|&lt;b>" in formats.markdown(found)
    assert "=1+1|$<$b$>$\\&\\_\\%\\textbackslash{}x" in formats.latex(found)


def test_a_recipe_s_note_stands_under_the_table(records):
    noted = next(record for record in records if record.label != "hybrid")
    told = noted.content["settings"] | {"note": "half of *its* tasks"}
    others = [record for record in records if record.label != noted.label]
    changed = Record(noted.content | {"settings": told}, noted.place)
    text = formats.markdown([build([*others, changed], ["item"])])
    assert f"{noted.label}: half of \\*its\\* tasks" in text


def test_latex_is_a_booktabs_table(records):
    text = formats.latex([build(records, ["item"])])
    assert text.count("\\toprule") == text.count("\\bottomrule") == 1
    assert "\\textbf{" in text and "\\underline{" in text and "$^{*\\ddagger}$" in text
    assert text.count("{") == text.count("}")
    assert "\\textit{Traditional}" in text and "\\caption{item protocol" in text


def test_reported_rows_stand_apart_and_impossible_ones_are_explained(records):
    industrial = [Record(r.content | {"category": "Industrial_and_Scientific"}, r.place) for r in records]
    text = formats.markdown([build(industrial, ["sid"])])
    measured, reported = text.split("### Reported elsewhere")
    assert "GRU4Rec" not in measured and "D3 ‡" in reported and "NDCG falls with K" in reported
    assert "not measured here" in reported


def test_one_version_of_the_data_is_shown_alone(tmp_path):
    runs = tmp_path / "runs"
    for items in (60, 80, 90):
        done = bench_run(runs, "popularity", [f"dataset.items={items}", "dataset.users=60"])
        assert done.exit_code == 0, done.output
    said = CliRunner().invoke(cli, ["leaderboard", "--runs", str(runs)])
    assert said.exit_code == 2
    data = re.search(r"--data (\w{12}) shows those that do", said.output)[1]
    alone = CliRunner().invoke(cli, ["leaderboard", "--runs", str(runs), "--data", data])
    assert alone.exit_code == 0 and alone.output.count("| popularity ") == 4, alone.output  # a row a table
    unknown = CliRunner().invoke(cli, ["leaderboard", "--runs", str(runs), "--data", "ffff"])
    assert unknown.exit_code == 2 and "unknown data fingerprint" in unknown.output


def test_bought_items_kept_and_dropped_stand_on_two_boards():
    """Two values of the protocol are two boards of a category: on its page one below the other, never in one table."""
    records = [r for r in read_all(ROOT / "leaderboard/results") if r.category in ("Beauty", "Yelp")]
    found = boards(records, ["item"])
    assert [board.title for board in found] == ["Beauty", "Beauty, bought items dropped", "Yelp"]
    assert {r.seen for r in found[0].records} == {"keep"} and {r.seen for r in found[1].records} == {"drop"}
    assert found[0].reported and not found[1].reported
    pages = formats.pages(found, "boards")
    assert list(pages) == ["", "Beauty.md", "Yelp.md", "Beauty.svg", "Yelp.svg"]
    assert pages["Beauty.md"].index("## Beauty\n") < pages["Beauty.md"].index("## Beauty, bought items dropped\n")
    assert "dropped" not in pages[""]
    (both,) = boards([r for r in records if r.category == "Beauty"], ["item"], mixed=True)
    assert any(row.mixed for row in both.rows)
    with pytest.raises(BenchError, match="seen drop, not keep"):
        build([r for r in records if r.category == "Beauty"], ["item"])
