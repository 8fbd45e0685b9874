"""The run, stage by stage: read this file to understand the harness.

dataset → tokenizer → trainer stages → decoder → rankings → metrics → record. A step that is noted
as done is never redone; a stage that was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness import identity, measure, recorded, store
from harness.components import Context, RunInfo, needs_probed
from harness.config import Component, RunConfig, Stage, identified
from harness.data.dataset import Dataset
from harness.errors import BenchError
from harness.folds import PROBED
from harness.plugins import Plugins
from harness.progress import Progress
from harness.provenance import peak_memory_gib, provenance
from harness.rankings import Rankings
from harness.record import BY_ITEM, OUT, Record
from harness.report import document
from harness.semantic_ids import SemanticIds
from harness.store import Store
from harness.tracking import Tracker

CANDIDATES = 50
"""As many as a decoder gives that does not say."""
ORDER = 2
"""The version of the order of samples: 2 is canonical; 1, the file's, is not noted."""


@dataclasses.dataclass
class Run:
    """One method on one category with one seed."""

    config: RunConfig
    dataset: Dataset
    plugins: Plugins
    store: Store
    progress: Progress
    device: str
    tracker: Tracker
    figures: bool = True

    @property
    def info(self) -> RunInfo:
        """What lifecycle hooks see."""
        config = self.config
        return RunInfo(config.method, config.category, config.seed, self.store.directory, config.as_dict())


@dataclasses.dataclass(frozen=True)
class Origin:
    """A finished run whose stages are taken over.

    Attributes:
        anew: whether the first stage with other settings starts from its own beginning, not from that run's
            checkpoint and optimiser state.
    """

    directory: Path
    anew: bool = False

    def __str__(self) -> str:
        return str(self.directory.resolve()) + (" anew" if self.anew else "")


def directory(
    root: Path, config: RunConfig, dataset: Dataset, from_run: Origin | None = None, plugins: Plugins | None = None
) -> Path:
    """``runs/<category>/<method>/seed<seed>-<hash>``.

    The hash is over settings, data, given SIDs, the run gone on from, and the content of local files that the run
    reads (a plugin's code, a model's or an encoder's folder; see :mod:`harness.identity`).
    """
    given = dataset.given.fingerprint if dataset.given is not None else None
    origin = str(from_run) if from_run else None
    told = identified(dataset.fingerprint, given, origin, identity.files(config, dataset, plugins))
    name = f"seed{config.seed}-{config.hash(**told)}"
    return root / config.category / config.method / name


def execute(run: Run, from_run: Origin | None = None) -> dict[str, Any]:
    """Do what is left of a run and return its ``metrics.json``.

    Args:
        from_run: a finished run whose stages are taken over, up to the first whose settings differ.

    Raises:
        BenchError: bad settings or data; nothing half-written is left.
    """
    decoder, tokenizer, backbone, trainers = _make(run)  # before anything is written
    fresh = not run.store.directory.exists()
    try:
        return _execute(run, decoder, tokenizer, backbone, trainers, from_run)
    except BenchError:
        if fresh and not any(run.store.directory.glob("stages/*/*")):  # nothing trained: nothing is left
            shutil.rmtree(run.store.directory, ignore_errors=True)
        raise


def _make(run: Run) -> tuple[Any, Any, Any, list[Any]]:
    def make(component: Component | None) -> Any:
        return component.make(run.plugins) if component is not None else None

    config = run.config
    trainers = [make(stage.trainer) for stage in config.stages]
    return make(config.decoder), make(config.tokenizer), make(config.backbone), trainers


def _execute(
    run: Run, decoder: Any, tokenizer: Any, backbone: Any, trainers: list[Any], from_run: Origin | None
) -> dict[str, Any]:
    config, keep = run.config, run.store
    with keep.lock():
        finished = keep.finished("run") is not None and keep.manifest.get("finished")
        if finished:
            run.progress.say(f"recorded on {finished}: nothing is trained or decoded, its rankings are measured again")
        semantic_ids = _tokenize(run, tokenizer)
        _begin(run, semantic_ids)
        if from_run:
            _take_over(run, from_run, trainers)
        _check(run, semantic_ids, backbone, decoder, trainers)
        run.plugins.notify("bench_run_started", run=run.info)
        with run.tracker.run(run, semantic_ids):
            result: dict[str, Any] = {"stages": {}}
            previous: Path | None = None
            for number, (stage, trainer) in enumerate(zip(config.stages, trainers, strict=True), start=1):
                context = _context(run, stage, number, previous, semantic_ids, backbone)
                with run.tracker.stage(stage.name):
                    result["stages"][stage.name] = _stage(run, stage, trainer, decoder, context, semantic_ids)
                previous = context.directory
            if run.dataset.oracle is not None:
                result[measure.BAYES] = measure.bayes_optimal(run.plugins, run.dataset, semantic_ids)
            _record(run, result)
    run.plugins.notify("bench_run_finished", run=run.info, result=result)
    return result


