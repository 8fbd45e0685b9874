"""Target ranks: the metrics follow from them, and their file form keeps them."""

import numpy as np
import pytest

from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.evaluation.target_ranks import TargetRanks
from tests.recorded import skilled


@pytest.mark.parametrize("protocol", ["sid", "item"])
@pytest.mark.parametrize("kind", ["sid", "item"])
def test_the_file_form_gives_the_same_metrics(tiny, protocol, kind):
    rankings = skilled(tiny, tiny.given, 0.4, 1, kind)
    ranks = TargetRanks.of(rankings, tiny.test.targets, tiny.given, protocol)
    again = TargetRanks.decode(ranks.encode())
    assert again.means() == ranks.means()
    assert np.array_equal(again.before, ranks.before) and np.array_equal(again.group, ranks.group)
    assert 0.2 < ranks.means()["HR@10"] < 0.9
    if (protocol, kind) == ("item", "sid"):
        assert (ranks.group > 1).any()


def test_a_damaged_file_form_is_one_line(tiny):
    encoded = TargetRanks.of(skilled(tiny, tiny.given, 0.4, 1), tiny.test.targets, tiny.given, "item").encode()
    for broken in ({}, encoded | {"before": "no"}, encoded | {"group": encoded["before"]}, encoded | {"most": None}):
        with pytest.raises(BenchError, match="damaged"):
            TargetRanks.decode(broken)


def test_canonical_order_is_that_of_the_samples_whatever_the_file_s(tiny):
    rng = np.random.default_rng(0)
    shuffled = tiny.test.take(rng.permutation(len(tiny.test)))
    assert isinstance(shuffled, Samples)
    for column in ("users", "targets"):
        ours, theirs = (getattr(s, column)[s.order] for s in (tiny.test, shuffled))
        assert np.array_equal(ours, theirs)
    assert np.array_equal(tiny.test.canonical(), shuffled.canonical())
