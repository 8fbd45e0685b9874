"""What of a run stands in MLflow: written so that doing it twice changes nothing, in whatever state it was left.

A run directory is mirrored as one MLflow run with a nested run a stage. Each is found again by its id in the manifest,
or by a key that was noted there before it was made. Of points, parameters, inputs and artifacts only what is missing
is logged.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.runs import finished
from harness.runs.mlflow_store import Store, Unavailable
from harness.runs.run_directory import CONFIG, MANIFEST, METRICS, SEMANTIC_IDS, RunDirectory, read_log

KEY = "bench key"
MOST = 500  # characters of a parameter
FOLDERS = {".parquet": "rankings", ".png": "figures", ".svg": "figures"}  # of artifacts
NOT_LOGGED = ("train", "decode", "ranks", "segments", "measured")  # of a stage; the run's artifacts hold them
BATCH = 500


class Mirror:
    """One run directory and its MLflow runs.

    Args:
        suffix: behind the category in the experiment's name.
    """

    def __init__(self, store: Store, folder: RunDirectory, suffix: str = ""):
        self.store, self.folder, self.suffix = store, folder, suffix
        self.run = ""
        self._stages: dict[str, str] = {}
        self._order: list[str] = []
        self._new: set[str] = set()  # made here: nothing stands in them yet
        self._experiment = ""
        self._logged: dict[tuple[str, str], dict[int, float]] = {}

    @property
    def noted(self) -> dict[str, Any]:
        """What the manifest says of the MLflow runs; in another store than its own they are looked for by their key."""
        known = self.folder.manifest.get("mlflow", {})
        if known.get("store") in (None, self._store_key):
            return known
        return {key: known[key] for key in ("key",) if known.get(key)}

    @property
    def _store_key(self) -> str:
        return hashlib.sha256(self.store.address.encode()).hexdigest()[:12]

    def _note(self, **facts: Any) -> None:
        self.folder.note(mlflow=self.noted | {"store": self._store_key} | facts)

    @property
    def complete(self) -> bool:
        """Whether all of a finished run stands in this store already, as it is now."""
        local = self.store.database
        return self.noted.get("mirrored") == self._content() and (local is None or local.exists())

    def _content(self) -> str:
        """A hash of what is mirrored of a finished run."""
        parts = [self._store_key]
        for name in (METRICS, CONFIG):
            path = self.folder.path / name
            parts.append(str(zlib.crc32(path.read_bytes())) if path.is_file() else "")
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def begin(self, category: str, name: str, tags: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Find or make the MLflow run, with its parameters and its input.

        Raises:
            Unavailable: the store failed.
        """
        client, call = self.store.client, self.store.call
        self._order = [stage["name"] for stage in settings["stages"]]
        self._experiment = self._experiment_of(category + self.suffix)
        noted = self.noted
        if not noted.get("key"):
            self._note(key=uuid.uuid4().hex)  # before the run is made: a kill in between finds it again
            noted = self.noted
        found = self._existing(noted.get("run"), f"tags.`{KEY}` = '{noted['key']}'")
        if found is None:
            made_tags = dict(tags) | {KEY: noted["key"]}
            found = call(lambda: client.create_run(self._experiment, run_name=name, tags=made_tags))
            self._new.add(found.info.run_id)
        self.run = found.info.run_id
        if noted.get("run") != self.run:
            self._note(run=self.run, artifacts={})
        self._parameters(settings, found.data.params)
        self._input(category, found.inputs)

    def stage(self, name: str) -> str:
        """The id of the nested run of a stage, found or made."""
        if name in self._stages:
            return self._stages[name]
        client = self.store.client
        query = f"tags.mlflow.parentRunId = '{self.run}' and tags.stage = '{name}'"
        found = self._existing(self.noted.get(name), query)
        if found is None or found.data.tags.get("mlflow.parentRunId") != self.run:
            tags = {"mlflow.parentRunId": self.run, "stage": name}
            found = self.store.call(lambda: client.create_run(self._experiment, run_name=name, tags=tags))
            self._new.add(found.info.run_id)
        self._stages[name] = found.info.run_id
        if self.noted.get(name) != found.info.run_id:
            self._note(**{name: found.info.run_id})
        return self._stages[name]

    def points(self, run_id: str, curves: Mapping[str, Iterable[tuple[float, float]]]) -> None:
        """Log what is not there yet of ``{name: [(step, value), …]}``; a value that changed at its step is logged."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = []
        for key, values in curves.items():
            name = _name(key)
            known = self._history(run_id, name)
            for step, value in values:
                if math.isfinite(value) and known.get(int(step)) != value:
                    known[int(step)] = value
                    batch.append(Metric(name, float(value), now, int(step)))
        for start in range(0, len(batch), BATCH):
            part = batch[start : start + BATCH]
            self.store.call(partial(self.store.client.log_batch, run_id, metrics=part))

    def result(self, name: str, metrics: Mapping[str, Any]) -> None:
        """A stage's test metrics, in the stage's run and in the run.

        There the stage's place is the step, so that the last stage's stay, and no stage's value is logged over
        another's.
        """
        numbers = flatten({k: v for k, v in metrics.items() if k not in NOT_LOGGED})
        numbers |= {f"{k}.seconds": metrics[k]["seconds"] for k in ("train", "decode") if metrics.get(k)}
        for run_id, step in ((self.stage(name), 0), (self.run, self._order.index(name))):
            self.points(run_id, {key: [(step, float(value))] for key, value in numbers.items()})

    def sids(self) -> None:
        """The figures of the run's semantic IDs, those of a level under its number."""
        quality = self.folder.manifest.get("tokenizer", {}).get("quality", {})
        numbers: dict[str, float] = {}
        for name, value in quality.items():
            levels = value if isinstance(value, list) else None
            numbers |= {f"SIDs.{name}.{n}": v for n, v in enumerate(levels, 1)} if levels else {f"SIDs.{name}": value}
        self.points(self.run, {name: [(0, float(value))] for name, value in numbers.items()})

    def artifacts(self) -> None:
        """Log the files of the run whose content is not there yet."""
        client, known = self.store.client, dict(self.noted.get("artifacts") or {})
        before = dict(known)
        for path in artifacts_of(self.folder.path):
            digest = _digest(path)
            if known.get(path.name) != digest:
                where = FOLDERS.get(path.suffix)
                self.store.call(partial(client.log_artifact, self.run, str(path), where))
                known[path.name] = digest
        if known != before:
            self._note(artifacts=known)

    def end(self, status: str, stages: Iterable[str] = ()) -> None:
        """End the run, or those of stages, with a status of MLflow's; one that stands already is left."""
        for run_id in [*(self.stage(name) for name in stages), *([] if stages else [self.run])]:
            info = self.store.call(partial(self.store.client.get_run, run_id)).info
            if info.status != status:
                self.store.call(partial(self.store.client.set_terminated, run_id, status))

    def running(self, run_id: str) -> None:
        """Mark a run as running again."""
        self.store.call(lambda: self.store.client.update_run(run_id, "RUNNING"))

    def whole(self, status: str = "FINISHED") -> None:
        """Bring all of a run directory up to date, be the run finished or left half done.

        Raises:
            Unavailable: the store failed; what is done stays done.
            BenchError: the run directory is damaged.
        """
        manifest, settings = finished.begun(self.folder), finished.configuration(self.folder)
        if not self.run:
            self.begin(manifest["category"], run_name(manifest, self.suffix), tags_of(self.folder), settings)
        is_finished = self.folder.finished("run") is not None
        results = finished.metrics(self.folder)["stages"] if is_finished else {}
        names = [stage["name"] for stage in settings["stages"]]
        begun = [n for i, n in enumerate(names, 1) if n in results or (self.folder.stage(i, n)).is_dir()]
        for number, name in enumerate(names, start=1):
            if name in begun:
                self.points(self.stage(name), read_log(self.folder.stage(number, name)))
                if name in results:
                    self.result(name, results[name])
        if is_finished:
            self.sids()
            self.artifacts()
        for name in begun:
            done = self.folder.finished(f"{name}/decode") is not None
            self.end("FINISHED" if done else status, [name])
        self.end(status)
        if is_finished:
            self._note(mirrored=self._content())

    def _experiment_of(self, name: str) -> str:
        client, call = self.store.client, self.store.call
        found = call(lambda: client.get_experiment_by_name(name))
        if found is None:
            local = self.store.artifact_root.as_uri() if self.store.database is not None else None
            return str(call(lambda: _created(client, name, local)))
        if found.lifecycle_stage == "deleted":
            self.store.failed = (
                f"its experiment '{name}' was deleted; "
                f"mlflow experiments restore --experiment-id {found.experiment_id} brings it back"
            )
            raise Unavailable(self.store.failed)
        return str(found.experiment_id)

    def _existing(self, run_id: str | None, query: str) -> Any:
        """The run of an id, or what a query finds; None where there is none (any more)."""
        client, call = self.store.client, self.store.call
        if run_id:
            known = call(lambda: _run_or_none(client, run_id))
            if known is not None and known.info.lifecycle_stage == "active":
                return known
        there = call(lambda: client.search_runs([self._experiment], filter_string=query, max_results=1))
        return call(lambda: client.get_run(there[0].info.run_id)) if there else None

    def _history(self, run_id: str, name: str) -> dict[int, float]:
        """``{step: value}`` of what is logged of a metric (the last value of a step), asked for once."""
        if (run_id, name) not in self._logged and run_id in self._new:
            self._logged[run_id, name] = {}
        if (run_id, name) not in self._logged:
            points = self.store.call(lambda: self.store.client.get_metric_history(run_id, name))
            self._logged[run_id, name] = {point.step: point.value for point in sorted(points, key=_time)}
        return self._logged[run_id, name]

    def _parameters(self, settings: Mapping[str, Any], known: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        flat = {_name(k): str(v)[:MOST] for k, v in flatten(settings, numbers=False).items()}
        missing = [Param(k, v) for k, v in flat.items() if k not in known]
        for start in range(0, len(missing), 100):
            part = missing[start : start + 100]
            self.store.call(partial(self.store.client.log_batch, self.run, params=part))

    def _input(self, category: str, inputs: Any) -> None:
        """The dataset as an MLflow input: name, digest, sizes."""
        from mlflow.entities import Dataset, DatasetInput

        manifest = self.folder.manifest
        digest = manifest["fingerprints"]["data"]
        if any(one.dataset.digest == digest[:36] for one in getattr(inputs, "dataset_inputs", None) or ()):
            return
        profile = json.dumps({"rows": manifest["rows"], "items": manifest["items"], "caption": manifest["caption"]})
        dataset = Dataset(
            name=category, digest=digest[:36], source_type="local", source=json.dumps({"fingerprint": digest}),
            profile=profile,
        )  # fmt: skip
        given = [DatasetInput(dataset=dataset, tags=[])]
        self.store.call(lambda: _log_inputs(self.store.client, self.run, given))


def artifacts_of(folder: Path) -> list[Path]:
    """The files of a finished run that MLflow holds too; the manifest last, since it says what is logged."""
    named = [folder / name for name in (CONFIG, METRICS, SEMANTIC_IDS, "report.md")]
    figures = sorted((folder / "figures").glob("*"))
    rankings = sorted((folder / "rankings").glob("*.parquet"))
    return [path for path in [*named, *figures, *rankings, folder / MANIFEST] if path.is_file()]


def tags_of(folder: RunDirectory) -> dict[str, str]:
    """The tags of a run."""
    manifest = folder.manifest
    return {
        "method": manifest["method"],
        "category": manifest["category"],
        "seed": str(manifest["seed"]),
        "git revision": manifest["revision"],
        "data fingerprint": manifest["fingerprints"]["data"],
        "SID fingerprint": str(manifest["fingerprints"].get("semantic_ids")),
        "data caption": manifest["caption"],
        "directory": str(folder.path.resolve()),
        **{f"version.{k}": v for k, v in manifest["versions"].items()},
        **{f"hardware.{k}": str(v) for k, v in manifest["hardware"].items()},
    }


def run_name(manifest: Mapping[str, Any], suffix: str = "") -> str:
    """What a run is called in MLflow."""
    return f"{manifest['method']} seed {manifest['seed']}{suffix}"


def flatten(values: Mapping[str, Any], prefix: str = "", numbers: bool = True) -> dict[str, Any]:
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


def _time(point: Any) -> int:
    return int(point.timestamp)


def _name(key: str) -> str:
    """A name MLflow allows: ``HR@10`` becomes ``HR_at_10``."""
    cleaned = key.replace("@", "_at_").replace("→", "to").replace("+", "_")
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in cleaned)


def _digest(path: Path) -> str:
    """A hash of a file; of the manifest without what it says of MLflow, which changes while it is logged."""
    content = path.read_bytes()
    if path.name == MANIFEST:
        facts = json.loads(content)
        content = json.dumps({k: v for k, v in facts.items() if k != "mlflow"}, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _run_or_none(client: Any, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _created(client: Any, name: str, artifact_location: str | None) -> str:
    """A new experiment, or the one that another process made in the meantime."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name, artifact_location=artifact_location))
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _log_inputs(client: Any, run_id: str, inputs: list[Any]) -> None:
    """Log an input; another process may make the same dataset's row at the same time, and then it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.log_inputs(run_id, datasets=inputs)
    except MlflowException:
        time.sleep(0.2)
        client.log_inputs(run_id, datasets=inputs)
