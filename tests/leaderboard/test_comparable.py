"""What is compared is comparable: who is told apart, what chooses, what stands in a table, what verify looks at."""

import copy
import json
import re

import numpy as np
import pytest

from harness.data import categories
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.evaluation.segments import bought
from harness.evaluation.statistics import Runs, changes, paired
from harness.evaluation.target_ranks import TargetRanks
from leaderboard import formats, page, verify
from leaderboard.board import build, shown_value
from leaderboard.plausibility import problems
from leaderboard.record import Record, checksum
from leaderboard.report.compare import compare
from leaderboard.report.observations import against_counting
from leaderboard.report.systems import Recipe, System, recipes
from tests.recorded import make_record


def turned(record, place="elsewhere", valid=None, **content):
    """A record with other facts; `valid` are the valid metrics of its last stage."""
    told = copy.deepcopy(record.content) | content
    if valid is not None:
        told["stages"][record.last]["valid"] = valid
    return Record(told, record.place.with_name(place))


def of_data(record, data, sids=None, **more):
    prints = record.content["fingerprints"] | {"data": data} | ({"semantic_ids": sids} if sids else {})
    return turned(record, fingerprints=prints, **more)


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return {
        "model": make_record(root, tiny, "model", seed=1, skill=0.5),
        "other": make_record(root, tiny, "model", seed=2, skill=0.4),
        "hybrid": make_record(root, tiny, "hybrid", group="floor", stages=("hybrid",), skill=0.3),
        "weak": make_record(root, tiny, "weak", group="traditional", stages=("weak",), skill=0.1),
    }


def test_runs_are_told_apart_by_data_origin_and_sids_and_copies_are_one(runs):
    model = runs["model"]
    assert [len(found.records) for found in recipes([model, runs["other"]])] == [2]
    assert len(recipes([model, turned(model, "copy")])) == 1  # a record and its copy
    for other in (
        of_data(model, "0" * 64),
        turned(model, origin={"run": "x", "variant": "12345678", "continued": "grpo"}),
        of_data(turned(model, semantic_ids={"source": "given"}), model.data, "1" * 64),
    ):
        assert len(recipes([model, other])) == 2
    same = turned(model, "again", stages=runs["other"].stages)  # the same settings and seed, and another result
    found = recipes([model, same])
    assert len(found) == 2 and all(str(recipe.first.place) in recipe.name for recipe in found)


def test_valid_chooses_by_item_across_sids_and_not_at_all_where_it_means_another_thing(runs):
    model = runs["model"]
    coarse = of_data(model, model.data, "2" * 64, valid={"NDCG@10": 0.9, "NDCG@10 by item": 0.02})
    fine = turned(model, valid={"NDCG@10": 0.2, "NDCG@10 by item": 0.2})
    coarse.content["settings"] = coarse.settings | {"tokenizer": {"name": "rqkmeans"}}
    [row] = build([coarse, fine], ["item"]).rows
    assert row.records == (fine,)
    silent = copy.deepcopy(coarse)
    del silent.stages[silent.last]["valid"]["NDCG@10 by item"]  # an older record: nothing that compares
    assert len(build([silent, fine], ["item"]).rows) == 2
    drawn = turned(model, settings=model.settings | {"probe": {"samples": 50, "beams": 10}})
    assert len(build([drawn, model], ["item"]).rows) == 2


def test_a_fitted_number_never_chooses(runs):
    model = runs["model"]
    flattered = turned(model, "f", valid={"NDCG@10": 0.9}, settings=model.settings | {"prompts": "x"})
    flattered.stages[model.last]["train"] = {"seconds": 1.0, "cross-validated valid NDCG@10": 0.05}
    honest = turned(model, "h", valid={"NDCG@10": 0.1})
    assert flattered.valid == 0.05
    [row] = build([flattered, honest], ["sid"]).rows
    assert row.records == (honest,)


