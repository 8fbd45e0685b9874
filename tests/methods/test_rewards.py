import numpy as np
import pytest
import torch

from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.language.rewards import Groups, Rewards
from harness.runs.config import resolve
from harness.runs.parts import BuiltParts
from plugins.minionerec.advantages import group_advantages, sibling_advantages
from plugins.minionerec.published_rewards import best_of_sid, position, ranking, ranking_only, rule

G = 16
MISSES = [[10 + i, 20 + i, 30 + i] for i in range(G)]
SIDS = SemanticIds(np.array([[1, 2, 3], *MISSES], dtype=np.int32), "test")
ROW = {tuple(sid): row for row, sid in enumerate(SIDS.distinct.tolist())}
TARGET = ROW[1, 2, 3]


def group(hit_at=None):
    """16 distinct misses that share no level with the target, and the target at a rank."""
    completions = [ROW[tuple(sid)] for sid in MISSES]
    if hit_at is not None:
        completions[hit_at] = TARGET
    return Groups(torch.tensor([completions]), torch.tensor([TARGET]), [0], [[1, 2]], ["prompt"], SIDS)


def test_penalties_are_those_of_the_published_code():
    thousandths = [164, 103, 82, 71, 63, 58, 55, 52, 49, 47, 46, 44, 43, 42, 41]
    published = np.array(thousandths) / 1000
    found = -ranking_only(group(hit_at=15))[0]
    np.testing.assert_allclose(found[:15], published, atol=6e-4)
    assert found[15] == 0


def test_a_group_without_the_target_gets_nothing():
    for reward in (rule, ranking, ranking_only):
        assert (reward(group()) == 0).all()
        assert (group_advantages(reward(group())) == 0).all()


@pytest.mark.parametrize(("hit", "expected"), [(0, 3.741), (4, 3.722), (15, 3.723)])
def test_advantages_are_those_of_the_specification(hit, expected):
    found = group_advantages(ranking(group(hit)))[0]
    assert float(found[hit]) == pytest.approx(expected, abs=2e-3)
    assert found.sum().abs() < 1e-3
    plain = group_advantages(rule(group(hit)))[0]
    assert float(plain[hit]) == pytest.approx(3.749, abs=2e-3)
    assert float(plain[(hit + 1) % G]) == pytest.approx(-0.250, abs=1e-3)


def test_position_counts_leading_levels():
    sids = SemanticIds(np.array([[1, 2, 3], [1, 2, 9], [1, 9, 3], [9, 2, 3]], dtype=np.int32), "test")
    rows = [sids.distinct.tolist().index(sid) for sid in ([1, 2, 3], [1, 2, 9], [1, 9, 3], [9, 2, 3])]
    found = position(Groups(torch.tensor([rows]), torch.tensor([rows[0]]), [0], [[0]], [""], sids))
    assert found.tolist() == [[3.0, 2.0, 1.0, 0.0]]


def test_weights_sum_rewards_and_settings_stand_beside_them(plugins):
    both = Rewards({"rule": 2.0, "position": {"weight": 0.5}}, {"rule": rule, "position": position}, "grpo.rewards")
    parts = both(group(hit_at=3), 1)
    assert parts["rule"][0, 3] == 2.0
    assert parts["position"][0, 3] == 1.5
    with pytest.raises(BenchError, match="names no reward"):
        Rewards({}, {}, "grpo.rewards")
    for wanted, said in (
        ("{rule: {temperature: 1}}", "grpo.rewards.rule: this reward has no settings but its weight"),
        ("{rankin: 1}", "unknown reward 'rankin'; did you mean ranking"),
        ("cf", "reward cf needs a run"),
    ):
        with pytest.raises(BenchError, match=said):
            config = resolve(plugins.get("method", "minionerec"), "-", 1, [f"grpo.rewards={wanted}"], plugins)
            BuiltParts.of(config.stages[-1], plugins, "")


def test_a_broken_reward_is_one_line_with_step_name_and_sample():
    def fails_on_one(groups):
        if 7 in groups.items:
            raise ValueError("no such item")
        return groups.hits.float()

    two = Groups(
        group(2).completions.repeat(2, 1), torch.tensor([TARGET, TARGET]), [0, 7], [[1], [2]], ["first", "second"], SIDS
    )
    broken = {
        "raises": (fails_on_one, r"step 5: reward raises fails with ValueError: no such item .* 7, prompt 'second'"),
        "nan": (lambda g: g.hits.float() / 0, r"step 5: reward nan is (nan|inf) at completion 0 .*item 0"),
        "flat": (lambda g: torch.zeros(len(g)), r"step 5: reward flat gave shape \(2,\), it must give .* \(2, 16\)"),
        "none": (lambda g: None, r"step 5: reward none gave NoneType"),
    }  # fmt: skip
    for name, (function, message) in broken.items():
        with pytest.raises(BenchError, match=message):
            Rewards({name: 1.0}, {name: function}, "grpo.rewards")(two, 5)


def test_a_shared_sid_has_the_score_of_its_best_item():
    sids = SemanticIds(np.array([[1, 1], [1, 1], [2, 2]], dtype=np.int32), "test")
    groups = Groups(torch.tensor([[0, 1]]), torch.tensor([0]), [0], [[2]], [""], sids)
    assert best_of_sid(torch.tensor([[1.0, 5.0, 3.0]]), groups).tolist() == [[5.0, 3.0]]


def test_equal_rewards_have_no_advantage_whatever_they_round_to():
    rewards = torch.tensor([[0.1] * 7, [0.3] * 7])
    assert (group_advantages(rewards) == 0).all()
    codes = torch.randint(0, 3, (2, 7, 3), generator=torch.Generator().manual_seed(0))
    assert (sibling_advantages(rewards, codes) == 0).all()


def slow_sibling_advantages(rewards, codes):
    """By the words of the specification, one completion at a time."""
    total = np.zeros(rewards.shape)
    for p, (group_rewards, group_codes) in enumerate(zip(rewards, codes, strict=True)):
        for depth in range(codes.shape[2]):
            parents = {}
            for i, code in enumerate(group_codes.tolist()):
                parents.setdefault(tuple(code[:depth]), {}).setdefault(code[depth], []).append(i)
            for children in parents.values():
                if len(children) < 2:
                    continue
                scores = {
                    child: float(np.mean([group_rewards[i] for i in members])) for child, members in children.items()
                }
                mean, std = np.mean(list(scores.values())), np.std(list(scores.values()), ddof=1)
                for child, members in children.items():
                    for i in members:
                        total[p, i] += (scores[child] - mean) / (std + 1e-4)
    return total / codes.shape[2]


def test_sibling_advantages_are_those_of_the_specification():
    rng = np.random.default_rng(0)
    codes, rewards = rng.integers(0, 3, (5, 12, 3)), rng.random((5, 12)).round(1)
    found = sibling_advantages(torch.tensor(rewards), torch.tensor(codes))
    np.testing.assert_allclose(found, slow_sibling_advantages(rewards, codes), atol=1e-6)
    assert (sibling_advantages(torch.ones(1, 4), torch.zeros(1, 4, 3)) == 0).all()
