"""Beyond accuracy: what the first ten recommendations are like, whoever they are for.

A ranking of SIDs stands for items: those of a SID in the order of their ids, until there are ten.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from harness.components import Evaluated
from harness.data.dataset import Bought
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.evaluation.segments import bought
from harness.evaluation.statistics import gini

K = 10


def beyond_accuracy(evaluated: Evaluated) -> dict[str, float | None]:
    """Coverage, Gini, popularity, novelty, diversity and repeats of the first ten items; see each function."""
    n_items = len(evaluated.items) or int(evaluated.rankings.ids.max(initial=0)) + 1
    lists = top_items(evaluated.rankings, evaluated.semantic_ids, K, evaluated.samples.histories.bought)
    shown = lists[lists >= 0]
    if not len(shown):
        return {}
    exposure = np.bincount(shown, minlength=n_items)
    purchases = bought(evaluated.train, n_items)
    found: dict[str, float | None] = {
        f"coverage@{K}": float((exposure > 0).mean()),
        f"Gini of exposure@{K}": gini(exposure),
        f"purchases in train@{K}": float(purchases[shown].mean()),
        f"novelty (bits)@{K}": float(self_information(purchases)[shown].mean()),
        f"repeats@{K}": repeats(lists, evaluated.samples.histories.items),
    }
    if any(evaluated.items.categories):
        found[f"diversity by category@{K}"] = diversity(lists, one_hot(evaluated.items.categories))
    if any(evaluated.items.titles):
        found[f"diversity by title@{K}"] = diversity(lists, title_vectors(evaluated.items.titles))
    return found


def top_items(rankings: Rankings, semantic_ids: SemanticIds | None, k: int, bought: Bought | None = None) -> np.ndarray:
    """The first k items of each ranking ``[n, k]``, -1 where there are fewer.

    Args:
        bought: what must not be recommended: a SID stands for its other items alone.
    """
    if rankings.kind == "item" or semantic_ids is None:
        ids = rankings.ids[:, :k]
        return np.pad(ids, ((0, 0), (0, k - ids.shape[1])), constant_values=-1)
    ids = rankings.ids
    order = np.argsort(semantic_ids.of_item, kind="stable")
    sizes = semantic_ids.group_sizes
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    gone = bought.items_mask(len(semantic_ids.of_item)) if bought is not None else None
    found = np.full((len(ids), k), -1, dtype=np.int64)
    place = np.zeros(len(ids), dtype=np.int64)
    for column in range(ids.shape[1]):
        if (place >= k).all():
            break
        of = ids[:, column]
        for inside in range(int(np.where(of < 0, 1, sizes[of]).max(initial=0))):
            rows = np.flatnonzero((of >= 0) & (inside < sizes[of]) & (place < k))
            items = order[starts[of[rows]] + inside]
            if gone is not None:
                rows, items = rows[~gone[rows, items]], items[~gone[rows, items]]
            found[rows, place[rows]] = items
            place[rows] += 1
        place[of < 0] += 1  # what is nothing takes a place
    return found


def self_information(purchases: np.ndarray) -> np.ndarray:
    """Bits that a purchase of each item tells, −log2 of its share of train (Zhou et al., PNAS 2010); each has one more.

    >>> self_information(np.array([0, 2])).tolist()
    [2.0, 0.4150374992788438]
    """
    shares = (purchases + 1) / (purchases + 1).sum()
    return np.asarray(-np.log2(shares))


def repeats(lists: np.ndarray, histories: np.ndarray) -> float:
    """The share of recommended items that stand in the history that the model was given.

    >>> repeats(np.array([[1, 2], [3, -1]]), np.array([[2, 9], [4, -1]]))
    0.3333333333333333
    """
    there = lists >= 0
    again = np.zeros(lists.shape, dtype=bool)
    for column in range(histories.shape[1]):
        again |= lists == np.where(histories[:, column] < 0, -2, histories[:, column])[:, None]
    return float((again & there).sum() / there.sum())


def diversity(lists: np.ndarray, vectors: csr_matrix) -> float | None:
    """Intra-list diversity: 1 − the mean cosine of two items of a list, the mean over lists (Ziegler et al. 2005).

    From unit vectors v the mean over a list's pairs is (‖Σ v‖² − Σ ‖v‖²) / (m (m − 1)). None: no list has two items.

    Args:
        lists: ``[n, k]`` items, -1 for none.
        vectors: ``[n_items, d]`` unit rows, or empty ones.

    >>> diversity(np.array([[0, 1], [0, 2]]), csr_matrix(np.array([[1.0, 0], [0, 1], [1, 0]])))
    0.5
    """
    rows, columns = np.nonzero(lists >= 0)
    member = csr_matrix((np.ones(len(rows)), (rows, lists[rows, columns])), shape=(len(lists), vectors.shape[0]))
    lengths = np.asarray(vectors.multiply(vectors).sum(axis=1)).reshape(-1)
    sums = member @ vectors
    together = np.asarray(sums.multiply(sums).sum(axis=1)).reshape(-1) - member @ lengths
    size = (lists >= 0).sum(axis=1)
    two = size > 1
    return float((1 - together[two] / (size[two] * (size[two] - 1))).mean()) if two.any() else None


def one_hot(texts: list[str]) -> csr_matrix:
    """A unit vector a text, the same for equal ones; none for an empty one.

    >>> one_hot(["saw", "", "saw"]).toarray().tolist()
    [[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    """
    _, number = np.unique(np.array(texts, dtype=np.str_), return_inverse=True)
    known = np.flatnonzero([bool(text) for text in texts])
    shape = (len(texts), int(number.max(initial=0)) + 1)
    return csr_matrix((np.ones(len(known)), (known, number.reshape(-1)[known])), shape=shape)


def title_vectors(titles: list[str]) -> csr_matrix:
    """TF-IDF vectors of titles, of length 1."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        return csr_matrix(TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit_transform(titles))
    except ValueError:  # no word in any title
        return csr_matrix((len(titles), 1))
