"""What a run rests on is held to what it was, and what is of a wrong kind is one line: found by attacking."""

import copy
import json
import shutil

import pytest
from click.testing import CliRunner

from harness import files
from harness.cli import cli
from harness.errors import BenchError
from harness.recipes import read_recipe
from harness.runs import code, run_directory
from leaderboard import verify
from leaderboard.board import build
from leaderboard.record import Record
from tests.commands import bench_run, run_whole
from tests.recorded import make_record

SIZES = ["dataset.items=60", "dataset.users=60"]


def bench(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_a_run_measures_against_its_own_sids_alone(tmp_path):
    run, before = run_whole(tmp_path, "markov", SIZES)
    path = run / run_directory.SEMANTIC_IDS
    content = json.loads(path.read_text())
    first = content["index"]["0"]
    content["index"] = {key: [*sid[:1], *first[1:]] for key, sid in content["index"].items()}
    path.write_text(json.dumps(content))
    again = bench_run(tmp_path, "markov", SIZES)
    assert again.exit_code == 2 and "other semantic IDs than the run used" in again.output
    assert json.loads((run / run_directory.METRICS).read_text())["stages"] == before


def test_valid_numbers_of_other_draws_do_not_choose(tiny, tmp_path):
    records = [make_record(tmp_path, tiny, seed=seed, settings={"rate": rate}) for seed, rate in ((1, 1), (2, 22))]
    drawn = []
    for record in records:
        told = copy.deepcopy(record.content)
        told["settings"]["probe"] = {"samples": 20, "beams": 10}
        drawn.append(Record(told, record.place))
    assert len(build(records, ["item"]).rows) == 1  # all valid samples: the same ones
    assert len(build(drawn, ["item"]).rows) == 2


def test_a_run_gone_on_from_is_known_by_content(tmp_path):
    first, _ = run_whole(tmp_path / "first", "gru4rec", [*SIZES, "gru4rec.epochs=1"])
    source = tmp_path / "source"
    shutil.copytree(first, source)
    sets = [*SIZES, "gru4rec.epochs=1", "decoder.k=30"]
    origin = ["--from-run", str(source)]
    run_whole(tmp_path / "runs", "gru4rec", sets, *origin)
    assert bench_run(tmp_path / "runs", "gru4rec", sets, *origin).exit_code == 0
    other, _ = run_whole(tmp_path / "other", "gru4rec", [*SIZES, "gru4rec.epochs=2"])
    shutil.rmtree(source)
    shutil.copytree(other, source)
    done = bench_run(tmp_path / "runs", "gru4rec", sets, *origin)
    assert done.exit_code == 2 and "is another run now than the one" in done.output


def test_what_a_plugin_imports_counts_however_far_and_what_does_not_parse_does_not_stop(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "space").mkdir()
    files = {
        "plug.py": "import pkg\nimport space.inner\ntry:\n    import bad\nexcept SyntaxError:\n    pass\n",
        "pkg/__init__.py": "from deep import SIGN\n", "deep.py": "SIGN = 1\n", "space/inner.py": "x = 1\n",
        "bad.py": "print 'x'\n", "beside.py": "y = 1\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = code.closure(tmp_path / "plug.py", tmp_path)
    for name, counts in {"deep.py": True, "space/inner.py": True, "beside.py": False}.items():
        (tmp_path / name).write_text(files[name] + "z = 2\n")
        assert (code.closure(tmp_path / "plug.py", tmp_path) != before) is counts, name
        (tmp_path / name).write_text(files[name])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c["semantic_ids"].update({"distinct SIDs": 9999}), "semantic_ids.distinct SIDs is"),
        (lambda c: c["Bayes-optimal"]["sid"].update({"NDCG@10": 0.01}), "Bayes-optimal.sid.NDCG@10 is"),
        (lambda c: c["stages"].pop("grpo"), "its settings say sft, grpo"),
        (lambda c: c.update(group="floor"), "group is counting, its settings say ours"),
        (lambda c: (c["stages"]["grpo"].pop("sid"), c["stages"]["grpo"]["ranks"].pop("sid")), "grpo: sid is missing"),
        (lambda c: c["stages"]["grpo"]["sid"].update({"HR@10": float("nan")}), "of the wrong kind"),
        (lambda c: c["stages"]["grpo"]["sid"].update({"HR@10": "high"}), "of the wrong kind"),
        (lambda c: c["settings"]["decoder"].update(beams=1), "their hash is another"),
    ],
)
def test_verify_finds_what_follows_from_data_settings_and_sids(tiny, plugins, tmp_path, edit, said):
    record = make_record(tmp_path, tiny)
    named = verify.hashed(record.settings, {"data": record.data, "given": tiny.given.fingerprint, "origin": None})
    record.content["run"] = f"seed1-{named}"
    assert verify.verify(record, tiny, plugins, record.place).false == []
    told = copy.deepcopy(record.content)
    edit(told)
    false = verify.verify(Record(told, record.place), tiny, plugins, record.place).false
    assert any(said in line for line in false), false


