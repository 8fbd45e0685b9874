"""``python -m tests.campaign --seconds 1800 --seed 1``: the whole campaign, and a table of what came of it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.campaign import fuzz, processes
from tests.campaign.kinds import KINDS


def main() -> None:
    """Mutants first, then kills, starts at once, and full disks; the shares of the time are 3 : 5 : 1.5 : 0.5."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=100, help="of kills")
    parser.add_argument("--waves", type=int, default=10, help="of first starts at once")
    parser.add_argument("--disks", type=int, default=6, help="that are too small")
    parser.add_argument("--output", type=Path, help="also write the figures to this file (JSON)")
    given = parser.parse_args()
    print(f"seed {given.seed}, at most {given.seconds:.0f} s", flush=True)
    share = given.seconds / 10
    with tempfile.TemporaryDirectory(prefix="campaign") as name:
        folder = Path(name)
        outcomes = fuzz.campaign(folder / "mutants", given.seed, given.mutants, 3 * share, workers=2)
        _mutants(outcomes)
        with ThreadPoolExecutor(2) as pool:
            halves = [
                pool.submit(processes.kills, folder / f"kills{n}", given.seed * 2 + n, given.trials // 2, 5 * share)
                for n in range(2)
            ]
            killed = [half.result() for half in halves]
        kills = processes.Trials()
        for one in killed:
            kills.trials, kills.kills = kills.trials + one.trials, kills.kills + one.kills
            kills.bad += one.bad
        _trials("kills (first starts among them)", kills, f"{kills.kills} SIGKILLs")
        starts = processes.starts(folder / "starts", given.waves, seconds=1.5 * share)
        _trials("first starts, 8 at once", starts)
        disk = processes.full_disk(folder / "disk", given.seed, given.disks, seconds=0.5 * share)
        if disk is None:
            print("full disk: not run, no tmpfs can be mounted here")
        else:
            _trials("full disks", disk)
    bad = [str(one) for one in outcomes.bad] + kills.bad + starts.bad + (disk.bad if disk else [])
    if given.output:
        figures = {
            "seed": given.seed, "mutants": {" / ".join(k): v for k, v in sorted(outcomes.counts.items())},
            "kill trials": kills.trials, "kills": kills.kills, "starts": starts.trials,
            "full disks": disk.trials if disk else None, "bad": bad,
        }  # fmt: skip
        given.output.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    sys.exit(1 if bad else 0)


def _mutants(outcomes: fuzz.Outcomes) -> None:
    columns = fuzz.OUTCOMES
    print(f"\n| kind | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for kind in KINDS:
        print(f"| {kind.name} | {' | '.join(str(outcomes.counts[kind.name, one]) for one in columns)} |")
    total = Counter({one: outcomes.number(one) for one in columns})
    print(f"| all {outcomes.number():,} | {' | '.join(f'{total[one]:,}' for one in columns)} |\n", flush=True)
    for one in outcomes.bad:
        print(f"{one['kind']} {one.get('number')}: {one.get('said')}: {one['outcome']}: {one['why']}")


def _trials(name: str, trials: processes.Trials, more: str = "") -> None:
    good = trials.trials - len(trials.bad)
    print(f"{name}: {good} of {trials.trials} good" + (f" ({more})" if more else ""), flush=True)
    for line in trials.bad:
        print(f"  {' '.join(line.split())}")


if __name__ == "__main__":
    main()
