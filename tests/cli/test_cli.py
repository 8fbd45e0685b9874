import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from harness import recipes
from harness.cli import cli

RUN = ["run", "--method", "minionerec", "--category", "Synthetic", "--no-mlflow"]


def bench(*words):
    return CliRunner().invoke(cli, list(words))


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from harness.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'pandas', 'numpy', 'sklearn', 'trl'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout
    assert "leaderboard" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--method", "minionrec", "--category", "Synthetic"], "did you mean minionerec"),
        (["run", "--method", "minionerec", "--category", "Sinthetic"], "did you mean Synthetic?"),
        ([*RUN, "--set", "sft.epoch=1"], "did you mean sft.epochs"),
        ([*RUN, "--set", "stf.epochs=1"], "unknown setting"),
        ([*RUN, "--set", "sft.epochs=many"], "sft.epochs"),
        ([*RUN, "--set", "grpo.rewards=rankin"], "did you mean ranking"),
        ([*RUN, "--set", "sft.tasks.next_sit=1"], "next_sid"),
        ([*RUN, "--set", "decoder=bean"], "did you mean beam?"),
        ([*RUN, "--set", "decoder.beams=99999"], "1187 SIDs"),
        ([*RUN, "--set", "nonsense"], "key=value"),
        ([*RUN, "--set", "backbone=hf:/no/model"], "cannot be loaded"),
        ([*RUN, "--set", "grpo.batch=100"], "multiple of"),
        ([*RUN, "--set", "prompts=verse"], "prompt style"),
        (["run", "--category", "Synthetic"], "--method NAME"),
        ([*RUN, "--set", "grpo.generations=2000"], "grpo.generations = 2000"),
        ([*RUN, "--set", "grpo.tasks={sid_to_title: 1}"], "cannot be rewarded"),
        ([*RUN, "--set", "grpo.tasks={next_sid: 0.001}"], "lower grpo.batch"),
        ([*RUN, "--set", "sft.tasks={next_sid: 0}"], "no row to train on"),
        ([*RUN, "--set", "prompts=instruction"], "sft.packed=false"),
        ([*RUN, "--set", "tokenizer="], "needs semantic IDs"),
        (["run", "--method", "popularity", "--category", "Synthetic", "--device", "tpu"], "known are auto"),
        (["run", "--method", "popularity", "--category", "Synthetic", "--data-dir", "/no/where"], "is not a folder"),
        (["run", "--method", "popularity", "--category", "Synthetic", "--plugin", "/no/file.py"], "does not exist"),
        (["data", "show", "Nothing"], "looked in"),
        (["leaderboard", "--category", "Synthetic"], "no finished run"),
        (["show", "method", "popular"], "did you mean popularity?"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_exit_2_and_leaves_nothing(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA", raising=False)
    result = bench(*words)
    assert result.exit_code == 2, result.output
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.output
    assert expected in errors[0]
    assert not list(tmp_path.rglob("*.json"))
    assert not (tmp_path / "runs").exists() or not any(p.is_file() for p in (tmp_path / "runs").rglob("*"))


def test_show_method_tells_every_setting_and_its_meaning():
    output = bench("show", "method", "minionerec-qwen2.5-1.5b", "--set", "decoder.beams=7").output
    assert "decoder.beams = 7" in output
    assert "sft.learning_rate = 0.0003" in output
    assert "peak learning rate (3e-4)" in output
    assert "grpo.sync_reference = True" in output


@pytest.mark.parametrize("name", ["lcrec", "bigrec", "d3", "sdpo"])
def test_what_a_method_s_own_paper_sets_stands_beside_the_setting(name):
    """Each value a recipe quotes is of a setting that there is, and replaces the bracket of its shared meaning."""
    recipe = yaml.safe_load(recipes.shipped("methods", f"{name}.yaml").read_text())
    lines = bench("show", "method", name).output.splitlines()
    for key, value in recipe["paper"].items():
        [line] = [line for line in lines if line.strip().startswith(f"{key} = ")]
        assert line.endswith(f" (its paper: {value})") and "(3e-4) (" not in line


def test_methods_have_a_line_each():
    lines = bench("methods").output.splitlines()
    assert any(line.startswith("minionerec ") for line in lines)
    assert any(line.startswith("popularity ") for line in lines)


def test_data_list_show_and_validate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DATA", raising=False)
    assert "Synthetic" in bench("data", "list").output
    shown = bench("data", "show", "Synthetic", "--set", "items=300").output
    assert "items 300" in shown
    assert "Bayes-optimal" in shown
    assert "fingerprint" in shown
    validated = bench("data", "validate", "Synthetic")
    assert validated.exit_code == 0
    assert "0 errors" in validated.output