def test_a_comparison_looks_at_every_record(runs):
    model, other, weak = runs["model"], runs["other"], runs["weak"]
    both = System("model", Recipe("model", (model, of_data(other, "3" * 64))), "grpo")
    one = System("weak", Recipe("weak", (weak,)), "weak")
    with pytest.raises(BenchError, match="on different data"):
        compare(one, both, None)
    mixed = System("model", Recipe("model", (model, of_data(other, model.data, "4" * 64))), "grpo")
    found = compare(one, mixed, None)
    assert list(found.protocols) == ["item"] and "semantic IDs differ" in found.left_out[0]
    assert against_counting([System("hybrid", Recipe("hybrid", (runs["hybrid"],)), "hybrid"), both]) == []


def test_a_difference_is_against_the_row_that_heads_it(runs, tiny):
    plain = runs["hybrid"]
    variant = turned(plain, label="hybrid without titles", settings=plain.settings | {"prompts": "y"})
    board = build([variant, plain, runs["model"]], ["item"])
    [table] = board.tables
    assert table.counting == "hybrid" and set(table.versus_counting) == {"hybrid without titles", "model"}
    [table] = build([variant, runs["model"]], ["item"]).tables
    assert table.counting == "hybrid without titles"
    assert "Δ hybrid without titles" in formats.markdown([build([variant, runs["model"]], ["item"])])


def test_rows_of_other_ground_are_no_competitors(runs):
    best = of_data(runs["model"], "5" * 64)
    board = build([best, runs["weak"], runs["hybrid"]], ["item"], mixed=True)
    [table] = board.tables
    assert table.best["NDCG@10"][0] == shown_value(runs["hybrid"].metrics("item")["NDCG@10"])
    generated = turned(runs["weak"], **{"Bayes-optimal": {"item": {"NDCG@10": 0.9}}})
    [table] = build([generated, runs["hybrid"]], ["item"]).tables
    assert table.optimal == {} if "Bayes-optimal" not in runs["hybrid"].content else table.optimal


def test_the_same_ranks_are_a_tie_for_any_number_of_seeds():
    values = np.random.default_rng(0).random(50) / 3
    three = np.mean([values, values, values], axis=0)
    assert not changes(values, three).any()
    once, thrice = (Runs({"HR@10": np.stack([values] * seeds)}, np.arange(50)) for seeds in (1, 3))
    found = paired(once, thrice)["HR@10"]
    assert (found.wins, found.losses, found.ties, found.p) == (0, 0, 50, 1.0)


def test_a_candidate_outside_the_catalogue_takes_its_rank_in_both_protocols():
    sids = SemanticIds(np.array([[0, 0], [0, 1], [1, 0]], dtype=np.int32))
    rankings = Rankings("sid", np.array([[-1, 1, 0]]), np.array([[0.0, -1.0, -2.0]]))
    for protocol in ("sid", "item"):
        assert TargetRanks.of(rankings, np.array([1]), sids, protocol).before.tolist() == [1.0]


def test_first_purchases_count(tiny):
    found = bought(tiny.train, len(tiny.items))
    own = np.zeros(len(tiny.items), dtype=int)
    for user in np.unique(tiny.train.users):
        rows = np.flatnonzero(tiny.train.users == user)
        shortest = rows[tiny.train.histories.lengths[rows].argmin()]
        if tiny.train.histories.lengths[shortest] == 1:
            own[tiny.train.histories.items[shortest, 0]] += 1
        np.add.at(own, tiny.train.targets[rows], 1)
    np.testing.assert_array_equal(found, own)


def test_older_segments_are_not_shown_under_the_name_of_purchases(runs):
    old = turned(runs["model"])
    for stage in old.stages.values():
        stage.pop("measured")
    shown = System("m", Recipe("m", (old,)), "grpo").segments
    assert "times the target is a train target" in shown and "target's purchases in train" not in shown


