import csv
import gzip
import json
import os

import numpy as np
import pytest

from harness.data import categories
from harness.data.problems import Problems
from harness.errors import BenchError

COLUMNS = ["user_id", "history_item_title", "item_title", "history_item_id", "item_id", "history_item_sid", "item_sid"]
N_ITEMS = 8


def sid(item):
    return f"<a_{item // 4}><b_{item % 4}><c_{item}>"


def write_minionerec(root, rows=None, name="Toys"):
    """A little dataset in the MiniOneRec layout; `rows` by split: (user, history, target)."""
    rows = rows or {
        "train": [("A0", [0], 1), ("A0", [0, 1], 2), ("A1", [3], 4)],
        "valid": [("A0", [0, 1, 2], 3)],
        "test": [("A1", [3, 4], 5), ("A0", [0, 1, 2, 3], 0)],
    }
    for split, samples in rows.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        with open(root / split / f"{name}_5_2016-10-2018-11.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for user, history, target in samples:
                titles = [f"item '{i}', \"big\"" for i in history]
                writer.writerow(
                    [user, titles, f"item {target}", history, target, [sid(i) for i in history], sid(target)]
                )
    for folder in ("index", "info"):
        (root / folder).mkdir(exist_ok=True)
    index = {str(i): [f"<a_{i // 4}>", f"<b_{i % 4}>", f"<c_{i}>"] for i in range(N_ITEMS)}
    (root / f"index/{name}.index.json").write_text(json.dumps(index))
    texts = {str(i): {"title": f"item {i}", "description": f"['number {i}']", "brand": "b"} for i in range(N_ITEMS)}
    (root / f"index/{name}.item.json").write_text(json.dumps(texts))
    lines = [f"{sid(i)}\titem {i}\t{i}" for i in range(N_ITEMS)]
    (root / f"info/{name}_5_2016-10-2018-11.txt").write_text("\n".join(lines) + "\n")
    return root


def read(plugins, root, name="Toys", problems=None, **settings):
    return categories.read(plugins, name, str(root), settings, problems)


def test_a_minionerec_folder_is_read(plugins, tmp_path):
    data = read(plugins, write_minionerec(tmp_path))
    assert data.train.histories.lists() == [[0], [0, 1], [3]]
    assert data.test.targets.tolist() == [5, 0]
    assert data.items.titles[3] == "item 3"
    assert data.items.descriptions[3] == "number 3"
    assert data.given.string_of_item(5) == sid(5)


def test_the_fingerprint_is_free_of_row_order_line_endings_and_place(plugins, tmp_path):
    first = read(plugins, write_minionerec(tmp_path / "a"))
    rows = {
        "train": [("A1", [3], 4), ("A0", [0, 1], 2), ("A0", [0], 1)],
        "valid": [("A0", [0, 1, 2], 3)],
        "test": [("A0", [0, 1, 2, 3], 0), ("A1", [3, 4], 5)],
    }
    second = write_minionerec(tmp_path / "b", rows)
    for path in second.rglob("*.csv"):
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    assert read(plugins, second).fingerprint == first.fingerprint
    rows["train"][0] = ("A1", [3], 5)
    assert read(plugins, write_minionerec(tmp_path / "c", rows)).fingerprint != first.fingerprint


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def spoil(root, kind):
    """Break one file; returns the words that the error must hold."""
    train = root / "train/Toys_5_2016-10-2018-11.csv"
    index = root / "index/Toys.index.json"
    if kind == "truncated":
        train.write_text(train.read_text()[:-70])
        return ["train/Toys"]
    if kind == "bad literal":
        replace_in(train, '"[0, 1]"', '"__import__(""os"").system(""touch /tmp/pwned-bench"")"')
        return ["train/Toys", "row 2", "not a list literal"]
    if kind == "id out of range":
        replace_in(train, '"[0, 1]"', '"[0, 99]"')
        return ["train/Toys", "row 2", "99", "out of range"]
    if kind == "target out of range":
        replace_in(train, "[3],4,", "[3],44,")
        return ["train/Toys", "row 3", "44"]
    if kind == "bad SID":
        replace_in(train, sid(1), "<a_x>")
        return ["train/Toys", "row 1", "<a_x>"]
    if kind == "empty split":
        train.write_text(",".join(COLUMNS) + "\n")
        return ["train/Toys", "empty"]
    if kind == "long history":
        replace_in(train, '"[0, 1]"', f'"{[0] * 11}"')
        return ["train/Toys", "row 2", "11 items", "keep the last 10"]
    if kind == "index lacks an item":
        content = json.loads(index.read_text())
        del content["7"]
        index.write_text(json.dumps(content))
        return ["index.json", "lacks item 7"]
    if kind == "index token":
        replace_in(index, "<b_3>", "<q_3>")
        return ["index.json", "row 4", "<q_3>"]
    if kind == "index levels":
        replace_in(index, '"<b_1>", ', "")
        return ["index.json", "not of levels a, b, c"]
    if kind == "broken JSON":
        index.write_text(index.read_text()[:-30])
        return ["index.json", "not valid JSON"]
    if kind == "column":
        replace_in(train, "history_item_id", "history")
        return ["train/Toys", "lacks the column history_item_id"]
    if kind == "missing split":
        train.unlink()
        (root / "train/Toys.csv").write_text("x")  # the category is still found
        (root / "valid/Toys_5_2016-10-2018-11.csv").unlink()
        return ["valid", "missing"]
    if kind == "missing train":
        train.unlink()
        return ["train/Toys.csv", "missing"]
    if kind == "gzip":
        train.write_bytes(gzip.compress(train.read_bytes()))
        return ["train/Toys", "is gzipped", "bench data prepare"]
    if kind == "another delimiter":
        train.write_text(train.read_text().replace(",", ";"))
        return ["train/Toys", "lacks the column user_id; its first line holds user_id;history", "bench data prepare"]
    if kind == "empty history":
        replace_in(train, '"[0, 1]"', "[]")
        return ["train/Toys", "row 2", "history has 0 items", "leave the row out"]
    raise AssertionError(kind)


KINDS = [
    "truncated", "bad literal", "id out of range", "target out of range", "bad SID", "empty split", "long history",
    "index lacks an item", "index token", "index levels", "broken JSON", "column", "missing split",
    "missing train", "gzip", "another delimiter", "empty history",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_bad_files_name_file_row_and_mend(plugins, tmp_path, kind):
    words = spoil(write_minionerec(tmp_path), kind)
    problems = Problems()
    with pytest.raises(BenchError) as error:
        read(plugins, tmp_path, problems=problems)
    message = error.value.message
    assert "\n" not in message
    listed = " ".join(map(str, problems.errors))
    assert all(word in listed for word in words), listed
    assert problems.errors[0].mend in message
    assert not os.path.exists("/tmp/pwned-bench")


def test_leaks_and_disorder_are_warned_of(plugins, tmp_path):
    rows = {
        "train": [("A0", [0], 1), ("A1", [3, 4, 5], 6)],
        "valid": [("A0", [0], 1), ("A0", [0, 1], 2)],
        "test": [("A1", [3], 4)],
    }
    problems = Problems()
    read(plugins, write_minionerec(tmp_path, rows), problems=problems)
    found = [str(p) for p in problems.found]
    assert any("row 1 of train again" in f for f in found)
    assert any("user A1" in f and "shorter" in f for f in found)


def test_a_split_that_is_another_one_is_refused(plugins, tmp_path):
    rows = {"train": [("A0", [0], 1)], "valid": [("A1", [3], 4), ("A0", [0, 1], 2)]}
    write_minionerec(tmp_path, rows | {"test": rows["valid"][::-1]})
    with pytest.raises(BenchError, match=r"test.*all 2 of its rows stand in valid too"):
        read(plugins, tmp_path)


def test_a_title_that_pandas_wrote_for_an_absent_one_is_absent(plugins, tmp_path):
    root = write_sequences(tmp_path, {"0": list(range(8)), "1": [1, 2, 3]})
    replace_in(root / "Shop/Shop.item.json", '"t3"', '"nan"')
    assert read(plugins, root, "Shop").items.titles[2:5] == ["t2", "", "t4"]


@pytest.mark.parametrize("index", [False, True])
def test_items_that_nobody_tells_of_are_those_of_the_index_or_those_that_were_bought(plugins, tmp_path, index):
    far = 5 if index else 50_000_000
    root = write_sequences(tmp_path, {"0": [1, 2, 3, 4, far], "1": [far, 2, 1]})
    (root / "Shop/Shop.item.json").unlink()
    if not index:
        for path in root.glob("Shop/Shop.index.*"):
            path.unlink()
    data = read(plugins, root, "Shop")
    assert len(data.items) == (N_ITEMS if index else 5)
    ids = data.items.ids or list(map(str, range(N_ITEMS)))
    assert [ids[i] for i in data.test.targets] == ["1", str(far)]
    assert [[ids[i] for i in h] for h in data.test.histories.lists()] == [[str(far), "2"], ["1", "2", "3", "4"]]


def write_sequences(root, sequences):
    (root / "Shop").mkdir(parents=True)
    (root / "Shop/Shop.inter.json").write_text(json.dumps(sequences))
    texts = {str(i): {"title": f"t{i}"} for i in range(N_ITEMS)}
    (root / "Shop/Shop.item.json").write_text(json.dumps(texts))
    for name, shift in (("x", 0), ("y", 1)):
        index = {str(i): [f"<a_{i}>", f"<b_{(i + shift) % 3}>"] for i in range(N_ITEMS)}
        (root / f"Shop/Shop.index.{name}.json").write_text(json.dumps(index))
    return root


def test_sequences_are_split_leave_one_out(plugins, tmp_path):
    data = read(plugins, write_sequences(tmp_path, {"0": list(range(8)), "1": [1, 2, 3], "2": [4, 5]}), "Shop")
    assert (data.test.histories.lists(), data.test.targets.tolist()) == ([[1, 2], [0, 1, 2, 3, 4, 5, 6]], [3, 7])
    assert (data.valid.histories.lists(), data.valid.targets.tolist()) == ([[1], [0, 1, 2, 3, 4, 5]], [2, 6])
    assert data.train.targets.tolist() == [1, 2, 3, 4, 5, 5]
    other = read(plugins, tmp_path, "Shop", index="y")
    assert other.given.fingerprint != data.given.fingerprint
    assert other.fingerprint == data.fingerprint
    with pytest.raises(BenchError, match="index variant"):
        read(plugins, tmp_path, "Shop", index="z")


def test_sequences_with_a_bad_item_are_refused(plugins, tmp_path):
    with pytest.raises(BenchError, match="user 1: item 9 is out of range"):
        read(plugins, write_sequences(tmp_path, {"0": list(range(8)), "1": [1, 9, 3]}), "Shop")


def test_a_category_is_looked_for_in_order(plugins, tmp_path, monkeypatch):
    write_minionerec(tmp_path / "one")
    write_minionerec(tmp_path / "two", {s: [("B", [7], k)] for k, s in enumerate(("train", "valid", "test"))})
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "two"))
    assert len(read(plugins, tmp_path / "one").train) == 3
    assert len(categories.read(plugins, "Toys", None, {}).train) == 1


