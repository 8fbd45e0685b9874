"""How often test is looked at: once a stage of a run, never in a search, not again where a run is recorded."""

import pytest

from baselines.skip_markov import SkipMarkovTrainer
from harness.evaluation.measure import Evaluated
from tests.commands import bench, run_whole

WHERE = ("--category", "Synthetic", "--no-mlflow", "--quiet", "--threads", "1")


@pytest.fixture
def looked(monkeypatch):
    """The different rankings that met test's targets in this process."""
    seen, whole = set(), Evaluated.test.__func__

    def test(cls, rankings, dataset, *more):
        assert len(dataset.test)
        seen.add(rankings.ids.tobytes())
        return whole(cls, rankings, dataset, *more)

    monkeypatch.setattr(Evaluated, "test", classmethod(test))
    return seen


@pytest.fixture
def fitted(monkeypatch):
    """How often skip-markov was fitted in this process."""
    seen, whole = [], SkipMarkovTrainer.fit
    monkeypatch.setattr(SkipMarkovTrainer, "fit", lambda self, context: (seen.append(1), whole(self, context))[1])
    return seen


def test_a_run_looks_once_a_stage(looked, tmp_path):
    small = ["backbone.hidden=32", "backbone.layers=1", "backbone.heads=2", "sft.epochs=1", "sft.eval_every=0.5"]
    sets = [*small, "dataset.users=80", "grpo.epochs=0.2", "grpo.batch=32", "grpo.generations=4", "decoder.beams=20"]
    _, stages = run_whole(tmp_path, "minionerec", sets)
    assert list(stages) == ["sft", "grpo"]
    assert len(looked) <= 2  # a probe's many looks are at valid
    before = set(looked)
    run_whole(tmp_path, "minionerec", sets)  # recorded: measured again by its own rankings, and no other
    assert looked == before


def test_no_search_looks(looked, fitted, tmp_path):
    words = ("--method", "skip-markov", "--trials", "2", "--set", "dataset.users=80", "--runs", tmp_path)
    done = bench("tune", *words, *WHERE)
    assert done.exit_code == 0, done.output
    assert looked == set()
    assert len(fitted) == 2  # in this process, where a look would be seen
    done = bench("suite", "tune", "families", "--only", "markov", "--trials", "2", "--runs", tmp_path, *WHERE)
    assert done.exit_code == 0, done.output
    assert looked == set()
    left = [path for path in tmp_path.rglob("*") if "rankings" in path.name or path.name == "metrics.json"]
    assert left == []  # nor does a process below it: what decodes test leaves its rankings
    assert list(tmp_path.rglob("search.json"))


def test_a_suite_decodes_test_once_a_row(tmp_path):
    words = ("suite", "run", "families", "--only", "markov", "--only", "popularity", "--runs", tmp_path)
    times = []
    for _ in range(2):  # the second time all is recorded
        done = bench(*words, *WHERE)
        assert done.exit_code == 0, done.output
        made = sorted(path for path in tmp_path.rglob("rankings/*") if path.is_file())
        assert len(made) == 2
        times.append([path.stat().st_mtime_ns for path in made])
    assert times[0] == times[1]
