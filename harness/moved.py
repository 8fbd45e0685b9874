"""Old names of modules: an import of one gives the module that its code stands in now.

Plugins and scripts written for an older version go on working. In a source checkout ``plugins``, ``baselines`` and
``leaderboard`` are the packages of :mod:`harness.builtin` as well, unless the path has others of that name before them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from harness.builtin import CHECKOUT, FOLDERS

B = "harness.builtin"
MOVED: dict[str, str | tuple[str, ...]] = {
    "harness.batching": "harness.networks.batches",
    "harness.config": ("harness.runs.config", "harness.recipes", "harness.files", "harness.settings"),
    "harness.consistency": f"{B}.leaderboard.plausibility",
    "harness.data.catalogue": "harness.data.categories",
    "harness.data.layout": "harness.data.reading",
    "harness.data.minionerec": f"{B}.plugins.datasets.minionerec_csv",
    "harness.data.sequences": f"{B}.plugins.datasets.sequences",
    "harness.data.synthetic": f"{B}.plugins.datasets.synthetic",
    "harness.decoding.layout": "harness.decoding.padding",
    "harness.decoding.layouts": "harness.decoding.trial",
    "harness.dropout": "harness.networks.dropout",
    "harness.folds": ("harness.evaluation.folds", "harness.evaluation.validation"),
    "harness.generative": "harness.decoding.generator",
    "harness.groups": "harness.language.rewards",
    "harness.identity": "harness.runs.identity",
    "harness.language.rows": "harness.language.packing",
    "harness.language.sft": "harness.language.sft_trainer",
    "harness.levels": "harness.evaluation.levels",
    "harness.losses": "harness.item_models.losses",
    "harness.measure": ("harness.evaluation.measure", "harness.runs.measuring"),
    "harness.pipeline": ("harness.runs.pipeline", "harness.runs.run", "harness.runs.continuation"),
    "harness.provenance": "harness.runs.provenance",
    "harness.rankings": "harness.data.rankings",
    "harness.ranks": "harness.evaluation.target_ranks",
    "harness.record": (f"{B}.leaderboard.record", "harness.evaluation.validation"),
    "harness.recorded": "harness.runs.finished",
    "harness.report": f"{B}.leaderboard.report",
    "harness.report.compare": f"{B}.leaderboard.report.compare",
    "harness.report.document": f"{B}.leaderboard.report.document",
    "harness.report.figures": f"{B}.leaderboard.report.figures",
    "harness.report.observations": f"{B}.leaderboard.report.observations",
    "harness.report.systems": f"{B}.leaderboard.report.systems",
    "harness.report.tables": (f"{B}.leaderboard.report.captions", "harness.cli.tables"),
    "harness.reported": f"{B}.leaderboard.reported",
    "harness.segments": "harness.evaluation.segments",
    "harness.semantic_ids": "harness.data.semantic_ids",
    "harness.sequential": (
        "harness.item_models.model", "harness.item_models.loop", "harness.item_models.checkpoint",
        "harness.item_models.losses",
    ),
    "harness.statistics": "harness.evaluation.statistics",
    "harness.store": ("harness.runs.run_directory", "harness.files"),
    "harness.suite": "harness.runs.suite",
    "harness.texts": "harness.data.texts",
    "harness.tracking": "harness.runs.tracking",
    "harness.trained": "harness.networks.trained",
    "harness.training": (
        "harness.language.finetuning", "harness.language.checkpoints", "harness.language.models",
        "harness.language.training_rows", "harness.language.running_average",
    ),
    "harness.tuning": "harness.runs.tuning",
    f"{B}.baselines.item_to_item": f"{B}.baselines.shared.item_to_item",
    f"{B}.baselines.stream": f"{B}.baselines.shared.stream",
    f"{B}.plugins.bigrec.sft": f"{B}.plugins.bigrec.title_sft",
    f"{B}.plugins.decoders.mixture": (f"{B}.plugins.decoders.mixture_decoder", "harness.decoding.search"),
    f"{B}.plugins.decoders.search": (f"{B}.plugins.decoders.sids", "harness.decoding.search"),
    f"{B}.plugins.lcrec.sft": f"{B}.plugins.lcrec.alignment",
    f"{B}.plugins.metrics.levels": f"{B}.plugins.metrics.by_level",
    f"{B}.plugins.minionerec.memory": f"{B}.plugins.memory.memory_stage",
    f"{B}.plugins.minionerec.rewards": f"{B}.plugins.minionerec.published_rewards",
    f"{B}.plugins.sdpo.stage": f"{B}.plugins.sdpo.preference_stage",
}  # fmt: skip
"""Old name → new name, or the modules that share its content, the first that has a name counts."""


class _Several(ModuleType):
    """A module whose content stands in several modules now."""

    def __init__(self, name: str, targets: Sequence[str]):
        super().__init__(name)
        self.__dict__["_targets"] = tuple(targets)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for target in self.__dict__["_targets"]:
                module = importlib.import_module(target)
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        for target in self.__dict__["_targets"]:
            if hasattr(module := importlib.import_module(target), name):
                setattr(module, name, value)
                return
        super().__setattr__(name, value)


class _Loader(Loader):
    """Puts the new module in the old name's place."""

    def __init__(self, target: str | tuple[str, ...]):
        self.target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        target = self.target
        name = module.__name__
        sys.modules[name] = importlib.import_module(target) if isinstance(target, str) else _Several(name, target)


class Finder(MetaPathFinder):
    """Finds modules by their old names."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a moved module, or None."""
        root = name.partition(".")[0]
        if name in MOVED:
            return importlib.util.spec_from_loader(name, _Loader(MOVED[name]))
        if CHECKOUT is not None and root in FOLDERS and _is_ours(root, path if "." in name else None):
            return importlib.util.spec_from_loader(name, _Loader(f"{B}.{name}"))
        return None


def _is_ours(root: str, path: Any) -> bool:
    """Whether a top-level name means this checkout's own folder, and not another of that name on the path."""
    assert CHECKOUT is not None
    if path is None:
        spec = PathFinder.find_spec(root)
        path = spec.submodule_search_locations if spec is not None else None
    return bool(path) and next(iter(path)).startswith(str(CHECKOUT / root))


def install() -> None:
    """Make the old names importable, once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
