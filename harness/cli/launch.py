"""``bench run --processes N``: this command again in N processes that torchrun starts, watches and ends together."""

from __future__ import annotations

import logging
import os
import sys

import click

from harness.world import LAUNCHED, LOST_CODE

OPTION = "--processes"


def without_processes(words: list[str]) -> list[str]:
    """A command's words without the option."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == OPTION:
            skip = True
        elif not word.startswith(f"{OPTION}="):
            kept.append(word)
    return kept


def launch(processes: int) -> int:
    """Run this command in several processes; returns the exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ[LAUNCHED] = "1"
    if "OMP_NUM_THREADS" not in os.environ:  # each its share of the cores, which --threads overrides
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=str(os.getpid()), rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.2, local_addr="127.0.0.1",
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "harness", *without_processes(sys.argv[1:]))
    except ChildFailedError as error:
        codes = {rank: int(failure.exitcode) for rank, failure in error.failures.items()}
        rank = next((rank for rank, code in codes.items() if code < 0), None)
        if rank is not None:
            how = f"process {rank} of {processes} was ended by signal {-codes[rank]}"
            click.echo(f"Error: {how}; the same command goes on where it was", err=True)
            return 1
        own = [code for code in codes.values() if code != LOST_CODE]  # it has said its line itself
        if not own:
            click.echo("Error: the processes lost each other; the same command goes on where it was", err=True)
        return own[0] if own else 1
    except (SignalException, KeyboardInterrupt):
        click.echo("\nInterrupted; the same command goes on where it was.", err=True)
        return 130
    return 0
