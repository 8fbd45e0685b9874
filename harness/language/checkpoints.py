"""Checkpoints of a fine-tuning stage: which is the newest whole one, which is the best, and what is kept at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from harness.components import Context
from harness.files import read_json, write_json
from harness.language.models import load_model, save_model, set_sid_softmax, sid_softmax

CHECKPOINTS = "checkpoints"

START = "start.json"

STATE = "trainer_state.json"


def latest_checkpoint(directory: Path) -> str | None:
    """The newest whole checkpoint of a stage directory; broken ones (a kill while saving) are removed.

    Its record of the best checkpoint is made to point into this directory, which may have been
    copied from another run.
    """
    folder = directory / CHECKPOINTS
    newest_first = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]), reverse=True)
    newest = None
    for path in newest_first:
        state_file = path / STATE
        try:  # the state is written last: a checkpoint that has it is whole
            state = json.loads(state_file.read_text())
            torch.load(path / "scheduler.pt", weights_only=True)
        except (OSError, ValueError, RuntimeError):
            shutil.rmtree(path)
            continue
        newest = newest or path
        best = state.get("best_model_checkpoint")
        if best and Path(best).parent != folder:
            state["best_model_checkpoint"] = str(folder / Path(best).name)
            state_file.write_text(json.dumps(state, indent=2))
    return str(newest) if newest else None


def start_metric(context: Context, model: Any) -> dict[str, float]:
    """The probe before the first step of a stage, kept so that a resumed stage compares with the same number."""
    path = context.directory / START
    if not path.exists():
        numbers = context.probe(model)
        context.log({f"eval_{name}": value for name, value in numbers.items()} | {"epoch": 0.0}, 0)
        write_json(path, numbers)
    start: dict[str, float] = read_json(path)
    return start


def keep_best(
    trainer: Any, text_tokenizer: Any, context: Context, start: dict[str, float], select: str
) -> dict[str, Any]:
    """Leave the best model by valid, be it the one that the stage started from; returns facts for the record."""
    state = trainer.state
    better = state.best_metric is not None and state.best_metric >= start[select]
    policy = trainer.accelerator.unwrap_model(trainer.model)
    if not better:
        assert context.previous is not None  # a stage that may end where it started has one before it
        softmax = sid_softmax(policy)  # the start was probed under the stage's own
        policy, _ = load_model(context.previous, "cpu", context.backbone)
        set_sid_softmax(policy, softmax)
    save_model(policy, text_tokenizer, context.directory)
    prune_checkpoints(context.directory)
    return {
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 3),
        "best step": state.best_global_step if better else 0,
        f"start valid {select}": start[select],
        f"best valid {select}": max(start[select], state.best_metric or 0.0),
    }


def prune_checkpoints(directory: Path) -> None:
    """Keep the newest and the best checkpoint of a finished stage: what a continuation needs."""
    newest = latest_checkpoint(directory)
    if newest is None:
        return
    best = json.loads((Path(newest) / STATE).read_text()).get("best_model_checkpoint")
    for path in (directory / CHECKPOINTS).glob("checkpoint-*"):
        if str(path) not in (newest, best):
            shutil.rmtree(path)
