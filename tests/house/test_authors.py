"""What authors of plugins and of notebooks use: users in histories, bases and parts, the kit, the Python API."""

import copy
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import harness
from harness import plugins as manager
from harness.cli import cli
from harness.data.dataset import Dataset, Items, Samples
from harness.data.generated import generated
from harness.data.rankings import Rankings
from harness.errors import BenchError
from harness.kit.conformance import checks_of
from harness.kit.scaffold import USES
from harness.progress import Progress
from harness.recipes import read_recipe, with_base
from harness.runs import pipeline
from harness.runs.config import resolve
from harness.runs.run_directory import RunDirectory
from harness.runs.tracking import Tracker

ROOT = Path(__file__).parents[2]
OUTSIDE = ROOT / "tests/external"


def bench(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


# --- users


def of_tastes(n_users=60, n_items=24):
    """Everybody buys one item of their own after a last item that says nothing; a few test users are new."""
    rng = np.random.default_rng(0)
    taste = rng.integers(0, n_items, n_users)
    splits = {}
    for split, times in (("train", 8), ("valid", 1), ("test", 1)):
        users = [f"{'new' if split == 'test' and u % 6 == 0 else 'u'}{u}" for u in range(n_users) for _ in range(times)]
        histories = [[int(rng.integers(n_items))] for _ in users]
        splits[split] = Samples.build(users, histories, np.repeat(taste, times).tolist(), 1)
    empty = [""] * n_items
    return Dataset("Tastes", Items(empty, empty, empty, empty), **splits, layout="sequences")


def test_histories_know_whose_they_are():
    data = of_tastes()
    assert data.n_users == 60
    by_name = dict(zip(data.train.users.tolist(), data.train.histories.users.tolist(), strict=True))
    assert sorted(set(by_name.values())) == list(range(60))
    for samples in (data.valid, data.test):
        expected = [by_name.get(name, -1) for name in samples.users.tolist()]
        assert samples.histories.users.tolist() == expected
    assert (data.test.histories.users == -1).sum() == 10
    part = data.test.histories.take(np.array([3, 1]))
    assert part.users.tolist() == data.test.histories.users[[3, 1]].tolist()


def hits(folder, method, plugins):
    overrides = [f"{method}.epochs=40", f"{method}.batch=64", f"{method}.learning_rate=0.01", "decoder.k=10"]
    config = resolve(plugins.get("method", method), "Tastes", 1, overrides, plugins)
    data = of_tastes()
    run = pipeline.Run(config, data, plugins, RunDirectory(folder), Progress(True), "cpu", Tracker(folder, False))
    pipeline.execute(run)
    import pandas as pd

    table = pd.read_parquet(folder / f"rankings/test-{method}.parquet")
    first = table[table["rank"] == 1].sort_values("sample")["item"].to_numpy()
    known = data.test.histories.users >= 0
    return float((first == data.test.targets)[known].mean())


def test_an_outside_package_brings_user_factors(tmp_path):
    plugins = manager.load([str(OUTSIDE / "bench_fpmc"), str(OUTSIDE / "fpmc.py")])
    assert hits(tmp_path / "with", "fpmc-user", plugins) > 0.8
    assert hits(tmp_path / "without", "fpmc", plugins) < 0.3


# --- recipes


BASE = {"name": "base",
        "stages": [{"name": "sasrec", "hidden": 32, "epochs": 2}, {"name": "second", "trainer": "sasrec"}],
        "decoder": {"name": "rank", "k": 20}, "tokenizer": "given", "probe": {"samples": 5},
        "search": {"sasrec.hidden": [1]}, "reported": "SASRec"}  # fmt: skip


def whole(**own):
    known = {"base": read_recipe(BASE)}
    known["own"] = read_recipe({"name": "own", "base": "base", **own})
    return with_base(known["own"], known.__getitem__)


def test_a_recipe_is_its_base_and_what_differs():
    assert whole()["stages"] == BASE["stages"] and whole()["decoder"] == BASE["decoder"]
    assert "search" not in whole() and "reported" not in whole()  # what a recipe says of itself is its own
    stages = [{"name": "sasrec", "epochs": 9}, {"name": "third", "trainer": "markov"}]
    changed = whole(stages=stages, without=["second"],
                    decoder={"k": 10}, tokenizer={"name": "rqkmeans", "codes": 4}, probe={"beams": 3})  # fmt: skip
    assert changed["stages"] == [{"name": "sasrec", "hidden": 32, "epochs": 9}, {"name": "third", "trainer": "markov"}]
    assert changed["decoder"] == {"name": "rank", "k": 10}
    assert changed["tokenizer"] == {"name": "rqkmeans", "codes": 4}
    assert changed["probe"] == {"samples": 5, "beams": 3}
    other = whole(stages=[{"name": "sasrec", "trainer": "gru4rec"}])
    assert other["stages"][0] == {"name": "sasrec", "trainer": "gru4rec"}  # another trainer: its own defaults
    before = copy.deepcopy(BASE)
    whole(stages=[{"name": "sasrec", "epochs": 9}])
    assert before == BASE


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"without": [["second"]]}, r"without.0 must be a text"),
        ({"stages": [{"name": "x", "trainer": None}]}, r"stages.0.trainer must be a text"),
        ({"stages": [{"name": "../../x"}]}, r"stages.0.name is no name"),
        ({"without": ["thrid"]}, "unknown stage 'thrid'"),
        ({"stages": 5}, "stages must be a list"),
        ({"stages": [{"name": "x", "parts": 7}]}, r"stages.0.parts must map"),
        ({"decoder": 3}, "decoder must be a name"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_one_line(own, said):
    with pytest.raises(BenchError, match=said):
        whole(**own)


def test_shipped_recipes_copy_no_other(plugins):
    for name in ("minionerec-memory", "sdpo", "d3"):
        assert plugins.registry("method")[name][0].get("base")
    assert [s["name"] for s in plugins.get("method", "sdpo")["stages"]] == ["sft", "sdpo"]
    assert bench("show", "method", "d3").output.splitlines()[1] == "base: bigrec"


def test_parts_are_named_built_hashed_and_recorded(plugins):
    recipe = plugins.get("method", "d3")
    config = resolve(recipe, "-", 1, [], plugins)
    assert config.as_dict()["stages"][1]["parts"]["assistant"]["hidden"] == 96  # the method's own recipe
    smaller = resolve(recipe, "-", 1, ["assistant.parts.assistant.hidden=32"], plugins)
    assert smaller.stages[1].parts["assistant"].settings.hidden == 32
    other = resolve(recipe, "-", 1, ["assistant.parts.assistant=gru4rec"], plugins)
    older = resolve(recipe, "-", 1, ["assistant.method=gru4rec"], plugins)  # as it was set before there were parts
    assert other.as_dict() == older.as_dict()
    assert len({c.hash() for c in (config, smaller, other)}) == 3
    for wrong, said in (
        ("gru5rec", "unknown method 'gru5rec'"),
        ("7", "name a method or run:DIR"),
        ("'run:'", "run:DIR"),
    ):
        with pytest.raises(BenchError, match=said):
            resolve(recipe, "-", 1, [f"assistant.parts.assistant={wrong}"], plugins)


def test_older_recorded_settings_are_parts_now(plugins):
    memory = plugins.get("method", "minionerec-memory")
    older = copy.deepcopy(memory)
    older["stages"][-1] = {
        "name": "memory",
        "trainer": "minionerec-memory",
        "memory": "hybrid",
        "parts": ["skip-markov", "tfidf"],
    }
    assert resolve(older, "-", 1, [], plugins).as_dict() == resolve(memory, "-", 1, [], plugins).as_dict()


# --- the kit


@pytest.mark.parametrize("kind", USES)
def test_what_the_scaffold_writes_keeps_every_promise(kind, tmp_path):
    done = bench("plugin", "new", f"my-{kind}", "--kind", kind, "--output", tmp_path)
    assert done.exit_code == 0, (done.output, done.exception)
    folder = tmp_path / f"my-{kind}"
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    module = f"my_{kind}"
    assert {"pyproject.toml", "README.md", f"src/{module}/__init__.py", f"tests/test_{module}.py"} <= files
    assert not [
        f
        for f in folder.rglob("*")
        if f.is_file() and any(w in f.read_text() for w in ("NAME", "PROJECT_FOLDER", "SUMMARY"))
    ]
    if kind in ("dataset", "decoder", "metric"):  # of these what it says comes next takes seconds
        [said] = [line for line in done.output.splitlines() if "bench run" in line]
        words = shlex.split(said[said.index("bench run") :])[1:]
        ran = bench(*words, "--runs", tmp_path / "runs", "--no-mlflow", "--no-figures", "--quiet")
        assert ran.exit_code == 0, ran.output
    done = bench("plugin", "check", folder)
    assert done.exit_code == 0, done.output
    assert ", 0 broken" in done.output
    again = bench("plugin", "new", f"my-{kind}", "--kind", kind, "--output", tmp_path)
    assert again.exit_code == 2 and "is there already" in again.output


def test_a_method_is_scaffolded_checked_and_run_in_three_commands_within_a_minute(tmp_path):
    started = time.monotonic()
    for words in (
        ("plugin", "new", "mine", "--kind", "method"),
        ("plugin", "check", "mine"),
        ("run", "--plugin", "mine", "--method", "mine", "--category", "Synthetic", "--no-mlflow"),
    ):
        done = subprocess.run([sys.executable, "-m", "harness", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert list(tmp_path.glob("runs/Synthetic/mine/*/report.md"))
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "mine/tests"], cwd=tmp_path, capture_output=True, text=True
    )
    assert tests.returncode == 0 and "8 passed" in tests.stdout, tests.stdout


@pytest.mark.parametrize(
    "name", ["Mine", "my_method", "../evil", "a/b", "class", "harness", "-x", "x" * 60, "sasrec", "ä"]
)
def test_a_name_that_is_none_is_one_line_and_leaves_nothing(name, tmp_path):
    done = bench("plugin", "new", "--kind", "method", "--output", tmp_path / "out", "--", name)
    assert done.exit_code == 2 and done.output.count("Error: ") == 1
    assert not (tmp_path / "out").exists()


BROKEN = {
    "scores hang on the clock": (
        "np.add.at(follows",
        "follows[:, 0] = __import__('time').time_ns() % 997\n        np.add.at(follows",
        "repeats from its seed",
    ),
    "settings without a word": (
        'popularity: float = setting(0.01, "weight of an item\'s purchases, for what never followed the last item")',
        "popularity: float = 0.01",
        "settings",
    ),
    "a pickle": (
        'return {"rows"',
        'import pickle; (context.directory / "x").write_bytes(pickle.dumps([1]))\n        return {"rows"',
        "leaves no pickle",
    ),
    "a kill loses the state": (
        "n = len(context.items)\n",
        "n = len(context.items)\n        began = context.directory / 'began'\n        again = began.exists()\n"
        "        began.write_text('x')\n        context.log({'loss': 1.0}, 1)\n",
        "",
    ),
}


@pytest.mark.parametrize("fault", [name for name in BROKEN if BROKEN[name][2]])
def test_the_conformance_suite_finds_what_is_broken(fault, tmp_path):
    bench("plugin", "new", "mine", "--kind", "method", "--output", tmp_path)
    file = tmp_path / "mine/src/mine/__init__.py"
    before, after, check = BROKEN[fault]
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    done = bench("plugin", "check", tmp_path / "mine")
    assert done.exit_code == 2
    failed = [line for line in done.output.splitlines() if line.startswith("FAIL ")]
    assert failed and any(check in line for line in failed), done.output


def test_a_training_that_forgets_after_a_kill_is_found(tmp_path):
    bench("plugin", "new", "mine", "--kind", "method", "--output", tmp_path)
    file = tmp_path / "mine/src/mine/__init__.py"
    text = file.read_text().replace("n = len(context.items)\n", BROKEN["a kill loses the state"][1])
    file.write_text(
        text.replace("np.add.at(follows", "follows += 5.0 * again * np.arange(n)\n        np.add.at(follows")
    )
    done = bench("plugin", "check", tmp_path / "mine")
    assert done.exit_code == 2 and "FAIL method mine: goes on after a kill" in done.output


def test_a_network_whose_padding_counts_is_found(tmp_path):
    bench("plugin", "new", "mine", "--kind", "baseline", "--output", tmp_path)
    file = tmp_path / "mine/src/mine/__init__.py"
    before = "return (self.output.embedding(items) * real).sum(1) / real.sum(1)"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, "return self.output.embedding(items).sum(1) / items.shape[1]"))
    done = bench("plugin", "check", tmp_path / "mine", "--only", "alone")
    assert done.exit_code == 2 and "what pads a short history must change nothing" in done.output


