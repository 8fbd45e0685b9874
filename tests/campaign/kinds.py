"""The table of file kinds: which file, in which form, and which commands read it. Each later reader adds a line."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner
from harness.builtin.plugins.bigrec import grounding
from harness.builtin.plugins.d3 import assistant
from harness.builtin.plugins.memory import counts_stage, memory_stage

from harness import files
from harness.api import planned, run
from harness.checks import outlines
from harness.checks.schemas import Finite
from harness.cli import cli
from harness.data import raw_files
from harness.errors import BenchError
from harness.item_models import checkpoint
from harness.language.checkpoints import SEAL, latest_checkpoint
from harness.runs.run_directory import Clock, read_log
from harness.runs.tuning import check_space
from leaderboard.record import checksum
from tests.campaign.mutants import OF_DATA, OF_RUNS

SIZES = ["dataset.items=60", "dataset.users=80"]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        place: the file within the world, a pattern that one file fits.
        form: see :func:`tests.campaign.mutants.mutate`.
        read: the readings of it, by name; each takes the world's folder. What they give is what was shown.
        refused: kinds of damage that must never pass in silence.
    """

    name: str
    place: str
    form: str
    read: dict[str, Callable[[Path, Path], Any]]
    refused: frozenset[str] = frozenset()


class Internal(Exception):
    """A fault that no user should see."""


def bench(*words: object) -> str:
    """A command in this process; its output.

    Raises:
        BenchError: it ended with exit code 2, or 1 with its own words.
        Internal: anything else.
    """
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise Internal(f"{type(done.exception).__name__}: {str(done.exception)[:300]}") from done.exception
    if done.exit_code not in (0, 1, 2):
        raise Internal(f"exit code {done.exit_code}: {done.output[:300]}")
    if done.exit_code:
        raise BenchError(done.output.strip()[-500:])
    return done.output


def board(world: Path, _: Path) -> Any:
    """The numbers of the leaderboard, by row."""
    text = bench("leaderboard", "--runs", world / "runs", "--format", "json", "--protocol", "item", "--allow-mixed")
    return _numbers(text)


def board_of_records(world: Path, _: Path) -> Any:
    """The same of exported records."""
    words = ["--results", world / "records", "--format", "json", "--protocol", "item", "--allow-mixed"]
    text = bench("leaderboard", *words)
    return _numbers(text)


def _numbers(text: str) -> dict[str, Any]:
    rows = [row for row in json.loads(text[text.index('{\n "rows"') :])["rows"] if row["kind"] == "measured"]
    return {f"{row['method']} {row['seeds']}": [row.get("HR@10"), row.get("NDCG@10"), row.get("MRR")] for row in rows}


def command(*words: str) -> Callable[[Path, Path], Any]:
    """A command, with WORLD and FILE in place of the folder and the file."""

    def run(world: Path, file: Path) -> str:
        return bench(*(word.replace("WORLD", str(world)).replace("FILE", str(file)) for word in words))

    return run


def run_of(file: Path) -> Path:
    """The run directory that a file lies in."""
    return next(path for path in file.parents if (path / "config.yaml").is_file() or path.name.startswith("seed"))


def of_run(*words: str) -> Callable[[Path, Path], Any]:
    """A command, with RUN in place of the run directory of the file."""

    def run(world: Path, file: Path) -> str:
        return bench(*(word.replace("RUN", str(run_of(file))).replace("WORLD", str(world)) for word in words))

    return run


def plan(world: Path, file: Path) -> Any:
    """A recipe file, resolved as for a run."""
    config, _, _ = planned(file, "Synthetic", settings=[*SIZES])
    return config.hash()


def space(world: Path, file: Path) -> Any:
    """A search space."""
    return check_space(files.read_yaml(file), str(file))


def resealed(world: Path, file: Path) -> Any:
    """A record whose checksum was made anew, as a forger would: its numbers must follow from its ranks all the same."""
    try:
        content = json.loads(file.read_bytes())
        content.pop("checksum", None)
        file.write_text(json.dumps(content | {"checksum": checksum(content)}))
    except (ValueError, TypeError, AttributeError, RecursionError, UnicodeError):
        pass
    return board_of_records(world, file)


