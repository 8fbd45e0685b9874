import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.errors import BenchError
from harness.item_models import full_softmax, losses
from harness.item_models.losses import Output

N, D = 12, 6


def output(**settings):
    torch.manual_seed(0)
    return Output(nn.Embedding(N + 1, D), **settings)


def batch(n=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, D, generator=generator), torch.randint(N, (n,), generator=generator)


@pytest.mark.parametrize("settings", [{}, {"bias": True}, {"temperature": 0.1}])
def test_scores_of_some_items_are_those_of_all(settings):
    head = output(**settings)
    states, _ = batch()
    items = torch.tensor([[0, 3], [1, 1], [11, 2], [5, 6], [7, 8]])
    torch.testing.assert_close(head(states, items), head(states).gather(1, items))
    assert head(states).shape == (5, N)  # padding has no score


def test_the_full_loss_is_cross_entropy_and_starts_at_log_n():
    head = output()
    states, targets = batch()
    expected = functional.cross_entropy(states @ head.embedding.weight[:N].T, targets)
    torch.testing.assert_close(losses.loss("full", head, states, targets), expected)
    assert float(losses.loss("full", head, torch.zeros(5, D), targets)) == pytest.approx(math.log(N))


@pytest.mark.parametrize("rows", [16, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("settings", [{}, {"bias": True}, {"temperature": 0.1}])
def test_the_loss_in_place_has_the_usual_value_and_gradients(monkeypatch, settings, smoothing, rows):
    monkeypatch.setattr(full_softmax, "PIECE", rows * N)
    head = output(**settings).double()
    if head.bias is not None:
        nn.init.normal_(head.bias)
    states, targets = batch(45)
    states = (states.double() * 3).requires_grad_()
    found = []
    for value in (
        3 * head.cross_entropy(states, targets, smoothing),
        3 * functional.cross_entropy(head(states), targets, label_smoothing=smoothing),
    ):
        states.grad = None
        head.zero_grad()
        value.backward()
        found.append([value.detach(), states.grad, *(p.grad for p in head.parameters())])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_the_loss_in_place_stands_far_scores_and_frozen_weights():
    head = output()
    nn.init.normal_(head.embedding.weight, std=300.0)
    states, targets = batch()
    expected = functional.cross_entropy(head(states), targets)
    torch.testing.assert_close(head.cross_entropy(states, targets), expected)
    with torch.no_grad():
        torch.testing.assert_close(head.cross_entropy(states, targets), expected)
    head.embedding.requires_grad_(False)
    states.requires_grad_()
    head.cross_entropy(states, targets).backward()
    assert states.grad.isfinite().all() and head.embedding.weight.grad is None


def test_the_loss_in_place_holds_no_table_of_scores():
    head = Output(nn.Embedding(40_001, 8))
    states, targets = torch.randn(512, 8, requires_grad=True), torch.randint(40_000, (512,))
    with torch.profiler.profile(profile_memory=True) as profile:
        head.cross_entropy(states, targets).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest <= 4 * max(full_softmax.PIECE, 2 * 40_001 * 8)


def test_scores_of_ones_own_are_those_that_the_loss_is_of():
    class Doubled(Output):
        def forward(self, states, items=None):
            return 2 * super().forward(states, items)

    torch.manual_seed(0)
    head, (states, targets) = Doubled(nn.Embedding(N + 1, D)), batch()
    expected = functional.cross_entropy(2 * (states @ head.embedding.weight[:N].T), targets)
    torch.testing.assert_close(losses.loss("full", head, states, targets), expected)
    half = states.bfloat16()
    assert losses.loss("full", output().bfloat16(), half, targets).dtype == torch.bfloat16


def test_negatives_are_uniform_and_never_the_target():
    torch.manual_seed(0)
    targets = torch.tensor([0, 5, 11])
    drawn = losses.draw_negatives(targets, 6000, N)
    assert (drawn != targets[:, None]).all()
    for row, target in zip(drawn, targets.tolist(), strict=True):
        share = torch.bincount(row, minlength=N) / 6000
        assert share[target] == 0
        others = torch.arange(N) != target
        assert (share[others] - 1 / (N - 1)).abs().max() < 0.02
    with pytest.raises(BenchError, match="two items"):
        losses.draw_negatives(torch.tensor([0]), 1, 1)


def test_gbce_without_calibration_is_the_mean_binary_cross_entropy():
    positive, negative = torch.randn(4, 1), torch.randn(4, 7)
    labels = torch.cat([torch.ones(4, 1), torch.zeros(4, 7)], 1)
    expected = functional.binary_cross_entropy_with_logits(torch.cat([positive, negative], 1), labels)
    assert losses.calibrated(7, N, 0.0) == pytest.approx(1.0)
    torch.testing.assert_close(losses.gbce(positive, negative, 1.0), expected)


def test_gbce_is_the_papers_transform_of_the_positive_score():
    """β · log σ(s) = log σ(γ(s)) with γ(s) = −log(σ(s)^−β − 1), in float64."""
    positive, negative = torch.randn(4, 1, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    beta = losses.calibrated(256, 3686, 0.75)
    assert beta == pytest.approx(0.302, abs=1e-3)
    assert losses.calibrated(256, 3686, 1.0) == pytest.approx(256 / 3685)
    moved = -torch.log(torch.sigmoid(positive) ** -beta - 1)
    torch.testing.assert_close(losses.gbce(positive, negative, beta), losses.gbce(moved, negative, 1.0))


def test_bpr_max_with_one_negative_is_bpr_with_a_penalty():
    positive, negative = torch.randn(4, 1), torch.randn(4, 1)
    expected = (-functional.logsigmoid(positive - negative) + negative**2).mean()
    torch.testing.assert_close(losses.bpr_max(positive, negative), expected)


def test_top1_max_weighs_negatives_by_their_softmax():
    positive, negative = torch.randn(3, 1), torch.randn(3, 5)
    expected = 0.0
    for i in range(3):
        weight = negative[i].softmax(0)
        for j in range(5):
            s = negative[i, j]
            expected += float(weight[j] * (torch.sigmoid(s - positive[i, 0]) + torch.sigmoid(s * s))) / 3
    assert float(losses.top1_max(positive, negative)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["full", "sampled", "bce", "gbce", "bpr-max", "top1-max"])
def test_minimising_any_of_them_ranks_the_target_first(name):
    torch.manual_seed(4)
    head = Output(nn.Embedding(N + 1, 16))
    states, targets = torch.zeros(5, 16, requires_grad=True), torch.tensor([0, 3, 3, 7, 11])
    optimiser = torch.optim.Adam([states], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        losses.loss(name, head, states, targets, negatives=4).backward()
        optimiser.step()
    assert torch.equal(head(states).argmax(1), targets)
