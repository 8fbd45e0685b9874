"""Draws from the trie against the exact distribution."""

import numpy as np
import pytest
import torch

from harness.decoding.exact import exact_search
from harness.decoding.generator import GenerativeModel
from harness.decoding.padding import pad_left
from harness.decoding.sampling import sample
from harness.decoding.trie import Trie

DRAWS = 4000


@pytest.fixture(scope="module")
def prompt(tiny_lm, tiny):
    model, text_tokenizer, prompts = tiny_lm
    generative = GenerativeModel(model, text_tokenizer, prompts.semantic_ids, prompts.next_sid)
    ids, mask = pad_left(generative.encode(tiny.test.take(np.array([0])).histories), generative.pad, "cpu")
    trie = Trie(generative.sid_tokens[:12])  # few leaves, so that frequencies are sharp
    return generative.model, ids, mask, trie


def distribution(prompt, temperature=1.0):
    """The probability of each leaf, by exact scoring at a temperature of 1."""
    model, ids, mask, trie = prompt
    assert temperature == 1.0
    exact = exact_search(model, ids, mask, trie, len(trie), renormalise=True)
    probability = torch.zeros(len(trie))
    probability[exact.leaves[0]] = exact.scores[0].exp()
    assert float(probability.sum()) == pytest.approx(1, abs=1e-4)
    return probability


def draw(prompt, n, distinct, times=1, temperature=1.0):
    model, ids, mask, trie = prompt
    generator = torch.Generator().manual_seed(0)
    many = (ids.expand(times, -1), mask.expand(times, -1))
    return sample(model, *many, trie, n, generator, temperature, distinct)


def test_independent_draws_have_the_models_frequencies(prompt):
    expected = distribution(prompt)
    found = draw(prompt, DRAWS, distinct=False)
    frequency = torch.bincount(found.leaves[0], minlength=len(expected)) / DRAWS
    error = (expected * (1 - expected) / DRAWS).sqrt()
    assert ((frequency - expected).abs() < 4.5 * error).all()
    torch.testing.assert_close(found.scores[0].exp(), expected[found.leaves[0]], atol=1e-4, rtol=0)


def test_distinct_draws_never_repeat_and_the_first_has_the_models_frequencies(prompt):
    """A draw of one without replacement is a draw; pairs have p_i p_j / (1 - p_i) summed over both orders."""
    expected = distribution(prompt)
    one = draw(prompt, 1, distinct=True, times=DRAWS).leaves[:, 0]
    frequency = torch.bincount(one, minlength=len(expected)) / DRAWS
    assert ((frequency - expected).abs() < 4.5 * (expected * (1 - expected) / DRAWS).sqrt()).all()
    two = draw(prompt, 2, distinct=True, times=DRAWS).leaves
    assert (two[:, 0] != two[:, 1]).all()
    pairs = torch.zeros(len(expected), len(expected))
    for a, b in two.tolist():
        pairs[min(a, b), max(a, b)] += 1 / DRAWS
    ordered = expected[:, None] * expected[None, :] / (1 - expected[:, None])
    unordered = (ordered + ordered.T).triu(1)
    assert ((pairs - unordered).abs() < 5 * (unordered / DRAWS).sqrt() + 1e-3).all()


def test_all_leaves_come_when_all_are_asked_for(prompt):
    _, _, _, trie = prompt
    found = draw(prompt, len(trie), distinct=True, times=3)
    assert found.leaves.sort(1).values.tolist() == [list(range(len(trie)))] * 3
    assert (found.scores.diff(dim=1) <= 0).all()


def test_a_low_temperature_draws_the_best(prompt):
    expected = distribution(prompt)
    found = draw(prompt, 50, distinct=False, temperature=0.001)
    assert (found.leaves[0] == expected.argmax()).float().mean() > 0.9


@pytest.mark.parametrize("n", [3, 6])
def test_weighted_draws_without_replacement_have_the_expectation_of_the_model(prompt, n):
    """Each weighs π/q: the sum over a group of weight · value has the mean of the value under π, whatever the value."""
    expected = distribution(prompt)
    found = draw(prompt, n, distinct=True, times=DRAWS)
    assert found.weights.shape == found.leaves.shape
    assert (found.weights == 0).sum(1).tolist() == [1] * DRAWS  # the one that is there for its score
    each = torch.zeros(DRAWS, len(expected)).scatter(1, found.leaves, found.weights)
    error = each.std(0) / DRAWS**0.5
    assert ((each.mean(0) - expected).abs() < 4.5 * error + 1e-4).all()
    plain = torch.zeros(DRAWS, len(expected)).scatter(1, found.leaves, 1 / n).mean(0)
    assert (plain - expected).abs().max() > 0.02  # without weights it is another one


def test_where_all_leaves_are_drawn_weights_are_probabilities(prompt):
    expected, (_, _, _, trie) = distribution(prompt), prompt
    found = draw(prompt, len(trie) + 3, distinct=True, times=2)
    there = found.leaves >= 0
    torch.testing.assert_close(found.weights[there], expected[found.leaves[there]], atol=1e-4, rtol=0)
    assert (found.weights[~there] == 0).all()
