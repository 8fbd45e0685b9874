"""A result is of the code that made it: an edit that matters stops, says which module, and is answered by a flag."""

import json
import shutil
import sys

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.runs import code
from tests.commands import bench_run

PLUGIN = """
import numpy as np
import helper
from harness import hookimpl
from harness.components import NoSettings
from harness.data.rankings import Rankings


class Model:
    def __init__(self, counts):
        self.counts = counts

    def score(self, histories):
        return np.tile(helper.SIGN * self.counts, (len(histories), 1))


class Counts:
    Settings = NoSettings

    def __init__(self, settings):
        pass

    def fit(self, context):
        for step in (1, 2):
            context.log({"loss": 1.0}, step)
            STOP
        return {}

    def load(self, context):
        return Model(np.bincount(context.train.targets, minlength=len(context.items)))


@hookimpl
def bench_trainers():
    return {"counts": Counts, "again": Counts}


@hookimpl
def bench_methods():
    base = {"stages": [{"name": "counts"}], "decoder": {"name": "rank", "k": 20},
            "tokenizer": {"name": "given", "optional": True}}
    two = {"name": "counts2", "base": "counts", "stages": [{"name": "again"}]}
    three = {"name": "counts3", "base": "counts", "stages": [{"name": "again"}], "decoder": {"name": "other"}}
    return [{"name": "counts", "summary": "counts", **base}, two, three]


class Other:
    Settings = NoSettings

    def __init__(self, settings):
        pass

    def decode(self, model, histories, semantic_ids, device, progress):
        scores = np.asarray(model.score(histories), dtype=np.float32)
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :20].astype(np.int32)
        return Rankings("item", ids, np.take_along_axis(scores, ids, 1))


@hookimpl
def bench_decoders():
    return {"other": Other}
"""
SIZES = ["dataset.items=60", "dataset.users=60"]


