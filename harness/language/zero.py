"""DeepSpeed's ZeRO for the fine-tuning stages: which configuration a stage trains under, and what it may not say.

ZeRO-1 splits the optimiser's state among the processes, ZeRO-2 the gradients too (Rajbhandari et al. 2020,
arXiv:1910.02054). The engine is DeepSpeed's own, behind accelerate; here stands what our trainers need around it.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import Any

from harness import recipes
from harness.errors import BenchError, unknown
from harness.files import read_json, read_yaml
from harness.world import world

OURS = {
    "train_micro_batch_size_per_gpu": "batch", "gradient_accumulation_steps": "accumulation",
    "train_batch_size": "batch", "gradient_clipping": "max_grad_norm",
}  # fmt: skip
"""What the stage's settings say: a configuration leaves it out, or has "auto"."""
NOT_TAKEN = {
    "optimizer": "the optimiser is AdamW, by the stage's own settings",
    "scheduler": "the schedule is the stage's own",
    "fp16": "training is in float32 or bfloat16, by the stage's precision",
    "bf16": "the precision is the stage's own",
    "amp": "the precision is the stage's own",
    "torch_autocast": "the precision is the stage's own",
    "tensor_parallel": "a model is whole in each process",
    "elasticity": "the batch is the stage's own",
}
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
"""How one process names itself."""
KNOWN = (
    "zero_optimization", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "communication_data_type",
    "seq_parallel_communication_data_type", "prescale_gradients", "gradient_predivide_factor", "sparse_gradients",
    "data_types", "aio", "activation_checkpointing", "checkpoint", "steps_per_print", "wall_clock_breakdown",
    "memory_breakdown", "dump_state", "flops_profiler", "comms_logger",
)  # fmt: skip
"""What else a configuration may say; DeepSpeed itself passes over a key that it does not know."""


def configuration(asked: str, stage: str, device: str) -> dict[str, Any]:
    """The DeepSpeed configuration that a stage trains under.

    Args:
        asked: ``zero1``, ``zero2``, or the path of a JSON or YAML file.
        stage: the stage's name, for errors.
        device: what it trains on.

    Raises:
        BenchError: DeepSpeed is not installed, the file is none, or it says what the stage says or cannot do.
    """
    where = f"{stage}.deepspeed = {asked}"
    if importlib.util.find_spec("deepspeed") is None:
        raise BenchError(f"{where} needs DeepSpeed; pip install 'genrec-bench[deepspeed]'")
    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when it is imported
    if asked == "zero3":
        raise BenchError(f"{where}: {_no_zero3()}")
    path = recipes.deepspeed(asked)
    if not path.is_file():
        raise BenchError(f"{where} is no file; use zero1, zero2, or the path of a DeepSpeed configuration")
    found = content(path)
    for key, why in NOT_TAKEN.items():
        if key in found and not (isinstance(found[key], dict) and found[key].get("enabled") in (False, "auto")):
            raise BenchError(f"{path} has '{key}': {why}; delete it there")
    for key, setting in OURS.items():
        if found.get(key, "auto") != "auto":
            raise BenchError(f"{path} has {key} = {found[key]!r}; delete it there, and set {stage}.{setting}")
    for key in found:
        if key not in (*KNOWN, *NOT_TAKEN, *OURS):
            raise unknown("key", key, KNOWN, f"in {path}")
    zero = found.get("zero_optimization")
    zero = zero if isinstance(zero, dict) else {}
    level = zero.get("stage")
    if level == 3:
        raise BenchError(f"{path} has zero_optimization.stage = 3: {_no_zero3()}")
    if type(level) is not int or level not in (0, 1, 2):
        raise BenchError(f"{path} has zero_optimization.stage = {level!r}; set it to 0, 1 or 2")
    _checked(zero, path)
    kept = {key: value for key, value in found.items() if key not in NOT_TAKEN}
    return kept | dict.fromkeys(OURS, "auto")


def content(path: Path) -> dict[str, Any]:
    """What a configuration's file holds, JSON (whose ``5e8`` is no number in YAML) or YAML."""
    return read_json(path, "mend the file", dict[str, Any]) if path.suffix == ".json" else read_yaml(path)


def _checked(zero: dict[str, Any], path: Path) -> None:
    """What DeepSpeed itself says of the part on ZeRO, before anything trains.

    Raises:
        BenchError: a value that it does not take.
    """
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from pydantic import ValidationError

    try:
        DeepSpeedZeroConfig(**zero)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("zero_optimization", *(str(part) for part in first["loc"])))
        raise BenchError(f"{path}: {where} = {first['input']!r:.60}: {first['msg']}; mend the file") from None


def _no_zero3() -> str:
    return (
        "under ZeRO-3 no process has the whole model, and constrained decoding computes parts of it; use zero2, which "
        "leaves 2 or 4 bytes a parameter in each process, or a backbone with lora_rank"
    )


def arguments(found: dict[str, Any], device: str) -> dict[str, Any]:
    """What ``TrainingArguments`` are given for it; on a CPU, accelerate is made to see DeepSpeed's processes.

    It passes DeepSpeed by where it is told to use the CPU, and counts one process where it is told no backend
    (``TrainingArguments`` name none for DeepSpeed); so its state is made here, before.
    """
    _named()
    if device != "cpu":
        return {"deepspeed": found}
    import deepspeed.ops
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    # an all-reduce through shared memory that it compiles at its start, for half a minute; gloo does without
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    AcceleratorState._reset_state(reset_partial_state=True)
    own = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_TORCH_DEVICE": "cpu"}
    os.environ.update(own)
    try:
        PartialState(backend="gloo")
    finally:
        for name in own:
            del os.environ[name]
    return {"deepspeed": found, "accelerator_config": {"use_configured_state": True}}


def _named() -> None:
    """One process that no launcher started says so itself: DeepSpeed asks for its place."""
    if world.size > 1 or "RANK" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update(ALONE | {"MASTER_PORT": str(free.getsockname()[1])})


def cleared() -> None:
    """Nothing in the environment makes a stage after it one of DeepSpeed, too: accelerate leaves its flag there."""
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    if world.size == 1 and all(os.environ.get(name) == value for name, value in ALONE.items()):
        for name in (*ALONE, "MASTER_PORT"):
            os.environ.pop(name, None)
