import numpy as np
import pytest

from harness.evaluation.statistics import bootstrap, holm, paired, randomisation, significance


def test_intervals_are_those_of_the_normal_law_for_many_samples():
    rng = np.random.default_rng(0)
    hits = (rng.random((4000, 2)) < [0.13, 0.5]).astype(float)
    found = bootstrap(hits)
    means, errors = hits.mean(0), hits.std(0) / np.sqrt(4000)
    np.testing.assert_allclose(found[:, 0], means - 1.96 * errors, atol=0.15 * errors.max())
    np.testing.assert_allclose(found[:, 1], means + 1.96 * errors, atol=0.15 * errors.max())


def test_they_hold_the_true_mean_as_often_as_they_say():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        low, high = bootstrap((rng.random((300, 1)) < 0.2).astype(float), resamples=400)[0]
        inside += low <= 0.2 <= high
    assert 0.89 <= inside / 200 <= 0.99


def test_they_are_repeatable_and_a_constant_has_none():
    values = np.random.default_rng(2).random((100, 3))
    assert np.array_equal(bootstrap(values), bootstrap(values))
    assert np.allclose(bootstrap(np.ones((50, 1))), 1.0)
    assert np.isnan(bootstrap(np.empty((0, 2)))).all()


def test_equal_samples_are_drawn_as_kinds_with_the_same_law():
    """Few kinds of samples take the multinomial way; telling every sample apart takes the other one."""
    rng = np.random.default_rng(3)
    hits = (rng.random((3000, 1)) < 0.1).astype(float)
    apart = hits + 1e-9 * rng.random((3000, 1))
    np.testing.assert_allclose(bootstrap(hits, resamples=10_000), bootstrap(apart, resamples=10_000), atol=5e-4)


def test_the_randomisation_test_of_few_samples_is_the_exact_one():
    """All 2^n sign patterns of six samples, counted."""
    change = np.array([0.5, 0.3, 0.2, -0.1, 0.4, 0.0])
    moved = change[change != 0]
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(moved))).reshape(len(moved), -1)
    exact = (np.abs(signs.T @ moved) >= abs(moved.sum()) - 1e-12).mean()
    assert randomisation(change[:, None], flips=50_000)[0] == pytest.approx(exact, abs=0.01)
    assert randomisation(np.zeros((9, 2))).tolist() == [1, 1]


def test_its_normal_limit_agrees_with_the_draws():
    rng = np.random.default_rng(4)
    change = rng.choice([-1.0, 0.0, 1.0], p=[0.09, 0.8, 0.11], size=(4000, 1))
    assert significance(change)[0] == pytest.approx(randomisation(change)[0], abs=0.01)
    few = np.zeros((4000, 1))
    few[:5] = 1.0  # five wins and no loss: p is 2/32, not what the normal law says
    assert significance(few)[0] == pytest.approx(2 / 32, abs=0.01)


def test_its_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(5)
    p = [randomisation(rng.normal(size=(60, 1)), flips=400, seed=seed)[0] for seed in range(300)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_holm_is_the_textbook_s():
    """The worked example of Holm's procedure with four p-values."""
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])


def test_a_paired_comparison_counts_and_corrects():
    first = {"a": np.array([0.0, 1.0, 0.0, 1.0] * 50), "b": np.zeros(200)}
    second = {"a": np.array([1.0, 1.0, 0.0, 0.0] * 50), "b": np.tile([1.0, 0, 0, 0], 50), "c": np.ones(200)}
    found = paired(first, second)
    assert list(found) == ["a", "b"]
    assert (found["a"].wins, found["a"].losses, found["a"].ties) == (50, 50, 100)
    assert found["a"].difference == 0 and found["a"].p > 0.5
    assert found["b"].difference == 0.25 and found["b"].low < 0.25 < found["b"].high
    assert found["b"].p == pytest.approx(1 / 10_001) and found["b"].corrected == pytest.approx(2 / 10_001)
