"""Whole processes under attack: killed at every kind of call and at any time, started at once, and on a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = [
    "--category", "Synthetic", "--set", "dataset.items=60", "--set", "dataset.users=80", "--threads", "1",
    "--no-figures",
]  # fmt: skip
METHODS: dict[str, list[str]] = {
    "popularity": [],
    "sasrec": ["--set", "sasrec.epochs=3", "--set", "sasrec.hidden=16"],
    "minionerec": [
        "--set", "sft.epochs=1", "--set", "grpo.epochs=0.2", "--set", "backbone.hidden=32",
        "--set", "backbone.layers=1", "--set", "sft.eval_every=0.25", "--set", "decoder.beams=10",
    ],
}  # fmt: skip


LATER = "bench mlflow sync brings it up to date later"
"""What a run says that leaves a store alone which kept it waiting."""


@dataclass
class Trials:
    """How many trials there were, and what went wrong."""

    trials: int = 0
    kills: int = 0
    bad: list[str] = field(default_factory=list)


def bench(
    folder: Path, *words: str, call: str = "never", number: int = 0, seconds: float | None = None
) -> tuple[int, str]:
    """A ``bench`` process in a folder: its exit code (−9: killed) and output.

    Args:
        seconds: kill it after so many.
    """
    command = [sys.executable, "-m", "tests.campaign.killed", call, str(number), *words]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
    return process.returncode, output


def result(folder: Path) -> dict[str, str]:
    """What the one run of a folder gave: each stage's rankings."""
    [path] = (folder / "runs").glob("*/*/*/metrics.json")
    return {name: stage["rankings"] for name, stage in json.loads(path.read_text())["stages"].items()}


def honest(folder: Path, method: str) -> dict[str, str]:
    """What a run gives that nobody disturbs."""
    folder.mkdir(parents=True)
    code, output = bench(folder, "run", "--method", method, *DATA, *METHODS[method], "--no-mlflow")
    assert code == 0, output
    return result(folder)