def test_a_loss_of_its_own_reads_no_setting_of_the_shared_ones(tmp_path):
    bench("plugin", "new", "mine", "--kind", "baseline", "--output", tmp_path)
    file = tmp_path / "mine/src/mine/__init__.py"
    own = "    def loss(self, items, targets):\n        return -self.output(self.states(items))[:, 0].mean()\n\n"
    file.write_text(file.read_text().replace("    def states(", own + "    def states("))
    words = ["run", "--plugin", tmp_path / "mine", "--method", "mine", "--category", "Synthetic", "--no-mlflow",
             "--runs", tmp_path / "runs", "--set", "mine.loss=bce"]  # fmt: skip
    done = bench(*words)
    assert done.exit_code == 2 and "has a loss of its own, which reads no loss" in done.output


def test_a_method_that_sees_targets_is_found(tmp_path):
    """A decoder that ranks by what it finds in the frames above it: the test targets."""
    plugin = tmp_path / "peeks.py"
    plugin.write_text(
        "import sys\nimport numpy as np\nfrom dataclasses import dataclass\nfrom harness import hookimpl\n"
        "from harness.components import setting\nfrom harness.data.rankings import Rankings\n\n\n"
        "@dataclass(frozen=True)\nclass Settings:\n    k: int = setting(20, 'candidates')\n\n\n"
        "class Peeks:\n    Settings = Settings\n\n"
        "    def __init__(self, settings):\n        self.settings = settings\n\n"
        "    def decode(self, model, histories, semantic_ids, device, progress):\n"
        "        scores = np.array(model.score(histories), dtype=np.float32)\n        frame = sys._getframe()\n"
        "        while frame:\n            run = getattr(frame.f_locals.get('self'), 'run', None)\n"
        "            if hasattr(run, 'dataset') and len(run.dataset.test) == len(histories):\n"
        "                scores[np.arange(len(scores)), run.dataset.test.targets] += 100\n                break\n"
        "            frame = frame.f_back\n"
        "        ids = np.argsort(-scores, axis=1, kind='stable')[:, :self.settings.k]\n"
        "        return Rankings('item', ids.astype(np.int32), np.take_along_axis(scores, ids, 1))\n\n\n"
        "@hookimpl\ndef bench_decoders():\n    return {'peeks': Peeks}\n\n\n@hookimpl\ndef bench_methods():\n"
        "    return [{'name': 'peeks', 'summary': 'x', 'base': 'markov', 'decoder': {'name': 'peeks'}}]\n"
    )
    done = bench("plugin", "check", plugin, "--only", "target")
    assert done.exit_code == 2 and "it has seen them" in done.output


