"""Rows held out of SFT for the stages after it, and the reward that reads what a user bought later."""

import json

import numpy as np
import pytest
import torch
import yaml

from harness.data.dataset import Samples
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.language.holdout import of_held_out
from harness.language.rewards import Groups
from plugins.embedders.together import Cooccurrence
from plugins.minionerec.later_purchases import Later, Settings, purchases_after
from tests.commands import bench_run, run_whole

TINY = ["dataset.items=60", "dataset.users=120", "backbone.hidden=32", "backbone.layers=1", "backbone.heads=2",
        "backbone.intermediate=48", "sft.epochs=1", "sft.eval_every=1", "sft.packed=false", "sft.tasks={next_sid: 1.0}",
        "decoder.beams=20", "probe.beams=10"]  # fmt: skip
GRPO = ["grpo.batch=64", "grpo.generations=4", "grpo.epochs=0.3", "grpo.eval_every=1"]


def chains(longest=3):
    """Two users' purchases in order, and one who buys once more of the same."""
    bought = {"a": [1, 2, 3, 4, 5, 6], "b": [1, 2, 7, 2], "c": [9, 9, 9, 9]}
    rows = [(user, items[:n], items[n]) for user, items in bought.items() for n in range(1, len(items))]
    users, histories, targets = zip(*rows, strict=True)
    return Samples.build(list(users), list(histories), list(targets), longest), bought


@pytest.fixture(scope="module")
def gru(tmp_path_factory):
    """A recorded run on the same data."""
    sets = [*TINY[:2], "gru4rec.epochs=1", "gru4rec.hidden=8"]
    return run_whole(tmp_path_factory.mktemp("gru"), "gru4rec", sets)[0]


def test_users_are_held_out_whole_and_the_draw_repeats(tiny):
    out = of_held_out(tiny.train, 0.25, 7)
    users = tiny.train.user_numbers
    assert {bool(out[users == user].all()) for user in set(users[out])} == {True}
    assert len(set(users[out])) == round(0.25 * (users.max() + 1))
    assert np.array_equal(out, of_held_out(tiny.train, 0.25, 7)) and not np.array_equal(
        out, of_held_out(tiny.train, 0.25, 8)
    )
    other = tiny.train.take(np.random.default_rng(0).permutation(len(users))).in_order()
    assert np.array_equal(of_held_out(other, 0.25, 7), out)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return run_whole(
        tmp_path_factory.mktemp("held-out"), "minionerec", [*TINY, *GRPO, "sft.holdout=0.3", "grpo.rows=held-out"]
    )


def test_sft_learns_from_the_rest_and_grpo_from_what_was_left(held_out):
    folder, stages = held_out
    total = json.loads((folder / "manifest.json").read_text())["rows"]["train"]
    sft, grpo = stages["sft"]["train"], stages["grpo"]["train"]
    assert sft["held-out rows"] == grpo["held-out rows"] == grpo["prompts"] > 0
    assert sft["rows"] == total - sft["held-out rows"]
    assert sft["held-out users"] == grpo["held-out users"]


