"""The plugins that the docs print are the files that run here."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from tests.conftest import TINY_SETTINGS

ROOT = Path(__file__).parents[2]
FPMC = ROOT / "tests/external/fpmc.py"
NOVELTY = ROOT / "tests/external/novelty.py"


def bench(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_the_docs_print_the_baseline_that_is_tested_and_it_is_short():
    text = FPMC.read_text()
    assert f"```python\n{text}```" in (ROOT / "docs/plugins.md").read_text()
    assert len(text.splitlines()) < 60


def test_the_python_api_of_the_docs_runs(tmp_path, monkeypatch):
    """The blocks of the page, one after the other, as a notebook would run them."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/python-api.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 5
    world: dict = {}
    for block in blocks:
        exec(compile(block, "docs/python-api.md", "exec"), world)  # the repository's own page
    assert world["mine"].directory.parent.name == "sharp-markov"
    assert 0 < world["numbers"]["item"]["HR@10"] <= 1


def test_the_docs_print_the_user_part_that_is_tested():
    text = (ROOT / "tests/external/bench_fpmc/__init__.py").read_text()
    part = text[text.index("class Fpmc(ItemModel)") : text.index("@hookimpl")].rstrip()
    assert f"```python\n{part}\n```" in (ROOT / "docs/plugins.md").read_text()


def blocks_between(first, last):
    text = (ROOT / "docs/plugins.md").read_text()
    return "\n\n".join(re.findall(r"```python\n(.*?)```", text[text.index(first) : text.index(last)], flags=re.DOTALL))


def test_the_method_that_grows_step_by_step_is_one(tmp_path):
    (tmp_path / "popular.py").write_text(blocks_between("## Step by step", "**A base.**"))
    done = bench("plugin", "check", tmp_path / "popular.py")
    assert done.exit_code == 0 and ", 0 broken" in done.output and "popular" in done.output, done.output


def test_the_blend_of_the_docs_is_a_method(tmp_path):
    head = blocks_between("**A scorer.**", "**A trainer**").partition("class ")[0]
    registered = (
        "\n\n@hookimpl\ndef bench_trainers():\n    return {'blend': BlendTrainer}\n\n\n"
        "@hookimpl\ndef bench_methods():\n"
        "    stage = {'name': 'blend', 'parts': {'neural': {'name': 'sasrec', 'epochs': 1, 'hidden': 16}}}\n"
        "    return [{'name': 'blend', 'summary': 'both', 'stages': [stage], 'decoder': {'name': 'rank'}}]\n"
    )
    blend = blocks_between("**Parts.**", "## A neural baseline in one file")
    (tmp_path / "blend.py").write_text(head + blend + registered)
    done = bench("plugin", "check", tmp_path / "blend.py")
    assert done.exit_code == 0 and ", 0 broken" in done.output, done.output


def test_the_docs_link_no_file_that_is_not_there():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links {target}"
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_a_reward_in_a_file_is_documented_and_drives_grpo(tmp_path):
    text = NOVELTY.read_text()
    assert f"```python\n{text}```" in (ROOT / "docs/rewards.md").read_text()
    sets = [*TINY_SETTINGS, "sft.epochs=1", "grpo.rewards={novelty: 2, ranking_only: 0.5}", "grpo.log_every=1"]
    words = [word for setting in sets for word in ("--set", setting)]
    done = bench("run", "--method", "minionerec", "--category", "Synthetic", "--plugin", NOVELTY, "--runs",
                 tmp_path / "runs", "--no-mlflow", "--device", "cpu", "--threads", "1", *words)  # fmt: skip
    assert done.exit_code == 0, done.output
    [state] = sorted((tmp_path / "runs").glob("*/*/*/stages/2-grpo/checkpoints/*/trainer_state.json"))[-1:]
    logged = [entry for entry in json.loads(state.read_text())["log_history"] if "rewards/novelty" in entry]
    assert any(entry["rewards/novelty"] > 0 for entry in logged)
    assert all(
        entry["reward"] == pytest.approx(entry["rewards/novelty"] + entry["rewards/ranking_only"], abs=1e-5)
        for entry in logged
    )


def test_a_reward_that_fails_ends_the_run_in_one_line(tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "from harness import hookimpl\n\n\n@hookimpl\ndef bench_rewards():\n"
        "    return {'broken': lambda groups: groups.hits.float() / 0}\n"
    )
    sets = [*TINY_SETTINGS, "sft.epochs=1", "grpo.rewards=broken"]
    done = bench("run", "--method", "minionerec", "--category", "Synthetic", "--plugin", plugin, "--runs",
                 tmp_path / "runs", "--no-mlflow", "--device", "cpu", "--threads", "1",
                 *[word for setting in sets for word in ("--set", setting)])  # fmt: skip
    assert done.exit_code == 2
    [line] = [line for line in done.output.splitlines() if line.startswith("Error")]
    assert "step 1: reward broken is" in line
    assert "target item" in line
    assert not list((tmp_path / "runs").glob("*/*/*/stages/2-grpo/checkpoints/*"))


