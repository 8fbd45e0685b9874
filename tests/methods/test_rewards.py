import numpy as np
import pytest
import torch

from plugins.minionerec.rewards import advantages, position, ranking, ranking_only, rule, weighted

G = 16
TARGET = torch.tensor([[1, 2, 3]])


def group(hit_at=None):
    """16 distinct misses that share no level with the target, and the target at a rank."""
    codes = torch.stack([torch.tensor([10 + i, 20 + i, 30 + i]) for i in range(G)])[None]
    if hit_at is not None:
        codes[0, hit_at] = TARGET[0]
    return codes


def test_penalties_are_those_of_the_published_code():
    thousandths = [164, 103, 82, 71, 63, 58, 55, 52, 49, 47, 46, 44, 43, 42, 41]
    published = np.array(thousandths) / 1000
    found = -ranking_only(group(hit_at=15), TARGET)[0]
    np.testing.assert_allclose(found[:15], published, atol=6e-4)
    assert found[15] == 0


def test_a_group_without_the_target_gets_nothing():
    for reward in (rule, ranking, ranking_only):
        assert (reward(group(), TARGET) == 0).all()
        assert (advantages(reward(group(), TARGET)) == 0).all()


@pytest.mark.parametrize(("hit", "expected"), [(0, 3.741), (4, 3.722), (15, 3.723)])
def test_advantages_are_those_of_the_specification(hit, expected):
    found = advantages(ranking(group(hit), TARGET))[0]
    assert float(found[hit]) == pytest.approx(expected, abs=2e-3)
    assert found.sum().abs() < 1e-3
    plain = advantages(rule(group(hit), TARGET))[0]
    assert float(plain[hit]) == pytest.approx(3.749, abs=2e-3)
    assert float(plain[(hit + 1) % G]) == pytest.approx(-0.250, abs=1e-3)


def test_position_counts_leading_levels():
    codes = torch.tensor([[[1, 2, 3], [1, 2, 9], [1, 9, 3], [9, 2, 3]]])
    assert position(codes, TARGET).tolist() == [[3.0, 2.0, 1.0, 0.0]]


def test_weights_sum_rewards():
    both = weighted({"rule": 2.0, "position": 0.5})
    codes = torch.tensor([[[1, 2, 3], [1, 9, 9]]])
    assert both(codes, TARGET).tolist() == [[3.5, 0.5]]
