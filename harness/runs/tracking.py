"""MLflow: one experiment a category, one run a run, its stages as nested runs.

The run directory is the record; MLflow holds the same for people who look there. A run that is
resumed goes on in its MLflow run.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from harness.data.semantic_ids import SemanticIds
from harness.runs.config import RunConfig
from harness.runs.run_directory import RunDirectory

MOST = 500  # characters of a parameter
FOLDERS = {".parquet": "rankings", ".png": "figures", ".svg": "figures"}  # of artifacts
NOT_LOGGED = ("train", "decode", "ranks", "segments", "measured")  # of a stage; the run's artifacts hold them


class Tracked(Protocol):
    """What a tracker sees of a run (:class:`harness.runs.run.Run`)."""

    config: RunConfig
    directory: RunDirectory


class Tracker:
    """Logs a run to MLflow; with ``enabled`` off it logs nothing."""

    def __init__(self, root: Path, enabled: bool = True, suffix: str = ""):
        self.enabled = enabled
        self.suffix = suffix
        """Behind the category in the experiment's name."""
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root.parent / 'mlflow.db').resolve()}"
        self.artifact_root = (root.parent / "mlartifacts").resolve()
        self._client: Any = None
        self._folder: RunDirectory | None = None
        self._experiment = ""
        self._run = ""
        self._stage = ""
        self._last: dict[str, Any] = {}

    @contextlib.contextmanager
    def run(self, run: Tracked, semantic_ids: SemanticIds | None) -> Iterator[None]:
        """The MLflow run of a run, ended as finished or failed."""
        if not self.enabled:
            yield
            return
        self._open(run)
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self._client.set_terminated(self._run, status)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The nested run of a stage."""
        if not self.enabled or self._folder is None:
            yield
            return
        known = self._folder.manifest.get("mlflow", {})
        self._stage = (
            known.get(name)
            or self._client.create_run(
                self._experiment, run_name=name, tags={"mlflow.parentRunId": self._run, "stage": name}
            ).info.run_id
        )
        self._folder.note(mlflow=self._folder.manifest.get("mlflow", {}) | {name: self._stage})
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        finally:
            self._client.set_terminated(self._stage, status)
            self._stage = ""

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log numbers of the current stage at a step."""
        if self.enabled and self._stage:
            self._metrics(self._stage, numbers, step)

    def stage_result(self, metrics: dict[str, Any]) -> None:
        """Log a stage's test metrics, in the stage's run and in the run (where the last stage's stay)."""
        if not self.enabled or not self._stage:
            return
        numbers = flatten({k: v for k, v in metrics.items() if k not in NOT_LOGGED})
        numbers |= {f"{k}.seconds": metrics[k]["seconds"] for k in ("train", "decode") if metrics.get(k)}
        self._metrics(self._stage, numbers, 0)
        self._metrics(self._run, numbers, 0)

    def artifacts(self, paths: list[Path]) -> None:
        """Log files of the run."""
        if self.enabled and self._run:
            for path in paths:
                self._client.log_artifact(self._run, str(path), FOLDERS.get(path.suffix))

    def _open(self, run: Tracked) -> None:
        import logging

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        import mlflow
        from mlflow.tracking import MlflowClient

        mlflow.set_tracking_uri(self.uri)
        self._client, self._folder = MlflowClient(tracking_uri=self.uri), run.directory
        category = run.config.category
        name = category + self.suffix
        experiment = self._client.get_experiment_by_name(name)
        local = self.artifact_root.as_uri() if self.uri.startswith("sqlite") else None
        self._experiment = (
            experiment.experiment_id if experiment else self._client.create_experiment(name, artifact_location=local)
        )
        known = run.directory.manifest.get("mlflow", {})
        with contextlib.suppress(mlflow.exceptions.MlflowException):
            if known.get("run"):
                self._run = self._client.get_run(known["run"]).info.run_id
                self._client.update_run(self._run, "RUNNING")
        if self._run:
            return
        manifest = run.directory.manifest
        tags = {
            "method": run.config.method,
            "category": category,
            "seed": str(run.config.seed),
            "git revision": manifest["revision"],
            "data fingerprint": manifest["fingerprints"]["data"],
            "SID fingerprint": str(manifest["fingerprints"]["semantic_ids"]),
            "data caption": manifest["caption"],
            "directory": str(run.directory.path.resolve()),
            **{f"version.{k}": v for k, v in manifest["versions"].items()},
            **{f"hardware.{k}": str(v) for k, v in manifest["hardware"].items()},
        }
        name = f"{run.config.method} seed {run.config.seed}{self.suffix}"
        self._run = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        run.directory.note(mlflow={"run": self._run})
        self._parameters(run.config.as_dict())
        self._input(run)

    def _parameters(self, config: dict[str, Any]) -> None:
        from mlflow.entities import Param

        flat = {k: str(v)[:MOST] for k, v in flatten(config, numbers=False).items()}
        params = [Param(_name(k), v) for k, v in flat.items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._run, params=params[start : start + 100])

    def _input(self, run: Tracked) -> None:
        """The dataset as an MLflow input: name, digest, sizes."""
        import json

        from mlflow.entities import Dataset, DatasetInput

        manifest = run.directory.manifest
        digest = manifest["fingerprints"]["data"]
        profile = json.dumps({"rows": manifest["rows"], "items": manifest["items"], "caption": manifest["caption"]})
        dataset = Dataset(
            name=run.config.category, digest=digest[:36], source_type="local",
            source=json.dumps({"fingerprint": digest}), profile=profile,
        )  # fmt: skip
        self._client.log_inputs(self._run, datasets=[DatasetInput(dataset=dataset, tags=[])])

    def _metrics(self, run_id: str, numbers: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(_name(k), float(v), now, step) for k, v in numbers.items() if math.isfinite(v)]
        for start in range(0, len(batch), 500):
            self._client.log_batch(run_id, metrics=batch[start : start + 500])


def flatten(values: dict[str, Any], prefix: str = "", numbers: bool = True) -> dict[str, Any]:
    """Nested values by dotted name; with `numbers` only those that are numbers."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key == "stages" and isinstance(value, list):
            value = {stage["name"]: stage for stage in value}
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}.", numbers)
        elif not numbers or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            flat[name] = value
    return flat


def _name(key: str) -> str:
    """A name MLflow allows: ``HR@10`` becomes ``HR_at_10``."""
    cleaned = key.replace("@", "_at_").replace("→", "to").replace("+", "_")
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in cleaned)