def log(world: Path, file: Path) -> Any:
    """A stage's log."""
    return {name: len(points) for name, points in read_log(file.parent).items()}


def tune(world: Path, runs: Path) -> str:
    """A search of one trial."""
    words = ["--space", world / "files/small.yaml", "--trials", "1", "--set", "decoder.k=20", "--threads", "1"]
    data = ["--category", "Toy", "--data-dir", world / "data", "--runs", runs, "--no-mlflow", "--quiet"]
    return bench("tune", "--method", "markov", *data, *words)


FITTED = {
    "grounding.json": grounding.Found, "assistant.json": assistant.Found, "start.json": dict[str, Finite],
    "counts.json": counts_stage.FoundCounts, "blend.json": memory_stage.FoundBlend,
    "mixture.json": memory_stage.FoundMixture,
}  # fmt: skip


def fitted(world: Path, file: Path) -> Any:
    """What a stage chose on valid, as it reads it back."""
    return files.read_json(file, schema=FITTED[file.name])


def study(world: Path, file: Path) -> Any:
    """The study of a search, gone on with."""
    shutil.rmtree(world / "copy", ignore_errors=True)
    shutil.copytree(world / "searches", world / "copy")
    return tune(world, world / "copy")


def clock(world: Path, file: Path) -> Any:
    """A stage's clock."""
    return Clock(file.parent).before


def settings(world: Path, file: Path) -> Any:
    """``--set`` values, a line each, one after another."""
    resolved = []
    for line in file.read_bytes().decode("utf-8", "replace").split("\n"):
        if line:
            with contextlib.suppress(BenchError):
                resolved.append(planned("sasrec", "Synthetic", settings=[*SIZES, line])[0].hash())
    return resolved


def named(world: Path, file: Path) -> Any:
    """Names of a category, a method, a suite and a row, a line each."""
    lines = [*file.read_bytes().decode("utf-8", "replace").split("\n"), "", "", "", ""]
    category, method, suite, label = lines[:4]
    recipe = {"name": method, "stages": [{"name": "popularity"}], "decoder": {"name": "rank", "k": 20}}
    with contextlib.suppress(BenchError):
        run(recipe, category, runs=world / "named", data_dir=str(world / "data"))
    path = world / "files/named.yaml"
    rows = [{"method": "popularity", "label": label, "seeds": 1}]
    path.write_text(json.dumps({"name": suite, "seeds": [1], "methods": rows}))
    words = ["--data-dir", world / "data", "--runs", world / "runs", "--dry-run"]
    return bench("suite", "run", path, "--category", category, *words)


def catalogue(world: Path, file: Path) -> Any:
    """The published splits that can be fetched."""
    return list(files.read_yaml(file, outlines.Catalogue))


def learnt(world: Path, file: Path) -> Any:
    """The checksums of raw files that were downloaded."""
    return raw_files.learnt_in(file.parent)


def resumed(world: Path, file: Path) -> Any:
    """A checkpoint of the training loop: it is what was written, or set aside."""
    model = torch.nn.Linear(3, 2)
    folder = world / "resumed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(file.parent, folder)
    state = checkpoint.resume(folder, model, torch.optim.AdamW(model.parameters()), None)
    if state is not None and abs(float(model.weight.detach().sum()) - WEIGHTS) > 1e-5:
        raise Internal("other weights than were saved")
    return state is not None


def whole(world: Path, file: Path) -> Any:
    """A checkpoint of a fine-tuning: the damaged one is set aside, and the one before is used."""
    folder = world / "finetuned"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(file.parent.parent, folder / "checkpoints")
    newest = latest_checkpoint(folder)
    if newest is None or Path(newest).name not in ("checkpoint-1", "checkpoint-2"):
        raise Internal(f"no checkpoint is left: {newest}")
    honest = (world / "files/honest" / file.name).read_bytes()
    if Path(newest).name == "checkpoint-2" and file.name != SEAL and (Path(newest) / file.name).read_bytes() != honest:
        raise Internal(f"{file.name} is damaged and was taken")
    return Path(newest).name


