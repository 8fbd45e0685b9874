"""Which local files a run reads, by content: a plugin's code, a model's folder, an encoder, another run.

Names alone do not say what a run was made with. It knows files and settings; it runs nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.data.dataset import Dataset
from harness.plugins import Plugin, Plugins

LOCATION = "hf:"
PATHS = ("run", "deepspeed")
"""Settings that name a file or a folder; those that begin with ``hf:`` do too, where it is a local one."""
RUN = "config.yaml"
"""What tells a run's folder from another: of one its settings and its weights are the content."""
BUILT_IN = "built-in"
OWN = {"harness", "plugins", "baselines", "leaderboard", "configs"}
"""Packages of this project: their version is the record's revision."""


def files(config: RunConfig, dataset: Dataset, plugins: Plugins | None) -> dict[str, str]:
    """``{what: hash of its content}`` of every local file or folder that changes a run's result; often none.

    Args:
        plugins: those that are loaded; of them count the ones that a run's components come from.
    """
    found = {f"settings {text}": content(path) for text, path in _paths(config.as_dict())}
    if plugins is not None:
        used = [("dataset", dataset.layout), ("decoder", config.decoder.name)]
        used += [(c.kind, c.name) for c in (config.tokenizer, config.backbone) if c is not None]
        used += [("trainer", stage.trainer.name) for stage in config.stages]
        named = set(_names([dataclasses.asdict(stage.trainer.settings) for stage in config.stages]))
        used += [(kind, name) for kind in ("reward", "trainer", "method") for name in named]
        for kind, name in used:
            plugin = plugins.registry(kind).get(name, (None, None))[1]
            if plugin is not None and plugin.source != BUILT_IN:
                found[f"plugin {plugin.name}"] = _code(plugin)
    return dict(sorted(found.items()))


def content(path: Path) -> str:
    """The hash of a file's or a folder's content, 16 hex digits; of a run's folder that of its settings and weights."""
    if path.is_file():
        return _file(path)
    digest = hashlib.sha256()
    if (path / RUN).is_file():
        weights = sorted(p for p in path.glob("stages/**/*.safetensors") if "checkpoints" not in p.parts)
        parts = [path / RUN, *weights]
    else:
        parts = [p for p in sorted(path.rglob("*")) if p.is_file()]
    for part in parts:
        name = part.relative_to(path)
        if not any(piece.startswith(".") for piece in name.parts):
            digest.update(f"{name.as_posix()}\0{_file(part)}\0".encode())
    return digest.hexdigest()[:16]


def _file(path: Path) -> str:
    found = path.stat()
    return _hashed(path, found.st_size, found.st_mtime_ns, found.st_ino)


@functools.lru_cache(maxsize=4096)
def _hashed(path: Path, *_: int) -> str:
    """A file's hash, read once a process while size, time and inode stay."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _paths(settings: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Settings that name something local, with where it is; a backbone's ``hf:PATH`` is its name."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield from _paths(value, str(name))
    elif isinstance(settings, list):
        for value in settings:
            yield from _paths(value, key)
    elif isinstance(settings, str):
        text = settings.removeprefix(LOCATION)
        if text and (settings.startswith(LOCATION) or key in PATHS) and Path(text).exists():
            yield settings, Path(text)


def _names(settings: Any) -> Iterator[str]:
    """Every text in settings, keys included: a stage may name rewards, and other methods' trainers."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield str(key)
            yield from _names(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _names(value)
    elif isinstance(settings, str):
        yield settings


def _code(plugin: Plugin) -> str:
    """The hash of a plugin's Python files: its own, those of its package, and what it imports from beside it."""
    own = Path(getattr(plugin.module, "__file__", None) or ".")
    package = sys.modules.get((getattr(plugin.module, "__package__", None) or "").partition(".")[0])
    roots = [Path(root) for root in getattr(package, "__path__", [])]
    places: set[Path] = set()
    if roots:
        places = {file for root in roots for file in root.rglob("*.py")}
    else:
        _with_imports(own, places, own.parent)
    base = roots[0] if roots else own.parent
    hashes = {place.relative_to(base).as_posix(): content(place) for place in places if base in place.parents}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]


def _with_imports(file: Path, known: set[Path], base: Path) -> None:
    """Add a file and what it imports from the folder `base`, by reading import statements, files read along it too."""
    if file in known or not file.is_file():
        return
    known.add(file)
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # what cannot be read is not imported, or ends the run by itself
        return
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in {name.partition(".")[0] for name in names} - OWN:
            _with_imports(base / f"{name}.py", known, base)
            for inner in sorted((base / name).rglob("*.py")):  # a package, with or without an __init__.py
                _with_imports(inner, known, base)
