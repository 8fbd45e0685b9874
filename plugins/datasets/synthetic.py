"""The embedded category ``Synthetic``: generated, and its true next-item distribution is known.

Items live in clusters (level-1 × level-2 code). A purchase repeats an item of the history, or
picks a cluster by popularity, by the last cluster (first order) or by the last two (second order),
and an item of the cluster by popularity. Memory grows with users + items, never with their product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from harness.data.dataset import Dataset, Histories, Items, Samples
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.settings import setting

CATEGORY = "Synthetic"
_NOUNS = [
    "clamp",
    "drill",
    "filter",
    "valve",
    "gasket",
    "relay",
    "sensor",
    "pump",
    "hinge",
    "bolt",
    "chisel",
    "lamp",
    "fuse",
    "magnet",
    "nozzle",
    "pulley",
    "ruler",
    "spring",
    "tape",
    "wrench",
    "beaker",
    "caliper",
    "funnel",
    "gauge",
    "hose",
    "ladder",
    "mallet",
    "pipette",
    "rivet",
    "saw",
    "torch",
    "washer",
]
_KINDS = [
    "angled",
    "brass",
    "compact",
    "digital",
    "epoxy",
    "flexible",
    "galvanised",
    "heavy",
    "industrial",
    "jointed",
    "knurled",
    "laminated",
    "magnetic",
    "narrow",
    "offset",
    "padded",
    "quick",
    "rigid",
    "stainless",
    "threaded",
    "universal",
    "vented",
    "wide",
    "zinc",
    "adjustable",
    "braided",
    "coated",
    "double",
    "extra",
    "foam",
    "insulated",
    "nylon",
]
_BRANDS = ["Altor", "Brenfield", "Corvane", "Dunmark", "Elstow", "Farrow", "Gantley", "Hexwell"]
_SYLLABLES = [
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ha",
    "ki",
    "lo",
    "mu",
    "na",
    "pe",
    "ri",
    "so",
    "tu",
    "va",
    "we",
    "xi",
    "zo",
]


@dataclass(frozen=True)
class SyntheticSettings:
    """Sizes and shares of the generator."""

    items: Annotated[int, Le(10_000_000)] = setting(1200, "catalogue size")
    users: Annotated[int, Le(10_000_000)] = setting(4000, "number of users")
    mean_length: float = setting(7.0, "mean purchases a user (at least 2 each)")
    max_history: Annotated[int, Le(10_000)] = setting(10, "the next purchase depends on at most this many before it")
    repeat: float = setting(0.08, "share of purchases that repeat an item of the history")
    first_order: float = setting(0.40, "share of the others that follow from the last item's cluster")
    second_order: float = setting(0.40, "share of the others that follow from the last two clusters")
    successors: int = setting(4, "clusters that follow a cluster (or a pair of clusters)")
    skew: float = setting(0.9, "Zipf exponent of popularity, of clusters and within a cluster")
    collisions: float = setting(0.01, "share of items that share the SID of another")
    seed: Annotated[int, Ge(0)] = setting(0, "seed of the generator (not of the run)")


class SyntheticReader:
    """Generates the category from its settings."""

    Settings = SyntheticSettings

    def __init__(self, settings: SyntheticSettings):
        shares = settings.first_order + settings.second_order
        if settings.items < 2 or settings.users < 30 or settings.mean_length < 3 or settings.max_history < 1:
            raise BenchError("dataset: Synthetic needs items ≥ 2, users ≥ 30, mean_length ≥ 3, max_history ≥ 1")
        if not 0 <= settings.repeat < 1 or shares > 1 or min(settings.first_order, settings.second_order) < 0:
            raise BenchError("dataset: shares must lie in 0–1, and first_order + second_order be at most 1")
        if not 0 <= settings.collisions <= 0.5 or settings.successors < 1:
            raise BenchError("dataset: collisions must lie in 0–0.5 and successors be at least 1")
        self.settings = settings

    @staticmethod
    def categories(root: Path | None) -> list[str]:
        """The one category; it needs no files."""
        return [CATEGORY] if root is None else []

    def read(self, root: Path | None, category: str, problems: Any) -> Dataset:
        """Generate the dataset; the same settings give the same content."""
        process = Process(self.settings)
        users, positions, sequences, times = process.purchases()
        # every purchase after a user's first is a sample; all samples by time, 80 / 10 / 10
        history = Histories(*_windows(sequences, positions, self.settings.max_history))
        rows = np.flatnonzero(positions > 0)
        rows = rows[np.argsort(times[rows], kind="stable")]
        names = np.char.add("U", users.astype(np.str_))
        samples = Samples(names, history, sequences.astype(np.int32))
        cuts = [int(len(rows) * 0.8), int(len(rows) * 0.9)]
        train, valid, test = (samples.take(part) for part in np.split(rows, cuts))
        caption = f"generated (seed {self.settings.seed})"
        return Dataset(
            category, process.items(), train, valid, test, "synthetic", process.semantic_ids, caption, process
        )


class Process:
    """The generating distribution: it samples purchases and knows the Bayes-optimal ranking."""

    def __init__(self, settings: SyntheticSettings):
        self.settings = settings
        rng = np.random.default_rng(settings.seed)
        n = settings.items
        wide = int(np.clip(np.ceil(np.sqrt(n / 10)), 1, 256))
        self.wide, self.n_clusters = wide, wide * wide
        # item → cluster in turn, numbered at random so that an item's id says nothing
        self.cluster = (rng.permutation(n) % self.n_clusters).astype(np.int64)
        base = _zipf(self.n_clusters, settings.skew, rng)
        within = _within(self.cluster, settings.skew, rng)
        occupied = np.bincount(self.cluster, minlength=self.n_clusters) > 0
        self.base = base * occupied / (base * occupied).sum()
        self.popularity = within  # of an item within its cluster
        weights = 0.6 ** np.arange(settings.successors)
        self.successor_weights = weights / weights.sum()
        recency = 0.7 ** np.arange(settings.max_history)
        self.recency = recency
        self._seed = int(rng.integers(1, 2**31))
        self._occupied = np.flatnonzero(occupied)

    @cached_property
    def semantic_ids(self) -> SemanticIds:
        """Level 1 and 2 name the cluster, level 3 the item in it; a share of items are twins of another."""
        order = np.lexsort((np.arange(len(self.cluster)), self.cluster))
        first = np.r_[True, np.diff(self.cluster[order]) != 0]
        starts = np.flatnonzero(first)
        place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = place
        rng = np.random.default_rng(self._seed)
        twins = (rng.random(len(rank)) < self.settings.collisions) & (rank > 0)
        rank[twins] -= 1
        codes = np.column_stack([self.cluster // self.wide, self.cluster % self.wide, rank])
        return SemanticIds(codes.astype(np.int32), "generated with the catalogue")

    def items(self) -> Items:
        """Titles carry the hierarchy: level 1 is the noun, level 2 the kind, the rest sets items apart."""
        nouns, kinds = _words(_NOUNS, self.wide), _words(_KINDS, self.wide)
        ranks = self.semantic_ids.codes[:, 2]
        titles, descriptions, brands = [], [], []
        for item, (cluster, rank) in enumerate(zip(self.cluster.tolist(), ranks.tolist(), strict=True)):
            noun, kind = nouns[cluster // self.wide], kinds[cluster % self.wide]
            brand = _BRANDS[(item * 7 + rank) % len(_BRANDS)]
            titles.append(f"{brand} {kind.capitalize()} {noun.capitalize()} {5 * (rank + 1)} mm")
            descriptions.append(f"A {kind} {noun} of {5 * (rank + 1)} mm by {brand}.")
            brands.append(brand)
        return Items(
            titles, descriptions, brands, [noun.capitalize() for noun in np.array(nouns)[self.cluster // self.wide]],
            [f"S{item:05}" for item in range(len(titles))],
        )  # fmt: skip

    def followers(self, previous: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Clusters that follow ``[n, successors]``; `previous` is -1 for first order. Half stay in the level-1 code."""
        slots = np.arange(self.settings.successors)
        mixed = _mix(previous[:, None] + 1, last[:, None] + 1, slots[None, :] + self._seed)
        same = (last // self.wide * self.wide)[:, None] + mixed % self.wide
        anywhere = self._occupied[mixed // 7 % len(self._occupied)]
        near = np.where(np.isin(same, self._occupied), same, anywhere)
        return np.where(slots % 2 == 0, near, anywhere)

    def purchases(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """``(user, position, item, time)`` of every purchase, users in turn, positions ascending."""
        s = self.settings
        rng = np.random.default_rng([s.seed, 1])
        lengths = 2 + rng.poisson(rng.gamma(1.5, (s.mean_length - 2) / 1.5, s.users))
        sequences = np.full((s.users, int(lengths.max())), -1, dtype=np.int64)
        by_cluster = np.lexsort((np.arange(s.items), self.cluster))
        cumulative = np.cumsum(self.popularity[by_cluster])  # rises by 1 over each occupied cluster
        offsets = np.r_[0, np.cumsum(np.bincount(self.cluster, minlength=self.n_clusters) > 0)]
        base = np.cumsum(self.base)
        for step in range(sequences.shape[1]):
            active = np.flatnonzero(lengths > step)
            draws = rng.random((len(active), 5))
            last = sequences[active, step - 1] if step > 0 else np.full(len(active), -1)
            previous = sequences[active, step - 2] if step > 1 else np.full(len(active), -1)
            cluster = np.searchsorted(base, draws[:, 0] * base[-1])
            if step > 0:
                follow = np.searchsorted(np.cumsum(self.successor_weights), draws[:, 1]).clip(max=s.successors - 1)
                rows = np.arange(len(active))
                first = self.followers(np.full(len(active), -1), self.cluster[last])[rows, follow]
                second = first
                if step > 1 and s.max_history > 1:  # what is not in a history has no say
                    second = self.followers(self.cluster[previous], self.cluster[last])[rows, follow]
                chosen = draws[:, 2]
                cluster = np.where(chosen < s.first_order, first, cluster)
                cluster = np.where(
                    (chosen >= s.first_order) & (chosen < s.first_order + s.second_order), second, cluster
                )
            place = np.searchsorted(cumulative, offsets[cluster] + draws[:, 3] * (1 - 1e-9))
            item = by_cluster[place.clip(max=s.items - 1)]
            if step > 0:
                span = min(step, s.max_history)
                weights = np.cumsum(self.recency[:span] / self.recency[:span].sum())
                back = np.searchsorted(weights, draws[:, 3]).clip(max=span - 1)
                item = np.where(draws[:, 4] < s.repeat, sequences[active, step - 1 - back], item)
            sequences[active, step] = item
        users = np.repeat(np.arange(s.users), lengths)
        positions = np.concatenate([np.arange(n) for n in lengths])
        gaps = rng.exponential(0.04, len(users))
        gaps[positions == 0] = rng.random(s.users)
        times = np.cumsum(gaps)
        starts = np.r_[0, np.cumsum(lengths)[:-1]]
        times -= np.repeat(times[starts] - gaps[starts], lengths)
        seen = (times <= 1) | (positions < 2)  # the observation ends at time 1, as a crawl of reviews does
        users, positions, times = users[seen], positions[seen], times[seen]
        return users, positions, sequences[users, positions], times

    def rankings(self, histories: Histories, kind: str, k: int) -> Rankings:
        """The Bayes-optimal top k: units (items or SIDs) by their true probability.

        Exact: a unit of the top k is in the history, in a successor cluster's top k, or in the
        top k of overall popularity, and only those are scored.
        """
        unit_of = self.semantic_ids.of_item.astype(np.int64) if kind == "sid" else np.arange(self.settings.items)
        n_units = int(unit_of.max()) + 1
        popularity = np.bincount(unit_of, self.popularity, n_units)
        cluster = np.zeros(n_units, dtype=np.int64)
        cluster[unit_of] = self.cluster
        k = min(k, n_units)
        best = np.argsort(-(self.base[cluster] * popularity), kind="stable")[:k]
        order = np.lexsort((np.arange(n_units), -popularity, cluster))
        starts = np.searchsorted(cluster[order], np.arange(self.n_clusters + 1))
        depth = int(min(k, np.diff(starts).max()))
        slots = starts[:-1, None] + np.arange(depth)
        top_of = np.where(slots < starts[1:, None], order[slots.clip(max=n_units - 1)], -1)
        ids = np.empty((len(histories), k), dtype=np.int32)
        scores = np.empty((len(histories), k), dtype=np.float32)
        for start in range(0, len(histories), 256):
            rows = slice(start, start + 256)
            part = histories.take(rows)
            ids[rows], scores[rows] = self._best(part, unit_of, popularity, cluster, best, top_of, k)
        return Rankings("sid" if kind == "sid" else "item", ids, scores)

    def _best(
        self, histories: Histories, unit_of: np.ndarray, popularity: np.ndarray, cluster: np.ndarray,
        best: np.ndarray, top_of: np.ndarray, k: int,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        s = self.settings
        n = len(histories)
        last, previous = self.cluster[histories.last(1)], histories.last(2)
        first = self.followers(np.full(n, -1), last)
        second = np.where((previous >= 0)[:, None], self.followers(self.cluster[previous], last), first)
        past = np.where(histories.items >= 0, unit_of[histories.items], -1)
        back = histories.lengths[:, None] - 1 - np.arange(histories.items.shape[1])
        recency = np.where(back >= 0, self.recency[back.clip(0)], 0.0)
        recency /= recency.sum(axis=1, keepdims=True)
        follow = np.concatenate([first, second], axis=1)
        candidates = np.concatenate(
            [np.broadcast_to(best, (n, len(best))), top_of[follow].reshape(n, -1), past], axis=1
        )
        candidates = np.sort(candidates, axis=1)
        valid = candidates >= 0
        valid[:, 1:] &= candidates[:, 1:] != candidates[:, :-1]
        of = cluster[candidates]
        jump = s.first_order * _weight(of, first, self.successor_weights)
        jump += s.second_order * _weight(of, second, self.successor_weights)
        jump += (1 - s.first_order - s.second_order) * self.base[of]
        probability = (1 - s.repeat) * jump * popularity[candidates]
        probability += s.repeat * _weight(candidates, past, recency)
        probability = np.where(valid, probability, -1.0)
        top = np.argsort(-probability, axis=1, kind="stable")[:, :k]
        ids = np.take_along_axis(candidates, top, axis=1)
        scores = np.take_along_axis(probability, top, axis=1)
        return np.where(scores < 0, -1, ids).astype(np.int32), scores.astype(np.float32)


def _weight(values: np.ndarray, keys: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Summed weight of the keys equal to each value: ``[n, m]`` from values ``[n, m]``, keys ``[n, j]``."""
    total = np.zeros(values.shape)
    for j in range(keys.shape[1]):
        weight = weights[:, j : j + 1] if weights.ndim == 2 else weights[j]
        total += np.where(values == keys[:, j : j + 1], weight, 0.0)
    return total


def _windows(sequence: np.ndarray, positions: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The last `size` purchases before each purchase ``[n, size]``, padded right with -1, and their number."""
    lengths = np.minimum(positions, size).astype(np.int32)
    source = np.arange(len(sequence))[:, None] - lengths[:, None] + np.arange(size)
    inside = np.arange(size) < lengths[:, None]
    return np.where(inside, sequence[np.where(inside, source, 0)], -1).astype(np.int32), lengths


def _zipf(n: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    weights = 1.0 / np.arange(1, n + 1) ** exponent
    return rng.permutation(weights / weights.sum())


def _within(cluster: np.ndarray, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Zipf shares within each cluster, in a random order; they sum to 1 over a cluster."""
    order = np.lexsort((rng.random(len(cluster)), cluster))
    starts = np.flatnonzero(np.r_[True, np.diff(cluster[order]) != 0])
    sizes = np.diff(np.r_[starts, len(order)])
    rank = np.arange(len(order)) - np.repeat(starts, sizes) + 1
    weights = 1.0 / rank**exponent
    shares = weights / np.repeat(np.add.reduceat(weights, starts), sizes)
    within = np.empty(len(cluster))
    within[order] = shares
    return within


def _mix(*keys: np.ndarray) -> np.ndarray:
    """A fixed pseudo-random non-negative int64 of integer keys (splitmix64's finaliser)."""
    state: Any = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        for key in keys:
            state = (state ^ key.astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    mixed: np.ndarray = (state >> np.uint64(2)).astype(np.int64)
    return mixed


def _words(known: list[str], n: int) -> list[str]:
    """N distinct words: the known ones, then made-up ones."""
    made = (a + b + c for a in _SYLLABLES for b in _SYLLABLES for c in _SYLLABLES)
    return [*known[:n], *(next(made) for _ in range(max(0, n - len(known))))]
