"""A suite on a Ray cluster of two machines: what is brought back, begun anew, tried once, and said when it goes."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.errors import BenchError
from tests.commands import run_whole

ray = pytest.importorskip("ray")

from harness.runs.cluster import Needs  # noqa: E402
from harness.runs.elsewhere import Work, packed, run_here, unpacked  # noqa: E402
from harness.runs.run_directory import RunDirectory  # noqa: E402

CATEGORY = ["dataset.items=60", "dataset.users=120"]
SFT = [*CATEGORY, "backbone.hidden=32", "backbone.layers=2", "backbone.heads=2", "backbone.intermediate=64",
       "sft.batch=16", "sft.epochs=20", "sft.eval_every=0.1", "sft.patience=0"]  # fmt: skip
ROWS = [
    {"method": "popularity", "set": CATEGORY},
    {"method": "minionerec-sft", "label": "sft", "set": SFT},
    {"method": "minionerec-sft", "label": "beams", "from": "sft", "set": [*SFT, "decoder.beams=30"]},
    {"method": "sdpo", "label": "bad", "set": [*CATEGORY, "sdpo.negatives=5000"]},
]


class Machines:
    """A head without cores, and two machines of one core each."""

    def __init__(self, folder):
        from ray.cluster_utils import Cluster

        self.own, self.size = folder, {"num_cpus": 1, "object_store_memory": 10**8}
        os.environ["BENCH_CLUSTER_FOLDER"] = str(folder)
        head = self.size | {"num_cpus": 0, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.cluster.add_node(**self.size) for _ in range(2)]

    def lose(self, number):
        self.cluster.remove_node(self.nodes.pop(number), allow_graceful=False)
        self.nodes.append(self.cluster.add_node(**self.size))


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    made = Machines(tmp_path_factory.mktemp("machines"))
    yield made
    made.cluster.shutdown()
    del os.environ["BENCH_CLUSTER_FOLDER"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Rankings of the row sft, made here."""
    folder, _ = run_whole(tmp_path_factory.mktemp("here"), "minionerec-sft", SFT)
    return pd.read_parquet(folder / "rankings/test-sft.parquet")


class Suite:
    """``bench suite run`` on the cluster, while this process goes on; each start of a run leaves a line."""

    def __init__(self, folder, machines, rows, *more):
        self.folder, self.runs, self.starts = folder, folder / "runs", folder / "starts"
        suite = {"summary": "small", "seeds": [1], "methods": [{"minutes": 0.1, **row} for row in rows]}
        (folder / "small.yaml").write_text(yaml.safe_dump(suite))
        plugin = folder / "counting.py"
        plugin.write_text(f"import sys\nopen({str(self.starts)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n")
        command = [sys.executable, "-m", "harness", "suite", "run", str(folder / "small.yaml")]
        command += ["--category", "Synthetic", "--runs", str(self.runs), "--cluster", machines.cluster.address]
        command += ["--plugin", str(plugin), "--no-mlflow", "--device", "cpu", "--threads", "1", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for(self, root, pattern):
        while not (found := list(root.glob(pattern))):
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.1)
        return found[0]

    def ended(self):
        self.said, errors = self.process.communicate(timeout=120)
        return errors

    def tries(self, method):
        return sum(line.startswith(f"run --method {method} ") for line in self.starts.read_text().splitlines())

    def rankings(self, beams=50):
        frames = map(pd.read_parquet, self.runs.glob("Synthetic/minionerec-sft/*/rankings/test-sft.parquet"))
        return next(frame for frame in frames if frame["rank"].max() == beams)


