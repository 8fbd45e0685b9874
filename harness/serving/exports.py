"""A finished run's model for other tools: an MLflow model, a Hugging Face folder, an ONNX file.

What is written is tried before it is put in place: it must give what the run's own model gives.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.data.dataset import Histories
from harness.data.semantic_ids import END, SemanticIds
from harness.errors import BenchError, unknown
from harness.runs.run_directory import RunDirectory
from harness.version import DISTRIBUTION, __version__

from . import bundles
from .recommender import Answer, Recommender

TRIED = 32
"""Histories that an export is tried with."""
CLOSE = 1e-5
"""How far a score may be from the run's own, as a share of the largest where that is above 1."""
BUNDLE = "bundle"


def mlflow(made: Recommender, target: Path, log: Path | None = None) -> str:
    """An MLflow pyfunc model with signature and example: a history in, items with titles and scores out.

    Args:
        log: the runs folder whose MLflow store it is logged to as well; None: it is not.

    Returns:
        A line that says how to use it, or where it was logged.
    """
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    texts, numbers = Array(DataType.string), Array(DataType.double)
    signature = ModelSignature(
        Schema([ColSpec(texts, "history")]),
        Schema([ColSpec(texts, "items"), ColSpec(texts, "titles"), ColSpec(numbers, "scores")]),
        ParamSchema([ParamSpec("k", DataType.long, 10), ParamSpec("seen", DataType.string, made.seen)]),
    )
    example = pd.DataFrame({"history": [[made.catalogue.id(item) for item in _tried(made)[0]]]})

    def options(bundle: Path) -> dict[str, Any]:
        return {
            "python_model": str(Path(__file__).parent / "mlflow_code.py"),
            "artifacts": {BUNDLE: str(bundle)},
            "signature": signature,
            "input_example": example,
            "pip_requirements": _requirements(made),
            "metadata": {"model": made.told(), "category": made.catalogue.category},
        }

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    store = _store_of(made, log) if log is not None else None
    with files.replace_folder(target) as folder:
        _bundle(made, folder / BUNDLE)
        pyfunc.save_model(folder / "model", **options(folder / BUNDLE))
        shutil.rmtree(folder / BUNDLE)
        for path in (folder / "model").iterdir():
            path.rename(folder / path.name)
        (folder / "model").rmdir()
    if store is None:
        return f"try it: mlflow models serve -m {target} --env-manager local"
    return _logged(made, target, store, options(target / "artifacts" / BUNDLE))


def _store_of(made: Recommender, runs: Path) -> Any:
    """The MLflow store of a runs folder, which knows the run.

    Raises:
        BenchError: it does not.
    """
    import mlflow as tracking

    from harness.runs.mlflow_store import Store

    store = Store(runs)
    store.open()
    tracking.set_tracking_uri(store.uri)
    run = made.prepared.run.directory.manifest.get("mlflow", {}).get("run")
    try:
        tracking.get_run(run)
        return store
    except Exception:  # none is noted, or it is in another store
        raise BenchError(
            f"{made.prepared.run.directory.path} is not in {store.address}; bench mlflow sync brings it there"
        ) from None


def _logged(made: Recommender, target: Path, store: Any, options: dict[str, Any]) -> str:
    import mlflow as tracking

    run = made.prepared.run.directory.manifest["mlflow"]["run"]
    ended = tracking.get_run(run).info.end_time
    with tracking.start_run(run_id=run):
        logged = tracking.pyfunc.log_model(name=made.stage, **options)
    tracking.MlflowClient().set_terminated(run, end_time=ended)  # it ended when it ended
    return f"logged as {logged.model_uri} in {store.address}; a copy is in {target}"


def hf(made: Recommender, target: Path) -> str:
    """A Hugging Face folder: model, text tokenizer, semantic IDs, and a card that says how to ask it.

    Raises:
        BenchError: the stage's model is no causal language model of semantic IDs.
    """
    from harness.decoding.generator import GenerativeModel
    from harness.language import models
    from harness.serving.model_card import card

    model = getattr(made.model, "model", None)
    writes = isinstance(made.model, GenerativeModel) and made.model.leaves == "sid"
    if not writes or made.catalogue.semantic_ids is None or not hasattr(model, "save_pretrained"):
        raise BenchError(
            f"{made.told()} is no language model that writes semantic IDs; bench export mlflow takes every method"
        )
    with files.replace_folder(target) as folder:
        models.save_model(model, made.model.text_tokenizer, folder)
        for path in (folder / models.MODEL).iterdir():
            path.rename(folder / path.name)
        (folder / models.MODEL).rmdir()
        files.write_json(folder / "semantic_ids.json", _answers(made.catalogue.semantic_ids))
        files.write_text(folder / "README.md", card(made, _tried(made)[0]))
        _answers_alike(made, folder)
    style = made.prepared.run.config.prompts
    return f"read by transformers, and by bench score --model {target} --set checkpoint.prompts={style}"


def _answers_alike(made: Recommender, folder: Path) -> None:
    """A language model read back from its folder finds the beams that the run's own finds.

    Raises:
        BenchError: it does not.
    """
    from harness.language import models

    model, text_tokenizer = models.load_folder(folder, made.prepared.run.device)
    read = dataclasses.replace(made.model, model=model.eval(), text_tokenizer=text_tokenizer)
    again, histories = dataclasses.replace(made, model=read), _tried(made)
    for here, there in zip(made.answers(histories), again.answers(histories), strict=True):
        if _items(here) != _items(there):
            raise BenchError(f"the Hugging Face folder of {made.told()} answers otherwise; nothing was written")


