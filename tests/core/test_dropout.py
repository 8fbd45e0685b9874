import pytest
import torch

from harness.networks.dropout import Dropout, dropout, replace_dropout


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_the_share_dropped_and_the_mean_are_what_they_should_be(rate):
    torch.manual_seed(0)
    values = torch.ones(400, 1003)
    found = dropout(values, rate, True)
    zero = (found == 0).float()
    assert zero.mean().item() == pytest.approx(rate, abs=1 / 512 + 0.003)
    assert found.mean().item() == pytest.approx(1, abs=0.02)
    assert len(found.unique()) == 2
    for start in range(8):  # no place of the eight bytes of a draw is dropped more often than another
        assert zero.flatten()[start::7].mean().item() == pytest.approx(rate, abs=1 / 512 + 0.006)
    pairs = (zero[:, 1:] * zero[:, :-1]).mean().item()
    assert pairs == pytest.approx(zero.mean().item() ** 2, abs=0.006)  # neighbours are independent


def test_it_is_off_in_evaluation_and_repeats_from_the_seed():
    values = torch.randn(50, 33)
    assert dropout(values, 0.5, False) is values
    assert dropout(values, 0.0, True) is values
    torch.manual_seed(1)
    first = dropout(values, 0.5, True)
    assert not torch.equal(first, dropout(values, 0.5, True))
    torch.manual_seed(1)
    assert torch.equal(first, dropout(values, 0.5, True))


def test_gradients_flow_where_values_do():
    values = torch.randn(20, 20, requires_grad=True)
    found = dropout(values, 0.4, True)
    found.sum().backward()
    assert torch.equal(values.grad == 0, found == 0)
    assert values.grad[values.grad != 0].unique().numel() == 1


def test_it_takes_the_place_of_torchs_everywhere_in_a_model():
    model = torch.nn.Sequential(
        torch.nn.Dropout(0.2), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.3))
    )
    replace_dropout(model)
    found = [m for m in model.modules() if isinstance(m, (Dropout, torch.nn.Dropout))]
    assert [type(m) for m in found] == [Dropout, Dropout]
    assert [m.rate for m in found] == [0.2, 0.3]