def test_what_was_made_elsewhere_is_brought_back_and_a_lost_worker_begun_anew(machines, straight, tmp_path):
    suite = Suite(tmp_path, machines, ROWS, "--own-folders")
    suite.wait_for(machines.own, "*/runs/Synthetic/minionerec-sft/*/stages/1-sft/checkpoints/*/whole.json")
    found = subprocess.run(["pgrep", "-f", "^ray::bench sft"], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    errors = suite.ended()
    assert suite.process.returncode == 1 and "Traceback" not in errors
    assert errors.count("\nfailed: ") == 1 and "failed: bad seed 1: sdpo.negatives = 5000" in errors
    assert suite.tries("sdpo") == 1 and suite.tries("popularity") == 1
    assert suite.tries("minionerec-sft") == 3  # sft twice, and beams
    pd.testing.assert_frame_equal(suite.rankings(), straight, check_exact=True)
    assert len(suite.rankings(beams=30)) == len(straight) * 30 // 50
    assert "beams" in suite.said and "Not recorded: bad seed 1." in suite.said
    assert not list(suite.runs.rglob("checkpoint-*")) and not list(suite.runs.glob(".cluster-*"))
    logs = [path.name for path in (suite.runs / "Synthetic/suites/small").glob("*.log")]
    assert sorted(logs) == [f"{row}-seed1.log" for row in ("bad", "beams", "popularity", "sft")]
    assert not list(machines.own.glob("*/runs/Synthetic/*/*/manifest.json"))  # what is here is no longer there


def test_a_run_goes_on_elsewhere_where_its_machine_is_lost(machines, straight, tmp_path):
    suite = Suite(tmp_path, machines, ROWS[1:2])
    first = suite.wait_for(suite.runs, "Synthetic/minionerec-sft/*/stages/1-sft/checkpoints/*/whole.json")
    folder = first.parents[4]
    pids = subprocess.run(["pgrep", "-f", "^ray::bench sft"], capture_output=True, text=True, check=True).stdout.split()
    parents = [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids]
    raylets = [node.all_processes["raylet"][0].process.pid for node in machines.nodes]
    machines.lose(next(number for number, pid in enumerate(raylets) if pid in parents))
    errors = suite.ended()
    assert suite.process.returncode == 0, errors
    assert suite.tries("minionerec-sft") == 2
    pd.testing.assert_frame_equal(suite.rankings(), straight, check_exact=True)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_cluster_that_goes_away_is_one_line(machines, tmp_path):
    suite = Suite(tmp_path, machines, ROWS[1:2])
    suite.wait_for(suite.runs, "Synthetic/suites/small/sft-seed1.log")
    machines.cluster.shutdown()
    started = time.monotonic()
    errors = suite.ended()
    assert time.monotonic() - started < 40
    assert suite.process.returncode == 2 and "Traceback" not in errors
    assert (
        errors.count("Error:") == 1 and "went away; what was finished is kept, and the same command goes on" in errors
    )
    assert not list(suite.runs.glob(".cluster-*"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cores=4", "'cores=4' is none of cpus=NUMBER, gpus=NUMBER"),
        ("cpus=four", "'cpus=four' is none of"),
        ("cpus=1,cpus=2", "'cpus=2' is none of"),
        ("cpus=nan", "'cpus=nan' is none of"),
        ("cpus=-1", "'cpus=-1' is none of"),
        ("gpus=2", "a run of a suite uses one GPU"),
        ("cpus=1.5", "above 1, cpus are whole; set cpus=1"),
        ("cpus=0", "a run needs something"),
    ],
)
def test_needs_that_make_no_sense_are_named(text, line):
    with pytest.raises(BenchError, match=line.replace("(", r"\(")):
        Needs.of(text)


def test_needs_are_read():
    assert Needs.of("cpus=4,gpus=0.5") == Needs(4, 0.5)
    assert Needs.of("") == Needs(1, 0) and Needs.of("cpus=0.5") == Needs(0.5, 0)


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "stages/../../other/manifest.json"])
def test_an_archive_writes_into_its_own_run_alone(tmp_path, name):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(tarfile.TarError, match="does not belong there"):
        unpacked(out.getvalue(), tmp_path / "seed1-00000000")
    assert not list(tmp_path.iterdir())


def test_an_archive_is_put_in_place_whole_or_not_at_all(tmp_path):
    run, there, model = tmp_path / "run", tmp_path / "there", "stages/1-sft/model/model.safetensors"
    for name in ("manifest.json", model, "stages/1-sft/checkpoints/checkpoint-5/optimizer.pt", ".lock"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name * 1000)
    (tmp_path / "elsewhere").write_text("figure")
    (run / "figure.png").symlink_to(tmp_path / "elsewhere")
    archive = packed(run)
    (there / "stages/1-sft/checkpoints/checkpoint-9").mkdir(parents=True)
    (there / "stages/1-sft/checkpoints/checkpoint-9/old.pt").write_text("of an earlier try")
    with pytest.raises((tarfile.TarError, OSError, EOFError)):
        unpacked(archive[: len(archive) // 2], there)
    assert (there / "stages/1-sft/checkpoints/checkpoint-9/old.pt").exists() and not (there / "manifest.json").exists()
    unpacked(archive, there)
    found = sorted(str(path.relative_to(there)) for path in there.rglob("*") if path.is_file())
    assert found == ["figure.png", "manifest.json", model] and (there / "figure.png").read_text() == "figure"
    with RunDirectory(there).lock(), pytest.raises(BenchError, match="is in use by process"):
        unpacked(archive, there)


def test_a_machine_of_other_code_is_named(tmp_path):
    work = Work(0, (), str(tmp_path), "", "", (), "", "", False, ("0.0.1", "abc"), {})
    problem = run_here(work, {}, None).problem
    assert "has version" in problem and "0.0.1 at abc; bring them to the same" in problem
