"""The run, stage by stage: read this file to understand the harness.

dataset → tokenizer → trainer stages → decoder → rankings → metrics → record. A step that is noted
as done is never redone, unless its code has changed; a stage that was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from harness import files
from harness.data import versions
from harness.data.dataset import Dataset
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.evaluation.measure import check_signature
from harness.evaluation.validation import OUT, needs_probed
from harness.plugins import Plugins
from harness.progress import JOURNAL
from harness.runs import finished, identity, measuring, rehearsal
from harness.runs.config import RunConfig, identified
from harness.runs.continuation import Origin, take_over
from harness.runs.contract import checked_facts
from harness.runs.edits import Edits
from harness.runs.provenance import device_memory_gib, forget_device_peak, peak_memory_gib, provenance
from harness.runs.run import Made, Prepared, Run, StageOf, without_test
from harness.runs.run_directory import CONFIG, LOCK, METRICS, PRUNED, SEMANTIC_IDS, TOKENIZER, Clock, RunDirectory
from harness.runs.tokenizing import tokenized
from harness.world import world

ORDER = 2
"""The version of the order of samples: 2 is canonical; 1, the file's, is not noted."""


def directory(root: Path, config: RunConfig, dataset: Dataset, from_run: Origin | None = None, *_: Any) -> Path:
    """``runs/<category>/<method>/seed<seed>-<hash>``.

    The hash is over settings, data, given SIDs, the run gone on from, and the content of local files that the run
    reads (a model's or an encoder's folder; see :mod:`harness.runs.identity`). Code is not in it: see
    :mod:`harness.runs.edits`.
    """
    given = dataset.given.fingerprint if dataset.given is not None else None
    files = identity.files(config)

    def named(origin: str | None, processes: int = world.size) -> Path:
        digits = config.hash(**identified(dataset.fingerprint, given, origin, files, processes))
        return root / config.category / config.method / f"seed{config.seed}-{digits}"

    place = named(from_run.name if from_run else None)
    if from_run and not place.is_dir() and named(from_run.place).is_dir():
        place = named(from_run.place)  # of a version that took the folder's whole path for its name
    if not place.is_dir():
        for other in filter(_begun, place.parent.glob(f"seed{config.seed}-*")):
            processes = int(RunDirectory(other).manifest.get("hardware", {}).get("processes", 1))
            if processes != world.size and other == named(from_run.name if from_run else None, processes):
                raise BenchError(
                    f"{other} was begun by {processes} process{'es' if processes > 1 else ''} and is not finished, and "
                    f"batches are counted by process; go on with as many (--processes {processes}), or remove it"
                )
    try:
        str(place.resolve()).encode("utf-8")
    except UnicodeEncodeError:
        raise BenchError(f"{place} has characters that are no UTF-8; name a folder without them") from None
    except FileNotFoundError:
        raise BenchError("the working directory is gone; change to one that is there") from None
    return place


def _begun(place: Path) -> bool:
    """Whether a run has trained something, and is not finished; a damaged one says so when it is asked for itself."""
    with contextlib.suppress(BenchError):
        return any(place.glob("stages/*/*")) and RunDirectory(place).finished("run") is None
    return False