def mirrored(folder: Path, stages: int) -> str:
    """What is wrong in a folder's MLflow; empty where all of its one run stands there, once, and ended."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        runs = connection.execute("SELECT name, status FROM runs").fetchall()
        points, different = connection.execute(
            "SELECT COUNT(*), COUNT(DISTINCT run_uuid || ' ' || key || ' ' || step || ' ' || value) FROM metrics"
        ).fetchone()
        parameters = connection.execute("SELECT COUNT(*) FROM params").fetchone()[0]
        inputs = connection.execute("SELECT COUNT(*) FROM inputs").fetchone()[0]
    if len(runs) != 1 + stages or any(status != "FINISHED" for _, status in runs):
        return f"runs {runs}"
    if points != different or not points:
        return f"{points} points, {different} different"
    return "" if parameters and inputs == 1 else f"{parameters} parameters, {inputs} inputs"


def kill(folder: Path, method: str, expected: dict[str, str], rng: random.Random) -> tuple[int, str]:
    """One trial: a first start, killed up to three times, then left in peace. Kills, and what went wrong."""
    folder.mkdir(parents=True)
    words = ["run", "--method", method, *DATA, *METHODS[method]]
    kills = 0
    for _ in range(rng.randrange(1, 4)):
        if rng.random() < 0.7:
            code, _ = bench(folder, *words, call=rng.choice(["rename", "fsync", "mkdir"]), number=rng.randrange(1, 60))
        else:
            code, _ = bench(folder, *words, seconds=rng.uniform(1.0, 9.0))
        kills += code == -signal.SIGKILL
    code, output = bench(folder, *words)
    if code != 0:
        return kills, f"exit code {code}: {output[-300:]}"
    if result(folder) != expected:
        return kills, "another result"
    if wrong := mirrored(folder, len(expected)):
        return kills, f"MLflow: {wrong}; {output[-200:]}"
    left = [str(p.relative_to(folder)) for p in folder.rglob(".*.tmp") if "runs" in p.parts]
    return kills, f"left behind: {left}" if left else ""


def kills(
    folder: Path, seed: int, trials: int, seconds: float = 1e9, methods: tuple[str, ...] = tuple(METHODS)
) -> Trials:
    """Trials with kills, as many as there is time for."""
    end, outcome = time.monotonic() + seconds, Trials()
    known = {method: honest(folder / f"honest-{method}", method) for method in methods}
    for number in range(trials):
        if time.monotonic() > end:
            break
        rng = random.Random(f"{seed} kill {number}")
        method = methods[number % len(methods)]
        place = folder / f"kill{number}"
        try:
            done, wrong = kill(place, method, known[method], rng)
        except Exception as error:  # a trial that cannot be judged is a bad one, and the campaign goes on
            done, wrong = 0, f"{type(error).__name__}: {error}"
        outcome.trials, outcome.kills = outcome.trials + 1, outcome.kills + done
        if wrong:
            outcome.bad.append(f"trial {number} ({method}): {wrong}")
        else:
            shutil.rmtree(place)
    return outcome


def starts(folder: Path, waves: int, at_once: int = 8, seconds: float = 1e9) -> Trials:
    """Waves of first starts in a fresh folder, two of them of the same run."""
    end, outcome = time.monotonic() + seconds, Trials()
    for wave in range(waves):
        if time.monotonic() > end:
            break
        place = folder / f"wave{wave}"
        place.mkdir(parents=True)
        processes = []
        for number in range(at_once):
            seed = str(max(number, 1))  # the first two are the same run: one waits for the other
            words = ["run", "--method", "popularity", *DATA, "--seed", seed, "--wait"]
            command = [sys.executable, "-m", "tests.campaign.killed", "never", "0", *words]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
            processes.append(
                subprocess.Popen(
                    command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            )
        outputs = [process.communicate()[0] for process in processes]
        for number, (process, output) in enumerate(zip(processes, outputs, strict=True)):
            outcome.trials += 1
            if process.returncode != 0 or ("Warning" in output and LATER not in output):
                outcome.bad.append(f"wave {wave}, start {number}: exit code {process.returncode}: {output[-300:]}")
        if any(LATER in output for output in outputs):  # a slow machine: the store was left alone, as it was said
            code, output = bench(place, "mlflow", "sync")
            outcome.bad += [f"wave {wave}: sync: exit code {code}: {output[-300:]}"] if code else []
        try:
            with contextlib.closing(sqlite3.connect(place / "mlflow.db")) as connection:
                parents = connection.execute("SELECT name, status FROM runs WHERE name LIKE '% seed %'").fetchall()
        except sqlite3.Error as error:
            parents = [(str(error), "")]
        if len(parents) != at_once - 1 or any(status != "FINISHED" for _, status in parents):
            outcome.bad.append(f"wave {wave}: MLflow has {parents}")
        shutil.rmtree(place)
    return outcome


def full_disk(folder: Path, seed: int, trials: int, seconds: float = 1e9) -> Trials | None:
    """First starts on a file system that is too small, then enlarged; None where none can be mounted here."""
    end, outcome = time.monotonic() + seconds, Trials()
    expected = honest(folder / "honest-disk", "sasrec")
    words = ["run", "--method", "sasrec", *DATA, *METHODS["sasrec"]]
    for number in range(trials):
        if time.monotonic() > end:
            break
        place = folder / f"disk{number}"
        place.mkdir(parents=True)
        size = random.Random(f"{seed} disk {number}").choice(["300k", "800k", "1200k", "1500k", "2m"])
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True
        )
        if mounted.returncode != 0:
            return None
        try:
            code, output = bench(place, *words)
            outcome.trials += 1
            if code not in (0, 1) or "Traceback" in output or (code == 1 and "disk is full" not in output):
                outcome.bad.append(f"disk of {size}: exit code {code}: {output[-300:]}")
            subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
            code, output = bench(place, *words)
            if code != 0 or result(place) != expected:
                outcome.bad.append(f"disk of {size}, enlarged: exit code {code}: {output[-300:]}")
            bench(place, "mlflow", "sync")
            if wrong := mirrored(place, len(expected)):
                outcome.bad.append(f"disk of {size}, enlarged: MLflow: {wrong}")
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
    return outcome
