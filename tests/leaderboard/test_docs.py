"""The tables and sentences of the documentation are what the recorded files give, and no other result stands there."""

import json
import re

import numpy as np
import pytest

from leaderboard import sentences, tokenizer_table
from leaderboard.board import build
from leaderboard.docs import REPEATS, ROOT, filled, tables
from tests.recorded import make_record

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MADE = re.compile(r"<!-- ([\w-]+) -->.*?<!-- /\1 -->|```.*?```|`[^`\n]*`", re.DOTALL)
METRIC = re.compile(r"(?<![\d.])0\.\d{3,}")
NO_RESULT = {"backbones.md": {"0.001"}, "integrity.md": {"0.999"}}  # a tolerance, a setting


def test_the_documentation_holds_the_recorded_tables():
    found = tables()
    shown = set()
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert filled(text, found) == text, f"{path.name}: run make docs"
        shown |= {name for name in found if f"<!-- {name} -->" in text}
    assert shown == set(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_result_is_typed(path):
    typed = set(METRIC.findall(MADE.sub("", path.read_text(encoding="utf-8"))))
    assert typed <= NO_RESULT.get(path.name, set()), (
        f"{path.name}: leave it out, or let leaderboard/sentences.py make it"
    )


def test_what_is_made_is_not_looked_at_and_what_is_typed_is():
    text = "<!-- a -->\n0.1234\n<!-- /a -->\n```\n0.1234\n```\nHR@10 is 0.0791."
    assert METRIC.findall(MADE.sub("", text)) == ["0.0791"]


@pytest.mark.data
def test_the_shares_of_repeats_are_those_of_the_data(industrial):
    recorded = json.loads(REPEATS.read_text(encoding="utf-8"))
    dataset = industrial
    assert dataset.fingerprint == recorded["data"]
    for name, samples in dataset.splits.items():
        last = [history[-1] for history in samples.histories.lists()]
        share = np.mean(dataset.given.of_item[last] == dataset.given.of_item[samples.targets])
        assert recorded["target's SID is the last one"][name] == pytest.approx(share)


def test_sentences_say_what_the_tests_bear_and_no_more(tiny, tmp_path):
    def row(method, skills, group="traditional"):
        records = [make_record(tmp_path, tiny, method, seed=s, skill=skill, group=group, stages=("sft",))
                   for s, skill in enumerate(skills, 1)]  # fmt: skip
        return records

    records = row("hybrid", [0.3], "counting") + row("strong", [0.8, 0.81, 0.79]) + row("lonely", [0.9])
    for record in records:
        record.content["settings"] = record.settings | {"deterministic": record.method == "hybrid"}
    said = sentences.table1(build(records, ["item"]))
    assert "strong is above the counting baseline hybrid" in said
    assert "no claim is made of lonely: one seed" in said
    assert "lonely is above" not in said and "lonely's, 0." in said
    same = sentences._pair({r.name: r for r in build(records, ["item"]).rows}, "strong", "strong", "item")
    assert sentences.difference(same) == "the same NDCG@10 on every sample"


def test_a_difference_of_single_runs_is_no_claim(tiny, tmp_path):
    records = [
        make_record(tmp_path, tiny, name, skill=skill, stages=("sft",)) for name, skill in (("a", 0.2), ("b", 0.9))
    ]
    rows = {row.name: row for row in build(records, ["item"]).rows}
    assert "one seed is no claim" in sentences.difference(sentences._pair(rows, "a", "b", "item"))


def test_the_table_of_tokenizers_ranks_them_and_says_which_figure_goes_along(tiny, tmp_path):
    skills = {"given": 0.9, "rqvae": 0.7, "letter": 0.6, "rqkmeans": 0.5, "random": 0.3, "permuted": 0.2}
    records = []
    for number, (name, skill) in enumerate(skills.items()):
        for seed in (1, 2, 3) if name in ("given", "permuted") else (1,):
            record = make_record(
                tmp_path / name, tiny, "tiger", seed=seed, skill=skill, stages=("sft",), label=f"tiger {name}"
            )
            quality = {"perplexity of codes": [9.0 - number, 1.0], "unexplained variance": 0.5,
                       "first code shared with the 10 nearest": [5, 3, 4, 1, 2, 0][number] / 10}  # fmt: skip
            record.content["tokenizer"] = {"quality": quality}
            records.append(record)
    table, said = tokenizer_table.tokenizer_table(records), tokenizer_table.says(records)
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:8]] == list(skills)
    assert "perplexity" in table and "shared" not in table.splitlines()[0]
    assert table.splitlines()[2].count("±") == 3 and table.splitlines()[3].count("±") == 0
    assert "highest over the SIDs of given and lowest over those of permuted" in said
    assert "given over permuted: +0." in said and "beyond chance" in said and "given over random: +0." in said
    assert "one seed is no claim" in said  # of random
    assert "perplexity +1.00 (p 0.0028, n 6)" in said and "neighbours +0.89" in said and "unexplained" not in said
    assert said.index("perplexity") < said.index("neighbours")
    assert not tokenizer_table.says(records[:3])
