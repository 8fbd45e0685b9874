"""A trained model for other tools: what is written gives what the run's own model gives."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from harness.api import load_run
from harness.data.dataset import Histories
from harness.errors import BenchError
from harness.serving import bundles, exports
from harness.serving.recommender import Recommender
from tests.commands import bench


@pytest.fixture(scope="module")
def mlflow_model(written, tmp_path_factory):
    target = tmp_path_factory.mktemp("mlflow") / "model"
    done = bench("export", "mlflow", written, "--output", target)
    assert done.exit_code == 0, (done.output, done.exception)
    return target


def test_an_mlflow_model_answers_as_the_run_does(mlflow_model, writing):
    import pandas as pd
    from mlflow import pyfunc

    loaded = pyfunc.load_model(str(mlflow_model))
    asked = pd.DataFrame({"history": [["S00003", "S00004"], []]})
    found = loaded.predict(asked, params={"k": 3})
    wanted = [writing.catalogue.id(one.item) for one in writing.answer([3, 4], 3).items]
    assert found["items"][0] == wanted
    assert found["scores"][0] == pytest.approx([one.score for one in writing.answer([3, 4], 3).items], abs=1e-4)
    assert len(found["items"][1]) == 3
    assert {one.name for one in loaded.metadata.signature.inputs} == {"history"}
    assert loaded.input_example["history"][0]


def test_an_exported_model_needs_no_data_and_holds_no_history(mlflow_model, writing, monkeypatch):
    monkeypatch.setattr("harness.data.categories.read", lambda *_, **__: pytest.fail("the data were read"))
    again = Recommender.load(mlflow_model)
    assert again.answer([3, 4], 5).items[0].item == writing.answer([3, 4], 5).items[0].item
    dataset, popularity = bundles.read(bundles.inside(mlflow_model))
    assert len(dataset.train) == len(dataset.test) == 0
    assert np.array_equal(popularity, writing.catalogue.popularity)
    assert not any("pkl" in path.suffix or "pickle" in path.name for path in mlflow_model.rglob("*"))


def test_a_damaged_bundle_is_one_line(mlflow_model, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(mlflow_model, copy)
    (bundles.inside(copy) / bundles.ITEMS).write_bytes(b"no")
    done = bench("recommend", "--run", copy, "--history", "#1")
    assert done.exit_code == 2
    assert "items.parquet is missing or not what was written; export the run again" in done.output


def test_an_onnx_file_has_the_scores_of_the_network(network, tmp_path):
    import onnxruntime

    done = bench("export", "onnx", network, "--output", tmp_path / "net")
    assert done.exit_code == 0, (done.output, done.exception)
    made = Recommender.load(network)
    session = onnxruntime.InferenceSession(str(tmp_path / "net/model.onnx"))
    histories = [[1], [5, 2], [7, 8, 9, 3], list(range(made.longest))]
    items = np.full((4, made.longest), 80)
    for row, history in enumerate(histories):
        items[row, made.longest - len(history) :] = history
    got = session.run(["scores"], {"items": items})[0]
    assert got == pytest.approx(made.model.score(Histories.of(histories, made.longest)), abs=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "net/items.jsonl").read_text().splitlines()]
    assert lines[3]["id"] == "S00003"
    assert len(lines) == 80


def test_scores_that_differ_are_refused_and_nothing_is_written(network, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "CLOSE", -1.0)
    done = bench("export", "onnx", network, "--output", tmp_path / "net")
    assert done.exit_code == 2
    assert "differ from the model's" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_hugging_face_folder_says_how_to_ask_it_and_that_works(written, writing, tmp_path):
    done = bench("export", "hf", written, "--output", tmp_path / "hf")
    assert done.exit_code == 0, (done.output, done.exception)
    card = (tmp_path / "hf/README.md").read_text()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "hf", capture_output=True, text=True, check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    ).stdout.split()  # fmt: skip
    history = exports._tried(writing)[0]
    assert found == [beam.sid for beam in writing.answer(history, 10).beams[:10]]
    assert f"{load_run(written).metrics('sid')['NDCG@10']:.4f}" in card
    again = bench("score", "--model", tmp_path / "hf", "--category", "Synthetic", "--name", "again", "--no-mlflow",
                  "--runs", tmp_path / "runs", "--quiet", "--set", "dataset.items=80", "--set", "dataset.users=150",
                  "--set", "dataset.mean_length=6", "--set", "dataset.collisions=0.1",
                  "--set", re.search(r"checkpoint\.prompts=\S+", done.output)[0])  # fmt: skip
    assert again.exit_code == 0, again.output
    [scored] = (tmp_path / "runs").glob("*/*/*")
    assert load_run(scored).metrics("sid") == pytest.approx(load_run(written).metrics("sid"))


@pytest.mark.parametrize(
    ("form", "run", "line"),
    [
        ("onnx", "counted", "is no network of item ids"),
        ("hf", "counted", "is no language model"),
        ("hf", "network", "is no language model"),
        ("pickle", "counted", "unknown format 'pickle'"),
    ],
)
def test_a_form_that_does_not_fit_is_one_line(form, run, line, request, tmp_path):
    done = bench("export", form, request.getfixturevalue(run), "--output", tmp_path / "out")
    assert done.exit_code == 2
    assert line in done.output
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_alone(counted, tmp_path):
    done = bench("export", "mlflow", counted, "--output", tmp_path)
    assert done.exit_code == 2
    assert "is there already" in done.output


def test_a_library_that_is_absent_is_named_with_its_extra(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = bench("export", "onnx", network, "--output", tmp_path / "net")
    assert done.exit_code == 2
    assert "pip install 'genrec-bench[onnx]'" in done.output


def test_a_model_that_reads_train_when_it_is_loaded_cannot_be_exported(counted, tmp_path, monkeypatch):
    made = Recommender.load(counted)
    real = bundles.read

    def without(bundle):
        dataset, popularity = real(bundle)
        return dataset, popularity[::-1]

    class Otherwise:
        def score(self, histories):
            return np.random.default_rng(len(made.catalogue)).random((len(histories), 80))

    monkeypatch.setattr(bundles, "read", without)
    monkeypatch.setattr("harness.builtin.baselines.hybrid.HybridTrainer.load", lambda self, context: Otherwise())
    with pytest.raises(BenchError, match="reads the train data when it is loaded"):
        exports.export("mlflow", made, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_mlflow_model_is_logged_to_the_run_that_it_is_of(tmp_path):
    import mlflow
    import pandas as pd

    from tests.conftest import TINY_DATA

    runs = tmp_path / "runs"
    sets = [word for key, value in TINY_DATA.items() for word in ("--set", f"dataset.{key}={value}")]
    words = [
        "run",
        "--method",
        "popularity",
        "--category",
        "Synthetic",
        *sets,
        "--runs",
        runs,
        "--no-figures",
        "--quiet",
    ]
    assert bench(*words).exit_code == 0
    [folder] = runs.glob("*/*/*")
    before = mlflow.get_tracking_uri()
    try:
        done = bench("export", "mlflow", folder, "--output", tmp_path / "model", "--log", runs)
        assert done.exit_code == 0, (done.output, done.exception)
        client = mlflow.MlflowClient()
        [logged] = client.search_logged_models([e.experiment_id for e in client.search_experiments()])
        assert logged.source_run_id == json.loads((folder / "manifest.json").read_text())["mlflow"]["run"]
        found = mlflow.pyfunc.load_model(logged.model_uri).predict(
            pd.DataFrame({"history": [["S00003"]]}), params={"k": 2}
        )
    finally:
        mlflow.set_tracking_uri(before)
    made = Recommender.load(folder)
    assert found["items"][0] == [made.catalogue.id(one.item) for one in made.answer([3], 2).items]
