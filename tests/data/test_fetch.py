"""``bench data fetch`` against a server that truncates, stalls, redirects, lies, refuses and asks to wait."""

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.data import categories, conversions, download, fetching, published
from harness.data.published import Entry, Pinned
from harness.errors import BenchError
from harness.progress import Progress
from tests.metamorphic import category

CONTENT = b"1 1 2 3\n2 2 3 1 4\n3 4 1 2\n" * 3000


def pinned(path="data/Tiny.txt", content=CONTENT, role="sequences", known=True):
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    told = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} if known else {}
    return Pinned(role, "some/repository", "a" * 40, path, blob, **told)


@pytest.fixture
def server(monkeypatch):
    """A host whose answers are a list of ways, used up one a request; then it behaves."""
    ways, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range")))
            way = ways.pop(0) if ways else "well"
            body, start = CONTENT, 0
            if way in ("404", "429", "503"):
                self.send_response(int(way))
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if way == "redirect":
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/moved{self.path}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if way == "lie":
                body = bytes([body[0] ^ 1]) + body[1:]
            if self.headers.get("Range") and way != "whole":
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if way in ("cut", "stall"):
                self.wfile.write(body[start : start + 20_000])
                self.wfile.flush()
                if way == "stall":
                    gone.wait(3)
                return self.connection.close()
            self.wfile.write(body[start:])

        def log_message(self, *_):
            pass

    gone = threading.Event()
    host = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    monkeypatch.setenv(download.MIRROR, f"http://127.0.0.1:{host.server_port}")
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    monkeypatch.setattr(download, "LONGEST_WAIT", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield ways, asked
    gone.set()
    host.shutdown()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "bad",
    [[], ["cut"], ["cut", "cut"], ["stall"], ["redirect"], ["429", "503"], ["lie"], ["cut", "whole"], ["cut", "lie"]],
    ids="-".join,
)
def test_the_pinned_content_comes_whatever_the_server_does(server, tmp_path, bad, known):
    ways, asked = server
    ways += bad
    path = download.download(pinned(known=known), tmp_path)
    assert path.read_bytes() == CONTENT
    assert not list(tmp_path.glob("*.part"))
    if bad == ["cut"]:
        assert asked[1][1] == "bytes=20000-"  # it goes on, and does not begin again