@pytest.fixture()
def world(tmp_path, monkeypatch):
    """A plugin file with a helper beside it, written anew as a fresh process would see it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return World(tmp_path)


class World:
    def __init__(self, folder):
        self.folder, self.runs = folder, folder / "runs"
        self.plugin = folder / "counts.py"

    def write(self, sign=1, stop="", comment=""):
        (self.folder / "helper.py").write_text(f"{comment}SIGN = {sign}\n")
        self.plugin.write_text(PLUGIN.replace("STOP", stop or "pass"))
        for name in [name for name in sys.modules if name == "helper" or name.startswith("bench_plugin_counts")]:
            del sys.modules[name]
        shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)

    def run(self, *more, method="counts"):
        return bench_run(self.runs, method, SIZES, "--plugin", str(self.plugin), *more)

    def said(self, *words):
        return CliRunner().invoke(cli, [str(word) for word in words])

    def rankings(self, method="counts", stage="counts"):
        [path] = self.runs.glob(f"*/{method}/*/metrics.json")
        return json.loads(path.read_text())["stages"][stage]["rankings"]

    def manifest(self, method="counts"):
        [path] = self.runs.glob(f"*/{method}/*/manifest.json")
        return json.loads(path.read_text())


def test_an_edit_that_matters_stops_and_a_flag_answers(world):
    world.write(1)
    assert world.run().exit_code == 0
    first = world.rankings()
    world.write(1, comment='"""A docstring."""\n\n# a comment\n')
    assert world.run().exit_code == 0  # nothing that counts has changed
    world.write(-1)
    done = world.run()
    assert done.exit_code == 2 and done.output.count("Error: ") == 1
    for text in ("helper", "--redo counts", "--keep", "stage counts"):
        assert text in done.output
    assert world.rankings() == first  # nothing is lost
    assert world.run("--redo", "count").exit_code == 2  # no such stage
    assert world.run("--redo", "counts", "--keep").exit_code == 2
    assert world.run("--keep").exit_code == 0 and world.rankings() == first
    assert world.manifest()["kept"]["counts/fit"]["changed"] == ["helper"]
    record = world.said("results", "export", next(world.runs.glob("*/counts/*")), "--output", world.folder / "records")
    assert record.exit_code == 0, record.output
    [path] = (world.folder / "records").rglob("*.json")
    assert json.loads(path.read_text())["kept"] == {"counts/fit": ["helper"]}
    assert "kept: made by other code" in (next(world.runs.glob("*/counts/*")) / "report.md").read_text()
    assert world.run().exit_code == 0 and world.rankings() == first  # what was kept once is kept
    done = world.run("--redo", "counts")
    assert done.exit_code == 0, (done.output, done.exception)
    assert world.rankings() != first and "kept" not in (world.manifest().get("kept") or {})
    assert world.manifest()["kept"] == {}


def test_one_directory_whatever_the_code(world):
    world.write(1)
    world.run()
    world.write(-1)
    world.run("--redo", "changed")
    assert len(list(world.runs.glob("*/counts/*/metrics.json"))) == 1


def test_an_edit_in_the_middle_of_a_training_stops_too(world):
    world.write(1, stop="if context.dataset.category == 'Synthetic': raise SystemExit(9)")
    assert world.run().exit_code == 9
    world.write(1)
    done = world.run()
    assert done.exit_code == 2 and "changed since it was begun" in done.output and "counts" in done.output
    assert world.run("--redo", "counts").exit_code == 0


def test_only_what_stands_behind_the_edit_is_redone(world):
    world.write(1)
    assert world.run(method="counts2").exit_code == 0
    before = world.manifest("counts2")["code"]
    assert {"counts/fit", "counts/decode", "again/fit", "again/decode", "tokenize"} >= set(before)
    world.write(1, stop="x = 1")
    done = world.run("--redo", "again", method="counts2")
    assert done.exit_code == 2 and "stage counts" in done.output  # the stage before is of other code too
    assert world.run("--redo", "again", "--keep", method="counts2").exit_code == 2


def test_from_run_keeps_and_records_both_hashes(world):
    world.write(1)
    assert world.run().exit_code == 0
    origin = next(world.runs.glob("*/counts/*"))
    world.write(-1)
    done = world.run("--from-run", str(origin), "--anew", method="counts2")
    assert done.exit_code == 0, (done.output, done.exception)
    told = world.manifest("counts2")["done"]["from"]["code"]["counts/fit"]
    assert told["there"] != told["here"] and told["changed"] == ["helper"]
    assert world.rankings("counts2", "counts") == world.rankings()
    assert world.run("--from-run", str(origin), "--anew", method="counts2").exit_code == 0
    # redone, a run that went on from another takes over again what it took over: the record says what was done
    done = world.run("--from-run", str(origin), "--anew", "--redo", "counts", method="counts2")
    assert done.exit_code == 0, done.output
    assert world.rankings("counts2", "counts") == world.rankings()


def test_another_decoder_is_no_other_code(world):
    """A stage is taken over by a recipe that decodes it otherwise: nobody has changed any code."""
    world.write(1)
    assert world.run().exit_code == 0
    origin = next(world.runs.glob("*/counts/*"))
    for _ in range(2):
        done = world.run("--from-run", str(origin), "--anew", method="counts3")
        assert done.exit_code == 0 and "made by other code" not in done.output, done.output
        assert not world.manifest("counts3").get("kept") and "code" not in world.manifest("counts3")["done"]["from"]
    shutil.rmtree(next(world.runs.glob("*/counts3")))
    world.write(-1)
    done = world.run("--from-run", str(origin), "--anew", method="counts3")
    assert done.exit_code == 0 and "made by other code" in done.output, done.output
    assert world.manifest("counts3")["done"]["from"]["code"]["counts/fit"]["changed"] == ["helper"]


def test_a_suite_redoes_what_other_code_made(world):
    suite = world.folder / "s.yaml"
    suite.write_text(f"seeds: [1]\nmethods: [{{method: counts, set: [{', '.join(SIZES)}]}}]\n")
    words = ["suite", "run", suite, "--category", "Synthetic", "--runs", world.runs, "--plugin", world.plugin,
             "--no-mlflow", "--device", "cpu", "--threads", "1"]  # fmt: skip
    world.write(1)
    done = world.said(*words)
    assert done.exit_code == 0, done.output
    first = world.rankings()
    world.write(-1)
    assert "to run" in world.said(*words, "--dry-run").output
    done = world.said(*words)
    assert done.exit_code == 0 and "recorded" not in done.output.splitlines()[0], done.output
    assert world.rankings() != first
    assert "recorded" in world.said(*words).output


def test_tuning_refuses_trials_of_other_code(world):
    (world.folder / "space.yaml").write_text("counts2: [1]\n")
    words = ["tune", "--method", "markov", "--category", "Synthetic", "--runs", world.runs, "--trials", "1",
             "--no-mlflow",             *(w for s in SIZES for w in ("--set", s))]  # fmt: skip
    assert world.said(*words).exit_code == 0
    original = code.of_component

    def other(kind, name, plugins):
        found = original(kind, name, plugins)
        return code.Code(found.name, found.version, found.distribution, found.modules | {"baselines.markov": "edited"})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "of_component", other)
        done = world.said(*words)
    assert done.exit_code == 2 and "search by other code (baselines.markov changed since)" in done.output


def test_a_package_is_hashed_from_its_top_and_with_what_registers_it(tmp_path, monkeypatch):
    import importlib

    from harness.plugins import Plugin

    package = tmp_path / "toppkg/inner"
    package.mkdir(parents=True)
    for file, text in {
        "__init__.py": "", "consts.py": "SIGN = 1\n", "inner/__init__.py": "",
        "inner/make.py": "from toppkg.consts import SIGN\ndef make(x):\n    return type('Made', (), {'x': x})\n",
        "inner/plug.py": "from toppkg.inner.make import make\nMADE = make(1)\n",
    }.items():  # fmt: skip
        (tmp_path / "toppkg" / file).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("toppkg.inner.plug")

    class Registry:
        def get(self, kind, name):
            return module.MADE

        def owner(self, kind, name):
            return Plugin("p", "1", "module", module)

    found = code.of_component("trainer", "made", Registry()).modules
    assert {"toppkg.consts", "toppkg.inner.make", "toppkg.inner.plug"} <= set(found)


def test_comments_docstrings_and_layout_are_not_code(tmp_path):
    one = b'"""Doc."""\nimport os\n\n\ndef f(x):\n    """Of f."""\n    return x + 1  # one\n'
    two = b"import os\ndef f(x):\n        return (x +\n            1)\n"
    assert code.normalised(one) == code.normalised(two)
    assert code.normalised(one) != code.normalised(two.replace(b"1", b"2"))


def test_a_components_modules_are_its_own_and_those_of_the_harness_it_stands_on(plugins):
    found = code.of_component("trainer", "minionerec-sft", plugins)
    assert {"plugins.minionerec.sft", "harness.language.sft_trainer", "harness.decoding.trie"} <= set(found.modules)
    assert not {name for name in found.modules if name.startswith(("harness.cli", "leaderboard", "plugins.d3"))}
    assert found.distribution == "genrec-bench" and len(found.sha256) == 64


def test_what_was_kept_is_redone_when_asked(world):
    world.write(1)
    assert world.run().exit_code == 0
    first = world.rankings()
    world.write(-1)
    assert world.run("--keep").exit_code == 0 and world.rankings() == first
    done = world.run("--redo", "changed")
    assert done.exit_code == 0, done.output
    assert world.rankings() != first and not world.manifest()["kept"]
