"""bench data prepare: raw files of every form to a split, by the rules that were asked for."""

import ast
import csv
import gzip
import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from time import sleep

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from harness.cli import cli
from harness.data import categories, prepared, versions
from harness.data.problems import Problems
from harness.preparation import asked, cores, raw_source, splitting

ROWS = [(f"u{u}", f"i{(u * 3 + k * (u % 4 + 1)) % 17}", 1_500_000_000 + 86_400 * k + u % 3, 1 + (u + k) % 5)
        for k in range(9) for u in range(30) if k < 4 + u % 6]  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(cli, ["data", "prepare", *map(str, arguments)], catch_exceptions=False)


def fails(*arguments):
    from harness.errors import BenchError

    with pytest.raises(BenchError) as caught:
        run_raw(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run_raw(*arguments):
    return cli.main(["data", "prepare", *map(str, arguments)], standalone_mode=False)


def as_csv(path, rows=ROWS, header=("user_id", "item_id", "timestamp", "rating"), delimiter=","):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def read(folder, longest=10):
    return prepared.read(folder, longest, Problems())


def content(folder, longest=50):
    """``{split: {(user, history, target)}}`` by the names of the source."""
    items, splits, _ = read(folder, longest)
    return {
        name: Counter(
            (user, tuple(items.ids[i] for i in history), items.ids[target])
            for user, history, target in zip(
                part.users.tolist(), part.histories.lists(), part.targets.tolist(), strict=True
            )
        )
        for name, part in splits.items()
    }


def expected(rows=ROWS):
    """Leave-one-out in plain Python."""
    by_user = {}
    for user, item, _time, _ in sorted(rows, key=lambda row: row[2]):
        by_user.setdefault(user, []).append(item)
    found = {"train": Counter(), "valid": Counter(), "test": Counter()}
    for user, items in by_user.items():
        for k in range(1, len(items)):
            last = len(items) - 1
            name = "train" if k < last - 1 or last < 2 else "valid" if k == last - 1 else "test"
            found[name][(user, tuple(items[:k]), items[k])] += 1
    return found


def amazon18(row):
    ids = {"reviewerID": row[0], "asin": row[1], "unixReviewTime": row[2]}
    return ids | {"overall": float(row[3]), "style": {"x": "y"}, "reviewText": 'it\'s "good"'}


FORMS = {
    "csv": lambda path: as_csv(path / "a.csv"),
    "tsv": lambda path: as_csv(path / "a.tsv", delimiter="\t"),
    "semicolons": lambda path: as_csv(path / "a.txt", delimiter=";"),
    "recbole": lambda path: as_csv(
        path / "a.inter", header=("user_id:token", "item_id:token", "timestamp:float", "rating:float"), delimiter="\t"
    ),
    "amazon 2018": lambda path: text(path / "a.json", (json.dumps(amazon18(row)) for row in ROWS)),
    "python dicts": lambda path: text(path / "a.json", (repr(amazon18(row)) for row in ROWS)),
    "amazon 2023": lambda path: text(
        path / "a.jsonl",
        (
            json.dumps({"user_id": u, "asin": "x", "parent_asin": i, "timestamp": t * 1000, "rating": 1.0})
            for u, i, t, _ in ROWS
        ),
    ),
    "parquet": lambda path: parquet(path / "a.parquet"),
    "byte-order mark": lambda path: bom(as_csv(path / "a.csv")),
    "gzip": lambda path: gzipped(text(path / "a.json", (json.dumps(amazon18(row)) for row in ROWS))),
    "gzipped csv": lambda path: gzipped(as_csv(path / "a.csv")),
    "dates": lambda path: as_csv(path / "a.csv", [(u, i, iso(t), r) for u, i, t, r in ROWS]),
    "milliseconds": lambda path: as_csv(path / "a.csv", [(u, i, t * 1000, r) for u, i, t, r in ROWS]),
    "floats": lambda path: as_csv(path / "a.csv", [(u, i, f"{t}.0", r) for u, i, t, r in ROWS]),
}


def iso(seconds):
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def text(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def bom(path):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return path


def gzipped(path):
    other = path.with_name(path.name + ".gz")
    other.write_bytes(gzip.compress(path.read_bytes()))
    return other


def parquet(path):
    columns = list(zip(*ROWS, strict=True))
    times = pa.array(np.array(columns[2], dtype="datetime64[s]"))
    pq.write_table(pa.table({"user": columns[0], "item": columns[1], "time": times, "stars": columns[3]}), path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_split(tmp_path, form):
    done = run(FORMS[form](tmp_path), "--name", "Mine", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert content(tmp_path / "out" / "Mine") == expected()


@pytest.mark.parametrize("block", [37, 400, 2**20])
@pytest.mark.parametrize("form", ["csv", "amazon 2018", "python dicts"])
def test_where_blocks_end_changes_nothing(tmp_path, monkeypatch, block, form):
    monkeypatch.setattr(raw_source, "BLOCK", block)
    run(FORMS[form](tmp_path), "--name", "Mine", "--output", tmp_path / "out")
    assert content(tmp_path / "out" / "Mine") == expected()


def test_three_lines_from_a_csv_to_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA", raising=False)
    as_csv(Path("my.csv"), header=("u", "i", "t", "r"))
    assert run("my.csv", "--user", "u", "--item", "i", "--time", "t", "--name", "Mine").exit_code == 0
    arguments = ["run", "--method", "sasrec", "--category", "Mine", "--set", "sasrec.epochs=1", "--set", "decoder.k=10"]
    done = CliRunner().invoke(cli, [*arguments, "--no-mlflow", "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    metrics = json.loads(next(Path("runs").rglob("metrics.json")).read_text())
    assert metrics["stages"]["sasrec"]["item"]["HR@10"] >= 0


def test_what_is_left_out_is_counted_in_the_split_and_in_every_record(tmp_path, plugins):
    rows = [*ROWS, ("lonely", "i1", 1_500_000_000, 5)]
    done = run(as_csv(tmp_path / "a.csv", rows), "--name", "Mine", "--output", tmp_path, "--set", "least_rating=2")
    low = sum(row[3] < 2 for row in rows)
    assert f"left out or cut: {low:,} purchases rated below 2" in done.output
    manifest = yaml.safe_load((tmp_path / "Mine" / "split.yaml").read_text())
    assert manifest["left out"]["purchases rated below 2"] == low
    assert manifest["left out"]["users without a sample: fewer than 2 items"] == 1
    assert manifest["rows read"] == len(rows)
    assert manifest["settings"]["least_rating"] == 2
    assert manifest["sources"][0]["file"] == "a.csv"
    dataset = categories.read(plugins, "Mine", str(tmp_path), {})
    assert dataset.left_out["purchases rated below 2"] == low
    assert manifest["version"] in dataset.caption
    assert versions.of(dataset, {})["split"] == {"name": "prepared", "version": 1, "rules": manifest["version"]}
    swapped = as_csv(tmp_path / "b.csv", [r[::-1] for r in rows], ("rating", "t", "i", "u"))
    again = run(swapped, "--name", "Again", "--output", tmp_path, "--user", "u", "--item", "i", "--time", "t",
                "--set", "least_rating=2")  # fmt: skip
    assert again.exit_code == 0
    other = yaml.safe_load((tmp_path / "Again" / "split.yaml").read_text())
    assert other["version"] == manifest["version"]  # the same rules, of other columns
    assert content(tmp_path / "Again") == content(tmp_path / "Mine")


def test_a_name_that_is_there_is_refused_and_kept(tmp_path):
    path = as_csv(tmp_path / "a.csv")
    run(path, "--name", "Mine", "--output", tmp_path)
    before = (tmp_path / "Mine" / "split.yaml").read_text()
    assert "--force" in fails(path, "--name", "Mine", "--output", tmp_path, "--core", 3)
    assert (tmp_path / "Mine" / "split.yaml").read_text() == before
    assert run(path, "--name", "Mine", "--output", tmp_path, "--core", 3, "--force").exit_code == 0
    assert yaml.safe_load((tmp_path / "Mine" / "split.yaml").read_text())["settings"]["core_users"] == 3


# ---- filters


def plain_core(rows, least_users, least_items):
    while True:
        users, items = Counter(r[0] for r in rows), Counter(r[1] for r in rows)
        kept = [r for r in rows if users[r[0]] >= least_users and items[r[1]] >= least_items]
        if len(kept) == len(rows):
            return kept
        rows = kept


@pytest.mark.parametrize(("least_users", "least_items"), [(5, 5), (3, 8), (0, 6), (6, 0), (1, 1)])
@pytest.mark.parametrize("buckets", [5, 64, 2**22])
def test_the_core_is_the_largest_set_in_which_all_have_enough(tmp_path, monkeypatch, least_users, least_items, buckets):
    """Coarse rounds, in which several ids share a count, leave out nothing that belongs to it."""
    monkeypatch.setattr(cores, "BUCKETS", buckets)
    monkeypatch.setattr(cores, "CHUNK", 50)
    rng = np.random.default_rng(5)
    drawn = rng.zipf(1.4, 900) % 150, rng.zipf(1.3, 900) % 90, rng.integers(10**9, 10**9 + 10**6, 900)
    rows = [(f"u{u}", f"i{i}", int(t), 1) for u, i, t in zip(*drawn, strict=True)]
    run(as_csv(tmp_path / "a.csv", rows), "--name", "Mine", "--output", tmp_path,
        "--set", f"core_users={least_users}", "--set", f"core_items={least_items}")  # fmt: skip
    wanted = plain_core(rows, least_users, least_items)
    found = pq.read_table(tmp_path / "Mine" / "interactions.parquet")
    assert found.num_rows == len(wanted)
    assert content(tmp_path / "Mine", 400) == expected(wanted)
    manifest = yaml.safe_load((tmp_path / "Mine" / "split.yaml").read_text())
    assert sum(n for reason, n in manifest["left out"].items() if "core" in reason) == len(rows) - len(wanted)


def test_the_window_has_both_ends_and_goes_back_a_year_where_too_few_items_are_left(tmp_path):
    day = 86_400
    start = 1_475_280_000  # 2016-10-01 UTC
    rows = [("u", f"old{k}", start - 200 * day + k, 1) for k in range(4)] + [
        ("u", f"new{k}", start + k * day, 1) for k in range(5)
    ]
    path = as_csv(tmp_path / "a.csv", rows)
    common = [path, "--output", tmp_path, "--set", "start='2016-10-01'", "--set", "end='2016-10-04'"]
    run(*common, "--name", "Both")
    assert read(tmp_path / "Both")[0].ids == ["new0", "new1", "new2", "new3"]
    run(*common, "--name", "Back", "--set", "least_items=6")
    assert len(read(tmp_path / "Back")[0].ids) == 8
    assert yaml.safe_load((tmp_path / "Back" / "split.yaml").read_text())["settings"]["start"] == "2015-10-01"
    run(*common, "--name", "Never", "--set", "least_items=600")  # nothing older is there: it ends
    assert len(read(tmp_path / "Never")[0].ids) == 8


@pytest.mark.parametrize(("repeats", "kept"), [("keep", ["a", "b", "a", "c", "d"]), ("first", ["a", "b", "c", "d"]),
                                               ("last", ["b", "a", "c", "d"])])  # fmt: skip
def test_repeats(tmp_path, repeats, kept):
    rows = [("u", "d", 50, 1), ("u", "a", 10, 1), ("u", "b", 20, 1), ("u", "a", 30, 1), ("u", "c", 40, 1)]
    run(as_csv(tmp_path / "a.csv", rows), "--name", "Mine", "--output", tmp_path, "--set", f"repeats={repeats}")
    items, splits, _ = read(tmp_path / "Mine")
    last = splits["test"]
    assert [items.ids[i] for i in [*last.histories.lists()[0], last.targets[0]]] == kept


# ---- order and split


def test_equal_times_stand_by_the_rule_that_is_named(tmp_path):
    rows = [("u", item, 100, 1) for item in ("9", "10", "2", "33")] + [
        ("v", item, 100, 1) for item in ("2", "9", "33", "10")
    ]
    path = as_csv(tmp_path / "a.csv", rows)

    def order(name, *settings):
        run(path, "--name", name, "--output", tmp_path, *(x for s in settings for x in ("--set", s)))
        items, splits, _ = read(tmp_path / name)
        return [items.ids[i] for i in [*splits["test"].histories.lists()[0], splits["test"].targets[0]]]

    assert order("A") == ["9", "10", "2", "33"]
    assert order("B", "ties=item") == ["2", "9", "10", "33"]  # numbers as numbers
    shuffled = {tuple(order(f"C{seed}", "ties=shuffle", f"seed={seed}")) for seed in range(6)}
    assert len(shuffled) > 2
    assert order("D", "ties=shuffle", "seed=3") == order("E", "ties=shuffle", "seed=3")
    assert "seed" in fails(path, "--name", "F", "--output", tmp_path, "--set", "seed=3")


def test_all_samples_by_time_are_cut_at_shares_or_numbers(tmp_path):
    path = as_csv(tmp_path / "a.csv")
    run(path, "--name", "Mine", "--output", tmp_path, "--split", "time")
    found = content(tmp_path / "Mine")
    by_user, samples = {}, []
    for user, item, time, _ in sorted(ROWS, key=lambda row: row[2]):
        before = by_user.setdefault(user, [])
        if before:
            samples.append((time, user, tuple(before), item))
        before.append(item)
    first = {user: number for number, user in reversed(list(enumerate(dict.fromkeys(row[0] for row in ROWS))))}
    samples.sort(key=lambda s: (s[0], first[s[1]]))
    n = len(samples)
    parts = {
        "train": samples[: int(0.8 * n)],
        "valid": samples[int(0.8 * n) : int(0.9 * n)],
        "test": samples[int(0.9 * n) :],
    }
    assert found == {name: Counter(s[1:] for s in part) for name, part in parts.items()}
    run(path, "--name", "Numbers", "--output", tmp_path, "--split", "time", "--set", "valid=7", "--set", "test=5")
    assert {name: sum(c.values()) for name, c in content(tmp_path / "Numbers").items()} == {
        "train": n - 12, "valid": 7, "test": 5,
    }  # fmt: skip


def test_fixed_times(tmp_path):
    t1, t2 = 1_500_000_000 + 3 * 86_400, 1_500_000_000 + 5 * 86_400
    run(as_csv(tmp_path / "a.csv"), "--name", "Mine", "--output", tmp_path, "--split", "times",
        "--set", f"valid_from='{t1}'", "--set", f"test_from='{t2}'")  # fmt: skip
    table = pq.read_table(tmp_path / "Mine" / "interactions.parquet")
    time, split = table["time"].to_numpy(), table["split"].to_numpy()
    wanted = 1 + (time >= t1 * 10**6).astype(int) + (time >= t2 * 10**6)
    assert (split[split > 0] == wanted[split > 0]).all()
    assert "would be empty" in fails(tmp_path / "a.csv", "--name", "No", "--output", tmp_path, "--split", "times",
                                     "--set", "valid_from=2035-01-01", "--set", "test_from=2036-01-01")  # fmt: skip
    assert not (tmp_path / "No").exists()


# ---- items


TABLES = {
    "amazon 2018": [{"asin": "i1", "title": "A &quot;nail&quot; ", "description": ["one", "two"], "brand": "B",
                     "category": ["Shop", "Nails", "Red"]}],
    "amazon 2014": [{"asin": "i1", "title": "A &quot;nail&quot; ", "description": "one two", "brand": "B",
                     "categories": [["Shop", "Nails"], ["Shop", "Red"]]}],
    "amazon 2023": [{"parent_asin": "i1", "title": "A &quot;nail&quot; ", "description": ["one", "two"], "store": "B",
                     "categories": ["Shop", "Nails", "Red"], "main_category": "x"}],
}  # fmt: skip


@pytest.mark.parametrize("form", TABLES)
def test_texts_of_items(tmp_path, form):
    write = repr if form == "amazon 2014" else json.dumps
    table = text(tmp_path / "meta.json", map(write, TABLES[form]))
    done = run(as_csv(tmp_path / "a.csv"), "--items", table, "--name", "Mine", "--output", tmp_path,
               "--set", "first_category=false")  # fmt: skip
    items = read(tmp_path / "Mine")[0]
    at = items.ids.index("i1")
    assert (items.titles[at], items.descriptions[at], items.brands[at], items.categories[at]) == (
        "A &quot;nail&quot;", "one two", "B", "Nails, Red",
    )  # fmt: skip
    assert f"{len(items) - 1:,} items that the item table lacks" in done.output


def test_the_title_rule(tmp_path):
    titles = {"i0": "Good &amp; plain", "i1": "", "i2": "x", "i3": "w " * 21, "i4": "a <span id=b>", "i5": '"Quoted"'}
    table = text(tmp_path / "meta.json", [json.dumps({"asin": k, "title": v}) for k, v in titles.items()])
    rows = [(f"u{u}", f"i{k % 7}", 10**9 + k, 1) for u in range(4) for k in range(14)]
    run(
        as_csv(tmp_path / "a.csv", rows),
        "--items",
        table,
        "--name",
        "Mine",
        "--output",
        tmp_path,
        "--set",
        "titles=clean",
    )
    items = read(tmp_path / "Mine")[0]
    assert dict(zip(items.ids, items.titles, strict=True)) == {"i0": "Good & plain", "i5": "Quoted"}
    left = yaml.safe_load((tmp_path / "Mine" / "split.yaml").read_text())["left out"]
    assert left["purchases of items that the title rule leaves out"] == 4 * 14 * 5 // 7
    assert sum(n for reason, n in left.items() if reason.startswith("items of the table")) == 4
    assert "--items" in fails(tmp_path / "a.csv", "--name", "B", "--output", tmp_path, "--set", "titles=clean")


def test_an_absent_title_is_none(tmp_path):
    table = tmp_path / "items.csv"
    table.write_text("item_id,title\ni1,nan\ni2,NaN\ni3,\ni4,None at all\n")
    run(as_csv(tmp_path / "a.csv"), "--items", table, "--name", "Mine", "--output", tmp_path)
    items = read(tmp_path / "Mine")[0]
    named = {i: t for i, t in zip(items.ids, items.titles, strict=True) if t}
    assert named == {"i4": "None at all"}


# ---- what is wrong


HEADER = "user_id,item_id,timestamp\n"
BAD = {
    "cut gzip": (lambda p: cut(gzipped(as_csv(p / "a.csv"))), "cut off or damaged"),
    "cut json": (
        lambda p: text(p / "a.json", [json.dumps(amazon18(ROWS[0])), '{"reviewerID": "x", "asi']), "line 2 is no",
    ),
    "a cell too many": (lambda p: lines(p, HEADER + "u,i,1000\nu,j,1001,\n"), "line 3 has 4 cells"),
    "an open quote": (lambda p: lines(p, HEADER + 'u,"i,1000\nu,j,1001\n'), "never closed"),
    "no user": (lambda p: lines(p, HEADER + "u,i,1000\n,j,1001\n"), "row 2 has no user"),
    "no item": (lambda p: lines(p, HEADER + "u,i,1000\nu,  ,1001\n"), "row 2 has no item"),
    "no time": (lambda p: lines(p, HEADER + "u,i,1000\nu,j,\n"), "row 2 has no time"),
    "a time in words": (lambda p: lines(p, HEADER + "u,i,1000\nu,j,yesterday\n"), "row 2: timestamp 'yesterday'"),
    "two units": (
        lambda p: lines(p, HEADER + "u,i,1500000000\nu,j,1500000000000\n"), "row 2: timestamp 1500000000000 is no time",
    ),
    "Latin-1": (
        lambda p: data(p, (HEADER + "José,i,1000\n").encode("latin-1")), "line 2 is no utf-8 (byte 0xe9)",
    ),
    "no such column": (lambda p: lines(p, "who,what,when\nu,i,1000\n"), "no column of a known name for the user"),
    "a column twice": (lambda p: lines(p, "user_id,item_id,item_id\nu,i,j\n"), "has the column 'item_id' twice"),
    "empty": (lambda p: lines(p, ""), "is empty"),
    "binary": (lambda p: data(p, b"\x00\x01\x02\x03\n\x00"), "is no text"),
    "no file": (lambda p: p / "none.csv", "does not exist"),
    "a damaged parquet": (lambda p: data(p, b"PAR1" + b"x" * 40), "cannot be read"),
    "too long an id": (lambda p: lines(p, HEADER + f"{'u' * 300},i,1000\n"), "row 1: user_id"),
    "a list as json": (lambda p: lines(p, "[1, 2]\n[3]\n"), "is no object"),
    "UTF-16": (lambda p: data(p, (HEADER + "u,i,1000\n").encode("utf-16")), "is UTF-16; save it as UTF-8"),
    "a header alone": (lambda p: lines(p, HEADER), "names columns and holds no purchase"),
    "sequences": (lambda p: lines(p, '{"u0": [1, 2, 3], "u1": [4]}'), "a list a user, as files of sequences do"),
    "swapped times and ratings": (
        lambda p: as_csv(p / "a.csv", header=("user_id", "item_id", "rating", "timestamp")), "--time rating --rating",
    ),
    "an open quote far behind": (
        lambda p: lines(p, HEADER + 'u,"i\nj",1000\n' * 40 + 'u,"i,1000\nu,j,1001\n'),
        "begins in line 82 opens a quote",
    ),
}  # fmt: skip


def lines(folder, content):
    (folder / "a.csv").write_text(content)
    return folder / "a.csv"


def data(folder, content):
    (folder / "a.csv").write_bytes(content)
    return folder / "a.csv"


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])
    return path


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, kind):
    make, what = BAD[kind]
    message = fails(make(tmp_path), "--name", "Mine", "--output", tmp_path / "out")
    assert what in message, message
    assert not (tmp_path / "out").exists()


ITEM_TABLES = {
    "other items": ("item_id,title\nx1,One\n", "an id there is 'x1', of a purchase 'i"),
    "a header alone": ("item_id,title\n", "names columns and holds no item"),
    "no text": ("item_id,price\ni1,3\n", "no column of a known name for texts"),
    "empty": ("", "a row an item"),
}


@pytest.mark.parametrize("kind", ITEM_TABLES)
def test_an_item_table_that_tells_nothing_is_one_line_and_leaves_nothing(tmp_path, kind):
    content, what = ITEM_TABLES[kind]
    (tmp_path / "items.csv").write_text(content)
    purchases = as_csv(tmp_path / "a.csv")
    message = fails(purchases, "--items", tmp_path / "items.csv", "--name", "Mine", "--output", tmp_path / "out")
    assert what in message, message
    assert not (tmp_path / "out").exists()


def test_an_encoding_of_two_bytes_a_letter_is_refused_by_name(tmp_path):
    path = data(tmp_path, (HEADER + "u,i,1000\n").encode("utf-16-le"))
    assert "save" in fails(path, "--set", "encoding=utf-16-le", "--name", "Mine", "--output", tmp_path / "out")


def test_one_that_is_asked_to_end_leaves_nothing(tmp_path):
    rows = "".join(f"u{k % 5000},i{k % 999},{1_500_000_000 + k}\n" for k in range(1_500_000))
    path, out = lines(tmp_path, HEADER + rows), tmp_path / "out"
    command = [sys.executable, "-m", "harness", "data", "prepare", str(path), "--name", "Mine", "--output", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list(out.glob(".preparing.*")):
        assert process.poll() is None
        sleep(0.005)
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert not out.exists()


def test_a_signal_at_any_line_of_the_spool_leaves_nothing(tmp_path, monkeypatch):
    """Python raises a signal's error between two lines, wherever it is then."""
    from harness.preparation import spool

    for count in range(1, 99):
        left = count

        def at(frame, event, _):
            nonlocal left
            if frame.f_code.co_filename != spool.__file__ or frame.f_code.co_name not in ("__enter__", "_open"):
                return None
            left -= event == "line"
            if not left:
                raise SystemExit(128 + signal.SIGTERM)
            return at

        before = sys.gettrace()
        sys.settrace(at)
        try:
            with spool.Spool(tmp_path):
                break
        except SystemExit:
            assert not list(tmp_path.iterdir()), f"line {count}"
        finally:
            sys.settrace(before)
    assert 8 < count < 98 and not list(tmp_path.iterdir())


def test_a_quote_within_a_cell_is_a_sign(tmp_path):
    """5" pipe: only a quote at a cell's beginning opens one; also where blocks end between two of them."""
    named = [(u.replace("u", 'u"'), i.replace("i1", '1"'), *rest) for u, i, *rest in ROWS]
    path = tmp_path / "a.csv"
    odd = 0
    with open(path, "w") as file:
        file.write("user_id,item_id,timestamp,rating\n")
        for user, item, time, rating in named:
            odd += user.count('"') + item.count('"')
            file.write(f'{user},{item},{time},"{rating}"\n')
    named = named if odd % 2 else named[:-1]
    if not odd % 2:  # an odd number of them, which no count of pairs can close
        path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")
    done = run(path, "--name", "Mine", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    assert content(tmp_path / "Mine") == expected([(u, i, t, int(r)) for u, i, t, r in named])
    (tmp_path / "b.csv").write_text(path.read_text() + 'u9,"i1\nu9,i2,1500000000,1\n')
    said = fails(tmp_path / "b.csv", "--name", "Other", "--output", tmp_path)
    assert f"line {len(named) + 2} opens a quote" in said


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("u1,i1,1500000000,5", "line 1 is 'u1,i1,1500000000,5', which looks like a purchase"),
        ("u1,i1,2017-07-14", "looks like a purchase"),
        ("1\t20\t3\t881250949", "looks like a purchase"),
        ("1,10,5.5", "looks like a purchase"),
        ("7,10,5", "looks like a purchase"),
        ("u1,i1,5", "if that is a row, write names above it"),
        ("1::1193::5::978300760", "has :: between its cells"),
        ("user_id:token\titem_id_list:token_seq\titem_id:token", "has a history a row (item_id_list:token_seq)"),
    ],
)
def test_a_first_line_that_names_no_columns_is_no_header(first, said, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n".join([first] * 9) + "\n")
    assert said in fails(path, "--name", "Mine", "--output", tmp_path)
    assert not (tmp_path / "Mine").exists()


def test_columns_named_by_numbers_stay_possible(tmp_path):
    rows = [(u, i, 0.5, 2018, t) for u, i, t, _ in ROWS]
    path = as_csv(tmp_path / "a.csv", rows, ("user_id", "item_id", "0", "1", "timestamp"))
    assert run(path, "--name", "Mine", "--output", tmp_path).exit_code == 0
    path = as_csv(tmp_path / "b.csv", [row[:3] for row in ROWS], ("0", "1", "2"))
    done = run(path, "--user", "0", "--item", "1", "--time", "2", "--name", "Other", "--output", tmp_path)
    assert done.exit_code == 0 and content(tmp_path / "Other") == content(tmp_path / "Mine") == expected()


def days(rows):
    """The same rows, a day each, as 20170714."""
    from datetime import date, timedelta

    return [(u, i, (date(2017, 1, 30) + timedelta(days=(t - 1_500_000_000) // 86_400)), r) for u, i, t, r in rows]


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_days_without_dashes_are_dates(form, tmp_path):
    rows = days(ROWS)
    as_csv(tmp_path / "dashed.csv", rows)
    run(tmp_path / "dashed.csv", "--name", "Dashed", "--output", tmp_path)
    numbers = [(u, i, int(f"{day:%Y%m%d}"), r) for u, i, day, r in rows]
    path = tmp_path / f"a.{form}"
    header = ("user_id", "item_id", "timestamp", "rating")
    if form == "csv":
        as_csv(path, numbers)
    elif form == "json":
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in numbers))
    else:
        pq.write_table(pa.table(dict(zip(header, map(list, zip(*numbers, strict=True)), strict=True))), path)
    run(path, "--name", "Mine", "--output", tmp_path, "--set", "split=time")
    run(tmp_path / "dashed.csv", "--name", "Timed", "--output", tmp_path, "--set", "split=time")
    assert content(tmp_path / "Mine") == content(tmp_path / "Timed")
    said = yaml.safe_load((tmp_path / "Mine/split.yaml").read_text())
    assert said["times"].startswith("given as dates")
    wrong = as_csv(tmp_path / "w.csv", [*numbers[:5], ("u1", "i1", 20171399, 1), *numbers[5:]])
    assert "row 6: timestamp 20171399 is no day" in fails(wrong, "--name", "Wrong", "--output", tmp_path)
    run(tmp_path / "a.csv" if form == "csv" else path, "--name", "S", "--output", tmp_path, "--set", "unit=s")
    assert yaml.safe_load((tmp_path / "S/split.yaml").read_text())["times"].startswith("given in s")


def test_times_near_1970_are_of_any_unit_and_the_first_that_differs_is_named(tmp_path):
    rows = [(u, i, t * 1000 if k else 0, r) for k, (u, i, t, r) in enumerate(ROWS)]
    for more in ((), ("--set", "unit=ms")):
        path = as_csv(tmp_path / "a.csv", rows)
        assert run(path, "--name", "Mine", "--output", tmp_path, "--force", *more).exit_code == 0
        assert yaml.safe_load((tmp_path / "Mine/split.yaml").read_text())["times"].startswith("given in ms")
    mixed = [*ROWS[:4], (*ROWS[4][:2], ROWS[4][2] * 1000, 1), *ROWS[5:], ("u1", "i1", 10**18, 1)]
    said = fails(as_csv(tmp_path / "b.csv", mixed), "--name", "Other", "--output", tmp_path)
    assert f"row 5: timestamp {ROWS[4][2] * 1000} is no time in s" in said


def test_a_column_of_times_can_be_left_alone(tmp_path):
    order = np.random.default_rng(0).permutation(len(ROWS))
    rows = [(*ROWS[k][:2], 1_500_000_000 + int(order[k]), 1) for k in range(len(ROWS))]
    path = as_csv(tmp_path / "a.csv", rows)
    run(path, "--time", "none", "--name", "Mine", "--output", tmp_path)
    assert content(tmp_path / "Mine") == expected([(u, i, k, 1) for k, (u, i, *_) in enumerate(ROWS)])
    assert "needs times" in fails(path, "--time", "none", "--split", "time", "--name", "X", "--output", tmp_path)


def test_whole_numbers_with_a_point_are_the_ids_without_it(tmp_path):
    """On the way of columns, and line by line, which one time as a text takes."""
    header = ("user_id", "item_id", "timestamp", "rating")
    rows = [(float(u[1:]), float(i[1:]) + (0.5 if i == "i3" else 0), t, r) for u, i, t, r in ROWS]
    said = [(u[1:], "3.5" if i == "i3" else i[1:], t, r) for u, i, t, r in ROWS]
    for name, first in (("Fast", rows[0]), ("Slow", (*rows[0][:2], str(rows[0][2]), rows[0][3]))):
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in [first, *rows[1:]]]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        run(tmp_path / f"{name}.jsonl", "--name", name, "--output", tmp_path)
        assert content(tmp_path / name) == expected(said)


def test_rows_that_lack_something_can_be_left_out_and_counted(tmp_path):
    rows = [*ROWS, ("", "i1", 1_500_000_000, 1), ("u1", "", 1_500_000_000, 1), ("u1", "i1", "", 1)]
    done = run(as_csv(tmp_path / "a.csv", rows), "--name", "Mine", "--output", tmp_path, "--set", "incomplete=drop")
    for what in ("a user", "an item", "a time"):
        assert f"1 rows without {what}" in done.output
    assert content(tmp_path / "Mine") == expected()


def test_latin_1_is_read_where_it_is_named(tmp_path):
    rows = [(u.replace("u", "ü"), *rest) for u, *rest in ROWS]
    path = as_csv(tmp_path / "a.csv", rows)
    path.write_bytes(path.read_text().encode("latin-1"))
    run(path, "--name", "Mine", "--output", tmp_path, "--set", "encoding=latin-1")
    assert content(tmp_path / "Mine") == expected(rows)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    from harness.preparation import spool

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "hashed", full)
    assert "full" in fails(as_csv(tmp_path / "a.csv"), "--name", "Mine", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


SETTINGS = {
    "core_user=5": "core_users", "split=randomly": "split", "valid=0": "valid", "start=soon": "no date",
    "least_items=5": "start", "unit=days": "unit", "encoding=klingon": "no encoding",
}  # fmt: skip


@pytest.mark.parametrize("wrong", SETTINGS)
def test_wrong_settings_are_one_line(tmp_path, wrong):
    split = ["--split", "time"] if wrong.startswith("valid") else []
    message = fails(as_csv(tmp_path / "a.csv"), "--name", "M", "--output", tmp_path / "o", "--set", wrong, *split)
    assert SETTINGS[wrong] in message


def test_every_recipe_is_whole(tmp_path):
    assert set(asked.known()) >= {"amazon18-minionerec", "amazon14-s3rec", "amazon23-5core", "movielens"}
    for name in asked.known():
        asked.asked(name, {})
    assert "amazon18-minionerec" in run().output
    assert "amazon14-s3rec" in fails(
        as_csv(tmp_path / "a.csv"), "--recipe", "amazon14", "--name", "M", "--output", tmp_path / "o"
    )


def test_damaged_files_of_a_prepared_split_are_named(tmp_path, plugins):
    run(as_csv(tmp_path / "a.csv"), "--name", "Mine", "--output", tmp_path)
    folder = tmp_path / "Mine"
    table = pq.read_table(folder / "interactions.parquet")
    for column, row, value in (("item", 3, 999), ("user", 0, 7), ("split", 0, 2), ("time", 1, 5)):
        values = table[column].to_numpy().copy()
        values[row] = value
        at = table.column_names.index(column)
        pq.write_table(
            table.set_column(at, column, pa.array(values, table[column].type)), folder / "interactions.parquet"
        )
        problems = Problems()
        with pytest.raises(Exception, match=r"interactions\.parquet row"):
            categories.read(plugins, "Mine", str(tmp_path), {}, problems)
    pq.write_table(table, folder / "interactions.parquet")
    (folder / "users.parquet").write_bytes(b"PAR1")
    with pytest.raises(Exception, match=r"users\.parquet"):
        categories.read(plugins, "Mine", str(tmp_path), {})


# ---- real dates


@pytest.mark.data
def test_the_published_rows_of_industrial_come_back_from_their_dated_purchases(tmp_path):
    """9,065 rows with real times: histories, targets, and the cut between valid and test, which 17 rows share."""
    folder = Path(os.environ["BENCH_DATA"], "dated")
    rows = []
    for split in ("valid", "test"):
        with open(folder / f"Industrial_and_Scientific.{split}.csv", newline="") as file:
            for row in csv.DictReader(file):
                history = ast.literal_eval(row["item_asins"])
                times = [int(time) for time in ast.literal_eval(row["history_timestamp"])]
                rows.append((split, row["user_id"], history, times, row["item_asin"], int(float(row["timestamp"]))))
    users = {}
    before = {user: set() for _, user, *_ in rows}  # users whose samples of one time stand earlier in the files
    for number, (_, user, history, times, item, time) in enumerate(rows):
        window = [*zip(history, times, strict=True), (item, time)]
        known = users.setdefault(user, window)
        overlap = next(
            k for k in range(min(len(known), len(window) - 1), -1, -1) if known[len(known) - k :] == window[:k]
        )
        users[user] = window if known is window else known + window[overlap:]
        last = rows[number - 1]
        if number and last[5] == time and last[1] != user:
            before[user].add(last[1])
    order = list(TopologicalSorter(before).static_order())
    path = as_csv(tmp_path / "dated.csv", [(user, item, time, 1) for user in order for item, time in users[user]])
    run(path, "--name", "Dated", "--output", tmp_path, "--split", "time", "--set", "valid=4532", "--set", "test=4533")
    found = content(tmp_path / "Dated", 10)
    for split in ("valid", "test"):
        assert found[split] == Counter(
            (user, tuple(history), item) for of, user, history, _, item, _ in rows if of == split
        )


def test_roles_of_short_users():
    users = np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    left_out = Counter()
    found = splitting.roles(users, np.arange(10), asked.asked("", {}), left_out)
    assert found.tolist() == [0, 0, 1, 0, 2, 3, 0, 1, 2, 3]
    assert sum(left_out.values()) == 3


# ---- what an attack found


def order_of(folder):
    items, splits, _ = read(folder)
    return [items.ids[i] for i in [*splits["test"].histories.lists()[0], splits["test"].targets[0]]]


def test_fractions_of_a_second_order_purchases(tmp_path):
    rows = [("u", item, f"1600000000.{k}", 1) for item, k in zip("abcde", (5, 4, 3, 2, 1), strict=True)]
    run(as_csv(tmp_path / "a.csv", rows), "--name", "Mine", "--output", tmp_path)
    assert order_of(tmp_path / "Mine") == ["e", "d", "c", "b", "a"]


def test_dates_and_numbers_of_two_files_are_one_time(tmp_path):
    first = as_csv(tmp_path / "a.csv", [("u", "a", 1_600_000_000, 1), ("u", "c", 1_600_000_200, 1)])
    second = as_csv(tmp_path / "b.csv", [("u", "b", iso(1_600_000_100), 1), ("u", "d", iso(1_600_000_300), 1)])
    run(first, second, "--name", "Mine", "--output", tmp_path)
    assert order_of(tmp_path / "Mine") == ["a", "b", "c", "d"]
    (tmp_path / "c.csv").write_text("user_id,item_id\nu,e\n")
    assert "c.csv has no column of times" in fails(first, tmp_path / "c.csv", "--name", "B", "--output", tmp_path)


def test_large_ids_of_json_stay_apart(tmp_path):
    users = (5, 9007199254740992, 9007199254740993)
    lines = [json.dumps({"user": u, "item": 10**17 + k, "time": 10**9 + k}) for u in users for k in range(4)]
    run(text(tmp_path / "a.jsonl", lines), "--name", "Mine", "--output", tmp_path)
    items, splits, _ = read(tmp_path / "Mine")
    assert sorted(set(splits["test"].users)) == sorted(map(str, users))
    assert items.ids[:2] == [str(10**17), str(10**17 + 1)]


READS = {
    "a quote within a cell": HEADER + 'u,5" x,1000\nu,b,1001\nu,c,1002\nu,d,1003\n',
    "a short header": 'u,i\nu,5" x\nu,b\nu,c\nu,d\n',
    "blank lines before": "\n\n" + HEADER + 'u,5" x,1000\nu,b,1001\n\nu,c,1002\nu,d,1003\n',
}


@pytest.mark.parametrize("kind", READS)
def test_it_is_read_right(tmp_path, kind):
    short = ["--user", "u", "--item", "i"] if kind == "a short header" else []
    done = run(lines(tmp_path, READS[kind]), "--name", "Mine", "--output", tmp_path, *short)
    assert done.exit_code == 0, done.output
    assert order_of(tmp_path / "Mine") == ['5" x', "b", "c", "d"]


WRONG = {
    "one bad time": (HEADER + "u,a,1000\nu,b,1001\nu,c,n/a\n", "row 3: timestamp 'n/a' is no time"),
    "a time beyond 64 bits": (HEADER + f"u,a,{10**25}\nu,b,{10**25 + 1}\n", "row 1: timestamp"),
    "lines that end in CR": (HEADER.strip() + "\ru,a,1000\r", "CR alone"),
    "a bad line behind blanks": ('{"user_id": "u", "item_id": "a"}\n\n\n{"user_id": 1\n', "line 4 is no object"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named_where_it_is(tmp_path, kind):
    content, what = WRONG[kind]
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert what in fails(tmp_path / "a.csv", "--name", "Mine", "--output", tmp_path / "out")


def test_numbers_and_dates_bound_a_window(tmp_path):
    path = as_csv(tmp_path / "a.csv")
    for start in ("start=1500172800", "start=1500172800000", "start='2017-07-16T02:40:00'"):
        run(path, "--name", "Mine", "--output", tmp_path, "--force", "--set", start)
        time = pq.read_table(tmp_path / "Mine" / "interactions.parquet")["time"].to_numpy()
        assert time.min() == 1_500_172_800 * 10**6, start


def test_force_removes_nothing_that_is_not_a_prepared_split(tmp_path):
    path = as_csv(tmp_path / "a.csv")
    (tmp_path / "Mine").mkdir()
    (tmp_path / "Mine/notes.txt").write_text("mine")
    assert "is no prepared split" in fails(path, "--name", "Mine", "--output", tmp_path, "--force")
    run(path, "--name", "Other", "--output", tmp_path)
    (tmp_path / "Other/Other.index.mine.json").write_text("{}")
    assert "also holds Other.index.mine.json" in fails(path, "--name", "Other", "--output", tmp_path, "--force")
    assert (tmp_path / "Mine/notes.txt").read_text() == "mine"


def test_what_a_killed_process_left_goes_at_the_next_call(tmp_path):
    left = tmp_path / ".preparing.999999999.x"
    left.mkdir()
    run(as_csv(tmp_path / "a.csv"), "--name", "Mine", "--output", tmp_path)
    assert not left.exists()


def test_a_split_that_s3recs_text_cannot_say_is_refused(tmp_path, plugins):
    from harness.data import exporting
    from harness.errors import BenchError

    short = [*ROWS, ("short", "i1", 1_500_000_000, 1), ("short", "i2", 1_500_000_001, 1)]
    run(as_csv(tmp_path / "a.csv", short), "--name", "Mine", "--output", tmp_path)
    with pytest.raises(BenchError, match="user short"):
        exporting.s3rec(categories.read(plugins, "Mine", str(tmp_path), {"max_history": 50}), tmp_path)


def test_the_next_command_can_be_pasted(tmp_path):
    done = run(as_csv(tmp_path / "a.csv"), "--name", "Mine", "--output", tmp_path / "two words")
    told = shlex.split(done.output.splitlines()[-1].removeprefix("next: bench "))
    assert told == ["run", "--method", "skip-markov", "--category", "Mine", "--data-dir", str(tmp_path / "two words")]


def test_an_export_that_fails_leaves_no_folder(tmp_path):
    short = [*ROWS, ("short", "i1", 1_500_000_000, 1), ("short", "i2", 1_500_000_001, 1)]
    run(as_csv(tmp_path / "a.csv", short), "--name", "Mine", "--output", tmp_path)
    into = ["--data-dir", str(tmp_path), "--output", str(tmp_path / "new/out")]
    found = CliRunner().invoke(cli, ["data", "export", "Mine", "--format", "s3rec", "--set", "max_history=50", *into])
    assert found.exit_code != 0 and not (tmp_path / "new").exists()


def test_a_file_that_is_given_twice_is_refused(tmp_path):
    path = as_csv(tmp_path / "a.csv")
    (tmp_path / "copy.csv").write_bytes(path.read_bytes())
    for second in (path, tmp_path / "copy.csv"):
        assert "count twice; give it once" in fails(path, second, "--name", "Mine", "--output", tmp_path / "out")


def test_two_units_in_two_files_are_refused_also_where_one_is_named(tmp_path):
    seconds = lines(tmp_path, HEADER + "u,i,1500000000\nu,j,1500000100\n")
    (tmp_path / "b.csv").write_text(HEADER + "v,i,1500000000000\nv,j,1500000100000\n")
    for more in ([], ["--set", "unit=ms"]):
        message = fails(seconds, tmp_path / "b.csv", "--name", "Mine", "--output", tmp_path / "out", *more)
        assert "b.csv row 1: timestamp 1500000000000 is no time in s as those before it" in message


def as_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_json_lines_in_another_encoding_are_named_and_read_where_it_is_named(tmp_path):
    rows = [{"user_id": f"u{n % 9}", "item_id": "naïve" if n > 30 else f"i{n % 7}", "timestamp": 1_500_000_000 + n}
            for n in range(60)]  # fmt: skip
    (tmp_path / "a.json").write_bytes(as_lines(rows).encode("latin-1"))
    message = fails(tmp_path / "a.json", "--name", "Mine", "--output", tmp_path / "out", "--set", "incomplete=drop")
    assert "a.json line 32 is no utf-8" in message and "encoding=latin-1" in message
    done = run(tmp_path / "a.json", "--name", "Mine", "--output", tmp_path / "out", "--set", "encoding=latin-1")
    assert done.exit_code == 0 and "naïve" in read(tmp_path / "out/Mine")[0].ids


def test_a_key_that_stands_twice_in_an_object_is_named(tmp_path):
    rows = [{"user_id": f"u{n % 9}", "item_id": f"i{n % 7}", "timestamp": 1_500_000_000 + n} for n in range(40)]
    text = as_lines(rows).replace('"timestamp": 1500000020', '"timestamp": 5, "timestamp": 1500000020')
    (tmp_path / "a.json").write_text(text)
    message = fails(tmp_path / "a.json", "--name", "Mine", "--output", tmp_path / "out")
    assert "a.json line 21: the key 'timestamp' stands twice" in message
    nested = [row | {"style": {"user_id": "x"}} for row in rows]  # another object's key is its own
    (tmp_path / "b.json").write_text(as_lines(nested))
    assert run(tmp_path / "b.json", "--name", "Mine", "--output", tmp_path / "out").exit_code == 0


def test_two_columns_for_one_time_are_asked_about_and_none_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id,time,timestamp\n" + "u,i,1,1500000000\nu,j,2,1500000100\n" * 3)
    assert "(timestamp, time); name one: --time" in fails(tmp_path / "a.csv", "--name", "M", "--output", tmp_path / "o")
    (tmp_path / "b.csv").write_text(
        "user_id,item_id,when\n" + "".join(f"u{n % 3},i{n},2017-01-01\n" for n in range(12))
    )
    done = run(tmp_path / "b.csv", "--name", "M", "--output", tmp_path / "o")
    assert "times: none: the order of the file" in done.output


def test_one_category_in_two_layouts_of_one_folder_is_refused(tmp_path):
    run(as_csv(tmp_path / "a.csv"), "--name", "Mine", "--output", tmp_path)
    (tmp_path / "Mine/Mine.inter.json").write_text(json.dumps({str(u): [0, 1, 2, u % 3] for u in range(9)}))
    done = CliRunner().invoke(cli, ["data", "show", "Mine", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2 and "holds Mine in 2 layouts" in done.output
