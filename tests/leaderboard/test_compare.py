"""Paired comparison of recorded runs."""

import json

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from leaderboard.record import Record
from leaderboard.report import compare
from leaderboard.report.systems import System, recipes
from tests.recorded import make_record, make_run


def bench(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def system(*records):
    [recipe] = recipes(records)
    return System(recipe.name, recipe, recipe.stages[-1])


@pytest.fixture(scope="module")
def pair(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [
        make_record(root, tiny, name, skill=skill, stages=(name,)) for name, skill in (("weak", 0.2), ("strong", 0.6))
    ]


def test_differences_wins_and_tests_are_of_the_same_samples(tiny, pair):
    weak, strong = pair
    found = compare.compare(system(weak), system(strong), tiny)
    for protocol in ("sid", "item"):
        result = found.protocols[protocol]["HR@10"]
        assert result.difference == pytest.approx(strong.metrics(protocol)["HR@10"] - weak.metrics(protocol)["HR@10"])
        assert result.low < result.difference < result.high
        assert result.wins + result.losses + result.ties == len(tiny.test)
        assert result.corrected < 0.01 and result.corrected >= result.p
    same = compare.compare(system(weak), system(weak), tiny)
    assert all(result.ties == len(tiny.test) and result.p == 1 for result in same.protocols["sid"].values())
    assert same.gained == same.lost == []


def test_segments_partition_the_samples_in_canonical_order(tiny, pair):
    found = compare.compare(*map(system, pair), tiny)
    rows = tiny.test.order
    repeat = (tiny.test.histories.items == tiny.test.targets[:, None]).any(axis=1)[rows]
    values = [r.ranks("item").values()["NDCG@10"] for r in pair]
    part = found.segments["item"]["target in history"].get("repeat")
    if part:
        assert part.second == pytest.approx(values[1][repeat].mean())
    for labels in found.segments["item"].values():
        assert sum(r.wins + r.losses + r.ties for r in labels.values()) == len(tiny.test)
        weighted = sum((r.wins + r.losses + r.ties) * r.difference for r in labels.values()) / len(tiny.test)
        assert weighted == pytest.approx(found.protocols["item"]["NDCG@10"].difference)
    assert set(found.segments["item"]) >= {
        "history length (items)",
        "target's purchases in train",
        "user",
        "target's SID",
    }


def test_changed_samples_come_with_titles_most_changed_first(tiny, pair):
    found = compare.compare(*map(system, pair), tiny, most=7)
    assert len(found.gained) == 7
    changes = [sample.second - sample.first for sample in found.gained]
    assert changes == sorted(changes, reverse=True) and changes[0] == 1
    assert all(sample.target in tiny.items.titles for sample in [*found.gained, *found.lost])
    assert all(sample.second < sample.first for sample in found.lost)
    text = compare.markdown(found)
    assert "## Samples that gained most" in text and "code abc123" in text


def test_seeds_are_averaged_sample_by_sample(tiny, tmp_path):
    first = [make_record(tmp_path, tiny, "a", seed=seed, skill=0.2) for seed in (1, 2)]
    second = [make_record(tmp_path, tiny, "b", seed=seed, skill=0.5) for seed in (1, 2)]
    found = compare.compare(system(*first), system(*second), None)
    assert set(found.seeds) == {1, 2}
    mean = sum(found.seeds[seed]["sid"]["HR@10"].difference for seed in (1, 2)) / 2
    assert found.protocols["sid"]["HR@10"].difference == pytest.approx(mean)


def test_other_data_is_refused_and_other_sids_leave_the_item_protocol(tiny, pair, tmp_path):
    weak, _ = pair
    odd = Record(weak.content | {"fingerprints": {**weak.content["fingerprints"], "data": "0" * 64}}, weak.place)
    with pytest.raises(BenchError, match="run on different data"):
        compare.compare(system(weak), system(odd), None)
    other = make_record(tmp_path, tiny, "own", semantic_ids=SemanticIds(tiny.given.codes[:, ::-1].copy(), "rqkmeans"))
    found = compare.compare(system(weak), system(other), None)
    assert list(found.protocols) == ["item"] and "semantic IDs differ" in found.left_out[0]


def test_the_command_compares_runs_stages_and_folders_of_seeds(tiny, tmp_path):
    one, two = (make_run(tmp_path, tiny, seed=seed) for seed in (1, 2))
    done = bench("compare", f"{one}:sft", f"{one}:grpo")
    assert done.exit_code == 0, done.output
    assert "# model against model sft" in done.output and "Not compared: segments" not in done.output
    done = bench("compare", f"{one.parent}:sft", one.parent, "--output", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["seeds of the first"] == [1, 2] and set(content["by seed"]) == {"1", "2"}
    assert two.name not in content["first"]


def test_a_chosen_family_of_metrics_is_corrected_by_itself(tiny, pair):
    every = compare.compare(*map(system, pair), None)
    two = compare.compare(*map(system, pair), None, only=["HR@10", "NDCG@10"])
    assert list(two.protocols["sid"]) == ["HR@10", "NDCG@10"]
    assert two.protocols["sid"]["HR@10"].corrected < every.protocols["sid"]["HR@10"].corrected
    assert two.protocols["sid"]["HR@10"].p == pytest.approx(every.protocols["sid"]["HR@10"].p, abs=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere", "nowhere"), "does not exist"),
        (("{run}", "{run}:sftt"), "did you mean sft?"),
        (("{run}", "{run}", "--output", "x.pdf"), "ends in .json or .md"),
        (("{root}", "{run}"), "several recipes"),
        (("{run}", "{run}:sft", "--metric", "NDGC@10"), "did you mean NDCG@10"),
    ],
)
def test_bad_input_is_one_line(tiny, tmp_path, words, message):
    run = make_run(tmp_path, tiny)
    make_run(tmp_path, tiny, settings={"rate": 2})
    done = bench("compare", *(word.format(run=run, root=run.parent) for word in words))
    assert done.exit_code == 2 and message in done.output and done.output.count("\n") == 1, done.output
