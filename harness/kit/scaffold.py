"""``bench plugin new``: a package with one working component, its test and its README."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from harness import files
from harness.errors import BenchError, unknown
from harness.kit import templates
from harness.plugins import Plugins

COMPONENT = {"baseline": "method"}
"""The kind of component that a scaffold's main one is registered as, where that is not its own name."""


def scaffold(name: str, kind: str, folder: Path, plugins: Plugins) -> Path:
    """Write the package ``folder/name``, whole or not at all; returns it.

    Raises:
        BenchError: the name is none for a package, is taken, or the folder is there already.
    """
    if kind not in templates.TEMPLATES:
        raise unknown("kind", kind, templates.TEMPLATES, "of plugin new --kind")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 50:
        raise BenchError(f"plugin new {name}: a name has small letters, digits and single hyphens, such as my-method")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in ("harness", "test", "tests"):
        raise BenchError(f"plugin new {name}: {module} cannot name a package; choose another, such as my-{name}")
    component = COMPONENT.get(kind, kind)
    owner = plugins.owner(component, name)
    if owner is not None:
        raise BenchError(f"plugin new {name}: {owner.name} has a {component} of that name; choose another")
    target = folder / name
    if target.exists():
        raise BenchError(f"{target} is there already; choose another name, or another --output")
    files.make_folder(folder)
    with files.replace_folder(target) as temporary:
        for path, text in contents(name, module, kind, target).items():
            place = temporary / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
    return target


def contents(name: str, module: str, kind: str, target: Path) -> dict[str, str]:
    """``{path: text}`` of a package's files."""
    words = {
        "PROJECT_FOLDER": str(target), "PROJECT": name, "MODULE": module, "NAME": name, "FUNCTION": module,
        "Class": "".join(part.title() for part in name.split("-")), "USE": templates.USES[kind],
        "SUMMARY": templates.SUMMARIES[kind],
    }  # fmt: skip

    def filled(text: str) -> str:
        first = text.replace("USE", words["USE"]) if "\nUSE\n" in text else text
        pattern = re.compile("|".join(sorted(words, key=len, reverse=True)))
        return pattern.sub(lambda match: words[match[0]], first)

    found = {
        "pyproject.toml": filled(templates.PYPROJECT),
        "README.md": filled(templates.README),
        f"src/{module}/__init__.py": filled(templates.TEMPLATES[kind]),
        f"tests/test_{module}.py": filled(templates.TEST.replace("PROJECT", "HERE")).replace("HERE", "PROJECT"),
    }
    if kind == "dataset":
        rows = [f"u{user},i{(user * 3 + step * step) % 40},item {(user * 3 + step * step) % 40}"
                for user in range(60) for step in range(3 + user % 5)]  # fmt: skip
        found[f"data/Sample.{name}.csv"] = "\n".join(rows) + "\n"
    return found
