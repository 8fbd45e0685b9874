"""Code that was edited since: which steps of a run were made by other code, and what to do about it.

A finished step is valid for the code that made it. What that code was stands in the manifest, module by module.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.errors import BenchError, unknown
from harness.runs import code
from harness.runs.run import Run
from harness.runs.run_directory import SEMANTIC_IDS

CODE = "code"
"""The manifest's key: ``{step: {module: hash}}``."""
KEPT = "kept"
"""The manifest's key: ``{step: modules}`` of results that were kept though their code has changed."""
CHANGED = "changed"


@dataclass(frozen=True)
class Edits:
    """What to do about steps whose code has changed.

    Attributes:
        redo: a stage (or ``tokenizer``) to train anew, with all after it; ``changed``: whatever has changed.
        keep: take old results, and mark the record.
    """

    redo: str = ""
    keep: bool = False
    run: Run | None = None

    @cached_property
    def codes(self) -> dict[str, code.Code]:
        """The code of each component now."""
        run = self._run
        return code.of_run(run.config, run.dataset.layout, run.plugins)

    @property
    def _run(self) -> Run:
        assert self.run is not None
        return self.run

    def note(self, step: str) -> None:
        """Note in the manifest which code a step is made by."""
        folder = self._run.directory
        known = folder.manifest.get(CODE, {})
        folder.note(**{CODE: known | {step: code.of_step(step, self._run.config, self.codes)}})

    @property
    def steps(self) -> list[str]:
        """The steps of the run, in order."""
        stages = [stage.name for stage in self._run.config.stages]
        return ["tokenize", *(f"{name}/{what}" for name in stages for what in ("fit", "decode"))]

    @property
    def changed(self) -> dict[str, list[str]]:
        """``{step: modules that have changed}`` of steps that are done or begun, kept ones among them."""
        known = self._run.directory.manifest.get(CODE, {})
        changes = {}
        for step in self.steps:
            if step in known:
                differ = code.changed(known[step], code.of_step(step, self._run.config, self.codes))
                if differ:
                    changes[step] = differ
        return changes

    @property
    def stale(self) -> dict[str, list[str]]:
        """Those of :attr:`changed` that nobody has kept as they are, for the code that is here now."""
        kept = self._run.directory.manifest.get(KEPT, {})
        return {
            step: modules
            for step, modules in self.changed.items()
            if kept.get(step, {}).get("now") != code.of_step(step, self._run.config, self.codes)
        }

    def settle(self) -> None:
        """Redo what is to be redone; keep what is to be kept.

        Raises:
            BenchError: code has changed, and neither was asked for; or there is no such stage.
        """
        run, folder = self._run, self._run.directory
        names = ["tokenizer", *(stage.name for stage in run.config.stages)]
        if self.redo and self.redo != CHANGED:
            if self.redo not in names:
                raise unknown("stage", self.redo, [*names, CHANGED], "in --redo")
            step = "tokenize" if self.redo == "tokenizer" else f"{self.redo}/fit"
            before = [s for s in self.stale if self.steps.index(s) < self.steps.index(step)]
            if before and not self.keep:
                raise self._refusal(before[0], self.stale[before[0]])
            self._drop_from(step)
            return
        stale = self.stale if self.redo != CHANGED else self.changed
        if not stale:
            return
        first = min(stale, key=self.steps.index)
        if self.redo == CHANGED:
            run.progress.say(f"{_named(first)} of other code ({_shown(stale[first])} changed since): redone from there")
            self._drop_from(first)
        elif self.keep:
            kept = folder.manifest.get(KEPT, {})
            for step, modules in stale.items():
                now = code.of_step(step, run.config, self.codes)
                kept[step] = {"changed": modules, "now": now}
            folder.note(**{KEPT: kept})
            run.progress.say(f"kept though {_shown(stale[first])} has changed since: the record is marked")
        else:
            raise self._refusal(first, stale[first])

    def _refusal(self, step: str, modules: list[str]) -> BenchError:
        stage = "tokenizer" if step == "tokenize" else step.rpartition("/")[0]
        done = step == "tokenize" or self._run.directory.finished(step) is not None
        return BenchError(
            f"{self._run.directory.path}: {_named(step)} of other code ({_shown(modules)} changed since it was "
            f"{'made' if done else 'begun'}). --redo {stage} trains from there, --keep takes the old result and marks "
            "the record"
        )

    def start_anew(self) -> None:
        """Forget all stages, and the run that they were taken over from."""
        self._drop_from(self.steps[1])

    def _drop_from(self, step: str) -> None:
        """Forget a step and all after it, files included; a stage that is only decoded anew keeps its model."""
        run, folder = self._run, self._run.directory
        manifest = folder.manifest
        if step != "tokenize" and "from" in manifest.get("done", {}):
            step = self.steps[1]  # what was taken over is taken over again, so that the record says what was done
        place = self.steps.index(step)
        gone = self.steps[place:]
        done: dict[str, Any] = {k: v for k, v in manifest.get("done", {}).items() if k not in (*gone, "run", "from")}
        if step == "tokenize":
            done.pop("begin", None)
            (folder.path / SEMANTIC_IDS).unlink(missing_ok=True)
        for number, stage in enumerate(run.config.stages, start=1):
            if f"{stage.name}/fit" in gone:
                shutil.rmtree(folder.stage(number, stage.name), ignore_errors=True)
            if f"{stage.name}/decode" in gone:
                folder.rankings(stage.name).unlink(missing_ok=True)
        marks = {key: {k: v for k, v in manifest.get(key, {}).items() if k not in gone} for key in (CODE, KEPT)}
        components = {label: made_by.as_dict() for label, made_by in self.codes.items()}
        if folder.path.exists() and manifest:
            folder.note(done=done, components=components, finished=None, **marks)


def _named(step: str) -> str:
    """A step in words, with its verb."""
    stage, _, what = step.rpartition("/")
    if step == "tokenize":
        return "the semantic IDs are"
    return f"stage {stage} is" if what == "fit" else f"the rankings of stage {stage} are"


def _shown(modules: list[str]) -> str:
    return ", ".join(modules[:3]) + (f" and {len(modules) - 3} more" if len(modules) > 3 else "")
