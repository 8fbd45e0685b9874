"""The MLflow store as something that may fail: made whole under a lock, called with patience, never the judge of a run.

It knows databases, addresses and calls; what is logged is :mod:`harness.runs.mirror`'s.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import BenchError, shown
from harness.runs.locks import held
from harness.text.plain import masked

ADDRESS = "MLFLOW_TRACKING_URI"
PATIENCE = 10.0
"""Seconds that a store may keep a run waiting, all in all, before it is left alone."""
SLOW = 2.0
"""Seconds of a call that is counted against the patience."""
SLOW_SERVER = 0.25
"""The same where the store is a server: a database next door may be slow because its machine is busy."""
MAKING = 60.0
"""Seconds that others may take to make the database (a few on an idle machine)."""
UNFIT = "?%"
"""Characters of a path that the address of a database cannot hold."""
FORGOTTEN = 600.0
"""Seconds after which a store that failed in this process is tried again."""
_given_up: dict[str, tuple[str, float]] = {}


class Unavailable(Exception):
    """The store did not do what it was asked for, in time or at all."""


class Store:
    """One MLflow store, and how long it is waited for.

    Attributes:
        uri: where it is; see :attr:`address` for what may be shown.
        failed: why it is left alone; empty while it works.
    """

    def __init__(self, root: Path, patience: float = PATIENCE, say: Callable[[str], None] = lambda line: None):
        given = os.environ.get(ADDRESS, "").strip()
        self.uri = given or f"sqlite:///{(root.parent / 'mlflow.db').resolve()}"
        self.artifact_root = (root.parent / "mlartifacts").resolve()
        reason, when = _given_up.get(self.uri, ("", 0.0))
        self.failed = reason if patience <= PATIENCE and time.monotonic() - when < FORGOTTEN else ""
        self._patience, self._say, self._waited = patience, say, 0.0
        self._client: Any = None
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where it is, without credentials."""
        return masked(self.uri)

    @property
    def database(self) -> Path | None:
        """The file of a local database, or None."""
        for head in ("sqlite:///", "sqlite+pysqlite:///"):
            if self.uri.startswith(head) and (rest := self.uri.removeprefix(head).partition("?")[0]):
                return Path(rest)
        return None

    @property
    def client(self) -> Any:
        """MLflow's client; its methods go through :meth:`call`."""
        if self._client is None:
            self._client = _client(self.uri)
        return self._client

    def open(self) -> None:
        """See that the store is there; a local database is made where there is none, or half a one.

        Raises:
            Unavailable: it cannot be used.
        """
        if not os.environ.get(ADDRESS, "").strip() and any(c in self.uri for c in UNFIT):
            self._give_up(f"no database can be kept in a folder whose path has {' or '.join(UNFIT)}; set {ADDRESS}")
        if (path := self.database) is not None:
            try:
                prepare(path, self.artifact_root, self._say)
            except (BenchError, OSError, sqlite3.Error) as error:
                self._give_up(str(error))
            except Exception as error:  # of MLflow's own making of it: a full disk, a folder that cannot be written
                self._give_up(f"{type(error).__name__}: {error}")
        self.call(lambda: self.client.search_experiments(max_results=1))

    def call(self, work: Callable[[], Any]) -> Any:
        """Do something with the client, in a thread that may be left behind.

        Raises:
            Unavailable: it failed, or took longer than there was patience for; the store is left alone from then on.
        """
        if self.failed:
            raise Unavailable(self.failed)
        answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        if self._worker is None:
            self._worker = threading.Thread(target=self._serve, name="mlflow", daemon=True)
            self._worker.start()
        self._work.put((work, answer))
        left, started = max(1.0, self._patience - self._waited), time.monotonic()
        try:
            good, result = answer.get(timeout=None if math.isinf(left) else left)
        except queue.Empty:
            self._give_up(f"no answer in {self._waited + left:.0f} s")
        self._note_wait(time.monotonic() - started)
        if not good:
            self._give_up(_reason(result))
        return result

    def _note_wait(self, seconds: float) -> None:
        """Count a call that took long: a store that is slow each time is as bad as one that never answers."""
        if seconds > (SLOW if self.database is not None else SLOW_SERVER):
            self._waited += seconds

    def _serve(self) -> None:
        while True:
            work, answer = self._work.get()
            try:
                answer.put((True, work()))
            except BaseException as error:  # whatever it is, the run goes on
                answer.put((False, error))

    def _give_up(self, reason: str) -> None:
        self.failed = shown(" ".join(reason.split()))[:300]
        _given_up[self.uri] = self.failed, time.monotonic()
        raise Unavailable(self.failed)


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _client(uri: str) -> Any:
    """MLflow's client; of a local database it makes the tables at once, so :func:`prepare` comes first."""
    _quieten()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)  # mlflow.set_tracking_uri would hold for later runs too