def search(run: Run) -> dict[str, float]:
    """Train a run's stages and return the valid metrics of the last; for tuning, so no test sample is read.

    What is left of the stages is gone on with, as in :func:`execute`.
    """
    decoder, tokenizer, backbone, trainers = _make(run)
    run = dataclasses.replace(run, dataset=without_test(run.dataset))
    with run.store.lock():
        semantic_ids = _tokenize(run, tokenizer)
        _begin(run, semantic_ids)
        _check(run, semantic_ids, backbone, decoder, trainers)
        needs_probed(
            _context(run, run.config.stages[-1], len(trainers), None, semantic_ids, backbone).probe,
            "NDCG@10",
            "a search",
        )
        with run.tracker.run(run, semantic_ids):
            previous: Path | None = None
            for number, (stage, trainer) in enumerate(zip(run.config.stages, trainers, strict=True), start=1):
                context = _context(run, stage, number, previous, semantic_ids, backbone)
                with run.tracker.stage(stage.name):
                    _fit(run, stage, trainer, context)
                    valid = _valid(run, stage, context, trainer.load(context))
                    run.tracker.stage_result({"valid": valid})
                previous = context.directory
    return valid


def without_test(dataset: Dataset) -> Dataset:
    """The dataset as components may see it: no test sample, no oracle."""
    return dataclasses.replace(dataset, test=dataset.test.take(np.arange(0)), oracle=None)


def _check(run: Run, semantic_ids: SemanticIds | None, backbone: Any, decoder: Any, trainers: list[Any]) -> None:
    """Let components refuse settings that do not fit the data, before hours of work."""
    if hasattr(decoder, "check"):
        decoder.check(run.dataset.items, semantic_ids)
    previous = None
    for number, (stage, trainer) in enumerate(zip(run.config.stages, trainers, strict=True), start=1):
        context = _context(run, stage, number, previous, semantic_ids, backbone)
        if hasattr(trainer, "check") and run.store.finished(f"{stage.name}/fit") is None:
            trainer.check(context)
        previous = context.directory


def _begin(run: Run, semantic_ids: SemanticIds | None) -> None:
    """Write the resolved configuration and the manifest's first facts."""
    keep, dataset = run.store, run.dataset
    if keep.finished("begin") is not None:
        if keep.manifest.get("order") != ORDER:
            _drop_unfinished(run)
        return
    keep.note(
        order=ORDER,
        method=run.config.method,
        category=run.config.category,
        seed=run.config.seed,
        group=run.config.group,
        caption=dataset.caption,
        fingerprints={
            "data": dataset.fingerprint,
            "semantic_ids": semantic_ids.fingerprint if semantic_ids else None,
            **({"files": files} if (files := identity.files(run.config, dataset, run.plugins)) else {}),
        },
        rows={name: len(samples) for name, samples in dataset.splits.items()},
        items=len(dataset.items),
        semantic_ids=semantic_ids.report() if semantic_ids else None,
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **provenance(run.device),
    )
    store.write_text(keep.directory / store.CONFIG, yaml.safe_dump(run.config.as_dict(), sort_keys=False))
    keep.finish("begin")


def _drop_unfinished(run: Run) -> None:
    """A stage that an older version left unfinished read its samples in another order: it starts from its beginning."""
    keep = run.store
    for number, stage in enumerate(run.config.stages, start=1):
        folder = keep.stage(number, stage.name)
        if keep.finished(f"{stage.name}/fit") is None and folder.exists():
            run.progress.say(f"{stage.name}: begun by an older version, in another order of samples; it starts anew")
            shutil.rmtree(folder)
    keep.note(order=ORDER)


