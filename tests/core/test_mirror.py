"""MLflow mirrors the run directory and is never the judge: what fails there is said once, and made good by a sync."""

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from harness import api
from harness.cli import cli
from harness.runs import mlflow_store
from harness.text.plain import masked

SIZES = {"dataset.items": 60, "dataset.users": 60}
TWO_STAGES = {
    "name": "two",
    "stages": [{"name": "first", "trainer": "popularity"}, {"name": "second", "trainer": "markov"}],
    "decoder": {"name": "rank", "k": 20},
}


@pytest.fixture(autouse=True)
def nothing_given_up(monkeypatch):
    monkeypatch.setattr(mlflow_store, "_given_up", {})


def run(folder, seed=1, method=TWO_STAGES, **more):
    return api.run(method, "Synthetic", seed=seed, settings=SIZES, runs=folder / "runs", mlflow=True, **more)


def rows(folder, query):
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return connection.execute(query).fetchall()


def counts(folder):
    return {t: rows(folder, f"SELECT COUNT(*) FROM {t}")[0][0] for t in ("runs", "metrics", "params", "tags", "inputs")}


def sync(folder, *words):
    return CliRunner().invoke(
        cli, ["mlflow", "sync", *map(str, words), *([] if words else ["--runs", f"{folder}/runs"])]
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run that was logged."""
    folder = tmp_path_factory.mktemp("mirror")
    return folder, run(folder)


def test_repeating_a_finished_command_and_a_sync_log_nothing(done):
    folder, _ = done
    before = counts(folder)
    assert before["runs"] == 3 and before["metrics"] and before["params"] and before["inputs"] == 1
    run(folder)
    assert sync(folder).exit_code == 0 and sync(folder, next((folder / "runs").glob("*/*/*"))).exit_code == 0
    assert counts(folder) == before


def test_a_sync_brings_all_of_it_into_a_store_that_was_lost(done, tmp_path):
    folder, _ = done
    before = counts(folder)
    (folder / "mlflow.db").rename(tmp_path / "lost.db")
    said = sync(folder)
    assert said.exit_code == 0 and "1 of 1 runs are up to date" in said.output
    assert counts(folder) == before
    assert set(rows(folder, "SELECT status FROM runs")) == {("FINISHED",)}


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM params", "DELETE FROM inputs", "DELETE FROM metrics WHERE step > 0 OR key LIKE 'sid%'",
        "UPDATE runs SET status = 'RUNNING'",
    ],
)  # fmt: skip
def test_what_a_kill_left_out_is_made_good(done, harm):
    folder, _ = done
    sync(folder)
    before = counts(folder)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute(harm)
        connection.commit()
    assert sync(folder).exit_code == 0
    assert counts(folder) == before and set(rows(folder, "SELECT status FROM runs")) == {("FINISHED",)}


def test_a_run_that_was_killed_right_after_it_was_made_is_found_again(done):
    folder, finished = done
    before = counts(folder)
    path = finished.directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["mlflow"] = {k: manifest["mlflow"][k] for k in ("key", "store")}  # made, and not noted
    path.write_text(json.dumps(manifest))
    assert sync(folder).exit_code == 0 and counts(folder) == before


def test_a_half_made_database_is_set_aside_under_a_name_that_is_said(tmp_path, capsys):
    (tmp_path / "mlflow.db").write_bytes(b"")
    run(tmp_path)
    assert "set aside as mlflow.db.half-made-1" in capsys.readouterr().err
    assert (tmp_path / "mlflow.db.half-made-1").exists() and counts(tmp_path)["runs"] == 3


@pytest.mark.parametrize("table", ["_alembic_tmp_latest_metrics", None])
def test_a_database_cut_short_between_its_migrations_is_half_made(done, tmp_path, table):
    folder, _ = done
    sync(folder)
    database = tmp_path / "mlflow.db"
    database.write_bytes((folder / "mlflow.db").read_bytes())
    assert mlflow_store._whole(database)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(f"CREATE TABLE {table} (x)" if table else "DELETE FROM alembic_version")
        connection.commit()
    assert not mlflow_store._whole(database)


def test_a_locked_store_costs_seconds_and_is_said_once(done, capsys):
    folder, _ = done
    sync(folder)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        second = run(folder, seed=2)
        took = time.monotonic() - started
        connection.execute("ROLLBACK")
    said = capsys.readouterr().err
    assert second.metrics("item") and said.count("Warning: MLflow") == 1 and "bench mlflow sync" in said
    assert took < 30  # 10 s of it for the store; the machine may be busy
    assert counts(folder)["runs"] == 3
    assert sync(folder).exit_code == 0 and counts(folder)["runs"] == 6


def test_a_server_that_never_answers_is_left_alone_and_its_password_is_not_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mlflow_store, "PATIENCE", 1.0)
    monkeypatch.setattr(
        mlflow_store.Store.__init__, "__defaults__", (1.0, *mlflow_store.Store.__init__.__defaults__[1:])
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:hunter22@127.0.0.1:{port}")
        assert run(tmp_path).metrics("item")
        said = capsys.readouterr().err
        assert said.count("Warning: MLflow") == 1 and "no answer in 1 s" in said and "hunter22" not in said
        assert sync(tmp_path / "nowhere").exit_code == 2
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not any(b"hunter22" in p.read_bytes() for p in files)


def test_an_experiment_deleted_by_hand_stays_deleted_and_the_run_goes_on(tmp_path, capsys):
    run(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'Synthetic'")
        connection.commit()
    before = counts(tmp_path)
    assert run(tmp_path, seed=2).metrics("item")
    assert "mlflow experiments restore --experiment-id" in capsys.readouterr().err and counts(tmp_path) == before


def test_a_store_that_fails_in_the_middle_ends_nothing(tmp_path, monkeypatch, capsys):
    from mlflow.tracking import MlflowClient

    monkeypatch.setattr(MlflowClient, "log_batch", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
    assert run(tmp_path).metrics("item")
    assert capsys.readouterr().err.count("Warning: MLflow") == 1
    monkeypatch.undo()
    monkeypatch.setattr(mlflow_store, "_given_up", {})
    said = sync(tmp_path)
    assert said.exit_code == 0, said.output
    assert set(rows(tmp_path, "SELECT status FROM runs")) == {("FINISHED",)}, said.output


def test_first_starts_at_once_in_one_process_make_one_database(tmp_path):
    failed = []

    def make():
        try:
            mlflow_store.prepare(tmp_path / "mlflow.db", tmp_path / "artifacts", failed.append)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and mlflow_store._whole(tmp_path / "mlflow.db")
    assert not list(tmp_path.glob(".mlflow.db.*.tmp*"))


def test_a_sync_leaves_a_run_alone_that_somebody_works_at(done):
    folder, finished = done
    with finished._folder.lock():
        said = sync(folder, finished.directory)
    assert said.exit_code == 0 and "a process is at work in it" in said.output and "0 of 1" in said.output


def test_a_run_is_found_again_in_a_store_that_it_was_not_noted_in_last(tmp_path, monkeypatch):
    run(tmp_path)
    before = counts(tmp_path)
    monkeypatch.setenv(mlflow_store.ADDRESS, f"sqlite:///{tmp_path}/other.db")
    assert sync(tmp_path).exit_code == 0
    monkeypatch.delenv(mlflow_store.ADDRESS)
    assert sync(tmp_path).exit_code == 0 and counts(tmp_path) == before
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    assert sync(moved).exit_code == 0 and counts(moved) == before


def test_a_commit_that_was_killed_is_rolled_back_and_the_database_used(tmp_path):
    run(tmp_path)
    before = counts(tmp_path)
    script = (
        "import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('pragma cache_size=2')\nc.execute('begin immediate')\n"
        "c.execute('update metrics set value = value + 1')\nc.execute('create table more as select * from metrics')\n"
        "c.execute('update latest_metrics set value = 2')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "mlflow.db")])
    assert (tmp_path / "mlflow.db-journal").exists()
    run(tmp_path, seed=2)
    assert not list(tmp_path.glob("*half-made*")) and counts(tmp_path)["runs"] == 2 * before["runs"]


@pytest.mark.parametrize(("name", "works"), [("a#b", True), ("a?b", False), ("a%41b", False)])
def test_a_folder_that_an_address_cannot_hold_is_said_and_nothing_beside_it_is_touched(tmp_path, capsys, name, works):
    (tmp_path / "a").write_text("mine")
    folder = tmp_path / name
    folder.mkdir()
    for seed in (1, 2):
        run(folder, seed=seed, method="popularity")
    said = capsys.readouterr().err
    assert ("no database can be kept" in said) is not works and "half made" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"a", name} and (tmp_path / "a").read_text() == "mine"
    assert (folder / "mlflow.db").exists() is works


@pytest.mark.parametrize(
    "address",
    [
        "http://bob:hunter2secret@h:1/", "bob:hunter2secret@h:1", "http://h/?sig=hunter2secret", "http://h/#token=hunter2secret",
        "postgresql://u:hunter2secret@h/db?ssl_key=hunter2secret",
    ],
)  # fmt: skip
def test_no_form_of_an_address_shows_its_secret(address, monkeypatch):
    assert "hunter2" not in masked(f"MLflow at {address} failed")


def test_a_database_of_another_program_is_left_alone(tmp_path, capsys):
    import sqlite3

    with sqlite3.connect(tmp_path / "mlflow.db") as other:
        other.execute("CREATE TABLE notes (text)")
    before = (tmp_path / "mlflow.db").read_bytes()
    run(tmp_path)
    assert "another program's database (it has a table notes)" in capsys.readouterr().err
    assert (tmp_path / "mlflow.db").read_bytes() == before and not list(tmp_path.glob("*half-made*"))
