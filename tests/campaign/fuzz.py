"""Mutants of every kind of file, each read by the commands that read it: a worker process, and its watchman.

``python -m tests.campaign.fuzz WORLD SEED FIRST COUNT`` is the worker; it prints a JSON line before and after each
mutant, so that one that ends the process (a segmentation fault) is known.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import BenchError
from tests.campaign.kinds import KINDS, Internal, Kind
from tests.campaign.mutants import mutate

ROOT = Path(__file__).parents[2]
OUTCOMES = ("refused", "accepted", "internal error", "wrong but accepted", "crash", "written outside")


@dataclass
class Outcomes:
    """What came of the mutants."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: list[dict[str, Any]] = field(default_factory=list)

    def note(self, kind: str, outcome: str, facts: dict[str, Any]) -> None:
        """Count one; keep it where it is a fault of the harness."""
        self.counts[kind, outcome] += 1
        if outcome not in ("refused", "accepted"):
            self.bad.append({"kind": kind, "outcome": outcome} | facts)

    def number(self, outcome: str = "") -> int:
        """How many of an outcome, or of all."""
        return sum(n for (_, of), n in self.counts.items() if not outcome or of == outcome)


def worker(world: Path, seed: int, first: int, count: int) -> None:
    """Mutate, read, put back; a line a mutant."""
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    honest = {kind.name: _readings(kind, world, _file(kind, world)) for kind in KINDS}
    before = _tree(world.parent, world)
    for number in range(first, first + count):
        rng = random.Random(f"{seed} {number}")
        kind = KINDS[number % len(KINDS)]
        file = _file(kind, world, number // len(KINDS))
        content = file.read_bytes()
        said, damaged = mutate(content, kind.form, rng)
        print(json.dumps({"number": number, "kind": kind.name, "said": said}), flush=True)
        outcome, why = "accepted", ""
        backup = world.parent / "backup"
        shutil.rmtree(backup, ignore_errors=True)
        folder = _run_of(file)
        if folder is not None:
            shutil.copytree(folder, backup)
        try:
            for name in kind.read:
                file.write_bytes(damaged)  # a reading may write, as results measure does
                result, reason = _one(kind, name, world, file, honest[kind.name], said, _differs(damaged, content))
                if OUTCOMES.index(result) > OUTCOMES.index(outcome) or (
                    outcome == "accepted" and result == "refused" and not why
                ):
                    outcome, why = result, f"{name}: {reason}"
        finally:
            file.write_bytes(content)
            if folder is not None:
                shutil.rmtree(folder)
                shutil.move(str(backup), folder)
        after = _tree(world.parent, world)
        if after != before:
            outcome, why = "written outside", str(sorted(after ^ before)[:3])
            before = after
        print(json.dumps({"number": number, "outcome": outcome, "why": why[:400]}), flush=True)


def _one(
    kind: Kind, name: str, world: Path, file: Path, honest: dict[str, Any], said: str, differs: bool
) -> tuple[str, str]:  # fmt: skip
    try:
        shown = kind.read[name](world, file)
    except Internal as error:
        return "internal error", str(error)
    except BenchError as error:
        text = error.message
        return ("internal error", text) if "Traceback" in text else ("refused", text)
    except Exception as error:
        return "internal error", f"{type(error).__name__}: {error}"
    if differs and said in kind.refused and not _left_out(shown, honest.get(name)):
        return "wrong but accepted", f"{said} passed"
    if isinstance(shown, dict) and isinstance(honest.get(name), dict) and name == "leaderboard":
        known = {tuple(values) for values in honest[name].values()}
        wrong = [values for values in shown.values() if tuple(values) not in known]
        if wrong:
            return "wrong but accepted", f"shows {wrong[0]}"
    return "accepted", ""


def _differs(damaged: bytes, content: bytes) -> bool:
    """Whether it holds other values; a line break at the end is none."""
    try:
        return bool(json.loads(damaged) != json.loads(content))
    except (ValueError, RecursionError):
        return damaged != content


def _left_out(shown: Any, honest: Any) -> bool:
    """Whether a board shows fewer rows than of the undamaged files: the damaged one is named on stderr."""
    return isinstance(shown, dict) and isinstance(honest, dict) and len(shown) < len(honest)


def _readings(kind: Kind, world: Path, file: Path) -> dict[str, Any]:
    """What the undamaged file gives; the same run directory again afterwards."""
    content = file.read_bytes()
    shown = {name: read(world, file) for name, read in kind.read.items()}
    file.write_bytes(content)
    return shown


def _file(kind: Kind, world: Path, number: int = 0) -> Path:
    """The file, or one of those of a checkpoint in turn."""
    paths = sorted(world.glob(kind.place))
    return paths[number % len(paths)]


def _run_of(file: Path) -> Path | None:
    return next((path for path in file.parents if path.name.startswith("seed")), None)


def _tree(folder: Path, world: Path) -> set[str]:
    """What stands beside the world: nothing may come there."""
    return {path.name for path in folder.iterdir() if path != world and path.name not in ("backup", "stderr")}


def campaign(folder: Path, seed: int, mutants: int = 10**9, seconds: float = 1e9, workers: int = 1) -> Outcomes:
    """Mutants 0 … `mutants` − 1 of a seed, or as many as the seconds give; a crashed worker starts again."""
    end, outcomes = time.monotonic() + seconds, Outcomes()
    share = mutants // workers
    running = [_Watched(folder / f"worker{n}", seed, n * share, share) for n in range(workers)]
    while any(one.going for one in running):
        for one in running:
            one.step(outcomes)
        if time.monotonic() > end:
            for one in running:
                one.stop()
            break
    return outcomes


class _Watched:
    """A worker process and what it is at."""

    def __init__(self, folder: Path, seed: int, first: int, count: int):
        from tests.campaign import world

        self.world = folder / "world"
        self.world.mkdir(parents=True)
        world.build(self.world)
        self.seed, self.next, self.last = seed, first, first + count
        self.at: dict[str, Any] = {}
        self.going = count > 0
        self._start()

    def _start(self) -> None:
        words = [self.world, self.seed, self.next, self.last - self.next]
        command = [sys.executable, "-m", "tests.campaign.fuzz", *map(str, words)]
        self.errors = open(self.world.parent / "stderr", "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.errors, text=True, errors="replace"
        )

    def step(self, outcomes: Outcomes) -> None:
        """One line of the worker, or its end."""
        if not self.going:
            return
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            facts = json.loads(line)
            if "outcome" not in facts:
                self.at, self.next = facts, facts["number"] + 1
            else:
                outcomes.note(self.at["kind"], facts["outcome"], self.at | {"why": facts["why"]})
                self.at = {}
            return
        code = self.process.wait()
        if self.at:
            self.errors.seek(0)
            why = f"exit code {code}: {self.errors.read()[-300:]}"
            outcomes.note(self.at["kind"], "crash", self.at | {"why": why})
            self._again()
        elif code:
            self.errors.seek(0)
            raise RuntimeError(f"a worker of the campaign failed: {self.errors.read()[-2000:]}")
        else:
            self.going = False

    def _again(self) -> None:
        from tests.campaign import world

        shutil.rmtree(self.world)
        self.world.mkdir()
        world.build(self.world)
        self.at = {}
        self._start()

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.going = False


if __name__ == "__main__":
    worker(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