def built_in_checks():
    plugins = manager.load()
    found = [check for plugin in (manager.CORE, *plugins.loaded) for check in checks_of(plugin, plugins)]
    sizes = {"minionerec-qwen2.5-0.5b", "minionerec-qwen2.5-3b"}  # in miniature what 1.5b is; each has its -lora
    return [c for c in found if c.component.removesuffix("-lora") not in sizes or c.label.endswith(": recipe resolves")]


@pytest.mark.parametrize("check", built_in_checks(), ids=lambda check: check.label)
def test_every_built_in_passes_the_conformance_suite(check):
    check.run()


# --- the Python API


def test_a_run_by_the_api_is_the_run_of_the_command(tmp_path):
    settings = {"dataset.items": 80, "dataset.users": 80, "markov.decay": 0.3}
    done = harness.run("markov", "Synthetic", settings=settings, runs=tmp_path / "a", threads=1, device="cpu")
    words = [w for key, value in settings.items() for w in ("--set", f"{key}={value}")]
    bench("run", "--method", "markov", "--category", "Synthetic", "--runs", tmp_path / "b", "--no-mlflow",
          "--no-figures",          "--threads", "1", "--device", "cpu", *words)  # fmt: skip
    [other] = (tmp_path / "b").glob("*/*/*")
    assert other.name == done.directory.name
    again = harness.load_run(other)
    assert again.metrics("item") == done.metrics("item") and again.stages == ["markov"]
    assert done.metrics("sid")["HR@10"] > 0 and done.manifest["seed"] == 42
    rankings = done.rankings()
    dataset = harness.load_dataset("Synthetic", settings={"items": 80, "users": 80})
    measured = harness.evaluate(rankings, dataset)
    assert measured["item"] == done.metrics("item") and measured["sid"] == done.metrics("sid")
    kept = rankings.of(dataset.test, Path())  # bare ids say nothing of ties: all that an array can be is an order
    order = np.tile(-np.arange(kept.ids.shape[1], dtype=np.float32), (len(kept.ids), 1))
    expected = harness.evaluate(Rankings("item", kept.ids, order), dataset)
    ours = harness.evaluate(kept.ids, dataset)
    assert ours["item"] == expected["item"] != done.metrics("item")
    for wrong, said in (
        (rankings.ids[:3], "of 3 samples"),
        (rankings.ids * 0.5, "must be item ids"),
        (rankings.ids * 0, "twice"),
    ):
        with pytest.raises(BenchError, match=said):
            harness.evaluate(wrong, dataset)
    with pytest.raises(BenchError, match="unknown protocol 'itm'"):
        done.metrics("itm")
    with pytest.raises(BenchError, match="ids go from 0 to 79"):
        harness.evaluate(rankings.ids.astype(np.int64) + 2**32, dataset)
    with pytest.raises(BenchError, match="method must be"):
        harness.run(None, "Synthetic", runs=tmp_path)
    for odd in (None, 7, "a=1", [1]):
        with pytest.raises(BenchError, match="settings must be"):
            harness.run("markov", "Synthetic", settings=odd, runs=tmp_path)
    assert {"run", "evaluate", "load_run", "load_dataset"} <= set(dir(harness))
    with pytest.raises(BenchError, match="not the directory of a finished run"):
        harness.load_run(tmp_path)
    with pytest.raises(AttributeError):
        harness.nothing_of_that_name  # noqa: B018


def test_the_api_costs_nothing_until_it_is_used():
    script = "import sys, harness; assert not {'torch', 'numpy', 'pandas', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


def test_the_generated_category_is_sound():
    data = generated()
    assert len(data.test) == 60 and (data.test.histories.users == -1).sum() == 6
    assert len(data.given.distinct) < len(data.items)
