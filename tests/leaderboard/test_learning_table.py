"""The table of the suite learning: rivals by valid, every difference tested, rows of another protocol left out."""

import pytest

from leaderboard import learning_table
from leaderboard.board import build
from leaderboard.record import Record
from tests.recorded import make_record


@pytest.fixture(scope="module")
def records(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("records")

    def of(method, skill, valid, label="", group="traditional", seeds=(1, 2, 3)):
        made = []
        for seed in seeds:
            record = make_record(
                root / (label or "plain"), tiny, method, seed=seed, group=group, stages=(method,), skill=skill
            )
            content = record.content | ({"label": label} if label else {})
            content["stages"][method]["valid"] = {"NDCG@10": 0.5, "NDCG@10 by item": valid}
            made.append(Record(content, record.place))
        return made

    return [
        *of("hybrid", 0.2, 0.3, group="counting"), *of("skip-markov", 0.25, 0.2, group="counting"),
        *of("sasrec", 0.1, 0.9), *of("hstu", 0.3, 0.1), *of("rerank", 0.6, 0.99),
        *of("gru4rec", 0.2, 0.2), *of("gru4rec", 0.4, 0.95, label="gru4rec (text start)"),
    ]  # fmt: skip


def test_rivals_are_chosen_on_valid_and_text_starts_have_their_own(records):
    rows = build(records, ["item"]).rows
    said = learning_table.says("Tiny", rows)
    assert "item protocol: rerank over hybrid: +" in said and "rerank over skip-markov" not in said
    assert "rerank over sasrec: +" in said and "over hstu" not in said
    assert "gru4rec (text start) over gru4rec: +" in said
    assert said.count("HR@10") == said.count("item protocol: rerank over")  # where there are SIDs, both protocols
    for line in said.splitlines():
        assert line.startswith("- Tiny, ") and ("beyond chance" in line or "within chance" in line)


def test_the_table_stands_by_item_ndcg_and_says_its_spread(records):
    rows = build(records, ["item"]).rows
    lines = learning_table.learning_table(rows).splitlines()
    assert lines[2].split("|")[1].strip() == "rerank" and " ± " in lines[2]
    assert len([line for line in lines if line.startswith("| ")]) == 1 + len(rows)


def test_a_row_without_valid_numbers_is_no_rival(records):
    silent = [r for r in records if r.label != "sasrec"]
    for record in [r for r in records if r.label == "sasrec"]:
        stages = {name: {k: v for k, v in entry.items() if k != "valid"} for name, entry in record.stages.items()}
        silent.append(Record(record.content | {"stages": stages}, record.place))
    assert "rerank over gru4rec: " in learning_table.says("Tiny", build(silent, ["item"]).rows)
