"""Where plugins come from: a file, a package's folder, a project folder, a module, an installed distribution."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import BenchError


@dataclass(frozen=True)
class Source:
    """A plugin's module, and what it was given as.

    Attributes:
        what: ``file``, ``folder`` or ``module``.
        given: the path or name that was given.
        key: what tells it from another: the same one twice is loaded once.
    """

    name: str
    what: str
    given: str
    module: ModuleType
    key: Any
    version: str = "-"
    distribution: str = ""

    @property
    def longer_name(self) -> str:
        """The name with its folder, where another plugin has the short one."""
        return f"{Path(self.key).parent.name}/{self.name}" if self.what != "module" else self.name


@dataclass(frozen=True)
class Entry:
    """An entry point of an installed distribution."""

    name: str
    distribution: str
    version: str
    point: Any

    def load(self) -> Any:
        """Its module."""
        return self.point.load()


def entry_points(group: str) -> list[Entry]:
    """What installed distributions declare, by name."""
    declared = sorted(metadata.entry_points(group=group), key=lambda entry: entry.name)
    return [Entry(e.name, e.dist.name if e.dist else "?", e.dist.version if e.dist else "?", e) for e in declared]


def load_source(given: str) -> list[Source]:
    """The plugins of a Python file, a package's folder, a project's folder (``pyproject.toml``), or a module's name.

    Raises:
        BenchError: there is nothing of that name, or it is none of these.
    """
    path = Path(given)
    if path.is_dir():
        if (path / "__init__.py").is_file():
            return [_of_file(path / "__init__.py", given)]
        if (path / "pyproject.toml").is_file():
            return _of_project(path, given)
        raise BenchError(f"plugin folder {given} has neither __init__.py nor pyproject.toml; give a package or a file")
    if path.is_file():
        if path.suffix != ".py":
            raise BenchError(f"plugin file {given} is not a Python file")
        return [_of_file(path, given)]
    if path.suffix == ".py" or "/" in given or given[:1] == ".":
        raise BenchError(f"plugin file {given} does not exist; give --plugin the path of a Python file or package")
    try:
        module = importlib.import_module(given)
    except ModuleNotFoundError as error:
        if error.name and given.split(".")[0] == error.name.split(".")[0]:
            raise BenchError(f"plugin {given} is no file, no folder and no installed module") from None
        raise
    return [Source(module.__name__, "module", given, module, module.__name__)]


def _of_file(path: Path, given: str) -> Source:
    """A file, or a package by its ``__init__.py``: named after its folder then."""
    package = path.name == "__init__.py"
    beside = str(path.resolve().parent)
    if not package and beside not in sys.path:
        sys.path.append(beside)  # a file may import what lies beside it, as a script may
    stem = path.resolve().parent.name if package else path.stem
    key = path.resolve().parent if package else path.resolve()
    if not package:
        _same_neighbours(path.resolve())
    name = f"bench_plugin_{''.join(c if c.isalnum() else '_' for c in stem)}"
    if getattr(sys.modules.get(name), "__file__", None) not in (None, str(path.resolve())):
        name += "_" + hashlib.sha256(str(key).encode()).hexdigest()[:8]
    return Source(stem, "folder" if Path(given).is_dir() else "file", given, _load(name, path, package), key)


def _same_neighbours(path: Path) -> None:
    """Refuse a file that would get another plugin's module of the same name, and not the one that lies beside it.

    Raises:
        BenchError: it would; Python knows one module of a name.
    """
    todo, seen = [path], set()
    while todo:
        file = todo.pop()
        seen.add(file)
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            continue  # said where it is loaded
        names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module and not n.level}
        for name in {name.partition(".")[0] for name in names}:
            beside = next(
                (p for p in (file.parent / f"{name}.py", file.parent / name / "__init__.py") if p.is_file()), None
            )
            other = getattr(sys.modules.get(name), "__file__", None)
            if beside and other and Path(other).resolve() != beside:
                raise BenchError(
                    f"{path} imports {name}, and {other} is loaded under that name already; make {path.parent.name} a "
                    f"package (an __init__.py, from .{name} import …)"
                )
            if beside and beside not in seen:
                todo.append(beside)


def _of_project(folder: Path, given: str) -> list[Source]:
    """The entry points of a project's ``pyproject.toml``, loaded from its own folder, installed or not."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        declared = dict(project["entry-points"]["bench"])
    except (KeyError, TypeError, ValueError):
        raise BenchError(
            f'{folder / "pyproject.toml"} declares no plugin; add [project.entry-points.bench] with name = "module"'
        ) from None
    sources = []
    for name, module in declared.items():
        place = str(module).partition(":")[0].replace(".", "/")
        options = [(b, b / tail) for b in (folder / "src", folder) for tail in (f"{place}/__init__.py", f"{place}.py")]
        base, path = next(((b, option) for b, option in options if option.is_file()), (folder, None))
        if path is None:
            raise BenchError(f"{folder / 'pyproject.toml'}: the module {module} of plugin {name} is not in {folder}")
        loaded = _of_path(str(module).partition(":")[0], path, base)
        version, title = str(project.get("version", "-")), str(project.get("name", ""))
        sources.append(Source(name, "folder", given, loaded, path.resolve(), version, title))
    return sources


def _of_path(name: str, path: Path, base: Path) -> ModuleType:
    """A project's module under its own name, its siblings importable; under another where that name is taken."""
    top = sys.modules.get(name.partition(".")[0])
    taken = top is not None and not str(getattr(top, "__file__", None) or "").startswith(str(base.resolve()))
    if not taken:
        if str(base.resolve()) not in sys.path:
            sys.path.append(str(base.resolve()))
        module = importlib.import_module(name)
        if Path(module.__file__ or "").resolve() == path.resolve():
            return module
    unique = f"{name.replace('.', '_')}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    return _load(unique, path, path.name == "__init__.py")


def _load(name: str, path: Path, package: bool) -> ModuleType:
    where = [str(path.resolve().parent)] if package else None
    spec = importlib.util.spec_from_file_location(name, path.resolve(), submodule_search_locations=where)
    assert spec is not None and spec.loader is not None  # a .py file has both
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is not None:
            sys.modules[name] = before
        else:
            del sys.modules[name]
        raise
    return module