def _tokenize(run: Run, tokenizer: Any) -> SemanticIds | None:
    if tokenizer is None:
        return None
    path = run.store.directory / store.SEMANTIC_IDS
    if path.exists():
        prints = run.store.manifest.get("fingerprints") or {}
        return SemanticIds.read(path, "delete the run's folder to start anew", prints.get("semantic_ids") or "")
    semantic_ids: SemanticIds | None = tokenizer.tokenize(without_test(run.dataset), run.config.seed, run.progress)
    if semantic_ids is None:
        return None
    if semantic_ids.codes.shape[0] != len(run.dataset.items):
        raise BenchError(
            f"tokenizer {run.config.tokenizer.name if run.config.tokenizer else ''} gave {semantic_ids.n_items} SIDs "
            f"for {len(run.dataset.items)} items; it must give one for each"
        )
    store.write_text(path, semantic_ids.to_json())
    return semantic_ids


def _context(
    run: Run, stage: Stage, number: int, previous: Path | None,
    semantic_ids: SemanticIds | None, backbone: Any,
) -> Context:  # fmt: skip
    folder = run.store.stage(number, stage.name)
    folder.mkdir(parents=True, exist_ok=True)
    return Context(
        items=run.dataset.items,
        train=run.dataset.train,
        valid=run.dataset.valid,
        semantic_ids=semantic_ids,
        backbone=backbone,
        prompts=run.config.prompts,
        directory=folder,
        previous=previous,
        seed=run.config.seed,
        device=run.device,
        probe=_probe(run, semantic_ids),
        log=_log(run, folder),
        progress=run.progress,
        plugins=run.plugins,
        data=run.dataset.fingerprint,
    )


def _log(run: Run, folder: Path) -> Callable[[dict[str, float], int], None]:
    """Numbers of a stage go to its log and to MLflow."""

    def log(numbers: dict[str, float], step: int) -> None:
        store.append_log(folder, numbers, step)
        run.tracker.log(numbers, step)

    return log


def _stage(
    run: Run, stage: Stage, trainer: Any, decoder: Any, context: Context, semantic_ids: SemanticIds | None
) -> dict[str, Any]:
    """Train, decode test, measure; each once."""
    keep, name = run.store, stage.name
    _fit(run, stage, trainer, context)
    if keep.finished(f"{name}/decode") is None:
        model = trainer.load(context)
        histories = run.dataset.test.histories  # histories only: the decoder sees no target
        run.progress.say(f"{name}: decode {len(histories):,} test histories")
        started = time.monotonic()
        rankings = _decode(decoder, model, histories, semantic_ids, run)
        seconds = time.monotonic() - started
        with store.replace_file(keep.rankings(name)) as path:
            rankings.write(path, semantic_ids, run.dataset.test)
        facts = {"seconds": round(seconds, 1), "users per second": round(len(histories) / seconds, 1)}
        facts["peak memory GiB"] = round(peak_memory_gib(), 2)
        keep.finish(f"{name}/decode", **facts, valid=_valid(run, stage, context, model))
    metrics = measure.stage(keep, name, run.plugins, run.dataset, semantic_ids)
    run.tracker.stage_result(metrics)
    run.plugins.notify("bench_stage_finished", run=run.info, stage=name, result=metrics)
    return metrics


def _fit(run: Run, stage: Stage, trainer: Any, context: Context) -> None:
    """Train a stage, once; its seconds are those of every process that worked at it, taken over ones included."""
    if run.store.finished(f"{stage.name}/fit") is None:
        run.progress.say(f"{stage.name}: train on {len(context.train):,} samples, select on {len(context.valid):,}")
        clock = store.Clock(context.directory)
        note = context.log

        def log(numbers: dict[str, float], step: int) -> None:
            note(numbers, step)
            clock.note()

        facts = trainer.fit(dataclasses.replace(context, log=log))
        run.store.finish(f"{stage.name}/fit", seconds=round(clock.seconds, 1), **facts)


def _valid(run: Run, stage: Stage, context: Context, model: Any) -> dict[str, float]:
    """A stage's valid metrics, which runs are chosen by: the probe's, or out of sample where it was fitted on valid.

    None at all where such a stage was taken over for another decoder: what was out of sample is not of that one.
    """
    facts = run.store.finished(f"{stage.name}/fit") or {}
    return dict(facts[OUT]) if OUT in facts else context.probe(model)


