"""What a method promises: it runs, repeats, sees no test target, goes on after a kill, leaves no pickle."""

from __future__ import annotations

import dataclasses
import pickletools
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np

from harness.data.dataset import Dataset
from harness.data.generated import generated
from harness.data.rankings import Rankings
from harness.errors import ContractError
from harness.kit.promises import SEED, require
from harness.plugins import Plugins
from harness.progress import Progress
from harness.runs.config import RunConfig, resolve
from harness.runs.rehearsal import miniature

LONGEST = 60.0
"""Seconds that a method's training in miniature may take."""
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
FEW = 7
CHECKPOINTS = "checkpoints"
"""Where transformers keeps its own trainer state, some of it pickled; nothing there is read but by itself."""


def _config(name: str, plugins: Plugins) -> RunConfig:
    return resolve(plugins.get("method", name), "Generated", SEED, [], plugins)


def recipe_resolves(kind: str, name: str, plugins: Plugins) -> None:
    """The recipe, its base and all its settings are valid."""
    config = _config(name, plugins)
    require(config.summary, f"recipe {name} has no summary; say in one line what the method is")


@dataclass(frozen=True)
class Miniature:
    """What a method in miniature gave.

    Attributes:
        rankings: of test, by stage.
        pickles: names of files that it left and that are pickles.
        alone: rankings of the first few histories, decoded without the others.
    """

    rankings: dict[str, Rankings]
    pickles: list[str]
    seconds: float
    alone: dict[str, Rankings]

    def differs(self, other: Miniature) -> str:
        """The first stage whose rankings are others, or nothing."""
        for stage, one in self.rankings.items():
            two = other.rankings[stage]
            if not np.array_equal(one.ids, two.ids) or one.scores.tobytes() != two.scores.tobytes():
                return stage
        return ""


def _run(
    name: str, plugins: Plugins, folder: Path, dataset: Dataset | None = None,
    at_log: Callable[[str], None] = lambda stage: None,
) -> Miniature:  # fmt: skip
    started = time.monotonic()
    prepared = miniature(_config(name, plugins), plugins, folder, dataset=dataset, at_log=at_log)
    seconds = time.monotonic() - started
    quiet, histories = Progress(quiet=True), prepared.run.dataset.test.histories
    rankings, alone = {}, {}
    few = histories.take(np.arange(FEW))
    for stage in prepared.stages():
        model = stage.trainer.load(stage.context)
        rankings[stage.name] = prepared.decode(prepared.made.decoder, model, histories, quiet)
        alone[stage.name] = prepared.decode(prepared.made.decoder, model, few, quiet)
    left = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and _is_pickle(path)]
    return Miniature(rankings, [path.name for path in left if CHECKPOINTS not in path.parts], seconds, alone)


Made = TypeVar("Made")
_known: WeakKeyDictionary[Plugins, dict[tuple[str, str], Any]] = WeakKeyDictionary()


def _once(what: str, name: str, plugins: Plugins, make: Callable[[Path], Made]) -> Made:
    """What several checks of a method need, made once, in a folder of its own."""
    known = _known.setdefault(plugins, {})
    if (what, name) not in known:
        with tempfile.TemporaryDirectory() as folder:
            known[what, name] = make(Path(folder))
    return cast(Made, known[what, name])


def _first(name: str, plugins: Plugins) -> Miniature:
    """A method's undisturbed run, which all of its checks compare with."""
    return _once("first", name, plugins, lambda folder: _run(name, plugins, folder))


def _differs_from_itself(name: str, plugins: Plugins) -> str:
    """The first stage that ranks otherwise in a second run, or nothing."""
    first = _first(name, plugins)
    return _once("second", name, plugins, lambda folder: first.differs(_run(name, plugins, folder)))


def _differs_by_targets(name: str, plugins: Plugins) -> str:
    """The first stage that ranks otherwise with other test targets, or nothing: then it repeats too."""
    first, dataset = _first(name, plugins), generated()
    targets = np.random.default_rng(0).permutation(dataset.test.targets)
    scrambled = dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, targets=targets))
    return _once("targets", name, plugins, lambda folder: first.differs(_run(name, plugins, folder, scrambled)))


def method_runs(kind: str, name: str, plugins: Plugins) -> None:
    """It trains and decodes in miniature, within seconds."""
    seconds = _first(name, plugins).seconds
    require(
        seconds < LONGEST,
        f"it takes {seconds:.0f} s in miniature; give its trainer small settings, e.g. small = {{'epochs': 1}}",
    )


def method_repeats(kind: str, name: str, plugins: Plugins) -> None:
    """The same seed gives the same rankings, byte for byte."""
    stage = _differs_by_targets(name, plugins) and _differs_from_itself(name, plugins)
    require(not stage, f"stage {stage} gives other rankings the second time; seed all that is random by context.seed")


def method_ranks_each_alone(kind: str, name: str, plugins: Plugins) -> None:
    """What else is in a batch changes no ranking."""
    first = _first(name, plugins)
    for stage, whole in first.rankings.items():
        part = first.alone[stage]
        width = min(part.ids.shape[1], whole.ids.shape[1])
        close = np.isclose(part.scores[:, :width], whole.scores[:FEW, :width], rtol=1e-4, atol=1e-4)
        require(
            close.all(),
            f"stage {stage} scores a history otherwise where it is decoded with fewer others; what pads a short "
            "history must change nothing (mask it, or start a recurrent network after it)",
        )


def _require_repeats(name: str, plugins: Plugins) -> None:
    """Where a run differs from the first, one that is not disturbed at all must not: else nothing can be told."""
    if _differs_from_itself(name, plugins):
        raise ContractError("it cannot be told, since the method does not repeat from its seed")


def method_sees_no_target(kind: str, name: str, plugins: Plugins) -> None:
    """Other test targets change nothing."""
    if stage := _differs_by_targets(name, plugins):
        _require_repeats(name, plugins)
        raise ContractError(f"stage {stage} ranks otherwise where only the test targets differ: it has seen them")


class _Killed(BaseException):
    """Stands in for a kill."""


def method_resumes(kind: str, name: str, plugins: Plugins) -> None:
    """A training that is killed at one of its logs goes on with the same call, and ends in the same rankings."""
    first, killed = _first(name, plugins), set()

    def once(stage: str) -> None:
        if stage not in killed:
            killed.add(stage)
            raise _Killed

    with tempfile.TemporaryDirectory() as folder:
        while True:  # each stage is killed once at most
            try:
                second = _run(name, plugins, Path(folder), at_log=once)
                break
            except _Killed:
                continue
    if stage := first.differs(second):
        _require_repeats(name, plugins)
        raise ContractError(
            f"stage {stage} ends otherwise where it was killed and run again; keep the state of the training in "
            "context.directory, and go on from it in fit",
        )


def method_leaves_no_pickle(kind: str, name: str, plugins: Plugins) -> None:
    """What stages leave is safetensors, JSON, text: nothing that runs code when it is read."""
    odd = _first(name, plugins).pickles
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
