"""The house as its own imports draw it: who knows whom, no circle, nothing back up, no file too long, no name twice."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from harness.builtin import FOLDERS

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "plugins", "baselines", "leaderboard")
ENTRIES = {"world",
    "__init__", "__main__", "api", "components", "errors", "files", "guards", "hookspecs", "moved", "plugins",
    "progress", "recipes", "settings", "sources", "testing", "version",
}  # fmt: skip
"""The files at the root of ``harness``: what a plugin author or the command line starts from."""
SAME_NOUN = {"plugins", "caser", "run", "show", "tune", "report", "leaderboard", "results", "suite", "data", "sids"}
"""Names that stand for one noun wherever they stand: a command's file is called what the command is."""


def modules():
    """``{module: path}`` of every Python file of the rooms."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(body):
    """Import statements, wherever they stand."""
    for node in body:
        yield from (part for part in ast.walk(node) if isinstance(part, (ast.Import, ast.ImportFrom)))


@cache
def imports():
    """``{module: {imported module}}``, those within functions and those for type checkers among them."""
    known = modules()
    graph = defaultdict(set)
    for module, path in known.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in statements(ast.parse(path.read_text()).body):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                base = node.module or ""
                if node.level:
                    up = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*up, *([node.module] if node.module else [])])
                names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
            for name in names:
                name = name.removeprefix("harness.builtin.") if name.startswith("harness.builtin.") else name
                if name in known and name != module:
                    graph[module].add(name)
    return graph


def test_the_core_knows_no_plugin_no_baseline_and_no_leaderboard():
    wrong = [
        (m, i)
        for m, found in imports().items()
        for i in found
        if m.startswith("harness") and not i.startswith("harness")
    ]
    assert not wrong


def test_no_plugin_imports_the_insides_of_another():
    def owner(module):
        parts = module.split(".")
        return ".".join(parts[:2]) if parts[0] == "plugins" else parts[0]

    wrong = [(m, i) for m, found in imports().items() for i in found
             if not m.startswith("harness") and not i.startswith("harness") and owner(m) != owner(i)]  # fmt: skip
    assert not wrong


def circles(graph):
    """The strongly connected parts of a graph that are no single node (Tarjan)."""
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = []
            while not part or part[-1] != node:
                part.append(stack.pop())
                on.discard(part[-1])
            if len(part) > 1:
                found.append(sorted(part))

    for node in list(graph):
        if node not in index:
            visit(node)
    return found


def test_no_module_imports_itself_round_a_corner():
    assert not circles(imports())


def test_no_room_runs_back_up():
    """Between the rooms of the harness imports go one way: a room that knows another is not known by it."""
    graph = defaultdict(set)
    for module, found in imports().items():
        for other in found:
            a, b = (room(name) for name in (module, other))
            if a != b:
                graph[a].add(b)
    assert not circles(graph)
    assert "run" not in graph


def room(module):
    parts = module.split(".")
    if parts[0] != "harness":
        return parts[0]
    return ".".join(parts[:2])


def test_the_root_of_the_harness_holds_the_entries_alone():
    assert {path.stem for path in (ROOT / "harness").glob("*.py")} == ENTRIES
    for folder in (ROOT / "harness").rglob("*"):
        if folder.is_dir():
            assert len(list(folder.glob("*.py"))) <= 35


def test_no_file_is_longer_than_it_is_read():
    long = {str(p.relative_to(ROOT)): n for p in modules().values() if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_no_two_files_share_a_name_for_different_things():
    stems = defaultdict(list)
    for module, path in modules().items():
        if path.stem not in ("__init__", "__main__"):
            stems[path.stem].append(module)
    assert not {stem: found for stem, found in stems.items() if len(found) > 1 and stem not in SAME_NOUN}


def test_every_room_says_what_it_is():
    for folder in {path.parent for path in modules().values()}:
        if folder.name != "__pycache__":
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), (
                f"{folder} says nothing of itself"
            )


def test_the_built_ins_are_the_folders_of_the_user():
    assert set(FOLDERS) == {"plugins", "baselines", "leaderboard", "configs"}
    for folder in FOLDERS:
        assert (ROOT / folder).is_dir()


OLD = ("harness.pipeline", "harness.config", "harness.store", "harness.sequential", "harness.losses",
       "harness.report.tables", "plugins.minionerec.memory", "baselines.item_to_item")  # fmt: skip


@pytest.mark.parametrize("old", OLD)
def test_old_names_are_the_new_modules(old):
    import importlib

    from harness.moved import MOVED

    module = importlib.import_module(old)
    target = MOVED.get(old, MOVED.get(f"harness.builtin.{old}"))
    first = importlib.import_module(target if isinstance(target, str) else target[0])
    for name in [n for n in vars(first) if not n.startswith("_")][:5]:
        assert getattr(module, name) is getattr(first, name)