@pytest.mark.parametrize(
    ("method", "sets"),
    [("gru4rec", ["decoder.k=5"]), ("minionerec", ["decoder.beams=5"]), ("sdpo", ["probe.beams=5"]),
     ("tiger", ["decoder.beams=5"])],
)  # fmt: skip
def test_too_few_candidates_to_choose_by_are_refused_before_training(tmp_path, method, sets):
    done = bench_run(tmp_path / "runs", method, [*SIZES, *sets])
    assert done.exit_code == 2 and "the probe has fewer than 10 candidates" in done.output
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.safetensors"))
    few = bench("tune", "--method", "markov", "--category", "Synthetic", "--runs", tmp_path / "t", "--trials", 1,
                "--no-mlflow", "--set", "decoder.k=5", *(w for s in SIZES for w in ("--set", s)))  # fmt: skip
    assert few.exit_code == 2 and "tuning chooses by valid NDCG@10" in few.output


def test_methods_that_choose_nothing_may_have_few(tmp_path):
    _, stages = run_whole(tmp_path, "markov", [*SIZES, "decoder.k=5"])
    assert "NDCG@10" not in stages["markov"]["valid"]


@pytest.mark.parametrize(
    ("sets", "said"),
    [(["dataset.seed=-1"], "dataset.seed"), (["dataset.max_history=0"], "max_history"),
     (["sft.learning_rate=.nan"], "sft.learning_rate")],
)  # fmt: skip
def test_settings_beyond_their_bounds_are_one_line(tmp_path, sets, said):
    done = bench_run(tmp_path / "runs", "minionerec", [*SIZES, *sets])
    assert done.exit_code == 2 and said in done.output and not (tmp_path / "runs").exists()


def test_the_last_seed_makes_semantic_ids(tmp_path):
    run_whole(tmp_path, "markov", [*SIZES, "tokenizer=rqkmeans", "tokenizer.codes=4"], "--seed", str(2**32 - 1))


@pytest.mark.parametrize("content", ['{"name": "x"}', '{"done": {"run": {}}}', "[1]", '{"method": 1, "done": 3}', "{"])
def test_show_run_of_a_damaged_or_foreign_folder_is_one_line(tmp_path, content):
    (tmp_path / run_directory.MANIFEST).write_text(content)
    done = bench("show", "run", tmp_path)
    assert done.exit_code == 2 and str(tmp_path) in done.output and len(done.output.strip().splitlines()) == 1


def test_show_run_of_a_run_that_is_not_finished(tmp_path):
    run, _ = run_whole(tmp_path, "markov", SIZES)
    manifest = json.loads((run / run_directory.MANIFEST).read_text())
    manifest["done"] = {"begin": {}}
    (run / run_directory.MANIFEST).write_text(json.dumps(manifest))
    done = bench("show", "run", run)
    assert done.exit_code == 0 and "markov: not trained yet" in done.output and "goes on" in done.output
    (run / run_directory.CONFIG).write_text("a: 1")
    done = bench("show", "run", run)
    assert done.exit_code == 2 and "'name' is missing" in done.output


def test_an_output_that_is_a_folder_is_one_line_before_the_work(tmp_path):
    (tmp_path / "dir.json").mkdir()
    with pytest.raises(BenchError, match="is a folder; name a file"):
        files.write_text(tmp_path / "dir.json", "x")
    done = bench("tune", "--method", "markov", "--category", "Synthetic", "--runs", tmp_path / "t", "--trials", 1,
                 "--no-mlflow", "--record", tmp_path / "dir.json")  # fmt: skip
    assert done.exit_code == 2 and "is a folder" in done.output and not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("name", 3), ("summary", 3), ("prompts", [1]), ("backbone", 3), ("decoder", [1])]
)
def test_a_recipe_of_wrong_types_is_one_line(key, value):
    recipe = {"name": "x", "stages": [{"name": "a"}], "decoder": "rank"} | {key: value}
    with pytest.raises(BenchError, match=f"{key} must be"):
        read_recipe(recipe)


def test_a_stage_that_an_older_version_left_unfinished_starts_anew(tmp_path):
    run, _ = run_whole(tmp_path, "gru4rec", [*SIZES, "gru4rec.epochs=1"])
    expected = json.loads((run / run_directory.METRICS).read_text())["stages"]["gru4rec"]["rankings"]
    manifest = json.loads((run / run_directory.MANIFEST).read_text())
    del manifest["order"]
    manifest["done"] = {"begin": {}}
    (run / run_directory.MANIFEST).write_text(json.dumps(manifest))
    (run / "stages/1-gru4rec/checkpoint.safetensors").write_bytes(b"of samples in another order")
    _, again = run_whole(tmp_path, "gru4rec", [*SIZES, "gru4rec.epochs=1"])
    assert again["gru4rec"]["rankings"] == expected
