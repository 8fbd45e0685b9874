"""Which local files a run reads, by content: a plugin's code, a model's folder, an encoder, another run.

Names alone do not say what a run was made with. It knows files and settings; it runs nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.data.dataset import Dataset
from harness.plugins import Plugin, Plugins

WHOLE = 2**26
"""Files up to this size (64 MiB) are hashed whole; of larger ones (weights) evenly spaced blocks."""
BLOCKS, BLOCK = 64, 2**20
LOCATION = "hf:"
PATHS = ("run", "deepspeed")
"""Settings that name a file or a folder; those that begin with ``hf:`` do too, where it is a local one."""
OF_A_RUN = ("metrics.json", "config.yaml")
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
        used += [("reward", name) for name in _rewards(config)]
        for kind, name in used:
            plugin = plugins.registry(kind).get(name, (None, None))[1]
            if plugin is not None and plugin.source != BUILT_IN:
                found[f"plugin {plugin.name}"] = _code(plugin)
    return dict(sorted(found.items()))


def content(path: Path) -> str:
    """The hash of a file's or a folder's content, 16 hex digits; of a run's folder that of its settings and metrics."""
    digest = hashlib.sha256()
    if path.is_file():
        _feed(digest, path)
    else:
        own = [path / name for name in OF_A_RUN if (path / name).is_file()]
        parts = own if len(own) == len(OF_A_RUN) else [p for p in sorted(path.rglob("*")) if p.is_file()]
        for part in parts:
            name = part.relative_to(path)
            if not any(piece.startswith(".") for piece in name.parts):
                digest.update(f"{name.as_posix()}\0{part.stat().st_size}\0".encode())
                _feed(digest, part)
    return digest.hexdigest()[:16]


def _feed(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(str(size).encode())
    with open(path, "rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
            return
        for number in range(BLOCKS):
            file.seek((size - BLOCK) * number // (BLOCKS - 1))
            digest.update(file.read(BLOCK))


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


def _rewards(config: RunConfig) -> list[str]:
    """The rewards that stages name."""
    names: list[str] = []
    for stage in config.stages:
        wanted = getattr(stage.trainer.settings, "rewards", ())
        names += [wanted] if isinstance(wanted, str) else list(wanted)
    return names


def _code(plugin: Plugin) -> str:
    """The hash of a plugin's Python files: its own, those of its package, and what it imports from beside it."""
    own = Path(getattr(plugin.module, "__file__", None) or ".")
    if own.name == "__init__.py":
        places = set(own.parent.rglob("*.py"))
    else:
        places = set()
        _with_imports(own, places)
    hashes = {place.relative_to(own.parent).as_posix(): content(place) for place in places if place.is_file()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]


def _with_imports(file: Path, known: set[Path]) -> None:
    """Add a file and the modules beside it that it imports, by reading its import statements."""
    if file in known or not file.is_file():
        return
    known.add(file)
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in {name.partition(".")[0] for name in names} - OWN:
            _with_imports(file.parent / f"{name}.py", known)
            if (file.parent / name / "__init__.py").is_file():
                known.update((file.parent / name).rglob("*.py"))