def test_an_unknown_category_says_where_it_looked(plugins, tmp_path):
    write_minionerec(tmp_path)
    with pytest.raises(BenchError) as error:
        read(plugins, tmp_path, "Toy")
    assert "did you mean Toys?" in error.value.message
    assert str(tmp_path) in error.value.message


@pytest.mark.data
def test_the_real_category_has_its_published_facts(industrial):
    facts = industrial.facts()
    splits = facts["splits"]
    assert facts["items"] == 3686
    assert [splits[s]["rows"] for s in ("train", "valid", "test")] == [28609, 4532, 4533]
    assert round(splits["test"]["target in history"], 3) == 0.028
    assert round(splits["test"]["target = last item"], 3) == 0.027
    assert round(splits["valid"]["target in history"], 3) == 0.052
    assert round(splits["valid"]["target = last item"], 3) == 0.045
    assert splits["test"]["target on a shared SID"] == 317
    assert splits["valid"]["target on a shared SID"] == 238
    assert splits["test"]["history lengths"] == [267, 412, 606, 1104, 672, 406, 265, 194, 130, 477]
    report = industrial.given.report()
    assert report["codes used"] == [48, 256, 256]
    assert (report["distinct SIDs"], report["items on a shared SID"], report["most items on one SID"]) == (3670, 31, 3)
    assert "reconstructed (28,609/36,259 rows)" in industrial.caption
    assert len(set(industrial.items.titles)) == 3646


