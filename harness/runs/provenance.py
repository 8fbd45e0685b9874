"""What a result depends on besides settings and data: code revision, versions, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.builtin import CHECKOUT
from harness.world import world

PACKAGES = ("torch", "transformers", "trl", "accelerate", "deepspeed", "numpy", "scikit-learn", "pandas", "mlflow")


def provenance(device: str) -> dict[str, Any]:
    """``{"revision": …, "versions": {…}, "hardware": {…}}``."""
    return {"revision": revision(), "versions": versions(), "hardware": hardware(device)}


def revision() -> str:
    """The git revision of the code, with ``-dirty`` where files differ; the version for an installed wheel."""
    from harness.version import __version__

    root = CHECKOUT
    if root is None or not (root / ".git").exists():
        return f"v{__version__}"

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return (head or f"v{__version__}") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return f"v{__version__}"


def versions() -> dict[str, str]:
    """Versions of Python, this package and those that results depend on."""
    from harness.version import __version__

    installed = {"python": platform.python_version(), "genrec-bench": __version__}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, threads (last digits depend on them), memory (GiB), and the accelerator where one is used."""
    import torch

    facts: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    facts["device"] = device
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory GiB"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    if device.startswith("cuda"):
        facts["accelerator"] = torch.cuda.get_device_name()
    if world.size > 1:
        facts |= {"processes": world.size, "nodes": len(world.nodes) or 1}
    return facts


def peak_memory_gib() -> float:
    """The most memory this process has held, in GiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def forget_device_peak(device: str) -> None:
    """Begin anew what :func:`device_memory_gib` tells."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def device_memory_gib(device: str) -> float | None:
    """The most memory that this process has held on an accelerator since it was last forgotten, in GiB.

    None on a CPU.
    """
    import torch

    return torch.cuda.max_memory_allocated(device) / 2**30 if device.startswith("cuda") else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
