"""Every command of the how-to pages is run, on small categories of the names that the pages use, with small settings.

What a page names by ``…`` is the run that a command before it made. Commands that need more than this machine has, or
that other tests run whole, stand in :data:`ELSEWHERE`.
"""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.commands import bench
from tests.decoding.test_unequal import written
from tests.docs.test_commands import commands

ROOT = Path(__file__).parents[2]
PAGES = ("guide", "learning", "rl", "tokenizers", "plugins", "reports", "scale", "tuning", "baselines")
CATEGORIES = ("Industrial_and_Scientific", "Beauty", "Mine")
BEFORE = {
    "Industrial_and_Scientific": ("hybrid", "bigrec", "minionerec"),
    "Beauty": ("sasrec", "tiger"),
    "Synthetic": ("minionerec",),
}
"""Runs that the pages take for granted."""
ELSEWHERE = {
    r"^run …": "what the reader fills in",
    r"--processes|-m harness run": "tests/processes",
    r"--cluster": "tests/processes/test_cluster.py",
    r"qwen2\.5": "weights that have to be fetched (tests/methods/test_backbones.py)",
    r"^suite run table1 --category \S+$|^suite run .*--workers|^suite tune|^tune .*--workers": "tests/cli",
    r"results/Industrial_and_Scientific/minionerec/seed42": "needs the real data (make verify)",
    r"^run --config runs/.*tuned\.yaml": "tests/cli/test_tune.py",
    r"^mlflow sync": "tests/core/test_mirror.py",
    r"^plugin |--plugin (my-method|fpmc\.py|novelty\.py|coverage\.py)": "tests/house, test_documented_plugins.py",
}
SMALL = {
    "epochs": "1", "eval_every": "1", "hidden": "32", "layers": "1", "heads": "2", "intermediate": "64",
    "text_vocabulary": "300", "batch": "32", "generations": "4", "folds": "2", "trees": "10", "candidates": "20",
    "samples": "10",
}  # fmt: skip
ONE_TASK = ("MiniOneRecSft", "GrpoTrainer")
"""Trainers whose further tasks take most of the time."""
BARE = ["--no-mlflow", "--no-figures", "--quiet"]


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny):
    """A reader's folder: small categories, the repository's records, and the runs that pages start from."""
    folder = tmp_path_factory.mktemp("reader")
    codes = [[int(c) for c in tiny.given.codes[item]] for item in range(len(tiny.items))]
    for name in CATEGORIES:
        written(folder / "data", tiny, codes, name)
    shutil.copytree(ROOT / "leaderboard/results", folder / "leaderboard/results")
    return folder


def shrunk(words, plugins):
    """The command with small settings where it trains, and what it says itself after them."""
    words = [{"20": "2", "40": "2"}.get(w, w) if before == "--trials" else w for before, w in zip(["", *words], words)]
    if words[0] not in ("run", "tune"):
        return words
    method = words[words.index("--method") + 1]
    recipe, sets = plugins.get("method", method), ["probe.samples=10"]
    parts = {stage["name"]: plugins.get("trainer", stage.get("trainer", stage["name"])) for stage in recipe["stages"]}
    if recipe.get("backbone"):
        parts["backbone"] = plugins.get("backbone", "nano")
    for name, component in parts.items():
        there = {field.name for field in dataclasses.fields(component.Settings)}
        sets += [f"{name}.{key}={value}" for key, value in SMALL.items() if key in there]
    sets += [f"{name}.tasks={{next_sid: 1.0}}" for name, part in parts.items() if part.__name__ in ONE_TASK]
    sets += ["dataset.items=80", "dataset.users=150"] if "Synthetic" in words else []
    known = {field.name for field in dataclasses.fields(plugins.get("decoder", recipe["decoder"]["name"]).Settings)}
    sets += ["decoder.k=10"] if "k" in known else []
    sets += ["decoder.beams=10", "probe.beams=10"] if "beams" in known else []
    own = {words[at + 1].partition("=")[0] for at, word in enumerate(words) if word == "--set"}
    more = [word for s in sets if s.partition("=")[0] not in own for word in ("--set", s)]
    return [*words, *more, "--device", "cpu"]


def filled(word, words, folder):
    """A word in which ``…`` and DIR are the run that is there."""
    if word == "DIR" or "run:DIR" in word:
        method = "minionerec-counts" if "minionerec-counts" in words else "sasrec"
        [run] = (folder / "runs" / words[words.index("--category") + 1] / method).glob("seed*")
        return word.replace("DIR", str(run))
    if "runs/" not in word or word.startswith("leaderboard/"):
        return word
    if words[0] == "compare":  # one of the trials that a method's folder holds here
        word = re.sub(r"…/minionerec(:|$)", r"…/minionerec/seed42-…\1", word)
    pattern = word.split(":")[0].replace("seed42-…", "seed42-*").replace("runs/…", "runs/Industrial_and_Scientific")
    found = sorted(path for path in folder.glob(pattern) if (path / "metrics.json").exists() or "seed" not in pattern)
    return str(found[0]) + word[len(word.split(":")[0]) :]


@pytest.fixture(scope="module")
def runs(world, plugins):
    """The runs that pages start from, made when a page is reached; one method after another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        patch.delenv("BENCH_DATA", raising=False)
        for name, methods in BEFORE.items():
            for method in methods:
                words = shrunk(["run", "--method", method, "--category", name, *BARE], plugins)
                done = bench(*words)
                assert done.exit_code == 0, (words, done.output)
    return world


@pytest.mark.parametrize("page", PAGES)
def test_a_how_to_page_can_be_typed_in(page, runs, plugins, monkeypatch):
    monkeypatch.chdir(runs)
    monkeypatch.delenv("BENCH_DATA", raising=False)  # the small categories are in ./data
    tried = 0
    for words in commands(ROOT / "docs" / f"{page}.md"):
        said = " ".join(words)
        if any(re.search(pattern, said) for pattern in ELSEWHERE):
            continue
        words = words[: words.index(">")] if ">" in words else words
        words = shrunk([filled(word, words, runs) for word in words], plugins)
        if words[0] == "leaderboard" and "--results" in words:
            words += ["--runs", "none"]  # the records are of the real data, and the runs here are not
        if words[:2] == ["results", "export"]:
            words += ["--output", "exported"]
        done = bench(*words, *(BARE if words[0] == "run" else []))
        assert done.exit_code == (1 if words[:2] == ["results", "lint"] else 0), (said, words, done.output[-2000:])
        tried += 1
    assert tried or page in ("plugins", "scale")


def test_what_is_left_to_other_tests_is_said_once_and_is_there():
    said = [" ".join(words) for page in PAGES for words in commands(ROOT / "docs" / f"{page}.md")]
    for pattern in ELSEWHERE:
        assert any(re.search(pattern, line) for line in said), f"no page has a command like {pattern}"
    assert np.mean([any(re.search(p, line) for p in ELSEWHERE) for line in said]) < 0.5
