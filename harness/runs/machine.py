"""The machine: which device and how many threads a run takes, and libraries kept quiet."""

from __future__ import annotations

import os

from harness.world import world


def prepare_device(device: str = "auto", threads: int = 0) -> str:
    """The torch device of ``--device`` (``auto``, ``cpu``, ``cuda``, ``mps``), after setting the number of CPU threads.

    Raises:
        BenchError: there is no such device here.
    """
    import torch

    from harness.errors import BenchError

    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BenchError(f"--device {device}: this torch finds no CUDA device; use --device cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise BenchError("--device mps: this torch finds no Apple GPU; use --device cpu")
    if device.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise BenchError(f"--device {device}: known are auto, cpu, cuda and mps")
    if device.startswith("cuda") and world.size > 1:
        here, local = torch.cuda.device_count(), world.place.local
        if device != "cuda":
            raise BenchError(
                f"--device {device} is one GPU, and each of {world.size} processes takes its own; use cuda"
            )
        if here == 1 and "SLURM_PROCID" in os.environ and "CUDA_VISIBLE_DEVICES" in os.environ:
            local, os.environ["LOCAL_RANK"] = 0, "0"  # SLURM has given each task a GPU of its own
        if local >= here:
            raise BenchError(
                f"process {local} of this machine has no GPU of its own ({here} are here); start as many as there are "
                "GPUs, or use --device cpu"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    return device


def quieten() -> None:
    """Keep libraries' chatter off the terminal: the harness has its own progress."""
    import logging
    import sys
    import warnings

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when it is imported: half a second that few need
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch|trl|transformers|accelerate|peft")
    for name in ("transformers", "accelerate", "trl", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)  # it sets its level itself
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