def execute(
    run: Run, from_run: Origin | None = None, edits: Edits | None = None, wait: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Do what is left of a run and return its ``metrics.json``.

    Args:
        from_run: a finished run whose stages are taken over, up to the first whose settings differ.
        edits: what to do about steps whose code has changed since; None: refuse them.
        wait: wait where another process is at work on the run, in place of an error.

    Raises:
        BenchError: bad settings or data, or changed code; nothing half-written is left.
    """
    made = world.agreed(lambda: _made(run))

    def done() -> Any:
        return run.directory.finished("run") is not None and run.directory.manifest.get("finished")

    def work() -> dict[str, Any]:
        when = world.once(done)
        prepared = _prepare(run, made, from_run, edits or Edits())
        if when and world.once(done):
            run.progress.say(f"recorded on {when}: nothing is trained or decoded, its rankings are measured again")
        if taken := run.config.about.get("tuned"):
            run.progress.say(f"settings found by a search on this data's valid: {', '.join(taken)}")
        world.once(lambda: run.plugins.notify("bench_run_started", run=run.info))
        result: dict[str, Any] = {"stages": {}}
        with run.tracker.run(run):
            for stage in _trained(prepared):
                result["stages"][stage.name] = _tested(prepared, stage)
            result |= world.once(lambda: measuring.of_the_samples(run.dataset, prepared.semantic_ids))
            world.once(lambda: record(run, result))
        return result

    return _whole_or_nothing(run, work, wait)


def train(run: Run) -> dict[str, float]:
    """Train a run's stages and return the valid metrics of the last; for tuning, so no test sample is read.

    What is left of the stages is gone on with, as in :func:`execute`; a stage whose code has changed is trained anew.
    """
    made = _made(run)
    run = dataclasses.replace(run, dataset=without_test(run.dataset))
    with run.directory.lock():
        prepared = _prepare(run, made, None, Edits(redo="changed"))
        needs_probed(prepared.probe(), "NDCG@10", "tuning")
        with run.tracker.run(run):
            for stage in _trained(prepared):
                valid = _valid(run, stage, stage.trainer.load(stage.context))
                run.tracker.stage_result({"valid": valid})
    return valid


def _made(run: Run) -> Made:
    """The components, and the dry pass through those that are not the harness's own; nothing is written yet."""
    made = Made.of(run.config, run.plugins, run.dataset.fingerprint)
    for name in run.plugins.registry("metric"):
        check_signature(run.plugins, name)
    if world.size == 1 and run.directory.finished("run") is None:
        rehearsal.rehearse(run)
    return made


def _whole_or_nothing(run: Run, work: Callable[[], dict[str, Any]], wait: bool) -> dict[str, Any]:
    """Work under the run's lock; where input is refused before anything was trained, nothing is left."""
    with contextlib.ExitStack() as stack:
        world.once(lambda: stack.enter_context(run.directory.lock(wait, run.progress.say)))
        fresh = world.once(lambda: not any(path.name != LOCK for path in run.directory.path.iterdir()))
        try:
            with run.progress.noted(run.directory.path / JOURNAL) if world.main else contextlib.nullcontext():
                return work()
        except BenchError:
            if world.main and fresh and not any(run.directory.path.glob("stages/*/*")):
                shutil.rmtree(run.directory.path, ignore_errors=True)
            raise


def _prepare(run: Run, made: Made, from_run: Origin | None, edits: Edits) -> Prepared:
    """Semantic IDs, the manifest's first facts, stages taken over, and every refusal that need not wait."""
    edits = dataclasses.replace(edits, run=run)

    def begun() -> SemanticIds | None:
        edits.settle()
        made_ids = _tokenize(run, made.tokenizer, edits)
        begin(run, made_ids, edits)
        if from_run:
            take_over(run, from_run, made.trainers, edits)
        return made_ids

    semantic_ids = world.once(begun)
    prepared = Prepared(run, made, semantic_ids, without_test(run.dataset))
    left = world.once(lambda: [s.name for s in run.config.stages if run.directory.finished(f"{s.name}/fit") is None])
    world.agreed(lambda: _check(prepared, left))
    return prepared


def _check(prepared: Prepared, left: list[str]) -> None:
    """Every refusal of decoder and trainers; `left` are the stages that are still to be trained."""
    config, decoder = prepared.run.config, prepared.made.decoder
    if config.protocol["seen"] == "drop" and not getattr(decoder, "leaves_out_bought", True):
        raise BenchError(
            f"decoder {config.decoder.name} cannot leave out bought items (protocol.seen=drop); set decoder=beam"
        )
    if hasattr(decoder, "check"):
        decoder.check(prepared.run.dataset.items, prepared.semantic_ids)
    for stage in prepared.stages():
        _works_together(stage)
        if hasattr(stage.trainer, "check") and stage.name in left:
            stage.trainer.check(stage.context)


def _works_together(stage: StageOf) -> None:
    """Refuse a trainer that does not say whether it works on several processes, where there are several."""
    if world.size > 1 and not isinstance(getattr(stage.trainer, "distributed", None), bool):
        raise BenchError(
            f"stage {stage.name} does not say whether its trainer works on several processes; run it in one, or write "
            "distributed = False in it (the main process trains, the others wait)"
        )


def _open(run: Run, step: str) -> bool:
    """Whether a step is still to do, as the main process sees it."""
    return world.once(lambda: run.directory.finished(step) is None)


def begin(run: Run, semantic_ids: SemanticIds | None, edits: Edits) -> None:
    """Write the resolved configuration and the manifest's first facts."""
    folder, dataset = run.directory, run.dataset
    if folder.finished("begin") is not None:
        if folder.manifest.get("order") != ORDER:
            _drop_unfinished(run)
        return
    local = identity.files(run.config)
    folder.note(
        order=ORDER,
        method=run.config.method,
        category=run.config.category,
        seed=run.config.seed,
        group=run.config.group,
        caption=dataset.caption,
        fingerprints={
            "data": dataset.fingerprint,
            "semantic_ids": semantic_ids.fingerprint if semantic_ids else None,
            **({"files": local} if local else {}),
        },
        rows={name: len(samples) for name, samples in dataset.splits.items()},
        items=len(dataset.items),
        **({"left_out": dataset.left_out} if dataset.left_out else {}),
        ground=versions.of(dataset, run.config.protocol),
        semantic_ids=semantic_ids.report() if semantic_ids else None,
        components={label: code.as_dict() for label, code in edits.codes.items()},
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **provenance(run.device),
    )
    files.write_text(folder.path / CONFIG, yaml.safe_dump(run.config.as_dict(), sort_keys=False))
    folder.finish("begin")


def _drop_unfinished(run: Run) -> None:
    """A stage that an older version left unfinished read its samples in another order: it starts from its beginning."""
    for number, stage in enumerate(run.config.stages, start=1):
        folder = run.directory.stage(number, stage.name)
        if run.directory.finished(f"{stage.name}/fit") is None and folder.exists():
            run.progress.say(f"{stage.name}: begun by an older version, in another order of samples; it starts anew")
            shutil.rmtree(folder)
    run.directory.note(order=ORDER)


def _tokenize(run: Run, tokenizer: Any, edits: Edits) -> SemanticIds | None:
    config, component = run.config, run.config.tokenizer
    if component is None:
        return None
    path = run.directory.path / SEMANTIC_IDS
    if path.exists():
        prints = run.directory.manifest.get("fingerprints") or {}
        return SemanticIds.read(path, "delete the run's folder to start anew", prints.get("semantic_ids") or "")
    folder = run.directory.path / TOKENIZER
    made = tokenized(
        component, config.sids, config.seed, run.dataset, run.plugins, run.device, folder, run.progress, tokenizer
    )
    if made.semantic_ids is not None:
        files.write_text(path, made.semantic_ids.to_json())
        edits.note("tokenize")
        run.directory.note(tokenizer=made.facts)
    return made.semantic_ids


def _trained(prepared: Prepared) -> Any:
    """The stages in order, each trained when it is handed over: the one loop that running and tuning share."""
    for stage in prepared.stages():
        with prepared.run.tracker.stage(stage.name):
            _fit(prepared.run, stage)
            yield stage


def _fit(run: Run, stage: StageOf) -> None:
    """Train a stage, once; its seconds are those of every process that worked at it, taken over ones included."""
    context, name = stage.context, stage.name
    if not _open(run, f"{name}/fit"):
        return
    run.progress.say(f"{name}: train on {len(context.train):,} samples, select on {len(context.valid):,}")
    world.once(lambda: Edits(run=run).note(f"{name}/fit"))
    clock = Clock(context.directory)

    def log(numbers: dict[str, float], step: int) -> None:
        if world.main:
            context.log(numbers, step)
            clock.note()

    def fit() -> dict[str, Any]:
        found: dict[str, Any] = stage.trainer.fit(dataclasses.replace(context, log=log))
        return found

    facts = fit() if getattr(stage.trainer, "distributed", False) else world.once(fit)

    def done() -> None:
        checked = checked_facts(facts, stage.stage.trainer.name)
        run.directory.finish(f"{name}/fit", seconds=round(clock.seconds, 1), **checked)
        if run.directory.manifest.get(PRUNED):
            run.directory.note(**{PRUNED: None})  # there are checkpoints again

    world.once(done)


def _tested(prepared: Prepared, stage: StageOf) -> dict[str, Any]:
    """Decode test and measure; each once."""
    run, name = prepared.run, stage.name
    if _open(run, f"{name}/decode"):
        model = world.agreed(lambda: stage.trainer.load(stage.context))
        histories = run.dataset.test.histories  # histories only: the decoder sees no target
        run.progress.say(f"{name}: decode {len(histories):,} test histories")
        forget_device_peak(run.device)
        started = time.monotonic()
        rankings = prepared.decode(prepared.made.decoder, model, histories, run.progress)
        seconds = time.monotonic() - started
        cost = {"seconds": round(seconds, 1), "users per second": round(len(histories) / seconds, 1)}
        cost["peak memory GiB"] = round(peak_memory_gib(), 2)
        if (on_device := device_memory_gib(run.device)) is not None:
            cost["device memory GiB"] = round(on_device, 2)
        valid = _valid(run, stage, model)

        def done() -> None:
            with files.replace_file(run.directory.rankings(name)) as path:
                rankings.write(path, prepared.semantic_ids, run.dataset.test)
            Edits(run=run).note(f"{name}/decode")
            run.directory.finish(f"{name}/decode", **cost, valid=valid)

        world.once(done)
    return world.once(lambda: _measured(prepared, name))


def _measured(prepared: Prepared, name: str) -> dict[str, Any]:
    run = prepared.run
    metrics = measuring.stage(run.directory, name, run.plugins, run.dataset, prepared.semantic_ids)
    run.tracker.stage_result(metrics)
    run.plugins.notify("bench_stage_finished", run=run.info, stage=name, result=metrics)
    return metrics


def _valid(run: Run, stage: StageOf, model: Any) -> dict[str, float]:
    """A stage's valid metrics, which runs are chosen by: the probe's, or out of sample where it was fitted on valid.

    None at all where such a stage was taken over for another decoder: what was out of sample is not of that one.
    """
    facts = world.once(lambda: run.directory.finished(f"{stage.name}/fit") or {})
    return dict(facts[OUT]) if OUT in facts else stage.context.probe(model)


def record(run: Run, result: dict[str, Any]) -> None:
    """Write ``metrics.json``, and let observers see the finished run (the report is one's)."""
    if not (run.directory.finished("run") is not None and run.directory.manifest.get("finished")):
        run.directory.note(finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    _write(run, result)


def _write(run: Run, result: dict[str, Any]) -> None:
    files.write_json(run.directory.path / METRICS, result)
    run.directory.finish("run")
    run.plugins.notify("bench_run_finished", run=run.info, result=result)


def measure_again(folder: RunDirectory, plugins: Plugins, data_dir: str | None, draw: bool = True) -> dict[str, Any]:
    """Measure a finished run again from its rankings files, and write its metrics, report and figures anew.

    Raises:
        BenchError: see :func:`harness.runs.measuring.again`; nothing is written then.
    """
    manifest = finished.need_finished(folder)
    with folder.lock():
        result = measuring.again(folder, plugins, data_dir)
        files.write_json(folder.path / METRICS, result)
        folder.finish("run")
        settings = finished.configuration(folder)
        info = finished.info(folder, manifest, settings, draw)
        plugins.notify("bench_run_finished", run=info, result=result)
    return result
