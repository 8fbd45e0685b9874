"""No stage and no decoder takes the CPU for granted: each runs on a make-believe GPU, which refuses what CUDA would."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from harness.cli import cli
from tests.make_believe import GPU, MakeBelieve, of
from tests.metamorphic.test_same_numbers import COUNTING, FLOORS, LANGUAGE, NETWORKS, SETTINGS

pytestmark = pytest.mark.skipif(
    torch.version.cuda is not None and not torch.cuda.is_available(),
    reason="torch is built for CUDA and finds no driver: its own calls fail before the make-believe ones",
)
HALF = ["sft.precision=bfloat16", "grpo.precision=bfloat16"]
CASES = {
    **{method: (method, []) for method in ("skip-markov", "tiger", *NETWORKS, *LANGUAGE)},
    "drawn rollouts": ("minionerec", ["grpo.rollout=sample", "grpo.beta=0.01", "grpo.sync_reference=true", *HALF]),
    "drawn apart, refilled": (
        "minionerec",
        ["grpo.rollout=sample_distinct", "grpo.refill=1", "grpo.advantage=sibling"],
    ),
    "exact": ("minionerec-sft", ["decoder=exact"]),
    "generate": ("minionerec-sft", ["decoder=hf-generate", "decoder.beams=10"]),
    "loss on valid, averaged": ("minionerec-sft", ["sft.select=loss", "sft.average=0.9", "sft.packed=false"]),
    "instruction prompts": ("minionerec-sft", ["prompts=instruction", "sft.packed=false"]),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_on_two_devices(case, tmp_path):
    method, more = CASES[case]
    sets = ["dataset.items=60", "dataset.users=120", *SETTINGS[method], *more]
    words = ["run", "--method", method, "--category", "Synthetic", "--seed", "1", "--runs", str(tmp_path), "--quiet"]
    words += ["--no-mlflow", "--no-figures", "--device", "cuda", "--threads", "1"]
    with MakeBelieve() as gpu:
        done = CliRunner().invoke(cli, [*words, *(word for s in sets for word in ("--set", s))])
    assert done.exit_code == 0, done.output
    assert not gpu.refused, "\n".join(f"{n} × {what} at {where}" for (what, where), n in gpu.refused.items())
    assert bool(gpu.moved) == (method not in (*COUNTING, *FLOORS))  # something was on it


def refusals(work):
    with MakeBelieve() as gpu:
        work()
    return [what for what, _ in gpu.refused]


def there():
    return torch.arange(6.0).view(2, 3).to("cuda")


WRONG = {
    "sum": (lambda: there() + torch.ones(2, 3), "add"),
    "product": (lambda: there() @ torch.ones(3, 1), "matmul"),
    "layer": (lambda: torch.nn.Linear(3, 2)(there()), "linear"),
    "join": (lambda: torch.cat([there(), torch.ones(2, 3)]), "cat"),
    "numpy": (lambda: np.asarray(there()), "__array__"),
    "index": (lambda: torch.ones(3)[torch.zeros(2, dtype=torch.long, device="cuda")], "indexed"),
    "put": (lambda: there().__setitem__(0, torch.ones(3)), "put into"),
    "draw": (lambda: torch.rand(3, device="cuda", generator=torch.Generator()), "generator of the cpu"),
    "draw here": (lambda: torch.ones(3).multinomial(1, generator=torch.Generator("cuda")), "generator of the gpu"),
    "of numpy": (lambda: there() * torch.from_numpy(np.ones((2, 3))), "mul"),
    "view": (lambda: there().T[0] + torch.ones(2), "add"),
    "gather": (lambda: there().gather(1, torch.zeros((2, 1), dtype=torch.long)), "gather"),
}  # fmt: skip
RIGHT = {
    "sum with a number": lambda: there() + 1,
    "sum with a single number of the CPU": lambda: there() + torch.tensor(1.0),
    "back": lambda: there().cpu().numpy(),
    "made there": lambda: there() + torch.ones((2, 3), device="cuda") + torch.zeros_like(there()),
    "index by the CPU's": lambda: there()[torch.zeros(2, dtype=torch.long)],
    "a layer moved": lambda: torch.nn.Linear(3, 2).to("cuda")(there()).sum().backward(),
    "drawn there": lambda: torch.rand(3, device="cuda", generator=torch.Generator("cuda")) + there()[0],
    "copied": lambda: there().copy_(torch.ones(2, 3)),
}


@pytest.mark.parametrize("case", WRONG)
def test_it_refuses_what_cuda_refuses(case):
    work, what = WRONG[case]
    found = refusals(work)
    assert len(found) == 1 and what in found[0], found


@pytest.mark.parametrize("case", RIGHT)
def test_it_takes_what_cuda_takes(case):
    assert not refusals(RIGHT[case])


def test_tensors_say_where_they_are():
    with MakeBelieve():
        x = there()
        assert x.device == GPU and x.is_cuda and not x.is_cpu and (x * 2).device == GPU
        assert x.cpu().device == torch.device("cpu") and of(x.cpu()) == "cpu" and torch.ones(1).device.type == "cpu"
        assert torch.cuda.is_available() and torch.empty(2, device="meta").device.type == "meta"
    assert not torch.cuda.is_available() and torch.Generator("cpu").device.type == "cpu"
