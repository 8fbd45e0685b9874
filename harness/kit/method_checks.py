"""What a method promises: it runs, repeats, sees no test target, goes on after a kill, leaves no pickle."""

from __future__ import annotations

import dataclasses
import pickletools
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.data.generated import generated
from harness.data.rankings import Rankings
from harness.kit.promises import SEED, require
from harness.plugins import Plugins
from harness.progress import Progress
from harness.runs.config import RunConfig, resolve
from harness.runs.rehearsal import miniature

LONGEST = 60.0
"""Seconds that a method's training in miniature may take."""
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
CHECKPOINTS = "checkpoints"
"""Where transformers keeps its own trainer state, some of it pickled; nothing there is read but by itself."""


def _config(name: str, plugins: Plugins) -> RunConfig:
    return resolve(plugins.get("method", name), "Generated", SEED, [], plugins)


def recipe_resolves(kind: str, name: str, plugins: Plugins) -> None:
    """The recipe, its base and all its settings are valid."""
    config = _config(name, plugins)
    require(config.summary, f"recipe {name} has no summary; say in one line what the method is")


def _mini(name: str, plugins: Plugins, folder: Path, dataset: Dataset | None = None) -> dict[str, Rankings]:
    """The test rankings of each stage of a method in miniature."""
    prepared = miniature(_config(name, plugins), plugins, folder, dataset=dataset)
    quiet, histories = Progress(quiet=True), (dataset or generated()).test.histories
    found = {}
    for stage in prepared.stages():
        found[stage.name] = prepared.decode(prepared.made.decoder, stage.trainer.load(stage.context), histories, quiet)
    return found


def _differ(first: dict[str, Rankings], second: dict[str, Rankings]) -> str:
    """The first stage whose rankings differ, or nothing."""
    for stage, rankings in first.items():
        if (
            not np.array_equal(rankings.ids, second[stage].ids)
            or rankings.scores.tobytes() != second[stage].scores.tobytes()
        ):
            return stage
    return ""


def method_runs(kind: str, name: str, plugins: Plugins) -> None:
    """It trains and decodes in miniature, within seconds."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        _mini(name, plugins, Path(folder))
    seconds = time.monotonic() - started
    require(
        seconds < LONGEST,
        f"it takes {seconds:.0f} s in miniature; give its trainer small settings, e.g. small = {{'epochs': 1}}",
    )


def method_repeats(kind: str, name: str, plugins: Plugins) -> None:
    """The same seed gives the same rankings, byte for byte."""
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        stage = _differ(_mini(name, plugins, Path(a)), _mini(name, plugins, Path(b)))
    require(not stage, f"stage {stage} gives other rankings the second time; seed all that is random by context.seed")


def method_sees_no_target(kind: str, name: str, plugins: Plugins) -> None:
    """Other test targets change nothing."""
    dataset = generated()
    targets = np.random.default_rng(0).permutation(dataset.test.targets)
    other = dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, targets=targets))
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        first, second = (
            _mini(name, plugins, Path(a), dataset),
            _mini(name, plugins, Path(b), _same_order(other, dataset)),
        )
    stage = _differ(first, second)
    require(not stage, f"stage {stage} ranks otherwise where only the test targets differ: it has seen them")


def _same_order(other: Dataset, dataset: Dataset) -> Dataset:
    """The other dataset with its test samples in the order of the first: targets are part of the canonical order."""
    test = dataclasses.replace(dataset.test, targets=other.test.targets, rows=dataset.test.rows)
    return dataclasses.replace(other, test=test)


class _Killed(BaseException):
    """Stands in for a kill."""


def method_resumes(kind: str, name: str, plugins: Plugins) -> None:
    """A training that is killed at one of its logs goes on with the same call, and ends in the same rankings."""
    from harness.runs.run import Prepared

    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as cut:
        first = _mini(name, plugins, Path(whole))
        original = Prepared._context
        killed: set[str] = set()

        def interrupted(self: Prepared, number: int, stage: Any, previous: Any, probe: Any) -> Any:
            context = original(self, number, stage, previous, probe)
            log = context.log

            def once(numbers: dict[str, float], step: int) -> None:
                log(numbers, step)
                if stage.name not in killed:
                    killed.add(stage.name)
                    raise _Killed

            return dataclasses.replace(context, log=once)

        Prepared._context = interrupted  # type: ignore[method-assign]
        try:
            for _ in range(1 + len(first)):
                try:
                    second = _mini(name, plugins, Path(cut))
                    break
                except _Killed:
                    continue
        finally:
            Prepared._context = original  # type: ignore[method-assign]
        stage = _differ(first, second)
    require(
        not stage,
        f"stage {stage} ends otherwise where it was killed and run again; keep the state of the training in "
        "context.directory, and go on from it in fit",
    )


def method_leaves_no_pickle(kind: str, name: str, plugins: Plugins) -> None:
    """What stages leave is safetensors, JSON, text: nothing that runs code when it is read."""
    with tempfile.TemporaryDirectory() as folder:
        _mini(name, plugins, Path(folder))
        pickled = [path for path in Path(folder).rglob("*") if path.is_file() and _is_pickle(path)]
        odd = [path.name for path in pickled if CHECKPOINTS not in path.relative_to(folder).parts]
    require(not odd, f"it leaves {', '.join(odd[:3])}, a pickle; write weights with safetensors, facts as JSON")


def _is_pickle(path: Path) -> bool:
    if path.suffix in PICKLES:
        return True
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    content = path.read_bytes()[:4096]
    if not content.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return False
    try:
        next(pickletools.genops(content))
    except (ValueError, StopIteration):
        return False
    return True
