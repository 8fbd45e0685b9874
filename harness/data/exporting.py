"""A category's files for other tools: MiniOneRec's CSVs, RecBole's atomic files, S3-Rec's text, Parquet.

The samples of all splits are written, with the number by which ``bench score`` knows a test sample, and histories as
long as the reader was asked for.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset, Samples
from harness.errors import BenchError


def names(dataset: Dataset) -> list[str]:
    """What items are called outside: by the ids of their source, or by number."""
    return dataset.items.ids or [str(number) for number in range(len(dataset.items))]


def in_file_order(samples: Samples) -> Samples:
    """Samples as they stood in their file; the number of a row is how ``bench score`` knows it."""
    assert samples.rows is not None
    return samples.take(np.argsort(samples.rows, kind="stable"))


def minionerec(dataset: Dataset, folder: Path) -> None:
    """``train|valid|test/<category>.csv``, ``info/<category>.txt`` and ``index/<category>.*.json``; read again here."""
    category, items, given = dataset.category, dataset.items, dataset.given
    for split, samples in dataset.splits.items():
        (folder / split).mkdir(parents=True)
        with open(folder / split / f"{category}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            sids = ["history_item_sid", "item_sid"] if given is not None else []
            writer.writerow(["user_id", "history_item_title", "item_title", "history_item_id", "item_id", *sids])
            part = in_file_order(samples)
            for user, history, target in part.each():
                row = [user, [items.titles[i] for i in history], items.titles[target], history, target]
                if given is not None:
                    row += [[given.string_of_item(i) for i in history], given.string_of_item(target)]
                writer.writerow(row)
    (folder / "index").mkdir()
    texts = (items.titles, items.descriptions, items.brands, items.categories)
    table = {
        str(i): {"title": t, "description": d, "brand": b, "categories": c}
        | ({"id": items.ids[i]} if items.ids else {})
        for i, (t, d, b, c) in enumerate(zip(*texts, strict=True))
    }
    _json(folder / "index" / f"{category}.item.json", table)
    if given is not None:
        _json(folder / "index" / f"{category}.index.json", given.index)
        (folder / "info").mkdir()
        lines = (f"{given.string_of_item(i)}\t{' '.join(items.titles[i].split())}\t{i}\n" for i in range(len(items)))
        (folder / "info" / f"{category}.txt").write_text("".join(lines), encoding="utf-8")


def parquet(dataset: Dataset, folder: Path) -> None:
    """``train|valid|test.parquet`` (sample, user, history, target) and ``items.parquet`` (item, id, texts, sid)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split, samples in dataset.splits.items():
        part = in_file_order(samples)
        table = {
            "sample": pa.array(np.arange(len(part), dtype=np.int32)),
            "user": pa.array(part.users.tolist(), pa.string()),
            "history": pa.array(part.histories.lists(), pa.list_(pa.int32())),
            "target": pa.array(part.targets),
        }
        pq.write_table(pa.table(table), folder / f"{split}.parquet")
    items, given = dataset.items, dataset.given
    columns: dict[str, list[str] | list[int]] = {
        "item": list(range(len(items))), "id": names(dataset), "title": items.titles, "description": items.descriptions,
        "brand": items.brands, "categories": items.categories,
    }  # fmt: skip
    if given is not None:
        columns["sid"] = [given.string_of_item(i) for i in range(len(items))]
    pq.write_table(pa.table(columns), folder / "items.parquet")


def recbole(dataset: Dataset, folder: Path) -> None:
    """``<category>.train|valid|test.inter`` with histories (``benchmark_filename``), and ``<category>.item``."""
    category, called = dataset.category, names(dataset)
    for split, samples in dataset.splits.items():
        part = in_file_order(samples)
        with open(folder / f"{category}.{split}.inter", "w", encoding="utf-8") as file:
            file.write("user_id:token\titem_id_list:token_seq\titem_id:token\n")
            for user, history, target in part.each():
                file.write(f"{_word(user)}\t{' '.join(_word(called[i]) for i in history)}\t{_word(called[target])}\n")
    items = dataset.items
    with open(folder / f"{category}.item", "w", encoding="utf-8") as file:
        file.write("item_id:token\ttitle:token_seq\tbrand:token\tcategories:token_seq\n")
        for number, name in enumerate(called):
            texts = (items.titles[number], items.brands[number], items.categories[number])
            file.write("\t".join([_word(name), *map(_cell, texts)]) + "\n")


def s3rec(dataset: Dataset, folder: Path) -> None:
    """``<category>.txt``: a line a user, items from 1 in order of time; of a leave-one-out split alone."""
    users: dict[str, list[int]] = {}
    for samples in dataset.splits.values():
        part = in_file_order(samples)
        for user, history, target in part.each():
            before = users.setdefault(user, list(history))
            if before[-len(history) :] != history:
                raise BenchError(
                    f"the purchases of user {user} do not follow from the samples one by one; export another form"
                )
            before.append(target)
    for split, back in (("test", 1), ("valid", 2)):
        part = dataset.splits[split]
        targets = dict(zip(part.users.tolist(), part.targets.tolist(), strict=True))
        for user, sequence in users.items():
            if len(targets) < len(part) or len(sequence) < 3 or targets.get(user) != sequence[-back]:
                raise BenchError(
                    f"{dataset.category} is not split leave-one-out for every user (user {user}), which is all that "
                    "S3-Rec's text can say; export another form, or prepare it with --set core_users=3"
                )
    with open(folder / f"{dataset.category}.txt", "w", encoding="utf-8") as file:
        for number, sequence in enumerate(users.values(), start=1):
            file.write(f"{number} {' '.join(str(item + 1) for item in sequence)}\n")
    _json(folder / f"{dataset.category}.names.json", {"users": list(users), "items": names(dataset)})


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _cell(text: str) -> str:
    """A text without the signs that part cells and rows, and without quotes, which readers take for some."""
    return " ".join(text.replace('"', "'").split())


def _word(text: str) -> str:
    """An id as it is.

    Raises:
        BenchError: it holds a blank: RecBole parts lists at blanks.
    """
    if len(text.split()) != 1 or '"' in text:
        raise BenchError(f"the id {text[:40]!r} holds a blank or a quote, which RecBole's files cannot; export parquet")
    return text


FORMS: dict[str, Callable[[Dataset, Path], None]] = {
    "minionerec": minionerec, "recbole": recbole, "s3rec": s3rec, "parquet": parquet,
}  # fmt: skip
