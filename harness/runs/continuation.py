"""Continuation: a run that takes over the stages of a finished one (``--from-run``)."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import BenchError
from harness.evaluation.validation import OUT
from harness.runs import finished, identity, measuring
from harness.runs.config import RunConfig
from harness.runs.edits import CHANGED, CODE, KEPT, Edits
from harness.runs.run import Run
from harness.runs.run_directory import PRUNED, Clock, RunDirectory


@dataclass(frozen=True)
class Origin:
    """A finished run whose stages are taken over.

    Attributes:
        anew: whether the first stage with other settings starts from its own beginning, not from that run's
            checkpoint and optimiser state.
    """

    directory: Path
    anew: bool = False

    @property
    def name(self) -> str:
        """The run's category, method and folder: the same wherever the runs are kept."""
        return "/".join(self.directory.resolve().parts[-3:]) + self._how

    @property
    def place(self) -> str:
        """The folder on this machine."""
        return str(self.directory.resolve()) + self._how

    @property
    def _how(self) -> str:
        return " anew" if self.anew else ""


@dataclass(frozen=True)
class Common:
    """What two runs have in common.

    Attributes:
        done: how many stages are the same, and so taken over as they are.
        goes_on: whether the next one goes on from its checkpoint.
        changed: ``{setting: [there, here]}`` of that one.
        same_decoder: whether their rankings are taken over too: decoder, probe and protocol are the same.
        before: the settings of the finished one.
    """

    done: int
    goes_on: bool
    changed: dict[str, Any]
    same_decoder: bool
    before: RunConfig


def take_over(run: Run, origin: Origin, trainers: tuple[Any, ...], edits: Edits) -> None:
    """Copy the stages of a finished run, up to the first whose settings differ.

    That one goes on from its checkpoint, for more epochs, where nothing differs but what its trainer goes on with
    (`continues`); with `anew` it starts from its own beginning, whatever differs. Stages that come after all of the
    run's own are trained from the start. What other code has made is taken all the same, and both hashes are recorded.

    Raises:
        BenchError: the run is not finished, is of other data, SIDs, stages or backbone, or a stage cannot go on with
            what differs.
    """
    source, folder = origin.directory, run.directory
    known = folder.finished("from")
    if known is not None:
        if not source.is_dir() or "content" not in known or identity.is_as_it_was(source, known["content"]):
            return
        if edits.redo != CHANGED:
            raise BenchError(
                f"--from-run {source} is another run now than the one that {folder.path} went on from; give its new "
                "place another name, or delete that folder"
            )
        edits.start_anew()
    other = RunDirectory(source)
    common = _common(run, origin, other, trainers)
    stages = run.config.stages
    copied = common.done if origin.anew or not common.goes_on else common.done + 1
    for number, stage in enumerate(stages[:copied], start=1):
        with files.replace_folder(folder.stage(number, stage.name)) as copy:
            shutil.copytree(other.stage(number, stage.name), copy, dirs_exist_ok=True)
            spent = (other.finished(f"{stage.name}/fit") or {}).get("seconds", 0.0)
            Clock(copy).save(spent)  # what a stage that goes on has cost so far
        if number <= common.done:
            _take_stage(run, other, stage.name, common.same_decoder)
    codes = _codes(run, other, stages[:copied], common, edits)
    left = [stage.name for stage in stages[common.done :]]
    run.progress.say(f"from {source}: {_told([stage.name for stage in stages[: common.done]], left, common)}")
    folder.finish(
        "from", run=str(source.resolve()), continued=left[0] if left else None, anew=origin.anew,
        goes_on=common.goes_on, changed=common.changed, content=identity.content(source),
        variant=finished.variant_of(other), **({"code": codes} if codes else {}),
    )  # fmt: skip


def _take_stage(run: Run, other: RunDirectory, name: str, same_decoder: bool) -> None:
    """A stage that is the same: its facts, and its rankings where the decoder is the same too."""
    folder = run.directory
    facts = other.finished(f"{name}/fit") or {}
    folder.finish(f"{name}/fit", **facts | ({} if same_decoder or OUT not in facts else {OUT: {}}))
    if same_decoder:  # else the model is taken over, and decoded anew
        semantic_ids = finished.semantic_ids(other)
        rankings = measuring.rankings_of(other, name, run.dataset.test, semantic_ids)
        with files.replace_file(folder.rankings(name)) as path:
            rankings.write(path, semantic_ids, run.dataset.test)
        folder.finish(f"{name}/decode", **other.finished(f"{name}/decode") or {})


def _codes(run: Run, other: RunDirectory, stages: Any, common: Common, edits: Edits) -> dict[str, Any]:
    """Note which code made what was taken over; returns both hashes where they differ."""
    from harness.runs import code

    theirs = other.manifest.get(CODE, {})
    codes_before = code.of_run(common.before, run.dataset.layout, run.plugins)
    wanted = [f"{stage.name}/fit" for stage in stages]
    wanted += [f"{stage.name}/decode" for stage in stages[: common.done] if common.same_decoder]
    noted = {step: theirs[step] for step in wanted if step in theirs}
    kept, told = {}, {}
    for step, there in list(noted.items()):
        here, now = code.of_step(step, run.config, edits.codes), code.of_step(step, common.before, codes_before)
        if differ := code.changed(there, now):
            kept[step] = {"changed": differ, "now": here}
            told[step] = {"there": code.one(there), "here": code.one(now), "changed": differ}
        else:  # no code has changed; another decoder may have probed it
            noted[step] = here
    manifest = run.directory.manifest
    run.directory.note(**{CODE: manifest.get(CODE, {}) | noted, KEPT: manifest.get(KEPT, {}) | kept})
    return told


