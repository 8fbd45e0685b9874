"""Which code a result was made by: the normalised source of a component and of what it imports of the harness.

A changed comment, docstring or layout changes nothing; a changed statement does. It reads source, and imports nothing.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.builtin import FOLDERS, HOME
from harness.errors import BenchError
from harness.files import read_yaml
from harness.plugins import CORE, Plugin, Plugins
from harness.runs.chosen import Component
from harness.runs.config import RunConfig
from harness.runs.run_directory import CONFIG
from harness.runs.run_files import Config
from harness.version import DISTRIBUTION

HARNESS = Path(__file__).resolve().parent.parent
NO_RESULT_HANGS_ON = {
    "harness", "harness.builtin", "harness.checks", "harness.checks.names", "harness.checks.outlines",
    "harness.checks.schemas", "harness.errors", "harness.files", "harness.guards", "harness.hookspecs", "harness.moved",
    "harness.plugins", "harness.progress", "harness.sources", "harness.text", "harness.text.cells",
    "harness.text.parsing", "harness.text.plain", "harness.world",
}  # fmt: skip
"""Modules that find, name, read and write things: no number is computed in them."""
REPAIRS = "quantising/collisions.py"


@dataclass(frozen=True)
class Code:
    """The code of a component.

    Attributes:
        modules: hash by module, its own and those that it imports of the harness and of its own package.
    """

    name: str
    version: str
    distribution: str
    modules: dict[str, str]

    @property
    def sha256(self) -> str:
        """One hash over all modules."""
        return one(self.modules)

    def as_dict(self) -> dict[str, str]:
        """What manifest and record hold of it."""
        return {
            "name": self.name, "version": self.version, "distribution": self.distribution, "sha256": self.sha256,
        }  # fmt: skip


def of_run(config: RunConfig, layout: str, plugins: Plugins) -> dict[str, Code]:
    """``{"trainer sft": …, "decoder": …}`` of every component that a run uses."""
    used: list[tuple[str, str, str]] = [("dataset", "dataset", layout)]
    for label, component in (("tokenizer", config.tokenizer), ("backbone", config.backbone)):
        if component is not None:
            used.append((label, component.kind, component.name))
    if config.tokenizer is not None:
        used += _named("tokenizer", config.tokenizer.made)
    for stage in config.stages:
        used.append((f"stage {stage.name}", "trainer", stage.trainer.name))
        used += [(f"stage {stage.name}, part {key}", *_trainer_of(c, plugins)) for key, c in stage.parts.items()]
        used += _named(f"stage {stage.name}", stage.made)
        for key, part in stage.parts.items():
            used += _named(f"stage {stage.name}, part {key}", part.made)
    used.append(("decoder", "decoder", config.decoder.name))
    found = {label: of_component(kind, name, plugins) for label, kind, name in used if kind != "run"}
    if config.sids.repair != "none":
        own = closure(HARNESS / REPAIRS, HOME)
        found["tokenizer, repair"] = Code(config.sids.repair, CORE.version, DISTRIBUTION, own)
    return found


def _named(where: str, made: dict[str, dict[str, Component | None]]) -> list[tuple[str, str, str]]:
    """The components that settings name, each with what it is used for."""
    return [
        (f"{where}, {field} {component.name}", component.kind, component.name)
        for field, named in made.items()
        for component in named.values()
        if component is not None
    ]


def _trainer_of(part: Component, plugins: Plugins) -> tuple[str, str]:
    """The kind and name of what a part runs: of a recorded run the trainer of its last stage."""
    if part.kind == "run":
        try:
            return "trainer", str(read_yaml(Path(str(part.location)) / CONFIG, Config)["stages"][-1]["trainer"])
        except BenchError:
            pass  # it is refused where it is loaded
    return part.kind, part.name


def of_component(kind: str, name: str, plugins: Plugins) -> Code:
    """The code of one component."""
    component = plugins.get(kind, name)
    plugin = plugins.owner(kind, name) or CORE
    file = _file_of(component, plugin)
    modules = closure(file, _root(file, plugin)) if file is not None else {}
    own = getattr(plugin.module, "__file__", None)
    if own and not plugin.built_in:  # what registers a component may have made it
        modules |= closure(Path(own).resolve(), _root(Path(own).resolve(), plugin))
    return Code(name, plugin.version, plugin.distribution or (DISTRIBUTION if plugin.built_in else ""), modules)


def one(modules: dict[str, str]) -> str:
    """One hash over modules' hashes."""
    return _sha256("".join(f"{name}\0{digest}\0" for name, digest in sorted(modules.items())))


