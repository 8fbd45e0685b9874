"""A make-believe GPU: tensors of the CPU that carry the device they would be on, and what CUDA would refuse of them.

Under :class:`MakeBelieve` the device ``cuda`` is there. Each call of torch is seen; noted is an operation on tensors of
two devices, ``.numpy()`` of one on the GPU, and a generator of the other device. Kernels and memory are the CPU's.
"""

from __future__ import annotations

import os
import traceback
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
TAG = "_make_believe"
MAKERS = {
    "zeros", "ones", "full", "arange", "empty", "tensor", "as_tensor", "rand", "randn", "randint", "randperm", "eye",
    "linspace", "logspace", "empty_strided", "scalar_tensor", "tril_indices", "triu_indices", "from_numpy",
}  # fmt: skip
"""What makes a tensor of no other."""
VIEWS = {"data", "grad", "T", "mT", "H", "real"}
ANY = {"copy_", "equal", "size", "dim", "__len__", "backward", "numel", "is_floating_point", "untyped_storage",
       "_pack_padded_sequence", "gru", "_has_compatible_shallow_copy_type"}  # fmt: skip
"""What takes tensors of two devices, or looks at none of their values."""
OURS = ("/harness/", "/plugins/", "/baselines/")
CUDA = {
    "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True, "is_bf16_supported": True,
    "get_device_name": "make-believe", "get_device_capability": (9, 0), "memory_allocated": 0,
    "max_memory_allocated": 0, "mem_get_info": (2**36, 2**36), "set_device": None, "synchronize": None,
    "empty_cache": None, "manual_seed": None, "manual_seed_all": None, "reset_peak_memory_stats": None,
}  # fmt: skip


def place(device: Any) -> str:
    """Where a device, or its name or number, is."""
    return "gpu" if isinstance(device, int) or str(device).startswith("cuda") else "cpu"


def of(value: Any) -> str | None:
    """Where a tensor is; None: anywhere. Parameters are made on the CPU."""
    if not isinstance(value, torch.Tensor):
        return None
    return value.__dict__.get(TAG, "cpu" if isinstance(value, torch.nn.Parameter) else None)


def put(value: Any, where: str | None) -> Any:
    """Note where tensors are."""
    if where and isinstance(value, torch.Tensor):
        value.__dict__[TAG] = where
    elif where and isinstance(value, (list, tuple)):
        for part in value:
            put(part, where)
    return value


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors within arguments."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors(part)]