def test_the_control_of_equal_steps_is_a_stage_of_sft_on_the_same_rows(held_out, tmp_path):
    recipe = {
        "name": "control", "base": "minionerec-sft",
        "stages": [
            {"name": "sft", "trainer": "minionerec-sft", "holdout": 0.3},
            {"name": "further", "trainer": "minionerec-sft", "rows": "held-out", "epochs": 1, "eval_every": 1},
        ],
    }  # fmt: skip
    (tmp_path / "control.yaml").write_text(yaml.safe_dump(recipe))
    _, stages = run_whole(tmp_path / "runs", tmp_path / "control.yaml", TINY)
    _, other = held_out
    assert stages["further"]["train"]["rows"] == other["grpo"]["train"]["prompts"]
    same = [*TINY, *GRPO, "sft.holdout=0.3", "grpo.rows=same"]
    _, stages = run_whole(tmp_path / "same", "minionerec", same)
    assert stages["grpo"]["train"]["prompts"] == stages["sft"]["train"]["rows"]


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["grpo.rows=held-out"], "grpo.rows = held-out: no stage before leaves rows; set its holdout"),
        (["sft.rows=same"], "sft.rows = same: no stage before leaves rows"),
        (["sft.holdout=0.001"], "sft.holdout = 0.001 of train's users leaves all of"),
        (["sft.holdout=0.999"], "leaves nothing of"),
        (["sft.holdout=0.02", "grpo.rows=held-out", "grpo.batch=4096"], "one step takes"),
        (["sft.holdout=0.3", "sft.start=run:{gru}"], "has learnt from all of train"),
        (["grpo.rows=others"], "grpo.rows = 'others'"),
        (["grpo.rewards=latr"], "did you mean later"),
    ],
)
def test_rows_that_cannot_be_are_one_line(sets, line, gru, tmp_path):
    done = bench_run(tmp_path, "minionerec", [*TINY, *GRPO, *(word.format(gru=gru) for word in sets)])
    assert done.exit_code == 2 and done.output.count("Error:") == 1 and line in done.output
    assert not list(tmp_path.glob("*/*/*/manifest.json"))


def test_nothing_of_the_held_out_rows_is_in_what_sft_starts_from(tmp_path, monkeypatch):
    seen, whole = set(), Cooccurrence.embed

    def embed(self, context):
        seen.add(len(context.train))
        return whole(self, context)

    monkeypatch.setattr(Cooccurrence, "embed", embed)
    _, stages = run_whole(tmp_path, "minionerec-sft", [*TINY, "sft.holdout=0.5", "sft.start=cooccurrence"])
    assert seen == {stages["sft"]["train"]["train rows"]}


def test_s_dpo_learns_from_the_held_out_rows_too(tmp_path):
    sets = [*TINY, "sft.holdout=0.3", "sdpo.rows=held-out", "sdpo.negatives=2", "sdpo.epochs=0.2", "sdpo.eval_every=1"]
    _, stages = run_whole(tmp_path, "sdpo", sets)
    assert stages["sdpo"]["train"]["rows"] == stages["sft"]["train"]["held-out rows"]


def test_what_was_bought_later_is_found_though_histories_are_cut():
    samples, bought = chains()
    found = purchases_after(samples, 2)
    for user, items in bought.items():
        for n in range(1, len(items)):
            history, target = tuple(items[max(0, n - 3) : n]), items[n]
            assert items[n + 1 : n + 3] in found[history, target], user
    assert len(found[(1,), 2]) == 2  # both users bought 2 after 1


def test_the_reward_of_what_was_bought_later(plugins):
    samples, _ = chains()
    sids = SemanticIds(np.arange(10, dtype=np.int32)[:, None])
    reward = Later(Settings(decay=0.5, reach=2))
    reward._after, reward._n_items = purchases_after(samples, 2), 10

    def of(history, item, completions):
        rows = torch.tensor([[int(sids.of_item[c]) for c in completions]])
        target = torch.tensor([int(sids.of_item[item])])
        return reward(Groups(rows, target, [item], [history], ["x"], sids))[0].tolist()

    assert of([1], 2, [2, 3, 4, 7, 5]) == [1, 0.25, 0.125, 0.25, 0]  # a goes on with 3, 4; b with 7, 2
    assert of([2, 3, 4], 5, [5, 6, 1]) == [1, 0.5, 0]
    assert of([8], 8, [8, 1]) == [1, 0]  # a prompt that no sample has: the target alone


def test_a_run_with_that_reward_and_nobody_who_buys_more(tmp_path, tiny, plugins):
    _, stages = run_whole(
        tmp_path, "minionerec", [*TINY, *GRPO, "grpo.rewards={rule: 1, later: {weight: 0.5, reach: 3}}"]
    )
    assert stages["grpo"]["train"]["prompts"] > 0
    once = Samples.build(["a", "b"], [[1], [2]], [3, 4], 5)
    context = type("Context", (), {"items": range(10), "train": once})()
    with pytest.raises(BenchError, match="no user of train buys anything after a target"):
        Later(Settings()).prepare(context)