def _decode(
    decoder: Any, model: Any, histories: Any, semantic_ids: SemanticIds | None, run: Run,
    progress: Progress | None = None,
) -> Rankings:  # fmt: skip
    rankings: Rankings = decoder.decode(model, histories, semantic_ids, run.device, progress or run.progress)
    by_sid = rankings.kind == "sid" and semantic_ids is not None
    rankings.check(len(semantic_ids.distinct) if by_sid and semantic_ids else len(run.dataset.items))
    if len(rankings.ids) != len(histories):
        raise BenchError(f"decoder {run.config.decoder.name} ranked {len(rankings.ids)} of {len(histories)} histories")
    return rankings


def _probe(run: Run, semantic_ids: SemanticIds | None) -> Callable[[Any], dict[str, float]]:
    """The valid metric: the recipe's own decoder with fewer beams, on valid samples drawn once."""
    settings, decoder = run.config.probe, run.config.decoder
    valid = run.dataset.valid.drawn(settings.samples, run.config.seed)
    beams = getattr(decoder.settings, "beams", 0)
    narrow = decoder.settings
    if beams and settings.beams:
        narrow = dataclasses.replace(decoder.settings, beams=min(settings.beams, beams))
    quiet = Progress(quiet=True)

    width = getattr(narrow, "beams", 0) or getattr(narrow, "k", 0) or CANDIDATES

    def probe(model: Any) -> dict[str, float]:
        probed = dataclasses.replace(decoder, settings=narrow).make(run.plugins)
        rankings = _decode(probed, model, valid.histories, semantic_ids, run, quiet)
        protocol = "sid" if semantic_ids is not None else "item"
        numbers = run.plugins.get("metric", protocol)(rankings, valid.targets, semantic_ids)
        found = {name: numbers[name] for name in PROBED if name in numbers}
        if protocol == "sid":  # what runs of other semantic IDs are compared by
            numbers = run.plugins.get("metric", "item")(rankings, valid.targets, semantic_ids)
            found |= {f"{name} {BY_ITEM}": numbers[name] for name in PROBED[1:] if name in numbers}
        return found

    probe.gives = {name for name in PROBED if width >= int(name.partition("@")[2])}  # type: ignore[attr-defined]
    return probe