def ask_file(world: Path, file: Path) -> str:
    """What is recommended to the users of a file."""
    words = ["recommend", "--run", world / "exported", "--input", file, "--output", world / "answers.csv", "--quiet"]
    bench(*words)
    return (world / "answers.csv").read_text()


WEIGHTS = 0.6
"""The sum of the weights in the checkpoint of the world."""
VALIDATE = command("data", "validate", "Toy", "--data-dir", "WORLD/data")
VALIDATE_PREPARED = command("data", "validate", "Prep", "--data-dir", "WORLD/prepared")

PREPARE = command(
    "data", "prepare", "FILE", "--name", "Again", "--output", "WORLD/again", "--force", "--quiet", "--core", "2"
)
PREPARE_ITEMS = command(
    "data", "prepare", "WORLD/raw/purchases.csv", "--items", "FILE", "--name", "Again", "--output", "WORLD/again",
    "--force", "--quiet", "--set", "titles=clean",
)  # fmt: skip
SCORE = command(
    "score", "FILE", "--category", "Prep", "--name", "Theirs", "--data-dir", "WORLD/prepared", "--runs", "WORLD/scored",
    "--no-mlflow", "--no-figures", "--quiet",
)  # fmt: skip
BUILD = command(
    "sids", "build", "--category", "Toy", "--data-dir", "WORLD/data", "--set", "embedder=npy:FILE", "--set", "codes=4",
    "--quiet",
)  # fmt: skip
SHOW_SIDS = command("sids", "show", "FILE", "--format", "json")
REPAIR = command("sids", "repair", "FILE", "--repair", "zcr", "--output", "WORLD/repaired.json", "--force")
ASK_EXPORTED = command("recommend", "--run", "WORLD/exported", "--history", "#1 | #2", "--json")
STATUS = of_run("runs", "show", "RUN")
VALIDATE_SEQUENCES = command("data", "validate", "Seq", "--data-dir", "WORLD/sequences")
MEASURE = of_run("results", "measure", "RUN", "--data-dir", "WORLD/data", "--no-figures")
SHOW = of_run("show", "run", "RUN")
REPORT = of_run("report", "RUN", "--no-figures", "--output", "WORLD/report")
LINT = command("results", "lint", "FILE")
VERIFY = command("results", "verify", "FILE")