def test_lint_allows_for_the_rounding_of_every_number():
    rng = np.random.default_rng(1)
    for _ in range(400):
        n = int(rng.integers(50, 4000))
        ranks = rng.integers(1, 25, n)
        row = {}
        for k in (1, 3, 5, 10, 20):
            hit = ranks <= k
            row[f"HR@{k}"] = round(float(hit.mean()), 3)
            row[f"NDCG@{k}"] = round(float((hit / np.log2(ranks + 1)).mean()), 3)
        del row["NDCG@1"]
        assert problems(row, 3, n) == []
    assert problems({"HR@1": 0.05, "HR@3": 0.05, "NDCG@3": 0.03}, 4)  # NDCG@1 is HR@1, printed or not


def test_verify_says_what_is_false_of_the_run_and_the_data(tiny, plugins, tmp_path, runs):
    record = runs["hybrid"]
    assert verify.verify(record, tiny, plugins, record.place).false == []
    for change, said in [
        ({"caption": "the published split"}, "caption is"),
        ({"rows": record.content["rows"] | {"train": 1}}, "rows.train is"),
        ({"items": 3}, "items is"),
        ({"seed": 7}, "seed is 7"),
        ({"category": "Toys"}, "category is Toys"),
    ]:
        false = verify.verify(turned(record, **change), tiny, plugins, record.place).false
        assert any(said in line for line in false), (change, false)
    bounds = turned(record)
    stage = bounds.stages["hybrid"]
    stage["intervals"]["item"]["HR@10"] = [stage["item"]["HR@10"] - 1e-4, stage["item"]["HR@10"] + 1e-4]
    assert any("intervals.item.HR@10" in line for line in verify.verify(bounds, tiny, plugins, record.place).false)
    assert "valid metrics, seconds" in verify.verify(record, tiny, plugins, record.place).line
    assert checksum(record.content)  # nothing of the above changed the record itself


def test_every_form_rounds_alike(runs):
    half = turned(runs["weak"])
    half.stages["weak"]["item"]["HR@10"] = 0.03125  # a half of the last digit, exactly
    board = build([half, runs["hybrid"]], ["item"])
    assert "0.0312" in formats.markdown([board]) and "0.0312" in formats.latex([board])
    script = page._asset("page.js")
    assert "toFixed(4)" not in script.replace("Math.abs(value).toFixed(digits)", "")
    [data] = re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page.html([board], False), re.S)
    told = json.loads(data)
    rows = {row["name"]: row for row in told["categories"][0]["rows"]}
    assert rows["hybrid"]["marks"]["item"]["HR@10"] == "best" and rows["weak"]["marks"]["item"]["HR@10"] == "second"


def test_the_page_unfolds_to_means_over_seeds(runs):
    board = build([runs["model"], runs["other"]], ["sid"])
    told = page._row(board.rows[0], board)
    each = [record.stages["grpo"]["levels"]["cumulative"]["1"]["L1"] for record in (runs["model"], runs["other"])]
    shown = {stage["name"]: stage["levels"] for stage in told["stages"]}
    assert each[0] != each[1] and shown["grpo"]["cumulative"]["1"]["L1"] == pytest.approx(sum(each) / 2)


def test_first_purchases_are_counted_where_histories_are_cut_to_one_item(plugins, tmp_path):
    """A segment of a target's purchases does not hang on how long histories may be."""
    (tmp_path / "Toy").mkdir()
    rng = np.random.default_rng(0)
    sequences = {str(user): rng.permutation(30)[: rng.integers(4, 9)].tolist() for user in range(40)}
    (tmp_path / "Toy/Toy.inter.json").write_text(json.dumps(sequences))
    counted = [
        bought(categories.read(plugins, "Toy", str(tmp_path), {"max_history": longest}).train, 30)
        for longest in (1, 2, 20)
    ]
    assert all(np.array_equal(counted[0], other) for other in counted[1:])
    assert counted[0].sum() == sum(len(sequence) - 2 for sequence in sequences.values())