@pytest.mark.data
def test_the_real_sequences_have_their_published_facts(plugins):
    data = categories.read(plugins, "Scientific", os.environ["BENCH_DATA"], {"index": "rqvae_native"})
    assert (len(data.items), len(data.test)) == (4344, 8317)
    assert sum(map(len, data.splits.values())) + 8317 == 58492
    for variant, distinct in (("rqvae_native", 3790), ("rkmeans_native", 3469), ("rkmeans_zcr", 4344)):
        found = categories.read(plugins, "Scientific", os.environ["BENCH_DATA"], {"index": variant})
        assert len(found.given.distinct) == distinct
    assert np.all(data.train.histories.lengths <= 10)


HUGE = 9_780_306_406_157


def with_test_rows(root, rows):
    """The little dataset with these cells of the test file: (user, history, item)."""
    write_minionerec(root)
    with open(root / "test/Toys_5_2016-10-2018-11.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "history_item_id", "item_id"])
        writer.writerows(rows)
    return root


@pytest.mark.parametrize("place", [1, 2])
def test_ids_beyond_32_bits_are_one_line_with_file_and_row(plugins, tmp_path, place):
    rows = [["A1", "[0, 1]", 2], ["A2", "[1]", 3]]
    rows[1][place] = f"[{HUGE}]" if place == 1 else HUGE
    with pytest.raises(BenchError, match=rf"test/Toys.*row 2: .*{HUGE} is (not in|out of range) 0–7"):
        read(plugins, with_test_rows(tmp_path, rows))


def test_more_ids_that_are_none_than_are_listed_do_not_end_the_reading(plugins, tmp_path):
    rows = [[f"A{i}", f"[{HUGE + i}]" if i % 2 else "[0]", "B00" if i % 3 else "²"] for i in range(140)]
    with pytest.raises(BenchError, match=r"row 2: history item .* \(and \d+ more"):
        read(plugins, with_test_rows(tmp_path, rows))


def test_a_code_beyond_32_bits_is_one_line(plugins, tmp_path):
    path = write_minionerec(tmp_path) / "index/Toys.index.json"
    index = json.loads(path.read_text())
    index["1"][2] = f"<c_{HUGE}>"
    path.write_text(json.dumps(index))
    with pytest.raises(BenchError, match=f"SID of item 1 does not parse: it has code {HUGE}, the largest allowed"):
        read(plugins, tmp_path)


def test_a_test_row_that_stands_twice_is_an_error(plugins, tmp_path):
    rows = [["A1", "[0, 1]", 2], ["A2", "[1]", 3], ["A1", "[0, 1]", 2]]
    with pytest.raises(BenchError, match=r"row 3: is row 1 again \(user A1, target 2\), and would count twice"):
        read(plugins, with_test_rows(tmp_path, rows))