KINDS = (
    Kind("recipe", "files/recipe.yaml", "yaml", {"run": plan}),
    Kind("suite", "files/suite.yaml", "yaml", {"suite": command(
        "suite", "run", "FILE", "--category", "Toy", "--data-dir", "WORLD/data", "--runs", "WORLD/runs", "--dry-run")}),
    Kind("space", "files/space.yaml", "yaml", {"tune": space}),
    Kind("reported rows", "files/reported.yaml", "yaml", {"lint": LINT}),
    Kind("manifest", "runs/Toy/markov/*/manifest.json", "json",
         {"leaderboard": board, "show": SHOW, "report": REPORT}, OF_RUNS),
    Kind("metrics", "runs/Toy/markov/*/metrics.json", "json",
         {"leaderboard": board, "show": SHOW, "report": REPORT}, OF_RUNS),
    Kind("config", "runs/Toy/markov/*/config.yaml", "yaml", {"leaderboard": board, "show": SHOW, "measure": MEASURE}),
    Kind("what a stage chose", "files/fitted/*.json", "json", {"load": fitted}),
    Kind("study of a search", "searches/Toy/markov/tuning/study.db", "binary", {"tune": study}),
    Kind("semantic IDs", "runs/Toy/markov/*/semantic_ids.json", "json", {"measure": MEASURE}, OF_RUNS),
    Kind("rankings", "runs/Toy/markov/*/rankings/*.parquet", "binary", {"measure": MEASURE}),
    Kind("log", "runs/Toy/sasrec/*/stages/1-sasrec/log.jsonl", "jsonl", {"log": log, "report": REPORT}),
    Kind("clock", "files/clock.json", "json", {"clock": clock}),
    Kind("record", "records/Toy/markov/*.json", "json", {"leaderboard": board_of_records, "verify": VERIFY}, OF_RUNS),
    Kind("record, resealed", "records/Toy/markov/*.json", "json", {"leaderboard": resealed}, OF_RUNS),
    Kind("settings", "files/settings.txt", "text", {"run": settings}),
    Kind("names", "files/names.txt", "text", {"run": named}),
    Kind("checkpoint of a network", "files/network/checkpoint.safetensors", "binary", {"resume": resumed}),
    Kind("checkpoint of a language model", "files/checkpoints/checkpoint-2/*", "binary", {"resume": whole}),
    Kind("train CSV", "data/train/Toy.csv", "csv", {"validate": VALIDATE}),
    Kind("test CSV", "data/test/Toy.csv", "csv", {"validate": VALIDATE}),
    Kind("info text", "data/info/Toy.txt", "text", {"validate": VALIDATE}),
    Kind("index", "data/index/Toy.index.json", "json", {"validate": VALIDATE}, OF_DATA),
    Kind("items", "data/index/Toy.item.json", "json", {"validate": VALIDATE}, OF_DATA),
    Kind("sequences", "sequences/Seq.inter.json", "json", {"validate": VALIDATE_SEQUENCES}, OF_DATA),
    Kind("items of sequences", "sequences/Seq.item.json", "json", {"validate": VALIDATE_SEQUENCES}, OF_DATA),
    Kind("purchases, CSV", "raw/purchases.csv", "csv", {"prepare": PREPARE}),
    Kind("purchases, JSON lines", "raw/purchases.json", "jsonl", {"prepare": PREPARE}),
    Kind("purchases, Parquet", "raw/purchases.parquet", "binary", {"prepare": PREPARE}),
    Kind("purchases, gzip", "raw/purchases.csv.gz", "binary", {"prepare": PREPARE}),
    Kind("item table", "raw/items.json", "jsonl", {"prepare": PREPARE_ITEMS}),
    Kind("manifest of a split", "prepared/Prep/split.yaml", "yaml", {"validate": VALIDATE_PREPARED}),
    Kind("files of a split", "prepared/Prep/*.parquet", "binary", {"validate": VALIDATE_PREPARED}),
    Kind("rankings made elsewhere", "raw/rankings.csv", "csv", {"score": SCORE}),
    Kind("rankings made elsewhere, JSON lines", "raw/rankings.jsonl", "jsonl", {"score": SCORE}),
    Kind("catalogue", "files/catalogue.yaml", "yaml", {"fetch": catalogue}),
    Kind("checksums of raw files", "files/raw/checksums.json", "json", {"prepare": learnt}, OF_RUNS),
    Kind("vectors of items", "files/vectors.npy", "binary", {"sids": BUILD}),
    Kind("index, shown", "data/index/Toy.index.json", "json", {"sids": SHOW_SIDS, "repair": REPAIR}, OF_DATA),
    Kind("bundle", "exported/artifacts/bundle/bundle.json", "json", {"recommend": ASK_EXPORTED}, OF_RUNS),
    Kind("items of a bundle", "exported/artifacts/bundle/items.parquet", "binary", {"recommend": ASK_EXPORTED}),
    Kind("run of a bundle", "exported/artifacts/bundle/run/manifest.json", "json", {"recommend": ASK_EXPORTED}),
    Kind("users, CSV", "raw/users.csv", "csv", {"recommend": ask_file}),
    Kind("users, JSON lines", "raw/users.jsonl", "jsonl", {"recommend": ask_file}),
    Kind("note of a run at work", "runs/Toy/markov/*/progress.json", "json", {"status": STATUS}),
    Kind("index of sequences", "sequences/Seq.index.json", "json", {"validate": VALIDATE_SEQUENCES}, OF_DATA),
)  # fmt: skip
