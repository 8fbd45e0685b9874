"""The study of a search: Optuna's database of trials. One process makes it; where it is damaged, that is one line."""

from __future__ import annotations

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import BenchError
from harness.runs.config import MOST_SEED

FILE, LOCK = "study.db", ".study.lock"


class Damaged(Exception):
    """The database cannot be read; what its readers said is the cause."""


def optuna() -> Any:
    """The package.

    Raises:
        BenchError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise BenchError("bench tune needs Optuna: pip install 'genrec-bench[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
    return optuna


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """What fails in the database is one line: where, what, the mend."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, Damaged) as error:
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
        what = " ".join(str(getattr(cause, "orig", None) or cause).split())[:120]
        if "full" in what:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        mend = "wait for it" if "locked" in what else f"move {path.parent} away and search again"
        raise BenchError(f"{path} cannot be used ({what}); {mend}") from None


def opened(package: Any, path: Path, name: str, seed: int, prune: bool) -> Any:
    """The study, made where there is none.

    Args:
        package: :func:`optuna`.
        prune: whether trials below the median of those before them are stopped.

    Raises:
        Damaged: whatever a damaged database makes of those who read it.
    """
    pruner = package.pruners.MedianPruner(4, 4, n_min_trials=3) if prune else package.pruners.NopPruner()
    try:
        storage = package.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
        study = package.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
        )
        package.get_all_study_summaries(storage)  # all that it says of itself, and then the trials
        n = len(study.get_trials(deepcopy=False))
    except Exception as error:
        raise Damaged from error
    study.sampler = sampler(package, seed, n)
    return study


def sampler(package: Any, seed: int, n: int) -> Any:
    """What draws a trial's settings: a function of the search's seed and of how many trials there are before it."""
    return package.samplers.TPESampler(
        seed=(seed + n) % (MOST_SEED + 1), multivariate=True, constant_liar=True, n_startup_trials=6
    )


def noted(study: Any, key: str, path: Path) -> dict[str, Any] | None:
    """What the study says of itself; None where it says nothing.

    Raises:
        BenchError: it is no mapping.
    """
    value = study.user_attrs.get(key)
    if value is not None and not isinstance(value, dict):
        raise BenchError(f"{path} is damaged (its '{key}' is no mapping); move {path.parent} away and search again")
    return value
