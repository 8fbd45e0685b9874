"""A trained model as it answers: a finished run (or what was exported of one), its catalogue, its decoder."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import Bought, Histories
from harness.data.rankings import Rankings
from harness.errors import BenchError, unknown
from harness.plugins import Plugins
from harness.plugins import load as load_plugins
from harness.progress import Progress
from harness.runs import finished
from harness.runs.run import Made, Prepared, Run, without_test
from harness.runs.run_directory import RunDirectory
from harness.runs.tracking import Tracker

from . import bundles
from .catalogue import Catalogue

SEEN = ("keep", "drop")
MOST_K = 1000
"""Items of one answer."""


@dataclass(frozen=True)
class Recommendation:
    """One item of an answer.

    Attributes:
        rank: from 1. Items that share a semantic ID share its score; the best-selling stands first.
        score: the model's own: a log-probability of a SID, or whatever a scorer gives.
    """

    rank: int
    item: int
    score: float


@dataclass(frozen=True)
class Beam:
    """A semantic ID that a generative model found: its log-probability, and its items, the best-selling first."""

    sid: str
    score: float
    items: list[int]


@dataclass(frozen=True)
class Answer:
    """What is recommended after one history.

    Attributes:
        items: the best first.
        beams: what a generative model found, the best first, also beyond the items asked for; else empty.
        note: said to the reader; empty where there is nothing to say.
    """

    items: list[Recommendation]
    beams: list[Beam]
    note: str = ""


@dataclass(frozen=True)
class Recommender:
    """A trained model, ready to answer.

    Attributes:
        stage: the name of the stage whose model it is.
        longest: as many items of a history as the model reads; the last ones.
        seen: whether the run recommended what a user bought before: ``keep`` or ``drop``.
    """

    catalogue: Catalogue
    prepared: Prepared
    model: Any
    stage: str
    longest: int
    seen: str

    @classmethod
    def load(
        cls, directory: str | Path, *, stage: str = "", data_dir: str | None = None, device: str = "cpu",
        plugins: Plugins | None = None, quiet: bool = True,
    ) -> Recommender:  # fmt: skip
        """The model of a finished run, or of a folder that ``bench export`` wrote.

        Args:
            stage: which stage's; the last by default.
            device: a torch device.

        Raises:
            BenchError: there is none, or its category is not here, or is another than it was trained on.
        """
        plugins = plugins if plugins is not None else load_plugins()
        bundle = bundles.inside(Path(directory))
        dataset = popularity = None
        if bundle:
            dataset, popularity = bundles.read(bundle)
        folder = RunDirectory(bundle / bundles.RUN if bundle else Path(directory))
        manifest = finished.need_finished(folder)
        config = finished.settings(folder, plugins)
        if dataset is None or popularity is None:
            dataset = finished.read_dataset(folder, plugins, data_dir)
            popularity = np.bincount(dataset.train.targets, minlength=len(dataset.items))
        sids = finished.semantic_ids(folder)
        names = [one.name for one in config.stages]
        if stage and stage not in names:
            raise unknown("stage", stage, names, f"({folder.path} has these)")
        seen = str(config.protocol["seen"])
        config = dataclasses.replace(config, protocol={**config.protocol, "seen": "keep"})  # asked of each answer
        run = Run(config, dataset, plugins, folder, Progress(quiet), device, Tracker(folder.path, enabled=False), False)
        made = Made.of(config, plugins, manifest["fingerprints"]["data"])
        prepared = Prepared(run, made, sids, without_test(dataset))
        if hasattr(made.decoder, "check"):
            made.decoder.check(dataset.items, sids)
        found = next(one for one in prepared.stages() if one.name == (stage or names[-1]))
        model = found.trainer.load(found.context)
        catalogue = Catalogue(config.category, dataset.items, popularity, sids)
        return cls(catalogue, prepared, model, found.name, dataset.train.histories.items.shape[1], seen)

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.prepared.run.config.method)

    @cached_property
    def _members(self) -> list[list[int]]:
        """The items of each semantic ID, the best-selling first."""
        sids = self.catalogue.semantic_ids
        assert sids is not None
        order = np.lexsort((-self.catalogue.popularity, sids.of_item))
        ends = np.cumsum(sids.group_sizes)[:-1]
        return [part.tolist() for part in np.split(order, ends)]

    def answer(self, history: list[int], k: int = 10, seen: str = "") -> Answer:
        """The best `k` items after one history of item numbers, oldest first."""
        return self.answers([history], k, seen)[0]

    def answers(self, histories: list[list[int]], k: int = 10, seen: str = "") -> list[Answer]:
        """The best `k` items after each history; after an empty one what was bought most.

        Args:
            histories: item numbers, oldest first; those beyond what the model reads count as bought all the same.
            seen: ``keep``: what is in the history may be recommended, ``drop``: it may not; empty: as the run did.

        Raises:
            BenchError: `k` or `seen` is out of range, or the decoder cannot leave items out.
        """
        if not 1 <= k <= MOST_K:
            raise BenchError(f"k = {k}; ask for 1 to {MOST_K} items")
        seen = seen or self.seen
        if seen not in SEEN:
            raise unknown("value of seen", seen, SEEN)
        answers = [self._most_bought(k) if not history else None for history in histories]
        rows = [row for row, history in enumerate(histories) if history]
        if rows:
            asked = [histories[row] for row in rows]
            rankings = self._ranked(asked, k, seen == "drop")
            for number, (row, history) in enumerate(zip(rows, asked, strict=True)):
                answers[row] = self._told(rankings, number, k, set(history) if seen == "drop" else set())
        return [answer for answer in answers if answer is not None]

    def _ranked(self, histories: list[list[int]], k: int, drop: bool) -> Rankings:
        run, decoder = self.prepared.run, self.prepared.run.config.decoder
        cut = Histories.of(histories, self.longest)
        users = np.full(len(histories), -1, dtype=np.int32)
        bought = None
        if drop:
            if not getattr(self.prepared.made.decoder, "leaves_out_bought", True):
                raise BenchError(f"decoder {decoder.name} cannot leave out what was bought; ask with seen=keep")
            each = [np.unique(np.array(history, dtype=np.int32)) for history in histories]
            starts = np.r_[0, np.cumsum([len(one) for one in each])].astype(np.int64)
            bought = Bought(starts, np.concatenate(each))
        settings = wide_enough(decoder.settings, k, self.prepared.catalogue)
        made = dataclasses.replace(decoder, settings=settings).make(run.plugins)
        if hasattr(made, "check"):
            made.check(run.dataset.items, self.prepared.semantic_ids)
        histories_in = dataclasses.replace(cut, users=users, bought=bought)
        return self.prepared.decode(made, self.model, histories_in, Progress(quiet=True), settings)

    def _told(self, rankings: Rankings, row: int, k: int, closed: set[int]) -> Answer:
        """One history's answer. `closed` are items that may not stand in it though their SID may."""
        sids = self.catalogue.semantic_ids
        found: list[Recommendation] = []
        beams: list[Beam] = []
        for candidate, score in zip(rankings.ids[row].tolist(), rankings.scores[row].tolist(), strict=True):
            if candidate < 0:
                continue
            items = [candidate]
            if rankings.kind == "sid" and sids is not None:
                items = self._members[candidate]
                beams.append(Beam(sids.strings[candidate], score, items))
            for item in items:
                if item not in closed and len(found) < k:
                    found.append(Recommendation(len(found) + 1, item, score))
        return Answer(found, beams, "" if len(found) == k else f"the model proposes {len(found)} items, not {k}")

    def _most_bought(self, k: int) -> Answer:
        popularity = self.catalogue.popularity
        order = np.argsort(-popularity, kind="stable")[:k]
        items = [Recommendation(n, int(i), float(popularity[i])) for n, i in enumerate(order, start=1)]
        return Answer(items, [], "the history is empty: these are what was bought most in train, and how often")

    def plain(self, answer: Answer) -> dict[str, Any]:
        """An answer as plain values, for JSON."""
        known = self.catalogue
        items = [
            {
                "rank": one.rank,
                "id": known.id(one.item),
                "number": one.item,
                "title": known.items.titles[one.item],
                "score": one.score,
                **({"sid": known.sid(one.item)} if known.semantic_ids is not None else {}),
            }
            for one in answer.items
        ]
        return {"items": items, **({"note": answer.note} if answer.note else {})}

    def told(self) -> str:
        """What answers, in a line."""
        config = self.prepared.run.config
        which = f" ({self.stage})" if len(config.stages) > 1 else ""
        return f"{config.method}{which} on {config.category}, seed {config.seed}"


def wide_enough(settings: Any, k: int, catalogue: int) -> Any:
    """A decoder's settings, with at least `k` candidates, or all of the catalogue."""
    names = [name for name in ("k", "beams", "candidates") if hasattr(settings, name)]
    wider = {name: max(getattr(settings, name), min(k, catalogue)) for name in names}
    return dataclasses.replace(settings, **wider) if wider else settings


def as_json(content: Any) -> str:
    """Plain values as one line of JSON; what is not finite is null."""
    return json.dumps(_finite(content), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value
