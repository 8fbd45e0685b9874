"""A damaged newest checkpoint is set aside in one line, whatever is damaged how, and the one before is used."""

import shutil

import pytest
import torch

from harness.item_models import checkpoint
from harness.language.checkpoints import DAMAGED, SEAL, latest_checkpoint
from tests.campaign.world import _checkpoints

HARM = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "half zeroed": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "one bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "missing": None,
}
FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    _checkpoints(folder)
    return folder


def harm(path, how):
    path.unlink() if HARM[how] is None else path.write_bytes(HARM[how](path.read_bytes()))


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("name", FILES)
def test_of_a_fine_tuning(saved, tmp_path, name, how, sealed):
    shutil.copytree(saved / "checkpoints", tmp_path / "checkpoints")
    newest = tmp_path / "checkpoints/checkpoint-2"
    harm(newest / name, how)
    if not sealed:  # of an older version: a file is held to its own form, which half of its zeros may keep
        (newest / SEAL).unlink()
        if how in ("half zeroed", "one bit") or (name == "rng_state.pth" and how == "missing"):
            pytest.skip("only the seal tells")
    said = []
    assert latest_checkpoint(tmp_path, said.append) == str(tmp_path / "checkpoints/checkpoint-1")
    assert len(said) == 1 and "checkpoint-2 is damaged" in said[0] and name in said[0]
    assert (tmp_path / "checkpoints" / DAMAGED).is_dir() and not newest.exists()
    assert latest_checkpoint(tmp_path, said.append) == str(tmp_path / "checkpoints/checkpoint-1") and len(said) == 1


def test_a_best_checkpoint_that_is_damaged_takes_those_that_name_it_with_it(saved, tmp_path):
    import json

    from harness.language.checkpoints import seal

    shutil.copytree(saved / "checkpoints", tmp_path / "checkpoints")
    for step in (2, 3):
        path = tmp_path / f"checkpoints/checkpoint-{step}"
        if step == 3:
            shutil.copytree(tmp_path / "checkpoints/checkpoint-2", path)
            state = {"global_step": 3, "best_model_checkpoint": str(tmp_path / "checkpoints/checkpoint-2")}
            (path / "trainer_state.json").write_text(json.dumps(state))
            seal(path)
    harm(tmp_path / "checkpoints/checkpoint-2/model.safetensors", "empty")
    assert latest_checkpoint(tmp_path) == str(tmp_path / "checkpoints/checkpoint-1")


@pytest.mark.parametrize("how", HARM)
def test_of_the_training_loop(tmp_path, how):
    model = torch.nn.Linear(4, 3)
    optimiser = torch.optim.AdamW(model.parameters())
    for epoch in (1, 2):
        torch.nn.init.constant_(model.weight, float(epoch))
        checkpoint.save(tmp_path, model, optimiser, None, checkpoint.State(epoch=epoch))
    harm(tmp_path / checkpoint.CHECKPOINT, how)
    said = []
    state = checkpoint.resume(tmp_path, model, optimiser, None, said.append)
    assert state.epoch == 1 and float(model.weight.detach().mean()) == 1.0
    assert len(said) == (0 if how == "missing" else 1)


def test_with_none_left_the_stage_starts_from_its_own_beginning(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    checkpoint.save(tmp_path, model, optimiser, None, checkpoint.State(epoch=1))
    before = model.weight.detach().clone()
    harm(tmp_path / checkpoint.CHECKPOINT, "half zeroed")
    assert checkpoint.resume(tmp_path, model, optimiser, None) is None
    assert torch.equal(model.weight, before) and not (tmp_path / checkpoint.CHECKPOINT).exists()
