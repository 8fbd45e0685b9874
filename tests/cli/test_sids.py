"""bench sids: made, shown, compared and repaired from the command line."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.data.problems import Problems
from harness.data.reading import read_index
from harness.errors import BenchError
from tests.commands import run_whole

SIZES = ["dataset.items=60", "dataset.users=80"]


def bench(*words):
    done = CliRunner().invoke(cli, ["sids", *map(str, words)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def fails(*words):
    with pytest.raises(BenchError) as caught:
        cli.main(["sids", *map(str, words)], standalone_mode=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def index(path, codes):
    letters = "abcdef"
    tokens = {str(i): [f"<{letters[lv]}_{c}>" for lv, c in enumerate(row)] for i, row in enumerate(codes)}
    path.write_text(json.dumps(tokens))
    return path


def test_what_is_built_is_read_and_repaired(tmp_path):
    path = tmp_path / "new" / "Synthetic.index.mine.json"
    words = ["--category", "Synthetic", "--set", "codes=16", "--set", "levels=2", "--set", "tokenizer.dimensions=8"]
    told = bench("build", *words, "--quiet", "--output", path)
    assert "codes used" in told and "16 / 16" in told and str(path) in told
    found = read_index(path, 1200, Problems())
    assert found.n_levels == 2 and len(found.distinct) < 1200
    shown = json.loads(bench("show", path, "--category", "Synthetic", "--embedder", "tfidf", "--format", "json"))
    assert shown["fingerprint"] == found.fingerprint and 0 < shown["first code shared with the 10 nearest"] < 1
    assert "is there already; --force" in fails("build", *words, "--output", path)
    told = bench("build", *words, "--quiet", "--repair", "extra-token", "--force", "--output", path)
    assert "repair: items moved" in told and len(read_index(path, 1200, Problems()).distinct) == 1200


def test_given_ones_are_shown_compared_and_repaired(tmp_path):
    mended = tmp_path / "mended.json"
    told = bench("repair", "--category", "Synthetic", "--output", mended)
    assert told.startswith("zcr: 13 items moved; 0 still on a shared SID; ties of equal moves went by code")
    assert "collision rate" in bench("show", "--category", "Synthetic")
    own = tmp_path / "given.json"
    bench("repair", "--category", "Synthetic", "--repair", "none", "--output", own)
    found = json.loads(bench("compare", own, mended, "--format", "json"))
    assert found["items with the same SID"] == 1200 - 13 and found["mutual information of codes"][0] == pytest.approx(1)


def test_a_run_is_shown_by_its_folder(tmp_path):
    folder, _ = run_whole(tmp_path, "markov", SIZES)
    assert "60" in bench("show", folder)


def test_what_cannot_be_is_one_line(tmp_path):
    path = index(tmp_path / "a.json", np.zeros((3, 2), int))
    other = index(tmp_path / "b.json", np.zeros((4, 2), int))
    assert "has 3 items and" in fails("compare", path, other)
    assert "lacks item 3" in fails("show", path, "--category", "Synthetic")
    assert "--embedder needs the items" in fails("show", path, "--embedder", "tfidf")
    assert "name an index file" in fails("show")
    assert "unknown repair 'zrc'; did you mean zcr" in fails("repair", path, "--repair", "zrc")
    assert "needs vectors" in fails("repair", path, "--repair", "sinkhorn")
    assert "is a folder" in fails("repair", path, "--output", tmp_path)
    assert "unknown format 'yaml'" in fails("show", path, "--format", "yaml")
    (tmp_path / "bad.json").write_text('{"0": ["<a_1>"], "1": ["<b_2>"]}')
    assert "bad.json" in fails("show", tmp_path / "bad.json")
    assert "is missing" in fails("show", tmp_path / "semantic_ids.json")
    assert "unknown category" in fails("build", "--category", "Nowhere")
    assert "gives no semantic IDs" in fails(
        "build", "--category", "Synthetic", "--tokenizer", "given", "--data-dir", bare(tmp_path), "--category", "Bare",
        "--set", "optional=true",
    )  # fmt: skip


def bare(folder):
    """A category without semantic IDs."""
    (folder / "Bare").mkdir()
    (folder / "Bare/Bare.inter.json").write_text(json.dumps({str(u): [0, 1, 2, u % 3] for u in range(40)}))
    return folder
