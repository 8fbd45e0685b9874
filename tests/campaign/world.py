"""A small world of files: data in both layouts, two finished runs, exported records, recipes and tables."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from harness import recipes
from harness.item_models import checkpoint
from harness.language.checkpoints import STATE, seal
from tests.campaign.kinds import WEIGHTS, bench, tune

ITEMS, USERS = 24, 40
FITTED = {
    "grounding.json": {"gamma": 0.5, "tried": {"0.5": 0.1}}, "assistant.json": {"alpha": 0.3, "tried": {"0.3": 0.1}},
    "start.json": {"HR@1": 0.1, "HR@10": 0.2, "NDCG@10": 0.15},
    "counts.json": {"parts": ["chain"], "logit": {"chain: share of the best": 1.5}, "language_model_weight": 0.3,
                    "logit_weight": 0.7},
    "blend.json": {"coefficients": [0.5, -1.0], "features": ["model", "memory"]},
    "mixture.json": {"weight": 0.5, "temperature": 1.0},
}  # fmt: skip


def build(world: Path) -> None:
    """Make it, in a folder that is empty."""
    rng = np.random.default_rng(0)
    sequences = {str(user): rng.integers(0, ITEMS, rng.integers(5, 9)).tolist() for user in range(USERS)}
    items = {
        str(i): {"title": f"Thing {i}, kind {i % 5}", "description": f"['about {i}']", "brand": f"B{i % 3}",
                 "categories": ""}
        for i in range(ITEMS)
    }  # fmt: skip
    index = {str(i): [f"<a_{i // 8}>", f"<b_{i // 2 % 4}>", f"<c_{i % 2}>"] for i in range(ITEMS)}
    _sequences(world / "sequences", sequences, items, index)
    _tables(world / "data", sequences, items, index)
    _raw(world / "raw", sequences, items)
    bench("data", "prepare", world / "raw/purchases.csv", "--name", "Prep", "--output", world / "prepared", "--quiet")
    (world / "files").mkdir()
    (world / "files/clock.json").write_text('{"seconds": 12.5}\n')
    (world / "files/recipe.yaml").write_text(
        "name: mine\nsummary: a recipe\ngroup: traditional\ntokenizer: {name: given, optional: true}\nstages:\n"
        "- {name: net, trainer: sasrec, hidden: 16, heads: 2, blocks: 1, epochs: 1, dropout: 0.2}\n"
        "decoder: {name: rank, k: 20}\nprobe: {samples: 0, beams: 10}\ndataset: {}\n"
    )
    (world / "files/suite.yaml").write_text(
        "name: small\nsummary: two methods\nseeds: [1, 2]\nmethods:\n- popularity\n"
        "- {method: markov, label: markov of all, seeds: 1, minutes: 0.5, set: ['decoder.k=20']}\n"
    )
    (world / "files/space.yaml").write_text(
        "net.dropout: {low: 0.1, high: 0.5}\nnet.learning_rate: {low: 0.0001, high: 0.01, log: true}\n"
        "net.hidden: [16, 32]\nnet.blocks: {low: 1, high: 3, step: 1}\n"
    )
    (world / "files/reported.yaml").write_text(
        '- source: {id: me, what: "a table"}\n  category: Toy\n  columns: [HR@5, NDCG@5, HR@10]\n'
        "  rows: {good: [0.1, 0.08, 0.12], other: [0.2, 0.1, 0.3]}\n"
    )
    np.save(world / "files/vectors.npy", rng.normal(size=(ITEMS, 6)).astype(np.float32))
    shutil.copy(recipes.shipped("catalogue.yaml"), world / "files/catalogue.yaml")
    (world / "files/raw").mkdir()
    (world / "files/raw/checksums.json").write_text(json.dumps({f"https://a/{n}.gz": f"{n}" * 64 for n in range(3)}))
    (world / "files/settings.txt").write_text(
        "sasrec.dropout=0.3\nsasrec.hidden=32\ndecoder.k=20\nprobe.samples=10\ntokenizer.optional=true\n"
    )
    (world / "files/names.txt").write_text("Toy\nmine\nsmall\nmarkov of all\n")
    (world / "files/small.yaml").write_text("markov.decay: [0.5, 1.0]\n")
    (world / "files/fitted").mkdir()
    for name, content in FITTED.items():
        (world / "files/fitted" / name).write_text(json.dumps(content))
    _checkpoints(world / "files")
    run = ["run", "--category", "Toy", "--data-dir", world / "data", "--runs", world / "runs", "--seed", "1",
           "--no-mlflow", "--no-figures", "--quiet", "--threads", "1"]  # fmt: skip
    bench(*run, "--method", "markov", "--set", "decoder.k=20")
    small = ["sasrec.epochs=2", "sasrec.hidden=16", "sasrec.heads=2", "sasrec.blocks=1", "decoder.k=20"]
    bench(*run, "--method", "sasrec", *(word for s in small for word in ("--set", s)))
    tune(world, world / "searches")
    for path in (world / "runs/Toy").glob("*/*"):
        bench("results", "export", path, "--output", world / "records")
    [counted] = (world / "runs/Toy/markov").glob("*")
    bench("export", "mlflow", counted, "--output", world / "exported", "--data-dir", world / "data")
    bar = {"label": "fit", "unit": "step", "done": 3, "total": 9, "before": 0, "seconds": 2.0, "numbers": {}}
    (counted / "progress.json").write_text(json.dumps({"at": 1.0, "pid": 1, "host": "here", "bars": [bar]}))
    (world / "raw/users.csv").write_text("user,history\na,#1 #2\nb,#3\n")
    (world / "raw/users.jsonl").write_text('{"user": "a", "history": ["#1", "#2"]}\n{"user": "b", "history": ["#3"]}\n')


def _checkpoints(folder: Path) -> None:
    """One of the training loop, and two of a fine-tuning, the newer one sealed."""
    model = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(model.weight, WEIGHTS / 6)
    (folder / "network").mkdir()
    optimiser = torch.optim.AdamW(model.parameters())
    checkpoint.save(folder / "network", model, optimiser, None, checkpoint.State(epoch=2, best=0.5, best_epoch=1))
    for step in (1, 2):
        path = folder / f"checkpoints/checkpoint-{step}"
        path.mkdir(parents=True)
        save_file({"weight": torch.full((4, 4), float(step))}, path / "model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({"step": step, "values": torch.arange(5)}, path / name)
        (path / STATE).write_text(json.dumps({"global_step": step, "log_history": [], "best_model_checkpoint": None}))
        seal(path)
    shutil.copytree(folder / "checkpoints/checkpoint-2", folder / "honest")


def _raw(folder: Path, sequences: dict, items: dict) -> None:  # type: ignore[type-arg]
    """Purchases in four forms, a table of items, and rankings of the test samples in two."""
    folder.mkdir(parents=True)
    rows = [(f"u{user}", f"B{item:03}", 1_500_000_000 + 86_400 * k, 1 + item % 5)
            for user, sequence in sequences.items() for k, item in enumerate(sequence)]  # fmt: skip
    names = ("user_id", "asin", "timestamp", "rating")
    text = "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n"
    (folder / "purchases.csv").write_text(text)
    (folder / "purchases.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    (folder / "purchases.json").write_text(
        "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    )
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / "purchases.parquet")
    table = ({"asin": f"B{int(i):03}", **row, "categories": ["a", "b"]} for i, row in items.items())
    (folder / "items.json").write_text("".join(json.dumps(row) + "\n" for row in table))
    known = sorted({row[1] for row in rows})
    users = [f"u{user}" for user, sequence in sequences.items() if len(sequence) > 2]
    ranked = {user: [known[(n + k) % len(known)] for k in range(5)] for n, user in enumerate(users)}
    lines = [f"{user},{item},{rank}" for user, best in ranked.items() for rank, item in enumerate(best, start=1)]
    (folder / "rankings.csv").write_text("\n".join(["user,item,rank", *lines]) + "\n")
    (folder / "rankings.jsonl").write_text(
        "".join(json.dumps({"user": u, "items": b}) + "\n" for u, b in ranked.items())
    )


def _sequences(folder: Path, sequences: dict, items: dict, index: dict) -> None:  # type: ignore[type-arg]
    folder.mkdir(parents=True)
    for name, content in (("inter", sequences), ("item", items), ("index", index)):
        (folder / f"Seq.{name}.json").write_text(json.dumps(content))


def _tables(folder: Path, sequences: dict, items: dict, index: dict) -> None:  # type: ignore[type-arg]
    for name in ("train", "valid", "test", "info", "index"):
        (folder / name).mkdir(parents=True)
    titles = [items[str(i)]["title"] for i in range(ITEMS)]
    sids = ["".join(index[str(i)]) for i in range(ITEMS)]
    rows: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user, sequence in sequences.items():
        for i in range(1, len(sequence)):
            name = "test" if i == len(sequence) - 1 else "valid" if i == len(sequence) - 2 else "train"
            past, item = sequence[:i][-10:], sequence[i]
            cells = [
                f"A{user}",
                [titles[p] for p in past],
                titles[item],
                past,
                item,
                [sids[p] for p in past],
                sids[item],
            ]
            rows[name].append(",".join('"' + str(c).replace('"', '""') + '"' for c in cells))
    head = "user_id,history_item_title,item_title,history_item_id,item_id,history_item_sid,item_sid"
    for name, lines in rows.items():
        (folder / name / "Toy.csv").write_text("\n".join([head, *lines]) + "\n")
    (folder / "info/Toy.txt").write_text(
        "".join(f"{s}\t{t}\t{i}\n" for i, (s, t) in enumerate(zip(sids, titles, strict=True)))
    )
    (folder / "index/Toy.index.json").write_text(json.dumps(index))
    (folder / "index/Toy.item.json").write_text(json.dumps(items))
