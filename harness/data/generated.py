"""A small generated category for checks of code: a few hundred items with texts and semantic IDs, a few hundred users.

Nothing is measured on it. The benchmark's own generated category, whose true distribution is known, is ``Synthetic``.
"""

from __future__ import annotations

import numpy as np

from harness.data.dataset import Dataset, Items, Samples
from harness.data.semantic_ids import SemanticIds

CATEGORY = "Generated"
WORDS = ("brass", "compact", "digital", "heavy", "narrow", "padded", "quick", "rigid", "steel", "thin", "wide", "round")
NOUNS = ("clamp", "drill", "filter", "gasket", "hinge", "lamp", "pump", "relay", "sensor", "valve")
LONGEST = 10


def generated(n_items: int = 240, n_users: int = 60, seed: int = 1) -> Dataset:
    """A category whose users walk from item to item, mostly within a kind; leave-one-out, some test users unknown."""
    rng = np.random.default_rng(seed)
    codes = np.column_stack([np.arange(n_items) % 8, np.arange(n_items) // 8 % 6, np.arange(n_items) // 48])
    codes[-4:] = codes[:4]  # a few items share a SID
    titles = [f"{NOUNS[i % 10]} {WORDS[i % 12]} {WORDS[(i // 12) % 12]} {i}" for i in range(n_items)]
    texts = [f"A {title} for work." for title in titles]
    items = Items(
        titles, texts, [f"brand {i % 5}" for i in range(n_items)], [""] * n_items, [f"G{i:05}" for i in range(n_items)]
    )
    splits: dict[str, tuple[list[str], list[list[int]], list[int]]] = {
        n: ([], [], []) for n in ("train", "valid", "test")
    }
    for user in range(n_users):
        walk = [int(rng.integers(n_items))]
        for _ in range(int(rng.integers(4, LONGEST + 3))):
            near = (walk[-1] + 8 * int(rng.integers(1, 4))) % n_items
            walk.append(near if rng.random() < 0.8 else int(rng.integers(n_items)))
        for end in range(1, len(walk)):
            split = "test" if end == len(walk) - 1 else "valid" if end == len(walk) - 2 else "train"
            name = f"new{user}" if split == "test" and user % 10 == 0 else f"user{user}"
            users, histories, targets = splits[split]
            users.append(name)
            histories.append(walk[:end])
            targets.append(walk[end])
    train, valid, test = (Samples.build(*columns, LONGEST) for columns in splits.values())
    sids = SemanticIds(codes.astype(np.int32), "given")
    return Dataset(CATEGORY, items, train, valid, test, "generated", sids, "generated for checks")
