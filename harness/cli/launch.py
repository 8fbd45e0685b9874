"""``bench run --processes N``: this command again in N processes that torchrun starts, watches and ends together."""

from __future__ import annotations

import logging
import os
import signal
import sys

import click

from harness.cli.common import share_of_cores, without
from harness.world import LAUNCHED, LOST_CODE

OPTION = "--processes"


def verdict(codes: dict[int, int]) -> tuple[str, int]:
    """What ended several processes.

    The launcher ends the others by ``SIGTERM`` when the first is gone, so that signal is the cause only where nothing
    else is; and a backend may abort a process whose peer has left.

    Args:
        codes: the exit code of each process that failed, a signal below 0.

    Returns:
        What is still to be said, empty where a process has said it itself; and the exit code of the command.
    """
    ranks = sorted(codes)
    own = [codes[rank] for rank in ranks if codes[rank] > 0 and codes[rank] != LOST_CODE]
    if 2 in own:  # a refusal, which is said; another one's end follows from it
        return "", own[0]
    killed = [rank for rank in ranks if codes[rank] < 0 and codes[rank] != -signal.SIGTERM]
    aborted = [rank for rank in killed if codes[rank] == -signal.SIGABRT]
    for rank in [rank for rank in killed if rank not in aborted] or ([] if own else aborted):
        return f"process {rank} of the run was ended by signal {-codes[rank]}", 1
    if own:
        return "", own[0]
    how = "were ended by signal 15" if -signal.SIGTERM in codes.values() else "lost each other"
    return f"the processes of the run {how}", 1


def launch(processes: int) -> int:
    """Run this command in several processes; returns the exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ[LAUNCHED] = "1"
    if "OMP_NUM_THREADS" not in os.environ:  # each its share of the cores, which --threads overrides
        os.environ["OMP_NUM_THREADS"] = str(share_of_cores(processes))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=str(os.getpid()), rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.2, local_addr="127.0.0.1",
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "harness", *without(sys.argv[1:], OPTION))
    except ChildFailedError as error:
        line, code = verdict({rank: int(failure.exitcode) for rank, failure in error.failures.items()})
        if line:
            click.echo(f"Error: {line}; the same command goes on where it was", err=True)
        return code
    except (SignalException, KeyboardInterrupt):
        click.echo("\nInterrupted; the same command goes on where it was.", err=True)
        return 130
    return 0