def _common(run: Run, origin: Origin, other: RunDirectory, trainers: tuple[Any, ...]) -> Common:
    """What this run and the finished one have in common.

    Raises:
        BenchError: see :func:`take_over`.
    """
    source = origin.directory
    manifest, config = other.manifest, run.config.as_dict()
    if "run" not in manifest.get("done", {}):
        raise BenchError(f"--from-run {source} is not the directory of a finished run")
    settings = finished.settings(other, run.plugins)
    before = settings.as_dict()
    for key in ("category", "seed", "prompts", "tokenizer", "backbone", "dataset"):
        if before[key] != config[key]:
            raise BenchError(f"--from-run {source} differs in {key}: {before[key]} there, {config[key]} here")
    prints, own = manifest["fingerprints"], run.directory.manifest["fingerprints"]
    if any(prints[key] != own[key] for key in ("data", "semantic_ids")):
        raise BenchError(f"--from-run {source} was made on other data or semantic IDs")
    there, here = prints.get("files") or {}, own.get("files") or {}  # runs of older versions do not know theirs
    changed_files = [name for name in there if here.get(name, there[name]) != there[name]]
    if changed_files:
        raise BenchError(f"--from-run {source}: {', '.join(changed_files)} has changed since; run the method anew")
    same_decoder = all(before.get(key) == config.get(key) for key in ("decoder", "probe", "protocol"))
    theirs, ours = before["stages"], config["stages"]
    if origin.anew:  # a common beginning is enough: what differs is trained from its own start
        same = itertools.takewhile(lambda pair: pair[0]["name"] == pair[1]["name"], zip(theirs, ours, strict=False))
        theirs = [stage for stage, _ in same]
    if not theirs or [s["name"] for s in theirs] != [s["name"] for s in ours[: len(theirs)]]:
        raise BenchError(f"--from-run {source} has other stages")
    done = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), len(theirs))
    if done == len(ours) and same_decoder:
        raise BenchError(f"--from-run {source} has the same settings; change one, e.g. --set grpo.epochs=3")
    goes_on = not origin.anew and done < len(theirs)
    changed: dict[str, Any] = {}
    if goes_on:
        changed = {k: [theirs[done].get(k), v] for k, v in ours[done].items() if v != theirs[done].get(k)}
        _can_go_on(source, changed, ours[done], theirs[done], trainers[done], other)
        if not same_decoder:
            raise BenchError(
                f"--from-run {source}: under another decoder, probe or protocol other checkpoints of "
                f"{ours[done]['name']} would have been kept; --anew trains {ours[done]['name']} from its beginning"
            )
    return Common(done, goes_on, changed, same_decoder, settings)


def _told(taken: list[str], left: list[str], common: Common) -> str:
    """What is taken over, what goes on, and what starts anew, in words."""
    shown = ", ".join(f"{key} {old} → {new}" for key, (old, new) in common.changed.items())
    parts = [f"{', '.join(taken) or 'no stage'} taken over as recorded"]
    if common.goes_on:
        parts.append(f"{left[0]} goes on from its checkpoint ({shown})")
        left = left[1:]
    return "; ".join([*parts, *(f"{name} starts anew" for name in left)])


def _can_go_on(
    source: Path,
    changed: dict[str, Any],
    ours: dict[str, Any],
    theirs: dict[str, Any],
    trainer: Any,
    other: RunDirectory,
) -> None:
    """Refuse what a stage that goes on from a checkpoint would not train with, but record.

    Raises:
        BenchError: other settings differ than the trainer's `continues`, the stage stopped early there, or there is
            nothing left to train.
    """
    name, known = ours["name"], tuple(getattr(trainer, "continues", ()))
    odd = sorted(key for key in changed if key not in known)
    way = f"--anew trains {name} from its beginning"
    if odd:
        can = f"only {', '.join(known)} may" if known else "it keeps no checkpoint to go on from"
        raise BenchError(
            f"--from-run {source}: stage {name} cannot go on from its checkpoint with another "
            f"{', '.join(f'{name}.{key}' for key in odd)} ({can}); {way}"
        )
    if other.manifest.get(PRUNED):
        raise BenchError(f"--from-run {source}: its checkpoints were pruned, so that {name} cannot go on; {way}")
    epochs = (other.finished(f"{name}/fit") or {}).get("epochs", theirs.get("epochs", 0))
    if epochs < theirs.get("epochs", 0) - 1e-3:
        raise BenchError(f"--from-run {source}: stage {name} stopped early there, after {epochs} epochs; {way}")
    if not ours.get("epochs", 0) > theirs.get("epochs", 0):
        shown = f"{name}.epochs is {ours.get('epochs')} here and {theirs.get('epochs')} there"
        raise BenchError(f"--from-run {source}: nothing is left to train ({shown}); give more epochs, or {way}")
