"""A history in, items out: what a model recommends is what it recommended on test; what is unknown is named."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.api import load_run
from harness.data import categories
from harness.data.dataset import Items
from harness.errors import BenchError
from harness.runs.run_directory import RunDirectory
from harness.serving.catalogue import Catalogue, UnknownItem
from harness.serving.recommender import Recommender
from tests.commands import bench
from tests.conftest import TINY_DATA


def small(ids=(), popularity=(1, 5, 3, 2)):
    titles = ["Red drill, 5 mm", "Drill bit set", "Blue drill, 5 mm", "Red drill, 5 mm"]
    items = Items(titles, [""] * 4, [""] * 4, [""] * 4, list(ids))
    return Catalogue("Toy", items, np.array(popularity), None)


@pytest.mark.parametrize("run", ["counted", "network", "written"])
def test_a_model_recommends_what_it_did_on_test(run, request, tiny):
    folder = request.getfixturevalue(run)
    recorded = load_run(folder).rankings()
    made = Recommender.load(folder)
    rows = range(12)
    histories = [tiny.test.histories.lists()[row] for row in rows]
    for row, answer in zip(rows, made.answers(histories, 5), strict=True):
        wanted = recorded.ids[row].tolist()
        if recorded.kind == "sid":
            assert [beam.sid for beam in answer.beams[:5]] == [tiny.given.strings[one] for one in wanted[:5]]
            assert all(tiny.given.of_item[one.item] in wanted[:5] for one in answer.items)
        else:
            assert [one.item for one in answer.items] == wanted[:5]
            assert answer.beams == []


def test_items_that_share_a_semantic_id_stand_by_how_often_they_were_bought(writing, tiny):
    shared = int(np.flatnonzero(tiny.given.group_sizes > 1)[0])
    answer = writing.answer([3, 4], 80)
    group = [one.item for one in answer.items if tiny.given.of_item[one.item] == shared]
    assert len(group) == tiny.given.group_sizes[shared]
    bought = np.bincount(tiny.train.targets, minlength=len(tiny.items))[group]
    assert list(bought) == sorted(bought, reverse=True)
    assert len({one.score for one in answer.items if one.item in group}) == 1


@pytest.mark.parametrize("run", ["counting", "writing"])
def test_what_is_in_the_history_stays_out_where_that_is_asked(run, request):
    made = request.getfixturevalue(run)
    history = [one.item for one in made.answer([5], 3).items]
    assert set(history) & {one.item for one in made.answer(history, 40).items}
    assert not set(history) & {one.item for one in made.answer(history, 40, "drop").items}
    with pytest.raises(BenchError, match="unknown value of seen 'maybe'"):
        made.answer(history, 3, "maybe")


def test_a_long_history_counts_as_its_end_and_is_left_out_whole(counting):
    long = [*range(30), 3, 4]
    assert counting.answer(long, 5).items == counting.answer(long[-counting.longest :], 5).items
    assert not set(long) & {one.item for one in counting.answer(long, 20, "drop").items}


def test_more_items_than_beams_and_more_than_there_are(writing):
    assert len(writing.answer([1], 70).items) == 70
    answer = writing.answer([1], 500)
    assert len(answer.items) == 80
    assert "proposes 80 items" in answer.note


def test_an_empty_history_gets_what_was_bought_most(counting, tiny):
    answer = counting.answer([], 3)
    bought = np.bincount(tiny.train.targets, minlength=len(tiny.items))
    assert [one.score for one in answer.items] == sorted(bought, reverse=True)[:3]
    assert "empty" in answer.note


def test_items_are_named_by_id_number_title_or_its_words():
    known = small()
    assert known.item_of("2") == (2, "")
    assert known.item_of("#2") == (2, "")
    assert known.item_of("drill bit set") == (1, "")
    assert known.item_of("Red drill, 5 mm") == (3, "")  # of two the best-selling
    item, said = known.item_of("blue 5")
    assert item == 2
    assert "'blue 5' is taken for 2 (Blue drill, 5 mm)" in said
    assert sorted(known.search("dril")) == [0, 1, 2, 3]
    assert known.search("bleu")[0] == 2  # a slip of the finger
    assert known.search("nothing of it") == []
    with pytest.raises(UnknownItem, match=r"'green drill' is no item of Toy; nearest titles: 1 \(Drill bit set\)"):
        known.item_of("green drill")
    with pytest.raises(UnknownItem, match="items are numbers from 0 to 3"):
        known.item_of("99")


def test_numbers_are_no_ids_where_the_source_has_its_own():
    known = small(["3", "B0", "B1", "B2"])
    assert known.item_of("3") == (0, "")
    assert known.item_of("#3") == (3, "")
    with pytest.raises(UnknownItem, match="ids are such as 3, B0, B1; #0 to #3 are numbers"):
        known.item_of("1")


def test_a_history_is_parted_where_all_parts_are_ids():
    known = small()
    assert known.parse("0, 2") == known.parse("0 2") == known.parse("0|2") == known.parse('["0", 2]') == ["0", "2"]
    assert known.parse("Red drill, 5 mm") == ["Red drill, 5 mm"]
    assert known.parse("Red drill, 5 mm | 1") == ["Red drill, 5 mm", "1"]
    assert known.parse("  ") == []
    for wrong, line in (("[1, {}]", "is none"), ("[1", "begins like a JSON list"), ("[true]", "'True' is none")):
        with pytest.raises(BenchError, match=line):
            known.parse(wrong)


def test_the_command_prints_a_table_or_json(counted):
    done = bench("recommend", "--run", counted, "--history", "#3 | #4", "-k", "2")
    assert done.exit_code == 0
    assert "S00003" in done.output
    told = bench("recommend", "--run", counted, "--history", "#3 | #4", "-k", "2", "--json")
    content = json.loads(told.stdout)
    assert content["history"] == ["S00003", "S00004"]
    assert [one["rank"] for one in content["items"]] == [1, 2]
    assert content["items"][0]["id"] in done.output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--history", "nothing"], "is no item of Synthetic"),
        (["--history", "#3", "-k", "0"], "0 is not in the range"),
        (["--history", "#3", "--stage", "grpo"], "unknown stage 'grpo'"),
        ([], "give --history"),
        (["--input", "a.csv"], "--input and --output belong together"),
        (["--input", "a.xls", "--output", "b.csv"], "give .jsonl, .csv, .tsv, .parquet"),
        (["--input", "absent.csv", "--output", "b.csv"], "does not exist"),
    ],
)
def test_bad_input_is_one_line(counted, words, line):
    done = bench("recommend", "--run", counted, *words)
    assert done.exit_code == 2
    assert line in done.output


def test_a_run_that_is_not_finished_or_of_other_data_is_refused(counted, tmp_path):
    import shutil

    assert "is not the directory of a finished run" in bench("recommend", "--run", tmp_path, "--history", "1").output
    other = tmp_path / "run"
    shutil.copytree(counted, other)
    manifest = RunDirectory(other).manifest
    RunDirectory(other).note(fingerprints=manifest["fingerprints"] | {"data": "0" * 64})
    done = bench("recommend", "--run", other, "--history", "#1")
    assert done.exit_code == 2
    assert "was run on Synthetic with fingerprint 000000000000" in done.output


USERS = {"ann": ["S00003", "S00004"], "bob": ["S00001"], "eve": ["S00009", "S00002", "S00007"]}


def files_of(folder):
    """The same users in every form."""
    (folder / "a.jsonl").write_text("".join(json.dumps({"user": u, "history": h}) + "\n" for u, h in USERS.items()))
    (folder / "b.csv").write_text("user,history\n" + "".join(f"{u},{' '.join(h)}\n" for u, h in USERS.items()))
    (folder / "c.tsv").write_text("user\titem\n" + "".join(f"{u}\t{i}\n" for u, h in USERS.items() for i in h))
    import pyarrow as pa

    pq.write_table(pa.table({"user": list(USERS), "history": list(USERS.values())}), folder / "d.parquet")
    return sorted(folder.iterdir())


def test_a_file_of_users_in_any_form_gives_the_same_in_any_form(counted, counting, tmp_path):
    wanted = {}
    for user, history in USERS.items():
        answer = counting.answer([counting.catalogue.named(one) for one in history], 3)
        wanted[user] = [counting.catalogue.id(one.item) for one in answer.items]
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    for path, form in zip(files_of(source), (".csv", ".parquet", ".jsonl", ".tsv"), strict=True):
        made = target / f"{path.stem}{form}"
        done = bench("recommend", "--run", counted, "--input", path, "--output", made, "-k", "3")
        assert done.exit_code == 0, done.output
        if form == ".jsonl":
            rows = [json.loads(line) for line in made.read_text().splitlines()]
            found = {row["user"]: row["items"] for row in rows}
        else:
            import pandas as pd

            table = pd.read_parquet(made) if form == ".parquet" else pd.read_csv(made, sep="\t" if "t" in form else ",")
            found = {user: list(rows["item"]) for user, rows in table.groupby("user", sort=False)}
        assert found == wanted


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("u.csv", "user,history\na,S00001\nb,S00001 X9\n", "u.csv row 2: 'X9' is no item"),
        ("u.csv", "user,thing\na,b\n", "it needs user and history, or user and item"),
        ("u.csv", "user,item\na,S00001\nb,S00001\na,S00002\n", "row 3: user 'a' stands apart"),
        ("u.csv", "user,history\na,S00001,more\n", "row 1 has 3 cells, and the header 2"),
        ("u.csv", "user,item\na,\n", "row 1 has no item"),
        ("u.csv", "user,history\n", "holds no user"),
        ("u.csv", b"user,history\n\xff\xfe,1\n", "is not UTF-8"),
        ("u.csv", "user,history,history\na,S00001,S00002\n", "names a column twice"),
        ("u.csv", "user,history\n,S00001\n", "row 1 has no user"),
        ("u.jsonl", '{"user": null, "history": ["S00001"]}\n', "row 1 has no user"),
        ("u.jsonl", "{\n", "line 1 is no JSON"),
        ("u.jsonl", '{"user": "a"}\n', "line 1 has no history"),
        ("u.jsonl", '{"user": "a", "history": "S00001"}\n', "a history is a list"),
        ("u.parquet", "no", "is no Parquet file"),
    ],
)
def test_a_file_with_a_fault_names_the_row_and_writes_nothing(counted, tmp_path, name, content, line):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = bench("recommend", "--run", counted, "--input", path, "--output", tmp_path / "out.csv")
    assert done.exit_code == 2
    assert line in done.output
    assert sorted(one.name for one in tmp_path.iterdir()) == [name]


def test_unknown_items_of_a_file_are_left_out_where_that_is_asked_and_counted(counted, tmp_path):
    path = tmp_path / "u.csv"
    path.write_text("user,history\na,S00001 X9\nb,X8\n")
    words = ["recommend", "--run", counted, "--input", path, "--output", tmp_path / "o.csv", "--skip-unknown"]
    done = bench(*words)
    assert done.exit_code == 0
    assert "2 users, 2 unknown items left out, 1 empty histories" in done.output


def test_a_long_history_is_read_and_the_input_is_never_the_output(counted, tmp_path):
    path = tmp_path / "u.csv"
    path.write_text("user,history\na," + " ".join(["S00001"] * 9000) + " " * 90_000 + "\nb,S00001 | S00002\n")
    done = bench("recommend", "--run", counted, "--input", path, "--output", tmp_path / "o.csv", "-k", "2")
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 5
    before = path.read_bytes()
    done = bench("recommend", "--run", counted, "--input", path, "--output", path)
    assert done.exit_code == 2
    assert "is the file of --input" in done.output
    assert path.read_bytes() == before


def test_a_title_is_no_formula_in_a_cell(counted, tmp_path, monkeypatch):
    real = categories.read

    def read(*arguments, **named):
        found = real(*arguments, **named)
        found.items.titles[:] = ["=1+1"] * len(found.items)
        return found

    path = tmp_path / "u.csv"
    path.write_text("user,history\na,S00001\n")
    monkeypatch.setattr("harness.runs.finished.categories.read", read)
    monkeypatch.setattr(
        "harness.data.dataset.Dataset.fingerprint", RunDirectory(counted).manifest["fingerprints"]["data"]
    )
    bench("recommend", "--run", counted, "--input", path, "--output", tmp_path / "o.csv", "-k", "1")
    assert "'=1+1" in (tmp_path / "o.csv").read_text()


def test_a_counting_model_answers_without_torch_and_its_kin(counted):
    code = (
        "import sys\nfrom harness.serving.recommender import Recommender\n"
        f"print(len(Recommender.load({str(counted)!r}).answer([1, 2]).items))\n"
        "print(sorted({'torch', 'transformers', 'mlflow', 'sklearn', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["10", "[]"]


def test_the_settings_of_the_tiny_data_are_the_runs(counted, tiny):
    assert RunDirectory(counted).manifest["fingerprints"]["data"] == tiny.fingerprint
    assert TINY_DATA["items"] == len(tiny.items)
