"""What a plugin does wrong is one line that names it, before anything is trained; what pluggy promises holds."""

import json
import sys

import pytest
from click.testing import CliRunner

from harness import plugins as manager
from harness.cli import cli
from harness.errors import BenchError

SIZES = ["--set", "dataset.items=80", "--set", "dataset.users=80"]
GOOD = """
from dataclasses import dataclass
import numpy as np
from harness import hookimpl
from harness.components import setting, NoSettings
from harness.data.rankings import Rankings


@dataclass(frozen=True)
class Settings:
    weight: float = setting(1.0, "what it weighs")


class Model:
    def __init__(self, counts):
        self.counts = counts

    def score(self, histories):
        return np.tile(self.counts, (len(histories), 1))


class Trainer:
    Settings = Settings

    def __init__(self, settings):
        self.settings = settings

    def fit(self, context):
        return {"rows": np.int64(len(context.train)), "share": np.float32(0.5)}

    def load(self, context):
        return Model(np.bincount(context.train.targets, minlength=len(context.items)).astype(float))


@hookimpl
def bench_trainers():
    return {"mine": Trainer}


@hookimpl
def bench_methods():
    return [{"name": "mine", "summary": "counts", "stages": [{"name": "mine"}], "decoder": {"name": "rank", "k": 20},
             "tokenizer": {"name": "given", "optional": True}}]
"""