class Generator(torch.Generator):
    """One that knows which device it was made for."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        """On the CPU, whatever it says."""
        made = super().__new__(cls, "cpu")
        made.where = place(device)
        return made

    def __init__(self, device: Any = "cpu"):
        pass

    @property
    def device(self) -> torch.device:
        """As it says."""
        return GPU if self.where == "gpu" else torch.device("cpu")


class MakeBelieve(TorchFunctionMode):
    """The GPU, while it is entered.

    Attributes:
        refused: ``{(what, where in our code): how often}``.
        moved: how many tensors were moved to the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[tuple[str, str], int] = {}
        self.moved = 0
        plain = torch.from_numpy
        self.patches = [mock.patch.object(torch, "Generator", Generator),
                        mock.patch.object(torch, "from_numpy", lambda array: put(plain(array), "cpu"))]  # fmt: skip
        self.patches += [mock.patch.object(torch.cuda, name, _giving(value)) for name, value in CUDA.items()]
        real = torch.get_rng_state
        make = torch.nn.Parameter.__new__

        def parameter(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
            return put(make(cls, data, requires_grad), of(data))

        self.patches.append(mock.patch.object(torch.nn.Parameter, "__new__", parameter))
        # other threads, in which transformers loads weights, are not seen
        self.patches.append(mock.patch.dict(os.environ, {"HF_DEACTIVATE_ASYNC_LOAD": "1"}))
        state = {"get_rng_state": lambda *_: real(), "set_rng_state": lambda state, *_: None,
                 "get_rng_state_all": lambda: [real()], "set_rng_state_all": lambda states: None}  # fmt: skip
        for module in (torch.cuda, torch.cuda.random):
            self.patches += [mock.patch.object(module, name, work) for name, work in state.items()]

    def __enter__(self) -> MakeBelieve:
        for patch in self.patches:
            patch.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for patch in self.patches:
            patch.stop()

    def note(self, what: str) -> None:
        """A refusal, by where it happens in our code."""
        stack = [f for f in traceback.extract_stack() if any(part in f.filename for part in OURS)]
        where = " < ".join(
            f"{f.filename.rpartition('/main/')[2] or f.filename}:{f.lineno}" for f in reversed(stack[-2:])
        )
        self.refused[what, where] = self.refused.get((what, where), 0) + 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.device:
            return GPU if type(args[0]) is int else func(*args, **kwargs)
        name, of_what = getattr(func, "__name__", ""), getattr(getattr(func, "__self__", None), "__name__", "")
        if name in ("__get__", "__set__"):
            return self._attribute(func, name, of_what, args)
        if name in ("numpy", "__array__") and of(args[0]) == "gpu":
            self.note(f".{name}() of a tensor on the GPU")
        if name == "pin_memory":
            return args[0]
        kwargs.pop("pin_memory", None)
        asked = kwargs.get("device")
        if str(asked) == "meta" or (name == "to" and any(str(value) == "meta" for value in args[1:])):
            return func(*args, **kwargs)
        if asked is not None:
            kwargs["device"] = "cpu"
        if name in ("to", "cpu", "cuda"):
            return self._moved(func, name, list(args), kwargs | ({"device": asked} if asked is not None else {}))
        generator = kwargs.get("generator")
        if name in ("__getitem__", "__setitem__"):
            return self._indexed(func, name, args)
        given = tensors((args, kwargs))
        places = {of(tensor) for tensor in given if not (tensor.dim() == 0 and of(tensor) == "cpu")} - {None}
        if len(places) > 1 and name not in ANY:
            self.note(f"{name} of tensors on two devices")
        found = func(*args, **kwargs)
        if name == "_pack_padded_sequence":  # lengths are the CPU's, before and after
            return (put(found[0], of(args[0])), put(found[1], "cpu"))
        where = place(asked) if asked is not None else "gpu" if "gpu" in places else "cpu" if "cpu" in places else None
        if where is None and name in MAKERS:
            where = of(given[0]) if given else "cpu"
        if isinstance(generator, Generator) and where and generator.where != where:
            self.note(f"{name} on the {where} by a generator of the {generator.where}")
        if name.endswith("_") and not name.endswith("__") and args and isinstance(args[0], torch.Tensor):
            where = of(args[0]) or where
        return put(found, where)

    def _attribute(self, func: Any, name: str, of_what: str, args: Any) -> Any:
        """``.device`` and the like; views are where their tensor is, and a tensor is where its data are put."""
        if name == "__set__":
            found = func(*args)
            if of_what == "data":
                put(args[0], of(args[1]) or of(args[0]))
            return found
        if of_what == "device" and of(args[0]) == "gpu":
            return GPU
        if of_what in ("is_cuda", "is_cpu"):
            return (of(args[0]) == "gpu") == (of_what == "is_cuda")
        found = func(*args)
        return put(found, of(args[0])) if of_what in VIEWS and of(found) is None else found

    def _moved(self, func: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """``.to(…)``: a tensor is another object on another device."""
        target = {"cpu": "cpu", "cuda": "gpu"}.get(name)
        if name == "to":
            for number, value in enumerate(args[1:], start=1):
                if isinstance(value, (torch.device, str)) or type(value) is int:
                    target, args[number] = place(value), "cpu"
                elif isinstance(value, torch.Tensor):
                    target = of(value)
            if kwargs.get("device") is not None:
                target, kwargs["device"] = place(kwargs["device"]), "cpu"
            found = func(*args, **kwargs)
        else:
            found = args[0]
        if found is args[0] and target and of(found) not in (None, target):
            found = torch.ops.aten.alias(found)
        self.moved += target == "gpu"
        return put(found, target or of(args[0]))

    def _indexed(self, func: Any, name: str, args: Any) -> Any:
        """A tensor's elements: a tensor on the CPU is not indexed by one on the GPU; what is put in is where it is."""
        own = of(args[0])
        if own == "cpu" and any(of(index) == "gpu" for index in tensors(args[1])):
            self.note("a tensor on the CPU indexed by one on the GPU")
        if name == "__setitem__" and own and any(of(v) not in (None, own) and v.dim() for v in tensors(args[2:])):
            self.note("a value put into a tensor on another device")
        return put(func(*args), own)


def _giving(value: Any) -> Any:
    return lambda *_, **__: value