def _quieten() -> None:
    """What MLflow logs stays quiet, and it asks a server that does not answer no more than once again."""
    import logging

    for variable, value in (
        ("GIT_PYTHON_REFRESH", "quiet"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "8"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_LOGGING_LEVEL", "CRITICAL"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
    ):  # fmt: skip
        os.environ.setdefault(variable, value)
    import mlflow  # noqa: F401  it sets the level of its loggers when it is imported

    for name in ("mlflow", "alembic", "urllib3", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def prepare(path: Path, artifact_root: Path, say: Callable[[str], None]) -> None:
    """Make MLflow's database where there is none: whole, beside its place, and put there under a lock.

    A half-made one (its maker was killed, or the disk was full) is set aside under a name that is said.
    """
    if path.exists() and not path.is_file():
        raise BenchError(f"{path} is no file; name a database")
    if not path.parent.is_dir():
        raise BenchError(f"the folder {path.parent} is missing; make it, or name another")
    if _whole(path):
        return
    with held(path.with_name(f".{path.name}.lock"), f"{path} (it is being made)", MAKING, say, PATIENCE):
        for leftover in path.parent.glob(f".{path.name}.*.tmp*"):
            leftover.unlink(missing_ok=True)
        if _whole(path):
            return
        if path.exists():
            if foreign := _of_another(path):
                raise BenchError(f"{path} is another program's database (it has a table {foreign}); name another file")
            aside = next(
                p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}.half-made-{n}")).exists()
            )
            os.replace(path, aside)
            for ending in ("-wal", "-shm", "-journal"):
                with contextlib.suppress(OSError):
                    os.replace(f"{path}{ending}", f"{aside}{ending}")
            say(f"{path} was half made or damaged: it is set aside as {aside.name}, and made anew; bench mlflow sync "
                "logs what is recorded again")  # fmt: skip
        _make(path, artifact_root)


def _make(path: Path, artifact_root: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with contextlib.closing(sqlite3.connect(temporary)) as connection:  # what fails, fails at once
            connection.execute("PRAGMA user_version = 0")
        _quieten()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore(f"sqlite:///{temporary}", artifact_root.as_uri())
        store.engine.dispose()
        for ending in ("-wal", "-shm", "-journal"):
            if Path(f"{temporary}{ending}").exists():
                with sqlite3.connect(temporary) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _forget(path)
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                Path(f"{temporary}{ending}").unlink()


def _forget(path: Path) -> None:
    """Let MLflow forget what it keeps open of a database that stood here before, in a process that used it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    with contextlib.suppress(AttributeError, KeyError):  # its own business, which another version may arrange otherwise
        SqlAlchemyStore._engine_map.pop(f"sqlite:///{path}").dispose()
    with contextlib.suppress(AttributeError):
        _tracking_store_registry._get_store_with_resolved_uri.cache_clear()


def _whole(path: Path) -> bool:
    """Whether there is a database that MLflow can use; one of an older version counts, where it holds runs."""
    if not path.exists():
        return False
    mode = (
        "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    )  # rw rolls back what was killed
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=1)
    except sqlite3.Error:
        return False
    try:
        tables = _tables(connection)
        if not {"alembic_version", "experiments", "runs", "latest_metrics"} <= tables:
            return False
        if any(name.startswith("_alembic_tmp_") for name in tables):
            return False
        versions = [version for (version,) in connection.execute("SELECT version_num FROM alembic_version")]
        runs = connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
        return len(versions) == 1 and (runs > 0 or versions[0] == _newest_version())
    except sqlite3.OperationalError as error:
        return "lock" in str(error) or "busy" in str(error)  # somebody uses it: it is one
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def _tables(opened: sqlite3.Connection) -> set[str]:
    return {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _of_another(path: Path) -> str:
    """A table of a database that holds tables and none of MLflow's; empty where it is none."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as opened:
            tables = _tables(opened)
    except sqlite3.Error:
        return ""
    own = {"alembic_version", "experiments", "runs", "metrics", "params", "tags", "experiment_tags", "latest_metrics"}
    return "" if tables & own else min(tables, default="")


def _newest_version() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())
