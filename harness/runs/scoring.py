"""A record of rankings that another system made: measured, reported and compared as a run's are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from harness import files
from harness.data.dataset import Dataset
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError, ContractError
from harness.runs import measuring, pipeline
from harness.runs.edits import Edits
from harness.runs.run import Run, bought_again
from harness.runs.run_directory import SEMANTIC_IDS

STAGE = "external"


def method(path: Path, name: str) -> dict[str, Any]:
    """The recipe that stands for rankings of a file.

    Args:
        name: what the system is called.

    Raises:
        BenchError: the file is missing, or the name holds no letter or digit.
    """
    if not path.is_file():
        raise BenchError(f"{path} {'is no file' if path.exists() else 'does not exist'}; name a file of rankings")
    return {
        "name": f"external-{_slug(name)}",
        "called": name,
        "summary": f"{name}: rankings that were made elsewhere ({path.name})",
        "group": "community",
        "tokenizer": {"name": "given", "optional": True},
        "stages": [{"name": STAGE, "file": path.name, "sha256": files.sha256(path)}],
        "decoder": {"name": "external"},
    }


def model(folder: Path, name: str) -> dict[str, Any]:
    """The recipe that decodes a model of a folder, trained elsewhere."""
    return {
        "name": f"external-{_slug(name)}",
        "called": name,
        "summary": f"{name}: a model that was trained elsewhere ({folder.name})",
        "group": "community",
        "tokenizer": {"name": "given"},
        "stages": [{"name": "checkpoint", "path": f"hf:{folder}"}],
        "decoder": {"name": "beam", "beams": 50},
    }


def _slug(name: str) -> str:
    if not any(sign.isalnum() for sign in name) or len(name) > 200:
        raise BenchError(f"--name {name[:40]!r}: give letters or digits, at most 200 characters")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")
    return slug or hashlib.sha256(name.encode()).hexdigest()[:8]  # of a script that has none of these


def record(run: Run, rankings: Rankings) -> dict[str, Any]:
    """Write a run of those rankings of the test samples, in their order; returns its ``metrics.json``.

    Raises:
        BenchError: they break the contract of rankings; nothing is left.
    """
    semantic_ids = run.dataset.given
    hold(rankings, run.dataset, semantic_ids)
    test = run.dataset.test
    if (sample := bought_again(rankings, test.histories, semantic_ids, len(run.dataset.items))) is not None:
        raise ContractError(
            f"the rankings recommend to user {test.users[sample]} what the user bought before; leave that out, or "
            "--seen keep"
        )
    folder = run.directory
    with folder.lock():
        if semantic_ids is not None:
            files.write_text(folder.path / SEMANTIC_IDS, semantic_ids.to_json())
        pipeline.begin(run, semantic_ids, Edits(run=run))
        with files.replace_file(folder.rankings(STAGE)) as path:
            rankings.write(path, semantic_ids, run.dataset.test)
        folder.finish(f"{STAGE}/fit", seconds=0.0)
        folder.finish(f"{STAGE}/decode", seconds=0.0, valid=None)
        run.plugins.notify("bench_run_started", run=run.info)
        with run.tracker.run(run):
            metrics = measuring.stage(folder, STAGE, run.plugins, run.dataset, semantic_ids)
            run.tracker.stage_result(metrics)
            result: dict[str, Any] = {"stages": {STAGE: metrics}}
            result |= measuring.of_the_samples(run.dataset, semantic_ids)
            pipeline.record(run, result)
    return result


def hold(rankings: Rankings, dataset: Dataset, semantic_ids: SemanticIds | None) -> None:
    """Hold rankings that were made elsewhere to what our own decoders promise.

    Raises:
        ContractError: they do not keep it.
    """
    try:
        rankings.check(rankings.catalogue(semantic_ids, len(dataset.items)))
    except BenchError as error:
        raise type(error)(error.message.replace("it returned", "the rankings hold")) from None
