"""Checkpoints of a fine-tuning stage: which is the newest whole one, which is the best, and what is kept at the end."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import TrainerCallback

from harness.checks.schemas import Finite
from harness.components import Context
from harness.errors import BenchError
from harness.files import read_json, write_json, write_text
from harness.language.models import load_model, save_model, set_sid_softmax, sid_softmax
from harness.world import world

CHECKPOINTS = "checkpoints"

START = "start.json"

STATE = "trainer_state.json"

SEAL = "whole.json"
"""Size and CRC-32 of each file of a checkpoint, written last."""

DAMAGED = "damaged-checkpoint"


def latest_checkpoint(directory: Path, say: Callable[[str], None] = lambda line: None) -> str | None:
    """The newest whole checkpoint of a stage directory, the best one that it names whole too.

    A damaged one (a kill while saving, a power cut) is set aside as ``damaged-checkpoint``, and the one before counts.
    The record of the best checkpoint is made to point into this directory, which may have been copied from another run.

    Args:
        say: told in one line of each that is set aside.
    """
    folder = directory / CHECKPOINTS
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rsplit("-", 1)[1].isdecimal()]
    newest = None
    for path in sorted(numbered, key=lambda p: int(p.name.rsplit("-", 1)[1]), reverse=True):
        try:
            state = check_whole(path)
            best = state.get("best_model_checkpoint")
            if best and Path(best).parent != folder:
                state["best_model_checkpoint"] = best = str(folder / Path(best).name)
                write_text(path / STATE, json.dumps(state, indent=2))
                seal(path)
            if best and Path(best) != path:
                check_whole(Path(best))
        except ValueError as error:
            shutil.rmtree(folder / DAMAGED, ignore_errors=True)
            path.rename(folder / DAMAGED)
            say(f"{path} is damaged ({error}); it is set aside as {DAMAGED}, and the one before is used")
            continue
        newest = newest or path
    return str(newest) if newest else None


def seal(path: Path) -> None:
    """Note size and CRC-32 of a checkpoint's files, when all of them are written."""
    parts = [part for part in sorted(path.rglob("*")) if part.is_file() and part.name != SEAL]
    write_json(path / SEAL, {part.relative_to(path).as_posix(): [part.stat().st_size, _crc(part)] for part in parts})


def check_whole(path: Path) -> dict[str, Any]:
    """The trainer's state of a checkpoint whose files are all as they were written.

    One without a seal (of an older version, or of a kill just before it) is held to its files' own forms.

    Raises:
        ValueError: a file is missing, cut, empty or otherwise not what was written; names it.
    """
    try:
        sealed = read_json(path / SEAL) if (path / SEAL).exists() else None
        state = read_json(path / STATE)
    except BenchError as error:
        raise ValueError(error.message.partition(";")[0]) from None
    if not isinstance(state, dict) or type(state.get("global_step")) is not int:
        raise ValueError(f"{STATE} holds no state of a trainer")
    if isinstance(sealed, dict):
        for name, noted in sealed.items():
            part = path / name
            if not part.is_file() or [part.stat().st_size, _crc(part)] != noted:
                raise ValueError(f"{name} is {'not what was written' if part.is_file() else 'missing'}")
        return state
    tensors, archives = sorted(path.glob("*.safetensors")), sorted({*path.glob("*.pt"), *path.glob("*.pth")})
    missing = {"optimizer.pt", "scheduler.pt"} - {part.name for part in archives}
    if missing or not tensors:
        raise ValueError(f"{', '.join(sorted(missing)) or 'model.safetensors'} is missing")
    for part in [*tensors, *archives]:
        try:
            if part in tensors:
                with safe_open(part, "pt"):
                    continue
            with zipfile.ZipFile(part) as archive:
                if archive.testzip() is not None:
                    raise ValueError("an entry is damaged")
        except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
            raise ValueError(f"{part.name}: {' '.join(str(error).split())[:80]}") from None
    return state


def _crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(2**22):
            value = zlib.crc32(block, value)
    return value


class Sealing(TrainerCallback):
    """Seals each checkpoint when all of its files are written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The checkpoint of this step."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        world.wait()  # until all have written their part
        world.once(lambda: seal(path) if path.is_dir() else None)


def start_metric(context: Context, model: Any, select: str) -> dict[str, float]:
    """The probe before the first step of a stage, kept so that a resumed stage compares with the same number."""
    path = context.directory / START
    if not world.once(path.exists):
        numbers = context.probe(model)
        context.log({f"eval_{name}": value for name, value in numbers.items()} | {"epoch": 0.0}, 0)
        world.once(lambda: write_json(path, numbers))
    mend = "delete it, and the same command makes it again"
    start: dict[str, float] = read_json(path, mend, dict[str, Finite])
    if select not in start:
        raise BenchError(f"{path}: '{select}' is missing; {mend}")
    return start


def keep_best(
    trainer: Any, text_tokenizer: Any, context: Context, start: dict[str, float] | None, select: str
) -> dict[str, Any]:
    """Leave the best model by valid, be it the one that the stage started from; returns facts for the record.

    `start` is the probe of that one (:func:`start_metric`); None: it is no candidate.
    """
    state = trainer.state
    better = start is None or (state.best_metric is not None and state.best_metric >= start[select])
    policy = trainer.accelerator.unwrap_model(trainer.model)
    if not better:
        assert context.previous is not None  # a stage that may end where it started has one before it
        softmax = sid_softmax(policy)  # the start was probed under the stage's own
        policy, _ = load_model(context.previous, "cpu", context.backbone)
        set_sid_softmax(policy, softmax)
    world.once(lambda: save_model(policy, text_tokenizer, context.directory))
    world.wait()  # all have read the best one
    world.once(lambda: prune_checkpoints(context.directory))
    facts = {
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 3),
        "best step": state.best_global_step if better else 0,
    }
    if start is None:
        return facts | {f"best valid {select}": state.best_metric}
    return facts | {
        f"start valid {select}": start[select],
        f"best valid {select}": max(start[select], state.best_metric or 0.0),
    }


def prune_checkpoints(directory: Path) -> None:
    """Keep the newest and the best checkpoint of a finished stage: what a continuation needs."""
    newest = latest_checkpoint(directory)
    if newest is None:
        return
    best = read_json(Path(newest) / STATE).get("best_model_checkpoint")
    shutil.rmtree(directory / CHECKPOINTS / DAMAGED, ignore_errors=True)
    for path in (directory / CHECKPOINTS).glob("checkpoint-*"):
        if str(path) not in (newest, best):
            shutil.rmtree(path)
