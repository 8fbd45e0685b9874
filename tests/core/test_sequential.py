"""The shared training loop: resume, repeat, early stopping, selection, bad ends."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from baselines.sasrec import SasRecTrainer, Settings
from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.item_models import loop
from harness.item_models.checkpoint import CHECKPOINT, MODEL
from harness.item_models.loop import LoopSettings, learning_rate, left_padded
from tests.baselines.test_networks import context, toy

SMALL = {"hidden": 16, "intermediate": 16, "blocks": 1, "batch": 32, "dropout": 0.3}


def fit(folder, interrupt=None, probe=None, seed=0, **settings):
    """Train on the toy set; `interrupt` raises in that epoch's log, as a kill after its checkpoint would."""
    given = context(toy(), 50, folder, seed)
    logged = {}

    def log(numbers, step):
        logged[step] = numbers
        if step == interrupt:
            raise KeyboardInterrupt

    given.log = log
    if probe:
        given.probe = probe
    trainer = SasRecTrainer(Settings(**{**SMALL, "epochs": 5, "patience": 0, **settings}))
    facts = trainer.fit(given)
    return facts, logged, trainer, given


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path, average):
    whole, logged, _, _ = fit(tmp_path / "whole", average=average)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", interrupt=2, average=average)
    assert (tmp_path / "cut" / CHECKPOINT).exists()
    assert not (tmp_path / "cut" / MODEL).exists()
    facts, rest, _, _ = fit(tmp_path / "cut", average=average)
    assert sorted(rest) == [3, 4, 5]
    assert {k: facts[k] for k in facts if "seconds" not in k} == {k: whole[k] for k in whole if "seconds" not in k}
    assert rest[4]["loss"] == logged[4]["loss"]
    assert (tmp_path / "cut" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    assert not (tmp_path / "cut" / CHECKPOINT).exists()


def test_one_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(tmp_path / name, seed=seed, epochs=2)
    a, b, c = ((tmp_path / name / MODEL).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_averaged_weights_are_the_running_average_of_every_step(tmp_path):
    decay, steps = 0.8, []
    _, _, trainer, given = fit(tmp_path / "a", epochs=2, average=decay)
    original = torch.optim.AdamW.step

    def step(self, *arguments, **named):
        result = original(self, *arguments, **named)
        steps.append([p.detach().clone() for group in self.param_groups for p in group["params"]])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        fit(tmp_path / "b", epochs=2)
    expected = steps[0]
    for values_ in steps[1:]:
        expected = [decay * e + (1 - decay) * v for e, v in zip(expected, values_, strict=True)]
    model = trainer.load(given).model
    found = [p for group in loop._groups(model, 0.0) for p in group["params"]]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.detach(), other, atol=1e-6, rtol=1e-5)


def values(*numbers):
    found = iter(numbers)
    return lambda model: {"NDCG@10": next(found)}


def test_training_stops_when_patience_runs_out_and_keeps_the_best(tmp_path):
    facts, _, trainer, given = fit(tmp_path / "a", probe=values(0.1, 0.3, 0.2, 0.25, 0.9), epochs=20, patience=2)
    assert (facts["epochs"], facts["best epoch"], facts["best valid NDCG@10"]) == (4, 2, 0.3)
    fit(tmp_path / "b", probe=values(0.1, 0.2), epochs=2)
    kept, other = load_file(tmp_path / "a" / MODEL), load_file(tmp_path / "b" / MODEL)
    assert kept.keys() == other.keys()
    assert all(torch.equal(kept[name], other[name]) for name in kept)
    assert np.isfinite(trainer.load(given).score(given.train.histories)).all()


def test_a_loss_that_is_no_number_names_the_mend_and_leaves_no_model(tmp_path):
    with pytest.raises(BenchError, match=r"learning rate 1e\+30; lower it"):
        fit(tmp_path, learning_rate=1e30, max_grad_norm=0)
    assert not (tmp_path / MODEL).exists()


def test_weights_of_another_model_are_refused_in_one_line(tmp_path):
    _, _, _, given = fit(tmp_path, epochs=1)
    wider = SasRecTrainer(Settings(**{**SMALL, "hidden": 32}))
    with pytest.raises(BenchError, match=r"does not fit the model"):
        wider.load(given)
    (tmp_path / MODEL).write_bytes(b"cut off")
    with pytest.raises(BenchError, match="cannot be loaded"):
        wider.load(given)


def test_histories_are_padded_on_the_left():
    histories = Samples.build(["u"] * 3, [[1, 2], [3], [4, 5, 6]], [0, 0, 0], 10).histories
    assert left_padded(histories, 9).tolist() == [[9, 1, 2], [9, 9, 3], [4, 5, 6]]


def test_the_learning_rate_warms_up_and_falls():
    settings = LoopSettings(learning_rate=1.0, schedule="cosine", warmup=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert learning_rate(LoopSettings(learning_rate=0.5), 7, 100) == 0.5


def test_weight_decay_spares_vectors():
    model = loop.seeded(lambda: SasRecTrainer(Settings(**SMALL)).build(20, 10), 0)
    matrices, vectors = loop._groups(model, 0.1)
    assert matrices["weight_decay"] == 0.1
    assert vectors["weight_decay"] == 0
    assert all(p.dim() == 1 for p in vectors["params"])
    assert len(matrices["params"]) + len(vectors["params"]) == len(list(model.parameters()))
