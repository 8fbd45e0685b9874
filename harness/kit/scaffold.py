"""``bench plugin new``: a package with one working component, its test and its README."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from harness import files
from harness.errors import BenchError, unknown
from harness.plugins import Plugins

FILES = Path(__file__).parent / "scaffolds"
"""The texts, by kind; in them ``NAME`` is the component's name, ``Class`` its class, ``MODULE`` its package."""
COMPONENT = {"baseline": "method"}
"""The kind of component that a scaffold's main one is registered as, where that is not its own name."""

USES = {
    "method": "bench run --plugin PROJECT_FOLDER --method NAME --category Synthetic",
    "baseline": "bench run --plugin PROJECT_FOLDER --method NAME --category Synthetic",
    "tokenizer": "bench run --plugin PROJECT_FOLDER --method tiger --tokenizer NAME --category Synthetic",
    "embedder": "bench run --plugin PROJECT_FOLDER --method tiger --tokenizer rqkmeans --set tokenizer.embedder=NAME "
    "--category Synthetic",
    "decoder": "bench run --plugin PROJECT_FOLDER --method markov --set decoder=NAME --category Synthetic",
    "metric": "bench run --plugin PROJECT_FOLDER --method markov --category Synthetic",
    "reward": "bench run --plugin PROJECT_FOLDER --method minionerec --set grpo.rewards=NAME --category Synthetic",
    "dataset": "bench run --plugin PROJECT_FOLDER --method markov --category Sample --data-dir PROJECT_FOLDER/data",
    "backbone": "bench run --plugin PROJECT_FOLDER --method minionerec --set backbone=NAME --category Synthetic",
}
"""How the component is used, by kind."""
SUMMARIES = {
    "method": "A method of bench.",
    "baseline": "A neural baseline of bench.", "tokenizer": "An item tokenizer of bench.",
    "embedder": "An embedder of items of bench.",
    "decoder": "A decoder of bench.", "metric": "A metric of bench.", "reward": "A reward of bench.",
    "dataset": "A dataset reader of bench.", "backbone": "A language model backbone of bench.",
}  # fmt: skip


def scaffold(name: str, kind: str, folder: Path, plugins: Plugins) -> Path:
    """Write the package ``folder/name``, whole or not at all; returns it.

    Raises:
        BenchError: the name is none for a package, is taken, or the folder is there already.
    """
    if kind not in USES:
        raise unknown("kind", kind, USES, "of plugin new --kind")
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
        "Class": "".join(part.title() for part in name.split("-")),
        "SUMMARY": SUMMARIES[kind],
    }  # fmt: skip

    def filled(file: str) -> str:
        text = (FILES / f"{file}.txt").read_text(encoding="utf-8").replace("\nUSE\n", f"\n{USES[kind]}\n")
        known = {key: value for key, value in words.items() if not (file == "test.py" and key.startswith("PROJECT"))}
        pattern = re.compile("|".join(sorted(known, key=len, reverse=True)))
        return pattern.sub(lambda match: known[match[0]], text)

    texts = {
        "pyproject.toml": filled("pyproject.toml"),
        "README.md": filled("README.md"),
        f"src/{module}/__init__.py": filled(f"{kind}.py"),
        f"tests/test_{module}.py": filled("test.py"),
    }
    if kind == "dataset":
        rows = [f"u{user},i{(user * 3 + step * step) % 61},item {(user * 3 + step * step) % 61}"
                for user in range(60) for step in range(3 + user % 5)]  # fmt: skip
        texts[f"data/Sample.{name}.csv"] = "\n".join(rows) + "\n"
    return texts
