"""A small category as files (the MiniOneRec layout), written as it is or transformed in ways that mean the same."""

from __future__ import annotations

import csv
import json

import numpy as np

NAME = "Small"
SIZES = {"items": 60, "users": 90, "mean_length": 6, "collisions": 0.1}


def write(dataset, root, shuffle=False, rename=False, renumber=None):
    """Write a dataset's files.

    Args:
        shuffle: the rows of each file stand in another order.
        rename: users have other names, in another order.
        renumber: the new number of each item; None: as they are.
    """
    rng = np.random.default_rng(5)
    number = np.arange(len(dataset.items)) if renumber is None else renumber
    names = np.unique(np.concatenate([split.users for split in dataset.splits.values()])).tolist()
    called = {name: f"Z{i:04}" for name, i in zip(names, rng.permutation(len(names)).tolist(), strict=True)}
    sids = [dataset.given.string_of_item(item) for item in range(len(number))]
    old = np.argsort(number)
    for folder in ("train", "valid", "test", "index"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    texts = dataset.items
    items = {
        str(new): {
            "title": texts.titles[item],
            "description": texts.descriptions[item],
            "brand": "",
            "categories": "",
            "id": f"X{item:04}",
        }  # what its source calls it, whatever its number
        for new, item in enumerate(old.tolist())
    }
    index = {str(new): sids[item].replace("><", "> <").split() for new, item in enumerate(old.tolist())}
    (root / "index" / f"{NAME}.item.json").write_text(json.dumps(items))
    (root / "index" / f"{NAME}.index.json").write_text(json.dumps(index))
    for split, samples in dataset.splits.items():
        rows = [
            [called[user] if rename else user, number[history].tolist(), int(number[target]),
             [sids[item] for item in history], sids[target]]
            for user, history, target in zip(
                samples.users.tolist(), samples.histories.lists(), samples.targets.tolist(), strict=True
            )
        ]  # fmt: skip
        if shuffle:
            rows = [rows[i] for i in rng.permutation(len(rows)).tolist()]
        with open(root / split / f"{NAME}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", "history_item_id", "item_id", "history_item_sid", "item_sid"])
            writer.writerows(rows)
    return root
