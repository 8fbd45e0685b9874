"""How good semantic IDs are, before anything is trained on them: use of codes, collisions, neighbours, categories.

Every figure is of the catalogue alone. Logarithms are natural; a perplexity is e to an entropy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.dataset import Items
from harness.data.semantic_ids import SemanticIds
from harness.evaluation.statistics import gini
from harness.quantising.quantisers import books_of, unit

NEIGHBOURS = 10
MOST_LEVELS_TOLD = 8
"""Levels whose figures are told one by one."""
MOST_ASKED = 4_000
"""Items whose neighbours are looked for, every so-many-th of a larger catalogue."""
PIECE = 2**24


def quality(
    semantic_ids: SemanticIds, items: Items | None = None, vectors: np.ndarray | None = None, purchases: Any = None
) -> dict[str, Any]:
    """The figures of semantic IDs, by name.

    Args:
        items: for the agreement with their categories.
        vectors: ``[n_items, d]``, for reconstruction and neighbours.
        purchases: ``[n_items]`` of train, for the ceiling weighed by them.
    """
    sizes = semantic_ids.group_sizes
    shared = sizes[semantic_ids.of_item] > 1
    levels = range(min(semantic_ids.n_levels, MOST_LEVELS_TOLD))
    columns = [semantic_ids.codes[:, level] for level in levels]
    found: dict[str, Any] = {
        "items": semantic_ids.n_items,
        "levels": semantic_ids.n_levels,
        "distinct SIDs": len(sizes),
        "collision rate": 1 - len(sizes) / semantic_ids.n_items,
        "items on a shared SID": int(shared.sum()),
        "most items on one SID": int(sizes.max()),
        "codes used": [len(np.unique(codes[codes >= 0])) for codes in columns],
        "perplexity of codes": [perplexity(codes) for codes in columns],
        "Gini of codes": [_gini(codes) for codes in columns],
        "branching": branching(semantic_ids.codes),
        "ceiling of item HR@1": ceiling(semantic_ids, purchases),
    }
    if items is not None and any(items.categories):
        names = first_categories(items.categories)
        found["categories told by the first code"] = told_by(columns[0], names)
        if len(columns) > 1:
            two = np.unique(semantic_ids.codes[:, :2], axis=0, return_inverse=True)[1].reshape(-1)
            found["categories told by the first two codes"] = told_by(two, names)
    if vectors is not None:
        found |= of_vectors(semantic_ids.codes, vectors)
    return found


def pictures(semantic_ids: SemanticIds, vectors: np.ndarray | None = None) -> dict[str, Any]:
    """What is drawn of semantic IDs, in few numbers.

    Returns:
        ``codes``: of each level how often its codes are used, the most used first. ``groups``: how many SIDs stand for
        1, 2, … items. ``map``: of each first code its place by the two main directions of its items' vectors, and how
        many items have it.
    """
    levels = range(min(semantic_ids.n_levels, MOST_LEVELS_TOLD))
    counts = [np.bincount(column[column >= 0]) for column in (semantic_ids.codes[:, level] for level in levels)]
    found: dict[str, Any] = {
        "codes": [np.sort(count[count > 0])[::-1].tolist() for count in counts],
        "groups": np.bincount(semantic_ids.group_sizes)[1:].tolist(),
    }
    if vectors is not None and vectors.shape[1] > 1:
        rows = vectors - vectors.mean(axis=0)
        _, directions = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
        places = rows @ directions[:, :-3:-1]
        first = semantic_ids.codes[:, 0]
        centres = np.stack([np.bincount(first, places[:, axis]) for axis in (0, 1)], axis=1)
        used = counts[0] > 0
        places = centres[used] / counts[0][used, None]
        found["map"] = [[round(float(x), 5), round(float(y), 5), int(n)] for (x, y), n in zip(places, counts[0][used])]
    return found


def perplexity(codes: np.ndarray) -> float:
    """E to the entropy of the codes of a level: as many codes, if they were used equally often.

    >>> round(perplexity(np.array([0, 0, 1, 1])), 6)
    2.0
    """
    shares = np.bincount(codes[codes >= 0]).astype(float)
    shares = shares[shares > 0] / max(1.0, shares.sum())
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def _gini(codes: np.ndarray) -> float:
    """Inequality of how often the codes in use are used: 0 where all are used equally."""
    counts = np.bincount(codes[codes >= 0])
    return gini(counts[counts > 0]) if counts.any() else 0.0


def branching(codes: np.ndarray) -> list[float]:
    """The mean number of codes that follow a prefix, level by level: the width of the trie.

    >>> branching(np.array([[0, 0], [0, 1], [1, 0]]))
    [2.0, 1.5]
    """
    prefixes = 1
    result = []
    for level in range(min(codes.shape[1], MOST_LEVELS_TOLD)):
        longer = codes[codes[:, level] >= 0][:, : level + 1]
        if not len(longer):
            break
        nodes = len(np.unique(longer, axis=0))
        result.append(nodes / prefixes)
        prefixes = nodes
    return result


def ceiling(semantic_ids: SemanticIds, purchases: np.ndarray | None = None) -> float:
    """The item HR@1 of a model that always names the right SID: items of a SID stand in a random order.

    Args:
        purchases: ``[n_items]`` weights of the items as targets; None: all alike.
    """
    chances = 1 / semantic_ids.group_sizes[semantic_ids.of_item]
    weights = np.ones(len(chances)) if purchases is None or not purchases.sum() else purchases.astype(float)
    return float((chances * weights).sum() / weights.sum())


def first_categories(texts: list[str]) -> np.ndarray:
    """A number for each item's category, the finest that at least one in 500 items has; -1 for none."""
    paths = [[part.strip(" '\"[]") for part in text.split(",")] for text in texts]
    counts: dict[str, int] = {}
    for path in paths:
        for part in set(path):
            counts[part] = counts.get(part, 0) + 1
    least = max(2, len(texts) // 500)
    chosen = [next((part for part in reversed(path) if part and counts[part] >= least), "") for path in paths]
    number = {name: i for i, name in enumerate(dict.fromkeys(name for name in chosen if name))}
    return np.array([number.get(name, -1) for name in chosen])


def told_by(codes: np.ndarray, names: np.ndarray) -> float:
    """Normalised mutual information of codes and categories, 0 … 1, adjusted for chance (Vinh et al. 2010).

    Items without a category are left out.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    known = names >= 0
    if len(np.unique(names[known])) < 2:
        return 0.0
    return float(adjusted_mutual_info_score(names[known], codes[known]))


def of_vectors(codes: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """What codes keep of vectors: error and cosine of the means they imply; whether neighbours share first codes."""
    made = books_of(codes, vectors)
    own = vectors.astype(np.float64)
    again = own - made.left
    spread = float(((own - own.mean(axis=0)) ** 2).sum()) or 1.0
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(again, axis=1)
    cosine = np.divide((own * again).sum(axis=1), lengths, out=np.zeros(len(own)), where=lengths > 0)
    some = np.arange(len(own))[:: -(-len(own) // MOST_ASKED)]
    agree = codes[neighbours(vectors, NEIGHBOURS, some), 0] == codes[some, :1]
    return {
        "unexplained variance": float((made.left.astype(np.float64) ** 2).sum() / spread),
        "cosine to what is rebuilt": float(cosine.mean()),
        f"first code shared with the {NEIGHBOURS} nearest": float(agree.mean()),
    }


def neighbours(vectors: np.ndarray, k: int, some: np.ndarray) -> np.ndarray:
    """The k nearest others of some items, by cosine ``[len(some), k]``."""
    rows = unit(vectors)
    k = min(k, len(rows) - 1)
    parts = []
    for asked in np.split(some, range(PIECE // len(rows) + 1, len(some), PIECE // len(rows) + 1)):
        scores = rows[asked] @ rows.T
        scores[np.arange(len(asked)), asked] = -np.inf
        parts.append(np.argpartition(-scores, k - 1, axis=1)[:, :k] if k else np.zeros((len(asked), 0), int))
    return np.concatenate(parts)


def compared(a: SemanticIds, b: SemanticIds) -> dict[str, Any]:
    """How alike two files of semantic IDs are, whatever their codes are called.

    Items that stand together (share all codes, or the first ones) in one and in the other; mutual information level by
    level, adjusted for chance; and how many items have the very same codes.
    """
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    levels = min(a.n_levels, b.n_levels, MOST_LEVELS_TOLD)
    by_level, by_prefix, rand = [], [], []
    for level in range(levels):
        by_level.append(float(adjusted_mutual_info_score(a.codes[:, level], b.codes[:, level])))
        first, second = (
            np.unique(ids.codes[:, : level + 1], axis=0, return_inverse=True)[1].reshape(-1) for ids in (a, b)
        )
        by_prefix.append(float(adjusted_mutual_info_score(first, second)))
        rand.append(float(adjusted_rand_score(first, second)))
    same = a.codes[:, :levels] == b.codes[:, :levels]
    whole = same.all(axis=1) & (a.lengths == b.lengths) if a.n_levels == b.n_levels else np.zeros(len(same), bool)
    return {
        "items": a.n_items,
        "levels": [a.n_levels, b.n_levels],
        "distinct SIDs": [len(a.distinct), len(b.distinct)],
        "items with the same SID": int(whole.sum()),
        "items with the same code": [int(n) for n in same.sum(axis=0)],
        "mutual information of codes": by_level,
        "mutual information of prefixes": by_prefix,
        "Rand index of prefixes": rand,
    }