@pytest.mark.parametrize(
    ("bad", "words"),
    [(["404"], "404 Not Found"), (["lie", "lie"], "not the file that is pinned"), (["503"] * 9, "503")],
    ids=["404", "lie", "503"],
)
def test_what_cannot_be_had_is_one_line_and_leaves_no_file(server, tmp_path, bad, words):
    ways, _ = server
    ways += bad
    with pytest.raises(BenchError, match=words):
        download.download(pinned(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_killed_download_goes_on_where_it_was(server, tmp_path):
    _, asked = server
    (tmp_path / f"{pinned().blob}.part").write_bytes(CONTENT[:5000])
    assert download.download(pinned(), tmp_path).read_bytes() == CONTENT
    assert asked == [("/some/repository/" + "a" * 40 + "/data/Tiny.txt", "bytes=5000-")]


def test_a_part_of_something_else_is_thrown_away(server, tmp_path):
    (tmp_path / f"{pinned().blob}.part").write_bytes(b"x" * 5000)
    assert download.download(pinned(), tmp_path).read_bytes() == CONTENT
    (tmp_path / f"{pinned().blob}.part").write_bytes(b"x" * (len(CONTENT) + 10))
    (tmp_path / pinned().blob).unlink()
    assert download.download(pinned(), tmp_path).read_bytes() == CONTENT


def test_a_mirror_may_be_a_folder(tmp_path, monkeypatch):
    place = tmp_path / "mirror" / pinned().place
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    for mirror in (str(tmp_path / "mirror"), (tmp_path / "mirror").as_uri()):
        monkeypatch.setenv(download.MIRROR, mirror)
        assert download.download(pinned(), tmp_path / "d").read_bytes() == CONTENT
        (tmp_path / "d" / pinned().blob).unlink()
    place.unlink()
    with pytest.raises(BenchError, match="does not exist"):
        download.download(pinned(), tmp_path / "d")
    monkeypatch.setenv(download.MIRROR, "gopher://x")
    with pytest.raises(BenchError, match="no address that can be asked"):
        download.download(pinned(), tmp_path / "d")


def test_too_small_a_disk_is_said_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(BenchError, match="make room"):
        download.download(pinned(), tmp_path)


@pytest.fixture
def tiny_entry(monkeypatch):
    entry = Entry("Tiny", "sequences", "s3rec", "some/repository: no licence stated", (pinned(content=SMALL),))
    monkeypatch.setattr(published, "find", lambda name: entry if name == "Tiny" else None)
    monkeypatch.setattr(published, "known", lambda: ["Tiny"])
    return entry


SMALL = b"".join(f"{u} {' '.join(str((u * k) % 9 + 1) for k in range(1, 7))}\n".encode() for u in range(1, 12))


def test_a_category_is_fetched_by_run_or_its_command_is_named(tiny_entry, tmp_path, monkeypatch):
    place = tmp_path / "mirror" / tiny_entry.files[0].place
    place.parent.mkdir(parents=True)
    place.write_bytes(SMALL)
    monkeypatch.setenv(download.MIRROR, str(tmp_path / "mirror"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setenv(fetching.FETCH, "0")
    words = ["run", "--method", "popularity", "--category", "Tiny", "--no-mlflow", "--quiet", "--no-figures",
             "--runs", str(tmp_path / "runs"), "--set", "decoder.k=9"]  # fmt: skip
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2 and "bench data fetch Tiny" in done.output and "no licence stated" in done.output
    done = CliRunner().invoke(cli, [*words, "--fetch"])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "cache" / "genrec-bench" / "Tiny"
    assert json.loads((folder / "fetched.json").read_text())["files"][0]["git blob"] == tiny_entry.files[0].blob
    monkeypatch.setenv(fetching.FETCH, "0")
    assert CliRunner().invoke(cli, ["data", "fetch", "Tiny"]).exit_code == 2  # it is there
    done = CliRunner().invoke(cli, ["data", "fetch", "Tiny", "--force"])
    assert done.exit_code == 0 and "9 items" in done.output, done.output
    done = CliRunner().invoke(cli, ["data", "fetch", "Tinny"])
    assert done.exit_code == 2 and "Tiny" in done.output


def test_a_conversion_that_fails_leaves_nothing(tiny_entry, tmp_path, monkeypatch):
    broken = pinned(content=b"1 a b\n")
    entry = Entry("Tiny", "sequences", "s3rec", "none", (broken,))
    place = tmp_path / "mirror" / broken.place
    place.parent.mkdir(parents=True)
    place.write_bytes(b"1 a b\n")
    monkeypatch.setenv(download.MIRROR, str(tmp_path / "mirror"))
    with pytest.raises(BenchError, match="cannot be made from"):
        fetching.fetch(entry, tmp_path / "data", Progress(True))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".downloads"]


def test_files_that_a_reader_knows_are_kept_as_they_were_published(tiny, plugins, tmp_path, monkeypatch):
    written = category.write(tiny, tmp_path / "written")
    found = []
    for path in sorted(written.rglob("*.*")):
        content, role = path.read_bytes(), str(path.relative_to(written))
        place = pinned(f"data/{role}", content, role)
        (tmp_path / "mirror" / place.place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / place.place).write_bytes(content)
        found.append(place)
    monkeypatch.setenv(download.MIRROR, str(tmp_path / "mirror"))
    entry = Entry(category.NAME, "minionerec", "", "none", tuple(found))
    folder = fetching.fetch(entry, tmp_path / "data", Progress(True))
    for place in found:
        assert (folder / place.role).read_bytes() == (written / place.role).read_bytes()
    fetched, known = (categories.read(plugins, category.NAME, str(root), {}) for root in (tmp_path / "data", written))
    assert fetched.fingerprint == known.fingerprint and fetched.given.fingerprint == known.given.fingerprint


def test_the_list_is_whole():
    for name in published.known():
        entry = published.get(name)
        assert entry.licence and len({file.role for file in entry.files}) == len(entry.files)
        assert entry.layout == ("sequences" if entry.make else "minionerec")


def test_brands_and_categories_of_s3rec_are_told_apart(tmp_path):
    names = {
        "id2user": {"1": "ann"}, "id2item": {"1": "B1", "2": "B2", "3": "B3"},
        "id2attribute": {"1": "rare", "2": "Pond&#39;s", "3": "Skin", "4": "Face"},
        "attributeid2num": {"1": 4, "2": 5, "3": 9, "4": 9},
    }  # fmt: skip
    contents = {
        "sequences": "1 2 1 3\n", "names": json.dumps(names), "titles": "B1 cold cream\nB2 a\nB3 b c\n",
        "attributes": json.dumps({"1": [1, 2, 3], "2": [2, 3]}),
    }  # fmt: skip
    there = {}
    for role, text in contents.items():
        there[role] = tmp_path / role
        there[role].write_text(text)
    sequences, items = conversions.s3rec(there)
    assert sequences == {"ann": [1, 0, 2]}
    assert items["0"] == {"title": "cold cream", "description": "", "brand": "Pond's", "categories": "Skin, Face",
                          "asin": "B1"}  # fmt: skip
    assert items["1"]["brand"] == "" and items["1"]["categories"] == "Skin, Face" and items["2"]["categories"] == ""


@pytest.mark.data
@pytest.mark.parametrize("name", ["Beauty", "Yelp"])
def test_the_known_sequences_are_those_of_the_pinned_file(name, tmp_path):
    """Written back as S3-Rec has them they have the pinned content, and are read as they are known."""
    path = Path(os.environ["BENCH_DATA"]) / "genrec" / name / f"{name}.inter.json"
    known = list(json.loads(path.read_text()).values())
    text = "".join(f"{n} {' '.join(str(item + 1) for item in items)}\n" for n, items in enumerate(known, start=1))
    written = tmp_path / "sequences.txt"
    written.write_text(text)
    (file,) = (file for file in published.get(name).files if file.role == "sequences")
    assert download.is_pinned(file, written)
    assert list(conversions.s3rec({"sequences": written})[0].values()) == known


@pytest.mark.skipif("BENCH_PUBLISHED" not in os.environ, reason="BENCH_PUBLISHED names no folder with published files")
@pytest.mark.data
@pytest.mark.parametrize("name", ["Beauty", "Yelp", "MovieLens-100k", "Scientific"])
def test_what_is_made_is_what_is_known(name, tmp_path, monkeypatch):
    monkeypatch.setenv(download.MIRROR, os.environ["BENCH_PUBLISHED"])
    folder = fetching.fetch(published.get(name), tmp_path, Progress(True))
    for path in (Path(os.environ["BENCH_DATA"]) / "genrec" / name).glob("*.json"):
        assert json.loads((folder / path.name).read_text()) == json.loads(path.read_text()), path.name
