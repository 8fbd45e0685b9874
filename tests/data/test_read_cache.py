"""The second reading of a large category is from columns, and is the same to the last value."""

import json

import numpy as np
import pytest

from harness.data import categories, read_cache
from harness.data.problems import Problems
from tests.data.test_readers import write_minionerec


@pytest.fixture()
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCH_READ_CACHE", "1")
    monkeypatch.setattr(read_cache, "LEAST_BYTES", 1)
    return tmp_path / "cache" / "genrec-bench" / read_cache.FOLDER


def sequences(root, items=9, variants=("x",)):
    folder = root / "Toys"
    folder.mkdir(parents=True)
    users = {f"u{u}": [(u * k + k) % items for k in range(3 + u % 5)] for u in range(20)}
    (folder / "Toys.inter.json").write_text(json.dumps(users))
    texts = {str(i): {"title": f"item {i}", "id": f"B{i}", "brand": "é"} for i in range(items)}
    (folder / "Toys.item.json").write_text(json.dumps(texts))
    for variant in variants:
        index = {str(i): [f"<a_{i % 3}>", f"<b_{i}>"][: 1 + i % 2] for i in range(items)}
        (folder / f"Toys.index.{variant}.json").write_text(json.dumps(index))
    return root


def same(a, b):
    assert a.fingerprint == b.fingerprint
    assert (a.items, a.items.ids, a.caption, a.layout, a.left_out) == (
        b.items,
        b.items.ids,
        b.caption,
        b.layout,
        b.left_out,
    )
    assert (a.given is None) == (b.given is None)
    if a.given is not None:
        assert np.array_equal(a.given.codes, b.given.codes)
    for name in a.splits:
        x, y = a.splits[name], b.splits[name]
        for p, q in ((x.users, y.users), (x.targets, y.targets), (x.rows, y.rows), (x.keys, y.keys),
                     (x.histories.items, y.histories.items), (x.histories.users, y.histories.users)):  # fmt: skip
            assert np.array_equal(p, q)
            assert p.dtype == q.dtype


def never(*_):
    raise AssertionError("the files were read again")


@pytest.mark.parametrize("write", [sequences, write_minionerec])
def test_the_second_reading_is_from_columns(plugins, tmp_path, home, monkeypatch, write):
    root = write(tmp_path / "data")
    first = categories.read(plugins, "Toys", str(root), {})
    assert len(list(home.iterdir())) == 1
    reader = type(plugins.get("dataset", first.layout)({}))
    monkeypatch.setattr(reader, "read", never)
    same(categories.read(plugins, "Toys", str(root), {}), first)
    with pytest.raises(AssertionError):
        categories.read(plugins, "Toys", str(root), {"max_history": 3})  # other settings
    with pytest.raises(AssertionError):
        categories.read(plugins, "Toys", str(root), {}, Problems())  # bench data validate reads the files


def test_a_changed_file_is_read_again(plugins, tmp_path, home):
    root = sequences(tmp_path / "data")
    first = categories.read(plugins, "Toys", str(root), {})
    path = root / "Toys" / "Toys.item.json"
    before = path.stat()
    path.write_text(path.read_text().replace("item 3", "item X"))
    import os

    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time
    second = categories.read(plugins, "Toys", str(root), {})
    assert second.items.titles[3] == "item X"
    assert second.fingerprint != first.fingerprint
    (root / "Toys" / "Toys.index.a.json").write_text((root / "Toys" / "Toys.index.x.json").read_text())
    assert "SIDs: a" in categories.read(plugins, "Toys", str(root), {}).caption  # a file that was not there


@pytest.mark.parametrize("damage", ["bytes", "gone", "facts", "pickle"])
def test_a_damaged_entry_is_made_again(plugins, tmp_path, home, damage):
    root = sequences(tmp_path / "data")
    first = categories.read(plugins, "Toys", str(root), {})
    entry = next(home.iterdir())
    if damage == "bytes":
        path = entry / "train.targets.npy"
        path.write_bytes(path.read_bytes()[:-4] + b"\1\2\3\4")
    elif damage == "gone":
        (entry / "test.users.npy").unlink()
    elif damage == "facts":
        (entry / "facts.json").write_text("{")
    else:
        np.save(entry / "test.users.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    same(categories.read(plugins, "Toys", str(root), {}), first)
    same(categories.read(plugins, "Toys", str(root), {}), first)


def test_nothing_is_kept_where_it_cannot_or_need_not_be(plugins, tmp_path, home, monkeypatch):
    root = sequences(tmp_path / "data")
    monkeypatch.setenv("BENCH_READ_CACHE", "0")
    categories.read(plugins, "Toys", str(root), {})
    assert not home.exists()
    monkeypatch.setenv("BENCH_READ_CACHE", "1")
    monkeypatch.setattr(read_cache, "LEAST_BYTES", 10**9)
    categories.read(plugins, "Toys", str(root), {})
    categories.read(plugins, "Synthetic", None, {"items": 60, "users": 80})
    assert not home.exists()
    monkeypatch.setattr(read_cache, "LEAST_BYTES", 1)
    home.parent.mkdir(parents=True)
    home.write_text("a file where the folder should be")
    same(categories.read(plugins, "Toys", str(root), {}), categories.read(plugins, "Toys", str(root), {}))


def test_the_oldest_entries_go(plugins, tmp_path, home, monkeypatch):
    monkeypatch.setattr(read_cache, "MOST_ENTRIES", 2)
    root = sequences(tmp_path / "data")
    for longest in (2, 3, 4, 5):
        categories.read(plugins, "Toys", str(root), {"max_history": longest})
    assert len(list(home.iterdir())) == 2