def of_step(step: str, config: RunConfig, codes: dict[str, Code]) -> dict[str, str]:
    """The modules that a step of a run is made by: ``tokenize``, ``<stage>/fit`` or ``<stage>/decode``."""
    if step == "tokenize":
        labels = [label for label in codes if label.partition(",")[0] == "tokenizer"]
    elif step.endswith("/decode"):
        labels = ["decoder"]
    else:
        stage = step.rpartition("/")[0]
        labels = [f"stage {stage}", "backbone", "decoder"]  # the decoder probes
        labels += [label for label in codes if label.startswith(f"stage {stage}, ")]
    return {name: digest for label in labels if label in codes for name, digest in codes[label].modules.items()}


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The modules whose code is not what it was, or that came or went."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def normalised(source: bytes) -> str:
    """A module's source as its syntax tree without comments, docstrings and places.

    Raises:
        SyntaxError: it is no Python.
    """
    return _dumped(ast.parse(source))


def _dumped(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return ast.dump(tree, annotate_fields=False)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _file_of(component: Any, plugin: Plugin) -> Path | None:
    name = getattr(component, "__module__", "")
    own = getattr(plugin.module, "__name__", "")  # another plugin may have a module of that name
    module = plugin.module if name == own else sys.modules.get(name) or plugin.module
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _root(file: Path, plugin: Plugin) -> Path:
    """The folder whose modules are a component's own: its package, or what lies beside its file."""
    if file.is_relative_to(HARNESS) or any(file.is_relative_to(HOME / folder) for folder in FOLDERS):
        return HOME
    own = getattr(plugin.module, "__file__", None)
    folder = Path(own).resolve().parent if own else file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def closure(file: Path, root: Path) -> dict[str, str]:
    """``{module: hash}`` of a file and all that it imports of the harness and of its own root, files read along it."""
    seen: dict[Path, str] = {}
    todo, known = [file], set[Path]()
    while todo:
        path = todo.pop()
        if path in known:
            continue
        known.add(path)
        if not path.is_file() or _name(path, root) in NO_RESULT_HANGS_ON:
            continue
        digest, imports = _read(path)
        seen[path] = digest
        for imported in imports:
            todo += _places(imported, path, root)
    return {_name(path, root): digest for path, digest in sorted(seen.items())}


@functools.lru_cache(maxsize=4096)
def _name(path: Path, root: Path) -> str:
    """A file's module name as messages show it."""
    if path.is_relative_to(HARNESS):
        relative = path.relative_to(HARNESS.parent)
    else:
        relative = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _read(path: Path) -> tuple[str, tuple[tuple[int, str], ...]]:
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4096)
def _parsed(path: Path, *_: int) -> tuple[str, tuple[tuple[int, str], ...]]:
    """A file's hash and its imports ``(dots, name)``; of what is no Python the hash of its bytes."""
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
        text = _dumped(tree)
    except (SyntaxError, ValueError, RecursionError):
        return hashlib.sha256(source).hexdigest(), ()
    return _sha256(text), tuple(_imports(tree.body))


def _imports(body: list[Any]) -> Iterator[tuple[int, str]]:
    """Import statements, those for type checkers apart."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield node.level, base
            yield from ((node.level, f"{base}.{alias.name}".strip(".")) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _imports(node.orelse)
        else:
            for part in ("body", "orelse", "finalbody"):
                yield from _imports([n for n in getattr(node, part, []) or [] if isinstance(n, ast.AST)])
            for handler in getattr(node, "handlers", []):
                yield from _imports(handler.body)


@functools.lru_cache(maxsize=65536)
def _places(imported: tuple[int, str], path: Path, root: Path) -> tuple[Path, ...]:
    """The files that an import statement may mean, of the harness and of the component's own root."""
    dots, name = imported
    if dots:
        base = path.parent
        for _ in range(dots - 1):
            base = base.parent
        bases = [(base, name)]
    elif name.split(".")[0] == "harness":
        bases = [(HARNESS.parent, name)]
    else:
        bases = [(root, name)] if root != HOME else []
    candidates = []
    for base, dotted in bases:
        pieces = dotted.split(".") if dotted else []
        candidates += [base.joinpath(*pieces[:n], "__init__.py") for n in range(len(pieces) + 1) if n or dots]
        if pieces:
            candidates.append(base.joinpath(*pieces[:-1], f"{pieces[-1]}.py"))
    return tuple(candidates)
