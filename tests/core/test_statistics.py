import numpy as np

from harness.statistics import bootstrap


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