def test_a_baseline_in_a_file_runs_tunes_and_stands_in_a_suite(tmp_path):
    sizes = ["dataset.items=200", "dataset.users=1500", "fpmc.epochs=8", "fpmc.batch=64", "fpmc.learning_rate=0.005"]
    sets = [word for size in sizes for word in ("--set", size)]
    common = ["--plugin", FPMC, "--category", "Synthetic", "--runs", tmp_path / "runs"]
    common += ["--no-mlflow", "--device", "cpu", "--threads", "1"]
    done = bench("run", "--method", "fpmc", *common, *sets)
    assert done.exit_code == 0, done.output
    assert read(tmp_path, "fpmc")["train"]["best epoch"] > 1
    tuned = bench("tune", "--method", "fpmc", *common, *sets, "--trials", "2")
    assert tuned.exit_code == 0, tuned.output
    assert "best: --set fpmc.hidden=" in tuned.output
    suite = tmp_path / "mine.yaml"
    suite.write_text(f"methods:\n  - {{method: popularity, set: [{sizes[0]}, {sizes[1]}]}}\n"
                     f"  - {{method: fpmc, set: [{', '.join(sizes)}]}}\n")  # fmt: skip
    ran = bench("suite", "run", suite, *common)
    assert ran.exit_code == 0, ran.output
    assert "| fpmc " in ran.output
    assert read(tmp_path, "fpmc")["item"]["HR@10"] > 1.2 * read(tmp_path, "popularity")["item"]["HR@10"]


def read(folder, method):
    """The only stage of the only run of a method."""
    [path] = (folder / "runs").glob(f"*/{method}/*/metrics.json")
    [stage] = json.loads(path.read_text())["stages"].values()
    return stage


@pytest.mark.parametrize("method", ["popularity", "recency", "markov", "skip-markov", "itemknn", "ease", "gru4rec",
                                    "caser", "sasrec", "hstu"])  # fmt: skip
def test_ids_alone_are_enough_for_the_methods_that_say_so(method, tmp_path, monkeypatch):
    """A category without texts and SIDs, with a user of one purchase and an item that nobody bought."""
    monkeypatch.setenv("BENCH_DATA", str(bare_category(tmp_path / "data")))
    sets = ["--set", f"{method}.epochs=1"] if method in ("gru4rec", "caser", "sasrec", "hstu") else []
    done = bench("run", "--method", method, "--category", "Bare", "--runs", tmp_path / "runs", "--no-mlflow",
                 "--device", "cpu", "--threads", "1", "--set", "decoder.k=20", *sets)  # fmt: skip
    assert done.exit_code == 0, done.output
    stage = read(tmp_path, method)
    assert "sid" not in stage
    assert 0 < stage["item"]["HR@20"] <= 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tfidf", "--set", "decoder.k=20"], "tfidf needs item titles and this category has none"),
        (["hybrid", "--set", "decoder.k=20"], "hybrid needs item titles and this category has none"),
        (["tiger"], "Bare comes without semantic IDs; make them with --tokenizer rqkmeans"),
        (["tiger", "--tokenizer", "rqkmeans"], "Bare has no item texts"),
        (["tiger", "--tokenizer", "rqkmean"], "did you mean rqkmeans"),
        (["sasrec"], "the catalogue has 40 items; set decoder.k=40"),
        (["sasrec", "--set", "sasrec.dropout=1.5"], "setting sasrec.dropout = 1.5"),
        (["sasrec", "--set", "sasrec.loss=ce"], "setting sasrec.loss = 'ce'"),
        (["sasrec", "--set", "sasrec.heads=5"], "no multiple of sasrec.heads"),
        (["markov", "--set", "markov.decay=-1"], "setting markov.decay = -1"),
        (["ease", "--set", "ease.regularisation=0"], "setting ease.regularisation = 0"),
    ],
)
def test_what_a_category_lacks_is_one_line(words, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(bare_category(tmp_path / "data")))
    result = bench(
        "run", "--method", words[0], "--category", "Bare", "--runs", tmp_path / "runs", "--no-mlflow", *words[1:]
    )
    assert result.exit_code == 2, result.output
    assert expected in result.output
    assert result.output.count("Error: ") == 1
    assert not list((tmp_path / "runs").rglob("*.json"))


def bare_category(folder):
    """40 items without texts; users of 1 to 8 purchases."""
    folder.mkdir(parents=True)
    sequences = {str(u): [(7 * u + 3 * i) % 39 for i in range(u % 8 + 1)] for u in range(60)}
    (folder / "Bare.inter.json").write_text(json.dumps(sequences))
    (folder / "Bare.item.json").write_text(json.dumps({str(i): {} for i in range(40)}))
    return folder
