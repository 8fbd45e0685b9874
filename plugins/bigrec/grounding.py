"""The stage ``bigrec-grounding``: how much popularity counts beside nearness, one γ chosen on valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from harness import files
from harness.checks.schemas import Schema
from harness.components import Context
from harness.data.dataset import Histories
from harness.data.rankings import Rankings
from harness.errors import BenchError
from harness.evaluation.folds import folds, measured, out_of_sample
from harness.evaluation.validation import OUT
from harness.language.prompts import title_model_before
from harness.language.titles import TitleModel, grounded
from harness.settings import setting

FOUND = "grounding.json"


class Found(Schema):
    """``grounding.json``."""

    gamma: Annotated[float, Ge(0), Le(1e6)]


@dataclass(frozen=True)
class Settings:
    """Settings of grounding (in brackets: the paper's code)."""

    gammas: list[float] = setting(
        [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 50.0, 99.0],
        "weights of popularity that are tried on valid (0 to 99, another one for each metric and K)",
    )
    beams: Annotated[int, Ge(1)] = setting(4, "texts written a history; the nearest of them counts (1 of 4)")
    samples: int = setting(0, "valid samples that γ is chosen on, drawn once; 0: all")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept")
    select: Literal["NDCG@10", "HR@10"] = setting("NDCG@10", "valid metric that picks γ, under the item protocol")


@dataclass
class Grounded:
    """A model that writes titles, and γ.

    Attributes:
        popularity: ``[n_items]`` purchases in train.
    """

    titles: TitleModel
    popularity: np.ndarray
    gamma: float
    beams: int

    def score(self, histories: Histories) -> np.ndarray:
        """Scores of items ``[n, n_items]``."""
        return grounded(self.titles.distances(histories, self.beams), self.titles.titles, self.popularity, self.gamma)


class GroundingTrainer:
    """Stage trainer ``bigrec-grounding``."""

    Settings = Settings
    distributed = False
    small = {"gammas": [0.0, 1.0], "samples": 40, "beams": 2}

    def __init__(self, settings: Settings):
        self.settings = settings
        if not settings.gammas or min(settings.gammas) < 0:
            raise BenchError(f"grounding.gammas = {settings.gammas}: give weights of 0 or more")

    def check(self, context: Context) -> None:
        """There must be a model that writes titles."""
        if context.previous is None:
            raise BenchError("stage grounding needs a stage before it that trains on titles")
        if len(context.items) < 10:
            raise BenchError("stage grounding weighs by a metric at 10, and the catalogue has fewer items")

    def fit(self, context: Context) -> dict[str, Any]:
        """Choose γ on valid; the model is the stage before's."""
        settings = self.settings
        model = title_model_before(context, self.settings.cutoff)
        valid = context.valid.drawn(settings.samples, context.seed)
        distances = model.distances(valid.histories, settings.beams)
        popularity = self._popularity(context)
        tried = []
        for gamma in settings.gammas:
            scores = grounded(distances, model.titles, popularity, gamma)
            closed = valid.histories.bought
            if closed is not None:
                scores = np.where(closed.items_mask(scores.shape[1]), -np.inf, scores)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :50].astype(np.int32)
            kept = np.take_along_axis(scores, order, axis=1)
            order = order if closed is None else np.where(np.isneginf(kept), -1, order)
            tried.append(Rankings("item", order, kept))
        values = measured(tried, valid, context.semantic_ids)
        means = dict(zip(settings.gammas, values["item"][settings.select].mean(axis=1).tolist(), strict=True))
        best = max(means, key=lambda gamma: means[gamma])
        files.write_json(context.directory / FOUND, {"gamma": best, "tried": {str(g): v for g, v in means.items()}})
        facts = {"gamma": best, f"valid {settings.select} by item": means[best], "without popularity": means.get(0.0)}
        return facts | {OUT: out_of_sample(values, folds(valid, context.seed), settings.select, "item")}

    def load(self, context: Context) -> Grounded:
        """The model before, grounded with the chosen γ."""
        gamma = files.read_json(context.directory / FOUND, schema=Found)["gamma"]
        return Grounded(
            title_model_before(context, self.settings.cutoff), self._popularity(context), gamma, self.settings.beams
        )

    @staticmethod
    def _popularity(context: Context) -> np.ndarray:
        return np.bincount(context.train.targets, minlength=len(context.items)).astype(np.float64)
