"""What processes do together, on two of them, and what each launcher says of itself."""

import json
import subprocess
import sys

import numpy as np
import pytest

from harness.errors import BenchError
from harness.world import PEERS, Place, World, _patience, first_of

SCRIPT = """
import json, sys
from harness.errors import BenchError
from harness.world import Shared, world

world.start()
found = {"rank": world.rank, "nodes": world.nodes}

def attempt(work):
    try:
        return work()
    except BenchError as error:
        return [type(error).__name__, error.message]

def fails(rank, message):
    if world.rank == rank:
        raise BenchError(message)
    return world.rank

def breaks():
    raise ValueError("no")

def inside():
    return [world.rank, list(world.share(3)), world.once(lambda: "alone"), world.collected([9])]

found["once"] = world.once(inside)
found["share"] = list(world.share(5))
found["collected"] = world.collected([world.rank, "x"])
found["once fails"] = attempt(lambda: world.once(lambda: fails(0, "bad data")))
found["agreed"] = world.agreed(lambda: world.rank)
found["second fails"] = attempt(lambda: world.agreed(lambda: fails(1, "out of memory")))
found["first fails"] = attempt(lambda: world.agreed(lambda: fails(0, "no such file")))
found["same"] = attempt(lambda: world.same("the data", "abc"))
found["other"] = attempt(lambda: world.same("the data", "abc" if world.main else "abd"))
try:
    world.once(breaks)
except Exception as error:
    found["breaks"] = type(error).__name__
world.wait()
world.stop()
open(sys.argv[1] + str(found["rank"]), "w").write(json.dumps(found))
"""


def test_once_agreed_shared_and_collected(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               str(tmp_path / "script.py"), str(tmp_path / "found")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    first, second = (json.loads((tmp_path / f"found{rank}").read_text()) for rank in (0, 1))
    assert first["once"] == second["once"] == [0, [0, 1, 2], "alone", [9]]  # within it the main process is alone
    assert (first["share"], second["share"]) == ([0, 2, 4], [1, 3])
    assert first["collected"] == second["collected"] == [0, "x", 1, "x"]
    assert first["once fails"] == ["BenchError", "bad data"] and second["once fails"] == ["Shared", "bad data"]
    assert (first["agreed"], second["agreed"]) == (0, 1)
    assert first["second fails"] == ["BenchError", "process 1: out of memory"]
    assert second["second fails"] == ["Shared", "out of memory"]
    assert first["first fails"] == ["BenchError", "no such file"] and second["first fails"][0] == "Shared"
    assert first["same"] is None and second["same"] is None
    assert first["other"][0] == "BenchError" and "the data of process 1 on" in first["other"][1]
    assert second["other"][0] == "Shared" and len(first["nodes"]) == 1
    assert (first["breaks"], second["breaks"]) == ("ValueError", "Shared")


def test_one_process_is_its_plain_self():
    alone = World({})
    alone.start()
    assert alone.main and alone.size == 1 and not alone.together
    assert alone.once(lambda: 7) == 7 and list(alone.share(3)) == [0, 1, 2] and alone.collected([1]) == [1]


def test_the_first_host_of_a_list_is_found():
    assert first_of("node[03-05,9],other") == "node03" and first_of("a,b") == "a" and first_of("gpu-1") == "gpu-1"


def test_patience_is_a_number_of_seconds():
    assert _patience("") == PEERS and _patience("2.5") == 2.5
    for given in ("soon", "0", "nan", "-1"):
        with pytest.raises(BenchError, match="set it to a number of seconds"):
            _patience(given)


def test_launchers_say_which_process_it_is():
    torchrun = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert Place.of(torchrun) == Place(3, 8, 1)
    srun = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}
    assert Place.of(srun) == Place(5, 8, 1)
    batch_script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}
    assert Place.of(batch_script) == Place()
    with pytest.raises(BenchError, match="MASTER_ADDR is not set"):
        Place.of({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"})
    with pytest.raises(BenchError, match="do not go together"):
        Place.of(torchrun | {"RANK": "8"})


@pytest.mark.parametrize("kind", ["rows", "groups"])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_rest_of_an_interrupted_epoch_has_that_epochs_order(kind, rank):
    from accelerate.data_loader import prepare_data_loader, skip_first_batches
    from torch.utils.data import DataLoader, SequentialSampler

    from harness.language.wrapped import hears_epochs, own_shares
    from harness.networks.batches import LengthBuckets, Shares
    from plugins.minionerec.group_trainer import GroupSampler

    def loader():
        if kind == "groups":
            sampler, take = GroupSampler(24, 2, 4, 1, seed=0), hears_epochs
        else:
            order = LengthBuckets(np.arange(24) % 5, 4, 0)
            sampler, take = Shares(order, 2, rank, 2, []), lambda made: own_shares(hears_epochs(made))
        whole = DataLoader(list(range(24)), batch_size=2, sampler=sampler)
        assert not isinstance(whole.sampler, SequentialSampler)
        return take(prepare_data_loader(whole, num_processes=2, process_index=rank, put_on_device=False))

    def batches(made, epoch):
        made.set_epoch(epoch)
        return [batch.tolist() for batch in made]

    straight = loader()
    first, second = batches(straight, 0), batches(straight, 1)
    assert first != second
    assert batches(skip_first_batches(loader(), 2), 1) == second[2:]