def _answers(semantic_ids: SemanticIds) -> dict[str, list[str]]:
    """The tokens that the model writes for each item: its semantic ID, and the end of one that is short."""
    index, most = semantic_ids.index, semantic_ids.n_levels
    return {item: levels if len(levels) == most else [*levels, END] for item, levels in index.items()}


def onnx(made: Recommender, target: Path) -> str:
    """An ONNX file of a network of item ids: ``items [batch, length]`` → ``scores [batch, n_items]``.

    Raises:
        BenchError: the model is no such network, reads users, or the file's scores are not the network's.
    """
    scorer, network = made.model, getattr(made.model, "model", None)
    from harness.item_models.model import ItemModel

    if not isinstance(network, ItemModel):
        raise BenchError(
            f"{made.told()} is no network of item ids; ONNX is for those (sasrec, gru4rec …), bench export mlflow "
            "takes every method"
        )
    if network.sees_users:
        raise BenchError(f"{made.told()} reads who the user is, and an ONNX file is asked with a history alone")
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BenchError(f"ONNX needs {error.name}; pip install 'genrec-bench[onnx]'") from None
    from harness.serving import onnx_file

    histories = _tried(made)
    with files.replace_folder(target) as folder:
        path = folder / "model.onnx"
        onnx_file.write(network, made.catalogue, made.longest, made.told(), path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for length in (made.longest, 1):
            asked = [history[-length:] for history in histories]
            items = onnx_file.padded(asked, made.longest, len(made.catalogue))
            got = session.run(["scores"], {"items": items})[0]
            _same(np.asarray(got), scorer.score(Histories.of(asked, made.longest)), "ONNX")
        onnx_file.write_catalogue(made.catalogue, folder / "items.jsonl")
    filled = f"filled up in front with {len(made.catalogue)}"
    return f"input items [batch, {made.longest}]: the numbers of items.jsonl, the newest last, {filled}"


FORMATS: dict[str, Callable[..., str]] = {"mlflow": mlflow, "hf": hf, "onnx": onnx}


def export(form: str, made: Recommender, target: Path, log: Path | None = None) -> str:
    """Write a model for another tool; a line says how to use it.

    Raises:
        BenchError: the form is unknown, the target is there already, or the model is not of that kind.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if target.exists():
        raise BenchError(f"--output {target} is there already; name a new folder")
    if log is not None and form != "mlflow":
        raise BenchError("--log is for mlflow alone")
    with files.made_for(target.absolute().parent):
        return mlflow(made, target, log) if form == "mlflow" else FORMATS[form](made, target)


def _bundle(made: Recommender, folder: Path) -> None:
    """Write the bundle of a run, and see that it answers as the run does."""
    run = made.prepared.run
    outside = [part.location for stage in run.config.stages for part in stage.parts.values() if part.kind == "run"]
    if outside:
        raise BenchError(f"{made.told()} builds on another run ({outside[0]}), which an export cannot take along")
    if made.stage != run.config.stages[-1].name:
        raise BenchError("--stage: what is exported for MLflow is the last stage")
    _requirements(made)
    folder.mkdir()
    bundles.write(folder, RunDirectory(run.directory.path), run.dataset)
    again = Recommender.load(folder, plugins=run.plugins, device=run.device)
    histories = _tried(made)
    for here, there in zip(made.answers(histories), again.answers(histories), strict=True):
        if _items(here) != _items(there):
            raise BenchError(
                f"{made.told()} reads the train data when it is loaded: without them it answers otherwise, so that it "
                "cannot be exported; keep what it reads in its stage directory"
            )


def _requirements(made: Recommender) -> list[str]:
    """The packages that a loaded model needs: this one, and those of the plugins that the run used.

    Raises:
        BenchError: it used a plugin that is a file.
    """
    used = made.prepared.run.directory.manifest.get("components", {}).values()
    outside = [one for one in used if one.get("distribution") != DISTRIBUTION]
    if loose := [one["name"] for one in outside if not one.get("distribution")]:
        raise BenchError(f"plugin {loose[0]} is a file, which a model elsewhere cannot load; install it as a package")
    own = {f"{one['distribution']}=={one['version']}" for one in outside}
    return [f"{DISTRIBUTION}=={__version__}", *sorted(own)]


def _items(answer: Answer) -> list[tuple[int, float]]:
    return [(one.item, round(one.score, 4)) for one in answer.items]


def _same(got: np.ndarray, wanted: np.ndarray, what: str) -> None:
    far = float(np.max(np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted)), initial=0.0))
    if got.shape != wanted.shape or not far <= CLOSE:
        raise BenchError(f"{what} gives scores that differ from the model's by {far:.2g}; nothing was written")


def _tried(made: Recommender) -> list[list[int]]:
    """Histories of any length that the model reads, drawn by popularity, always the same."""
    rng = np.random.default_rng(0)
    weights = made.catalogue.popularity + 1.0
    lengths = rng.integers(1, made.longest + 1, TRIED)
    return [rng.choice(len(made.catalogue), n, p=weights / weights.sum()).tolist() for n in lengths.tolist()]
