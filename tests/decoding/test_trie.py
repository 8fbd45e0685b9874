import numpy as np
import pytest
import torch

from harness.decoding.trie import Trie
from harness.errors import BenchError


def table(rows=200, levels=3, codes=9, seed=0):
    rng = np.random.default_rng(seed)
    codes_of_items = np.unique(rng.integers(0, codes, (rows, levels)), axis=0)
    return rng.permutation(codes_of_items)


@pytest.mark.parametrize("dense_bytes", [0, 10**9])
def test_every_leaf_is_reached_and_names_its_row(dense_bytes):
    sids = table()
    trie = Trie(sids, dense_bytes=dense_bytes)
    assert all((level.table is not None) == bool(dense_bytes) for level in trie.levels)
    paths = {}

    def walk(depth, node, path):
        if depth == trie.depth:
            paths[path] = int(trie.leaves[node])
            assert trie.tokens(torch.tensor(node)).tolist() == list(path)
            return
        level = trie.levels[depth]
        columns, exists = level.children(torch.tensor(node))
        tokens = level.vocabulary[columns[exists]].tolist()
        assert tokens == sorted(set(tokens))
        for offset, token in enumerate(tokens):
            child = level.entry(torch.tensor(node), torch.tensor(offset))
            assert level.child(torch.tensor(node), torch.tensor(token)) == child
            walk(depth + 1, int(child), (*path, token))
        assert level.child(torch.tensor(node), torch.tensor(10_000)) == -1

    walk(0, 0, ())
    assert paths == {tuple(row): i for i, row in enumerate(sids.tolist())}


def test_a_node_is_alone_when_one_leaf_is_under_it():
    trie = Trie(np.array([[1, 5, 8, 2], [1, 5, 8, 3], [1, 6, 9, 4], [2, 7, 7, 7]]))
    assert [level.alone.tolist() for level in trie.levels] == [
        [False, True],
        [False, True, True],
        [False, True, True],
        [True, True, True, True],
    ]


def test_memory_grows_with_the_items_alone():
    sids = table(rows=200_000, levels=4, codes=256)
    limit = 2**20
    trie = Trie(sids, dense_bytes=limit)
    assert trie.levels[0].table is not None
    assert trie.levels[3].table is None
    row, entry, vocabulary = 8, 8 + 8 + 1, 4 * 256 * 8  # bytes: leaves; starts, columns, alone
    assert trie.bytes <= len(sids) * (row + 4 * entry) + 4 * 8 + vocabulary + 4 * limit


def test_empty_and_duplicate_tables_are_refused():
    with pytest.raises(BenchError, match="no SIDs"):
        Trie(np.zeros((0, 3), dtype=int))
    with pytest.raises(BenchError, match="same tokens"):
        Trie(np.array([[1, 2], [1, 2]]))
