"""The committed results: the tables are what the records give, and the records are sound."""

import json
from itertools import pairwise
from math import log2
from pathlib import Path

import pytest

from harness.errors import BenchError
from leaderboard import comparison

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "leaderboard/results").glob("*/*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_committed_table_is_what_the_committed_records_give(path):
    content = json.loads(path.read_text())
    text = comparison.markdown(comparison.from_records(content["runs"]), content["category"])
    assert text == path.with_suffix(".md").read_text()


def test_the_docs_show_that_table():
    [path] = [p for p in RESULTS if p.parent.name == "Industrial_and_Scientific" and p.stem == "table1"]
    table = path.with_suffix(".md").read_text().split("\n", 1)[1].strip()
    assert table in (ROOT / "docs/table1.md").read_text()


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_record_could_be_true(path):
    """Metrics of single targets: HR and NDCG rise with K, lie in order, and steps are bounded by the discounts."""
    runs = json.loads(path.read_text())["runs"]
    assert len({run["fingerprints"]["data"] for run in runs}) == 1
    for run in runs:
        assert not run["revision"].endswith("-dirty"), run["label"]
        for protocol, values in run["metrics"].items():
            cutoffs = [1, 3, 5, 10, 20, 50]
            assert values["HR@1"] == pytest.approx(values["NDCG@1"])
            for a, b in pairwise(cutoffs):
                hr, ndcg = (values[f"{m}@{b}"] - values[f"{m}@{a}"] for m in ("HR", "NDCG"))
                assert hr >= 0
                assert hr / log2(b + 1) - 1e-9 <= ndcg <= hr / log2(a + 2) + 1e-9
            for name, (low, high) in run["intervals"][protocol].items():
                assert low <= values[name] <= high
        if "sid" in run["metrics"]:
            assert all(run["metrics"]["sid"][k] >= run["metrics"]["item"][k] - 1e-12 for k in run["metrics"]["sid"])


def record(label, seed, value, data="a"):
    metrics = dict.fromkeys((*comparison.COLUMNS, "MRR"), value)
    return {
        "label": label, "seed": seed, "category": "C", "caption": "", "revision": "r", "invalid": 0, "parameters": 0,
        "metrics": {"item": metrics}, "intervals": {"item": {"HR@10": [value - 0.01, value + 0.01]}},
        "fingerprints": {"data": data, "semantic_ids": None}, "train seconds": 5.0, "settings": {},
    }  # fmt: skip


def test_seeds_are_averaged_and_their_spread_is_shown():
    rows = comparison.from_records([record("m", 1, 0.10), record("m", 2, 0.14), record("other", 1, 0.11)])
    assert rows[0].mean("item", "HR@10") == pytest.approx(0.12)
    assert rows[0].interval("item", "HR@10") == pytest.approx((0.11, 0.13))
    assert rows[0].deviation("item", "HR@10") == pytest.approx(0.0283, abs=1e-4)
    assert rows[1].deviation("item", "HR@10") is None
    text = comparison.markdown(rows, "C")
    assert "**0.1200**" in text
    assert "0.1100–0.1300" in text
    assert "SID" not in text.split("\n")[2]


def test_runs_of_different_data_are_no_table(tmp_path, monkeypatch):
    records = iter([record("a", 1, 0.1), record("b", 1, 0.1, data="z")])
    monkeypatch.setattr(comparison, "_record", lambda run: next(records))
    with pytest.raises(BenchError, match="different data"):
        comparison.collect([None, None])
