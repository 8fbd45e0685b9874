"""The stage ``d3-assistant``: a text-free model of purchases beside the title writer, its weight chosen on valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness import files
from harness.checks.schemas import Schema, Share
from harness.components import Context, ItemScorer
from harness.data.dataset import Histories
from harness.decoding.items import rank_items
from harness.errors import BenchError
from harness.evaluation.folds import folds, measured, out_of_sample
from harness.evaluation.target_ranks import TargetRanks
from harness.evaluation.validation import OUT, validation_score
from harness.language.prompts import title_model_before
from harness.language.titles import TitleModel, Titles
from harness.progress import Progress
from harness.settings import setting

from .decoder import Settings as BeamSettings
from .decoder import TitleBeamDecoder

FOUND = "assistant.json"


class Found(Schema):
    """``assistant.json``."""

    alpha: Share


PART = "assistant"


@dataclass(frozen=True)
class Settings:
    """Settings of the assistant (in brackets: the paper's)."""

    alphas: list[float] = setting(
        [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0],
        "weights of the language model tried on valid; 0: the assistant alone, 1: no assistant (1, as shipped)",
    )
    temperature: float = setting(1.0, "divides the assistant's scores before their softmax")
    samples: int = setting(1000, "valid samples that the weight is chosen on, drawn once; 0: all")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept")
    select: Literal["NDCG@10", "HR@10"] = setting("NDCG@10", "valid metric that picks the weight, by item")


@dataclass
class AssistedTitles:
    """A model that writes titles, and an assistant that scores items."""

    titles: TitleModel
    assistant: ItemScorer
    alpha: float
    temperature: float

    def scores(self, histories: Histories) -> np.ndarray:
        """The assistant's ``[n, n_items]``; their softmax is its distribution."""
        return self.assistant.score(histories) / self.temperature


class AssistantTrainer:
    """Stage trainer ``d3-assistant``; its part ``assistant`` is the method, or recorded run, that scores items."""

    Settings = Settings
    distributed = False
    small = {"alphas": [0.5, 1.0], "samples": 40}

    @staticmethod
    def upgrade(values: dict[str, Any]) -> dict[str, Any]:
        """Settings of older recipes and runs: ``method`` and ``run`` named what is a part now."""
        values = dict(values)
        method, run = values.pop("method", None), values.pop("run", None)
        parts = dict(values.get("parts") or {"assistant": "sasrec"})
        if run or method:
            parts["assistant"] = f"run:{run}" if run else method
        return values | {"parts": parts}

    def __init__(self, settings: Settings):
        self.settings = settings
        if not settings.alphas or not all(0 <= alpha <= 1 for alpha in settings.alphas):
            raise BenchError(f"assistant.alphas = {settings.alphas}: give weights between 0 and 1")
        if settings.temperature <= 0:
            raise BenchError(f"assistant.temperature = {settings.temperature}; it must be above 0")

    def check(self, context: Context) -> None:
        """There must be a model that writes titles, and an assistant that scores items."""
        if context.previous is None:
            raise BenchError("stage assistant needs a stage before it that trains on titles")
        if len(Titles.of(context.items).texts) < 10:
            raise BenchError("stage assistant weighs by a metric at 10, and the catalogue has fewer titles")
        context.parts[PART].check(context)
        if context.parts[PART].recorded:
            self._scorer(context)

    def fit(self, context: Context) -> dict[str, Any]:
        """Train the assistant on train, then choose its weight on valid."""
        settings = self.settings
        trained = context.parts[PART].fit(context, self._item_probe(context))
        facts: dict[str, Any] = {f"assistant {k}": v for k, v in trained.items()}
        valid = context.valid.drawn(settings.samples, context.seed)
        model = self._model(context, 1.0)
        titles = len(model.titles.titles.texts)
        rankings = []
        for alpha in settings.alphas:
            model.alpha = alpha
            decoder = TitleBeamDecoder(BeamSettings(beams=min(20, titles), k=min(20, titles), assistant=alpha < 1))
            rankings.append(decoder.decode(model, valid.histories, None, context.device, Progress(quiet=True)))
            number = TargetRanks.of(rankings[-1], valid.targets, None, "item").means()[settings.select]
            context.log({f"eval_{settings.select}": number, "alpha": alpha}, len(rankings))
        values = measured(rankings, valid, context.semantic_ids)
        means = values["item"][settings.select].mean(axis=1).tolist()
        best = settings.alphas[int(np.argmax(means))]
        tried = {str(alpha): mean for alpha, mean in zip(settings.alphas, means, strict=True)}
        files.write_json(context.directory / FOUND, {"alpha": best, "tried": tried})
        facts |= {"alpha": best, f"valid {settings.select} by item": tried[str(best)]}
        return facts | {OUT: out_of_sample(values, folds(valid, context.seed), settings.select, "item")}

    def load(self, context: Context) -> AssistedTitles:
        """The model before, with its assistant."""
        return self._model(context, files.read_json(context.directory / FOUND, schema=Found)["alpha"])

    def _model(self, context: Context, alpha: float) -> AssistedTitles:
        writer = title_model_before(context, self.settings.cutoff)
        return AssistedTitles(writer, self._scorer(context), alpha, self.settings.temperature)

    @staticmethod
    def _scorer(context: Context) -> ItemScorer:
        model = context.parts[PART].load(context)
        if not hasattr(model, "score"):
            name = context.parts[PART].name
            raise BenchError(f"assistant {name} makes no model that scores items; use sasrec or another item-id method")
        scorer: ItemScorer = model
        return scorer

    @staticmethod
    def _item_probe(context: Context) -> Any:
        """The assistant's own valid metric: the whole catalogue ranked."""

        def probe(model: Any) -> dict[str, float]:
            n, valid, quiet = len(context.items), context.valid, Progress(quiet=True)
            rankings = rank_items(model, valid.histories, n, min(50, n), None, quiet)
            return validation_score(rankings, valid.targets, None)

        return probe
