"""Which local files a run reads, by content: a model's folder, an encoder, another run.

Names alone do not say what a run was made with. It knows files and settings; it runs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness import recipes
from harness.files import sha256
from harness.runs.config import RunConfig

LOCATIONS = ("hf:", "run:", "npy:")
PATHS = ("run", "deepspeed")
"""Settings that name a file or a folder; those that begin with one of :data:`LOCATIONS` do too, where it is local."""
RUN = "config.yaml"
"""What tells a run's folder from another: of one its settings and its weights are the content."""


def files(config: RunConfig) -> dict[str, str]:
    """``{what: hash of its content}`` of every local file or folder that changes a run's result; often none."""
    return dict(sorted((f"settings {text}", content(path)) for text, path in _paths(config.as_dict())))


def content(path: Path) -> str:
    """The hash of a file's or a folder's content, 16 hex digits.

    Of a run's folder it is over its settings, its weights and its rankings, which tell of whatever else its model is.
    """
    return _content(path, True)


def is_as_it_was(path: Path, before: str) -> bool:
    """Whether a run's folder has that content; an older version did not look at its rankings."""
    return before in (_content(path, True), _content(path, False))


def _content(path: Path, with_rankings: bool) -> str:
    if path.is_file():
        return _file(path)
    digest = hashlib.sha256()
    if (path / RUN).is_file():
        weights = sorted(p for p in path.glob("stages/**/*.safetensors") if "checkpoints" not in p.parts)
        rankings = sorted(path.glob("rankings/*.parquet")) if with_rankings else []
        parts = [path / RUN, *weights, *rankings]
    else:
        parts = [p for p in sorted(path.rglob("*")) if p.is_file()]
    for part in parts:
        name = part.relative_to(path)
        if not any(piece.startswith(".") for piece in name.parts):
            digest.update(f"{name.as_posix()}\0{_file(part)}\0".encode())
    return digest.hexdigest()[:16]


def _file(path: Path) -> str:
    status = path.stat()
    return _hashed(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4096)
def _hashed(path: Path, *_: int) -> str:
    """A file's hash, read once a process while size, time and inode stay."""
    return sha256(path)[:16]


def _paths(settings: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Settings that name something local, with where it is; a backbone's ``hf:PATH`` is its name."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield from _paths(value, str(name))
            yield from _paths(str(name))  # an embedder among several
    elif isinstance(settings, list):
        for value in settings:
            yield from _paths(value, key)
    elif isinstance(settings, str):
        prefix = next((prefix for prefix in LOCATIONS if settings.startswith(prefix)), "")
        text, local = settings.removeprefix(prefix), bool(prefix) or key in PATHS
        path = recipes.deepspeed(text) if key == "deepspeed" else Path(text)
        if text and local and path.exists():
            yield settings, path