def bench(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def run(folder, text, *more, name="mine"):
    plugin = folder / f"{name}.py"
    plugin.write_text(text)
    return bench("run", "--method", "mine", "--category", "Synthetic", "--plugin", plugin, "--runs", folder / "runs",
                 "--no-mlflow", "--no-figures", "--device", "cpu", "--threads", "1", *SIZES, *more)  # fmt: skip


def refused(done, folder, *said):
    """One line, exit code 2, nothing left behind."""
    assert done.exit_code == 2, (done.output, done.exception)
    lines = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in done.output
    for text in said:
        assert text in lines[0], lines[0]
    assert not list((folder / "runs").rglob("*.*")), list((folder / "runs").rglob("*.*"))


def test_a_sound_plugin_runs_and_counts_as_the_communitys(tmp_path):
    done = run(tmp_path, GOOD)
    assert done.exit_code == 0, (done.output, done.exception)
    [metrics] = (tmp_path / "runs").rglob("metrics.json")
    manifest = json.loads((metrics.parent / "manifest.json").read_text())
    assert manifest["group"] == "community"
    component = manifest["components"]["stage mine"]
    assert component["name"] == "mine" and len(component["sha256"]) == 64
    assert json.loads(metrics.read_text())["stages"]["mine"]["train"]["share"] == 0.5
    shown = bench("leaderboard", "--category", "Synthetic", "--runs", tmp_path / "runs").output
    assert "*Community*" in shown or "mine" in shown


FAULTS = {
    "an import that fails": ("import numpy as np", "import no_such_module_at_all", ["mine", "no_such_module_at_all"]),
    "registration that fails": (
        'return {"mine": Trainer}',
        "raise ValueError('boom')",
        ["mine", "bench_trainers", "boom"],
    ),
    "registration of junk": ('return {"mine": Trainer}', "return [Trainer]", ["mine", "bench_trainers", "dict"]),
    "a component that is none": ('return {"mine": Trainer}', 'return {"mine": 7}', ["mine", "bench_trainers", "7"]),
    "methods that are no list": (
        'return [{"name": "mine"',
        'return {"a": 1} or [{"name": "mine"',
        ["bench_methods", "list"],
    ),
    "no Settings": ("    Settings = Settings\n", "", ["mine", "no Settings", "NoSettings"]),
    "Settings that are none": ("    Settings = Settings\n", "    Settings = 5\n", ["mine", "dataclass"]),
    "Settings that fail": (
        '    weight: float = setting(1.0, "what it weighs")',
        '    weight: float = setting(1.0, "x")\n\n    def __post_init__(self):\n        raise KeyError("inside")',
        ["settings of mine", "KeyError", "inside"],
    ),
    "an __init__ of its own": (
        "def __init__(self, settings):\n        self.s",
        "def __init__(self):\n        self.s",
        ["mine", "__init__"],
    ),
    "fit with another signature": (
        "def fit(self, context):",
        "def fit(self, train, valid):",
        ["mine", "fit", "TypeError", "mine.py"],
    ),
    "fit that returns nothing": ('return {"rows"', 'return None and {"rows"', ["mine", "fit returned nothing"]),
    "fit that returns junk": (
        'return {"rows"',
        'return {"model": object()} or {"rows"',
        ["mine", "fit returned", "object"],
    ),
    "fit that fails": ('return {"rows"', 'return 1 / 0 or {"rows"', ["mine", "ZeroDivisionError", "line"]),
    "load that returns nothing": ("return Model(", "return None and Model(", ["mine", "load returned nothing"]),
    "scores too narrow": ("np.tile(self.counts,", "np.tile(self.counts[:7],", ["mine", "7", "240 items"]),
    "scores that are no numbers": ("np.tile(self.counts,", "np.nan * np.tile(self.counts,", ["NaN"]),
    "scores as a list": (
        "return np.tile(self.counts, (len(histories), 1))",
        "return [[1.0]]",
        ["mine", "list", "NumPy"],
    ),
    "a hook without its marker": (
        "@hookimpl\ndef bench_trainers",
        "def bench_trainers",
        ["bench_trainers", "@hookimpl"],
    ),
    "an unknown hook": ("def bench_trainers", "def bench_trainer", ["bench_trainer", "did you mean", "bench_trainers"]),
    "a hook of the past": ("def bench_methods():", "def bench_analyses():", ["bench_analyses", "bench_metrics"]),
    "a base that is not there": (
        '"summary": "counts"',
        '"summary": "counts", "base": "sasrek"',
        ["base 'sasrek'", "sasrec"],
    ),
    "a base of its own": ('"summary": "counts"', '"summary": "counts", "base": "mine"', ["circle", "mine → mine"]),
    "a wrapper that fails": (
        "@hookimpl\ndef bench_methods",
        "@hookimpl(wrapper=True)\ndef bench_datasets():\n    found = yield\n    raise RuntimeError('wrapped')\n\n\n"
        "@hookimpl\ndef bench_methods",
        ["mine", "wrapper of bench_datasets", "wrapped"],
    ),
    "a wrapper that gives junk": (
        "@hookimpl\ndef bench_methods",
        "@hookimpl(wrapper=True)\ndef bench_datasets():\n    yield\n    return 7\n\n\n@hookimpl\ndef bench_methods",
        ["mine", "bench_datasets", "list"],
    ),
    "a metric of the older form": (
        "@hookimpl\ndef bench_methods",
        "@hookimpl\ndef bench_metrics():\n    return {'old': lambda rankings, targets, sids: 1}\n\n\n"
        "@hookimpl\ndef bench_methods",
        ["metric old of plugin mine", "evaluated"],
    ),
    "a metric that gives junk": (
        "@hookimpl\ndef bench_methods",
        "@hookimpl\ndef bench_metrics():\n    return {'odd': lambda evaluated: object()}\n\n\n"
        "@hookimpl\ndef bench_methods",
        ["metric odd", "mine", "object"],
    ),
    "a metric that is no number": (
        "@hookimpl\ndef bench_methods",
        "@hookimpl\ndef bench_metrics():\n    return {'odd': lambda evaluated: float('nan')}\n\n\n"
        "@hookimpl\ndef bench_methods",
        ["metric odd", "nan"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_before_anything_is_trained(tmp_path, fault):
    before, after, said = FAULTS[fault]
    assert before in GOOD
    refused(run(tmp_path, GOOD.replace(before, after)), tmp_path, *said)


DECODER = """

class Decoder:
    Settings = type("Settings", (), {})

    def __init__(self, settings):
        self.settings = settings

    def decode(self, model, histories, semantic_ids, device, progress):
        n, k = len(histories), self.settings.k
        BODY
        return Rankings("item", ids, scores)


@dataclass(frozen=True)
class DecoderSettings:
    k: int = setting(20, "candidates")


Decoder.Settings = DecoderSettings


@hookimpl
def bench_decoders():
    return {"odd": Decoder}
"""
RIGHT = "ids = np.tile(np.arange(k, dtype=np.int32), (n, 1)); scores = -ids.astype(np.float32)"
CONTRACT = {
    "three of twenty": ("k = 3; " + RIGHT, "3 candidates a sample; its settings ask for 20"),
    "one twice": (RIGHT + "; ids[:, 1] = 0", "a candidate twice"),
    "beyond the catalogue": (RIGHT + "; ids[0, 0] = 99999", "candidate 99999"),
    "below nothing": (RIGHT + "; ids[0, 0] = -5", "candidate -5"),
    "rising scores": (RIGHT + "; scores = -scores", "rising scores"),
    "no number": (RIGHT + "; scores[2, 3] = np.nan", "NaN score"),
    "no end": (RIGHT + "; scores[:, 0] = np.inf", "an infinite score"),
    "too few rows": (RIGHT + "; ids, scores = ids[1:], scores[1:]", "histories"),
    "junk": (RIGHT + "; return 7", "decode gave int"),
    "ids as floats": (RIGHT + "; ids = ids.astype(float)", "float64"),
}


@pytest.mark.parametrize("case", CONTRACT)
def test_a_decoder_that_breaks_its_contract_is_named(tmp_path, case):
    body, said = CONTRACT[case]
    text = GOOD + DECODER.replace("BODY", body)
    refused(run(tmp_path, text, "--set", "decoder=odd"), tmp_path, "decoder odd", "plugin mine", said)


def test_a_decoder_that_keeps_it_runs(tmp_path):
    assert run(tmp_path, GOOD + DECODER.replace("BODY", RIGHT), "--set", "decoder=odd").exit_code == 0


@pytest.mark.parametrize("where", ["before", "after", "never yields", "yields twice"])
@pytest.mark.parametrize("hook", ["bench_run_started(run)", "bench_stage_finished(stage)", "bench_run_finished(run)"])
def test_a_lifecycle_wrapper_that_fails_never_fails_a_run(tmp_path, where, hook):
    body = {"before": "raise ValueError('early')\n    yield", "after": "yield\n    raise ValueError('late')",
            "never yields": "if False:\n        yield", "yields twice": "yield\n    yield"}[where]  # fmt: skip
    done = run(tmp_path, GOOD + f"\n\n@hookimpl(wrapper=True)\ndef {hook}:\n    {body}\n")
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"failed in {hook.partition('(')[0]}" in done.output
    assert list((tmp_path / "runs").rglob("report.md"))  # the others were called all the same


def test_a_failing_observer_does_not_keep_the_report_from_being_written(tmp_path):
    text = GOOD + "\n\n@hookimpl(tryfirst=True)\ndef bench_run_finished(run):\n    raise OSError('no')\n"
    done = run(tmp_path, text)
    assert done.exit_code == 0 and "failed in bench_run_finished" in done.output
    assert list((tmp_path / "runs").rglob("report.md"))


def plugin(folder, name, text):
    file = folder / f"{name}.py"
    file.write_text("from harness import hookimpl\n" + text)
    return str(file)


def test_specname_order_and_wrappers_are_pluggys(tmp_path):
    files = [
        plugin(tmp_path, "named", "@hookimpl(specname='bench_decoders')\ndef offer():\n    return {'a': print}\n"),
        plugin(tmp_path, "other", "@hookimpl(trylast=True)\ndef bench_decoders():\n    return {'b': print}\n"),
        plugin(tmp_path, "around", "@hookimpl(wrapper=True)\ndef bench_decoders():\n    found = yield\n"
               "    return [*found, {'c': print}]\n"),
        plugin(tmp_path, "olden", "@hookimpl(hookwrapper=True)\ndef bench_tokenizers():\n    outcome = yield\n"
               "    outcome.force_result([*outcome.get_result(), {'d': print}])\n"),
    ]  # fmt: skip
    plugins = manager.load(files)
    owners = {name: plugins.owner("decoder", name).name for name in "abc"}
    assert owners == {"a": "named", "b": "other", "c": "around"}
    assert plugins.owner("tokenizer", "d").name == "olden"
    assert "beam" in plugins.registry("decoder")


def test_two_packages_and_two_files_of_one_name_do_not_clash(tmp_path):
    sources = []
    for folder, name in (("a", "one"), ("b", "two")):
        package = tmp_path / folder / "same"
        package.mkdir(parents=True)
        (package / "part.py").write_text(f"NAME = '{name}'\n")
        (package / "__init__.py").write_text(
            "from harness import hookimpl\nfrom .part import NAME\n\n\n"
            "@hookimpl\ndef bench_decoders():\n    return {NAME: print}\n"
        )
        sources.append(str(package))
    plugins = manager.load([sources[0], f"{sources[1]}/__init__.py", sources[0]])
    assert {"one", "two"} <= set(plugins.registry("decoder"))
    assert [plugin.name for plugin in plugins.loaded[-2:]] == ["same", "b/same"]


@pytest.mark.parametrize(
    ("given", "said"),
    [("nowhere.py", "does not exist"), ("folder", "neither __init__.py nor pyproject.toml"),
     ("text.txt", "not a Python file"),
     ("no_such_module_anywhere", "no file, no folder and no installed module")],
)  # fmt: skip
def test_what_is_no_plugin_is_one_line(tmp_path, given, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(BenchError, match=said):
        manager.load([given])


def test_an_absent_built_in_is_told_apart_from_a_name_that_nobody_has(tmp_path, monkeypatch):
    monkeypatch.setattr(manager, "BUILT_INS", (*manager.BUILT_INS, "plugins.gone"))
    plugins = manager.load()
    assert plugins.absent == ["plugins.gone"]
    with pytest.raises(BenchError, match=r"unknown decoder 'bem'.*not there: the built-in plugins\.gone"):
        plugins.get("decoder", "bem")


def test_two_plugins_whose_neighbours_share_a_name_are_refused(tmp_path, monkeypatch):
    for number in (1, 2):
        folder = tmp_path / f"p{number}"
        folder.mkdir()
        (folder / "neighbour_of_both.py").write_text(f"SIGN = {number}\n")
        (folder / f"plug{number}.py").write_text("import neighbour_of_both\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(BenchError, match=r"imports neighbour_of_both, and .*p1/neighbour_of_both\.py is loaded"):
        manager.load([str(tmp_path / "p1/plug1.py"), str(tmp_path / "p2/plug2.py")])


@pytest.mark.parametrize("module", ["deep_pkg.plug", "flat_plug"])
def test_a_project_that_is_not_installed_imports_its_own(tmp_path, module, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    base = tmp_path / "src"
    place = base / f"{module.replace('.', '/')}.py"
    place.parent.mkdir(parents=True)
    text = "from harness import hookimpl\n"
    if "." in module:
        (place.parent / "__init__.py").write_text("")
        (place.parent / "consts.py").write_text("NAME = 'deep'\n")
        text += "from .consts import NAME\nfrom deep_pkg.consts import NAME\n"
    else:
        (base / "flat_neighbour.py").write_text("NAME = 'flat'\n")
        text += "from flat_neighbour import NAME\n"
    place.write_text(text + "\n\n@hookimpl\ndef bench_decoders():\n    return {NAME: print}\n")
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "x"\nversion = "3.1"\n[project.entry-points.bench]\nown = "{module}"\n'
    )
    plugins = manager.load([str(tmp_path)])
    assert plugins.owner("decoder", module[:4]).version == "3.1"


def test_a_package_brings_its_own_published_numbers(tmp_path):
    from leaderboard import reported

    rows = tmp_path / "rows.yaml"
    rows.write_text(
        "- source: {id: mine, what: a paper}\n  category: Elsewhere\n  columns: [HR@10]\n  rows: {Own: [0.5]}\n"
    )
    manager.load([plugin(tmp_path, "brings", f"@hookimpl\ndef bench_reported():\n    return [{str(rows)!r}]\n")])
    assert [row.method for row in reported.rows("Elsewhere")] == ["Own"]
    assert reported.rows("Industrial_and_Scientific")
    manager.load()
    assert not reported.rows("Elsewhere")


def test_shadowing_folders_on_the_path_change_nothing(tmp_path):
    import os
    import subprocess

    for name in ("plugins", "configs", "baselines", "leaderboard"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "--method", "popularity", "--category", "Synthetic", "--no-mlflow",
         *SIZES],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs").rglob("report.md"))
