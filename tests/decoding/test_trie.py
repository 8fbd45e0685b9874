import numpy as np
import pytest
import torch

from harness.decoding.trie import Trie
from harness.errors import BenchError


def test_every_leaf_is_reached_and_names_its_row():
    rng = np.random.default_rng(0)
    table = np.unique(rng.integers(0, 9, (200, 3)), axis=0)
    table = rng.permutation(table)
    trie = Trie(table)
    paths = {}

    def walk(level, node, path):
        if level == trie.depth:
            paths[path] = int(trie.leaves[node])
            return
        entries, tokens, exists = trie.levels[level].children(torch.tensor(node))
        kept = tokens[exists].tolist()
        assert kept == sorted(set(kept))
        for entry, token in zip(entries[exists].tolist(), kept, strict=True):
            walk(level + 1, entry, (*path, token))

    walk(0, 0, ())
    assert paths == {tuple(row): i for i, row in enumerate(table.tolist())}


def test_empty_and_duplicate_tables_are_refused():
    with pytest.raises(BenchError, match="no SIDs"):
        Trie(np.zeros((0, 3), dtype=int))
    with pytest.raises(BenchError, match="same tokens"):
        Trie(np.array([[1, 2], [1, 2]]))
