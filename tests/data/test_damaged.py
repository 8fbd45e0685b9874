"""Damaged data is told in one line with file, row and mend; nothing is lost without a count."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.data.problems import EXAMPLES, Problems
from harness.errors import BenchError
from harness.runs.run_directory import RunDirectory
from tests.commands import bench_run
from tests.data.test_readers import N_ITEMS, read, sid, write_minionerec, write_sequences

TEST = "test/Toys_5_2016-10-2018-11.csv"
ITEMS, INDEX, INFO = "index/Toys.item.json", "index/Toys.index.json", "info/Toys_5_2016-10-2018-11.txt"


def change(path, old, new, encoding="utf-8"):
    text = path.read_text()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode(encoding))


def in_row(root, old, new):
    change(root / TEST, old, new)


def widen(root, where):
    lines = (root / TEST).read_text().splitlines()
    (root / TEST).write_text("\n".join(line + "," if where(n) else line for n, line in enumerate(lines)) + "\n")


HARM = {
    "an item twice": (lambda r: change(r / ITEMS, "{", '{"3": {"title": "other"}, '), f"{ITEMS}.*'3' stands twice"),
    "an infinite number": (lambda r: change(r / ITEMS, '"b"', "1e999"), f"{ITEMS}: not valid JSON .*too large"),
    "a title in Latin-1": (
        lambda r: change(r / INFO, "item 2", "itém 2", "latin-1"), f"{INFO}: line 3 is not UTF-8.*Latin-1.*UTF-8",
    ),
    "a CSV in Latin-1": (
        lambda r: change(r / TEST, ',item 0,', ',itém 0,', "latin-1"), f"{TEST}: line 3 is not UTF-8.*Latin-1",
    ),
    "a comma too many": (lambda r: widen(r, lambda n: n == 2), f"{TEST} row 2: has 8 cells, the header 7"),
    "a comma too many in each row": (lambda r: widen(r, lambda n: n > 0), f"{TEST} row 1: has 8 cells, the header 7"),
    "a column twice": (lambda r: in_row(r, "history_item_title", "item_id"), f"{TEST}: has the column item_id twice"),
    "swapped columns": (
        lambda r: in_row(r, "history_item_id,item_id", "item_id,history_item_id"), f"{TEST} row 1: .*is not a list",
    ),
    "a user without a name": (lambda r: in_row(r, "\nA1,", "\n,"), f"{TEST} row 1: has no user_id"),
    "a digit of another script": (lambda r: in_row(r, '"[3, 4]",5', '"[3, 4]",٥'), f"{TEST} row 1: item_id ٥ is not"),
    "an ASIN": (lambda r: in_row(r, '"[3, 4]"', '"[\'B01\', 4]"'), f"{TEST} row 1: .*'B01'.*not ASINs"),
    "a quote that never ends": (lambda r: in_row(r, '"[3, 4]"', '"[3, 4]'), f"{TEST}.*not a readable CSV|cells"),
    "a code beyond all bounds": (
        lambda r: change(r / INDEX, "<c_1>", "<c_99999999999>"), f"{INDEX} row 2: .*the largest allowed",
    ),
    "nesting without end": (lambda r: (r / ITEMS).write_text("[" * 90_000), f"{ITEMS}: not valid JSON .*nested deeper"),
    "two cells that are lists only together": (
        lambda r: change(r / TEST, '"[3, 4]"', '"[3],[4"'), f"{TEST} row 1: .*is not a list",
    ),
    "a column of ours twice": (
        lambda r: in_row(r, "history_item_sid", "item_sid"), f"{TEST}: has the column item_sid twice",
    ),
    "a user's id without end": (lambda r: in_row(r, "\nA1,", f"\n{'w' * 5000},"), f"{TEST} row 1: .*user_id 'www"),
    "a title that is no text": (lambda r: change(r / ITEMS, '"item 2"', "true"), f"{ITEMS}: the title of item 2"),
    "tokens that are no list": (
        lambda r: (r / INDEX).write_text(json.dumps(json.loads((r / INDEX).read_text()) | {"1": {"<a_1>": 0}})),
        f"{INDEX} row 2: .*no list of texts",
    ),
    "a code in two spellings": (lambda r: change(r / INDEX, "<c_1>", "<c_01>"), f"{INDEX} row 2: .*form <a_12>"),
    "a pipe in place of a file": (lambda r: ((r / ITEMS).unlink(), os.mkfifo(r / ITEMS)), f"{ITEMS}: is no file"),
    "no items at all": (lambda r: (r / ITEMS).write_text("{}"), f"{ITEMS}: holds no item"),
    "another split beside it": (
        lambda r: shutil.copyfile(r / TEST, r / "test/Toys_5_2010-1-2011-2.csv"),
        "test: holds 2 files of Toys: Toys_5_2010-1-2011-2.csv, Toys_5_2016-10-2018-11.csv",
    ),
    "another info text": (
        lambda r: shutil.copyfile(r / INFO, r / "info/Toys.txt"), r"info: holds 2 files of Toys: Toys\.txt, Toys_5",
    ),
    "the category in a second folder": (
        lambda r: shutil.copytree(r / "train", r / "copy/train"), "Toys is here and in .*copy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HARM)
def test_each_kind_is_one_line_with_file_and_mend(plugins, tmp_path, kind):
    harm, words = HARM[kind]
    harm(write_minionerec(tmp_path))
    with pytest.raises(BenchError, match=words) as caught:
        read(plugins, tmp_path)
    assert "\n" not in caught.value.format_message() and "; " in caught.value.message


@pytest.mark.parametrize("name", [ITEMS, INDEX, INFO, TEST, "train/Toys_5_2016-10-2018-11.csv"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_nothing(plugins, tmp_path, name, encoding):
    root = write_minionerec(tmp_path)
    before = read(plugins, root).fingerprint
    (root / name).write_bytes((root / name).read_text().encode(encoding))
    assert read(plugins, root).fingerprint == before


def test_a_title_that_is_nan_is_absent(plugins, tmp_path):
    root = write_minionerec(tmp_path)
    change(root / ITEMS, '"item 3"', "NaN")
    assert read(plugins, root).items.titles[3] == ""


@pytest.mark.parametrize("name", ["Toys[5core]", "Arts & Crafts (old)"])
def test_names_of_categories_are_names_and_no_patterns(plugins, tmp_path, name):
    assert len(read(plugins, write_minionerec(tmp_path, name=name), name).train) == 3


def test_titles_that_differ_are_warned_of_with_both(plugins, tmp_path):
    root, problems = write_minionerec(tmp_path), Problems()
    change(root / INFO, "item 5", "thing 5")
    read(plugins, root, problems=problems)
    [line] = [str(p) for p in problems.found if "names item" in p.what]
    assert "'thing 5'" in line and "'item 5'" in line and "row 6" in line


def test_of_many_problems_some_are_shown_and_all_are_counted(plugins, tmp_path):
    rows = {
        "train": [(f"U{i}", [i % 7], (i + 1) % 7) for i in range(300)],
        "valid": [("V", [0], 1)], "test": [("T", [0], 1)],
    }  # fmt: skip
    root = write_minionerec(tmp_path, rows)
    text = (root / "train/Toys_5_2016-10-2018-11.csv").read_text()
    (root / "train/Toys_5_2016-10-2018-11.csv").write_text(text.replace(sid(0), sid(7)))
    problems = Problems()
    read(plugins, root, problems=problems)
    differ = [p for p in problems.found if "SIDs differ" in p.what]
    wrong = sum(i % 7 == 0 or (i + 1) % 7 == 0 for i in range(300))
    assert len(differ) == EXAMPLES and problems.number("warning") >= wrong
    assert any(f"{wrong} in all" in line for line in problems.further)
    said = CliRunner().invoke(cli, ["data", "validate", "Toys", "--data-dir", str(root)])
    assert said.exit_code == 0 and f"{wrong} in all" in said.output and said.output.count("SIDs differ") == EXAMPLES + 1


def test_users_that_a_split_leaves_out_are_counted_in_the_record(plugins, tmp_path):
    long = [i % N_ITEMS for i in range(14)]
    sequences = {"u0": [1], "u1": [1, 2], "u2": [1, 2, 3], "u3": long, "u4": [0, 1, 2, 3, 4], "u5": []}
    write_sequences(tmp_path / "data", sequences)
    name = next((tmp_path / "data").rglob("*.inter.json")).name.removesuffix(".inter.json")
    left_out = read(plugins, tmp_path / "data", name).left_out
    assert {why.split(":")[0]: n for why, n in left_out.items()} == {
        "users without a sample": 2, "users without a valid and test sample": 1, "users without a train sample": 1,
        "users whose history is cut to its last 10 items": 1,
    }  # fmt: skip
    done = bench_run(
        tmp_path / "runs", "popularity", ["decoder.k=5"], "--data-dir", str(tmp_path / "data"), category=name
    )
    assert done.exit_code == 0, done.output
    [run] = (tmp_path / "runs").glob("*/*/*")
    assert RunDirectory(run).manifest["left_out"] == left_out
    exported = CliRunner().invoke(cli, ["results", "export", str(run), "--output", str(tmp_path / "out")])
    assert exported.exit_code == 0, exported.output
    [record] = (tmp_path / "out").rglob("*.json")
    assert json.loads(record.read_text())["left_out"] == left_out
    assert "Left out or cut" in (run / "report.md").read_text()


def test_problems_of_one_statement_are_one_kind_whatever_their_texts_say(plugins, tmp_path):
    root = write_minionerec(tmp_path)
    change(root / INFO, "item 5", "Men's thing")
    rows = {
        "train": [("U", [0], 1)],
        "valid": [("V", [0], 1)],
        "test": [(f"T{i} x's", [0, i % 7], 1) for i in range(99)],
    }
    root = write_minionerec(tmp_path / "more", rows)
    text = (root / TEST).read_text().splitlines()
    words = ["".join(chr(97 + int(d)) for d in str(i)) for i in range(99)]
    lines = [line.replace("[0, ", f"['Men''s {word}', ") for line, word in zip(text[1:], words, strict=True)]
    (root / TEST).write_text("\n".join([text[0], *lines]) + "\n")
    problems = Problems()
    with pytest.raises(BenchError, match="98 more"):
        read(plugins, root, problems=problems)
    assert len(problems.errors) == EXAMPLES and problems.number("error") == 99
    assert any("99 in all" in line for line in problems.further)