def _take_over(run: Run, origin: Origin, trainers: list[Any]) -> None:
    """Copy the stages of a finished run, up to the first whose settings differ.

    That one goes on from its checkpoint, for more epochs, where nothing differs but what its trainer goes on with
    (`continues`); with `anew` it starts from its own beginning, whatever differs.

    Stages that come after all of the run's own are trained from the start.

    Raises:
        BenchError: the run is not finished, is of other data, SIDs, stages or backbone, or a stage cannot go on with
            what differs.
    """
    source = origin.directory
    keep = run.store
    known = keep.finished("from")
    if known is not None:
        if source.is_dir() and "content" in known and known["content"] != identity.content(source):
            raise BenchError(
                f"--from-run {source} is another run now than the one that {keep.directory} went on from; give its new "
                "place another name, or delete that folder"
            )
        return
    other = Store(source)
    manifest, config = other.manifest, run.config.as_dict()
    if "run" not in manifest.get("done", {}):
        raise BenchError(f"--from-run {source} is not the directory of a finished run")
    before = recorded.settings(other, run.plugins).as_dict()
    for key in ("category", "seed", "prompts", "tokenizer", "backbone", "dataset"):
        if before[key] != config[key]:
            raise BenchError(f"--from-run {source} differs in {key}: {before[key]} there, {config[key]} here")
    prints, own = manifest["fingerprints"], keep.manifest["fingerprints"]
    if any(prints[key] != own[key] for key in ("data", "semantic_ids")):
        raise BenchError(f"--from-run {source} was made on other data or semantic IDs")
    there, here = prints.get("files") or {}, own.get("files") or {}  # runs of older versions do not know theirs
    changed_files = [name for name in there if here.get(name, there[name]) != there[name]]
    if changed_files:
        raise BenchError(f"--from-run {source}: {', '.join(changed_files)} has changed since; run the method anew")
    same_decoder = all(before[key] == config[key] for key in ("decoder", "probe"))
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
                f"--from-run {source}: under another decoder or probe the checkpoints of {ours[done]['name']} were "
                f"chosen by other numbers; --anew trains {ours[done]['name']} from its beginning"
            )
    copied = done if origin.anew else min(done + 1, len(theirs))
    for number, stage in enumerate(run.config.stages[:copied], start=1):
        with store.replace_folder(keep.stage(number, stage.name)) as folder:
            shutil.copytree(other.stage(number, stage.name), folder, dirs_exist_ok=True)
            spent = (other.finished(f"{stage.name}/fit") or {}).get("seconds", 0.0)
            store.Clock(folder).save(spent)  # what a stage that goes on has cost so far
        if number <= done:
            facts = other.finished(f"{stage.name}/fit") or {}
            keep.finish(f"{stage.name}/fit", **facts | ({} if same_decoder or OUT not in facts else {OUT: {}}))
        if number <= done and same_decoder:  # else the model is taken over, and decoded anew
            semantic_ids = recorded.semantic_ids(other)
            rankings = measure.rankings_of(other, stage.name, run.dataset.test, semantic_ids)
            with store.replace_file(keep.rankings(stage.name)) as path:
                rankings.write(path, semantic_ids, run.dataset.test)
            keep.finish(f"{stage.name}/decode", **other.finished(f"{stage.name}/decode") or {})
    continued = run.config.stages[done].name if done < len(ours) else None
    taken = ", ".join(stage.name for stage in run.config.stages[:done]) or "no stage"
    left = [stage.name for stage in run.config.stages[done:]]
    shown = ", ".join(f"{key} {old} → {new}" for key, (old, new) in changed.items())
    how = (
        [f"{left[0]} goes on from its checkpoint ({shown})"] if goes_on else [f"{left[0]} starts anew"] if left else []
    )
    how += [f"{name} starts anew" for name in left[1:]]
    run.progress.say(f"from {source}: {'; '.join([f'{taken} taken over as recorded', *how])}")
    keep.finish(
        "from", run=str(source.resolve()), continued=continued, anew=origin.anew, goes_on=goes_on,
        changed=changed, content=identity.content(source), variant=Record.of_run(source).variant,
    )  # fmt: skip


def _can_go_on(
    source: Path, changed: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any], trainer: Any, other: Store
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
    epochs = (other.finished(f"{name}/fit") or {}).get("epochs", theirs.get("epochs", 0))
    if epochs < theirs.get("epochs", 0) - 1e-3:
        raise BenchError(f"--from-run {source}: stage {name} stopped early there, after {epochs} epochs; {way}")
    if not ours.get("epochs", 0) > theirs.get("epochs", 0):
        shown = f"{name}.epochs is {ours.get('epochs')} here and {theirs.get('epochs')} there"
        raise BenchError(f"--from-run {source}: nothing is left to train ({shown}); give more epochs, or {way}")


def _record(run: Run, result: dict[str, Any]) -> None:
    """Write ``metrics.json``, the report and its figures, and log all of them."""
    keep = run.store
    keep.note(finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    written = _write(keep, result, run.figures)
    files = [store.CONFIG, store.MANIFEST, store.METRICS, store.SEMANTIC_IDS]
    present = [keep.directory / name for name in files if (keep.directory / name).exists()]
    run.tracker.artifacts([*present, *written, *sorted((keep.directory / "rankings").glob("*.parquet"))])


def _write(keep: Store, result: dict[str, Any], draw: bool = True) -> list[Path]:
    """The run is finished with its metrics; the report is made from them. Returns the report's files."""
    store.write_json(keep.directory / store.METRICS, result)
    keep.finish("run")
    return document.write([Record.of_run(keep.directory)], keep.directory, draw)


def measure_again(keep: Store, plugins: Plugins, data_dir: str | None, draw: bool = True) -> dict[str, Any]:
    """Measure a finished run again from its rankings files, and write its metrics, report and figures anew.

    Raises:
        BenchError: see :func:`harness.measure.again`; nothing is written then.
    """
    recorded.need_finished(keep)
    with keep.lock():
        result = measure.again(keep, plugins, data_dir)
        _write(keep, result, draw)
    return result
