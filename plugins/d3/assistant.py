"""The stage ``d3-assistant``: a text-free model of purchases beside the title writer, its weight chosen on valid."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness import recorded, store
from harness.components import Context, ItemScorer, setting
from harness.config import resolve
from harness.data.dataset import Histories
from harness.errors import BenchError
from harness.folds import OUT, folds, measured, out_of_sample
from harness.language.prompts import title_model_before
from harness.language.titles import TitleModel, Titles
from harness.progress import Progress

FOUND = "assistant.json"


@dataclass(frozen=True)
class Settings:
    """Settings of the assistant (in brackets: the paper's)."""

    method: str = setting(
        "sasrec", "method whose recipe is trained here as the assistant (SASRec)", ("run is empty", lambda s: not s.run)
    )
    run: str = setting("", "a recorded run of an item-scoring method to use in its place; empty: none")
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
    """Stage trainer ``d3-assistant``."""

    Settings = Settings

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
        if self.settings.run:
            self._scorer(recorded.recorded_model(Path(self.settings.run), context))
        else:
            trainer = self._trainer(context)
            if hasattr(trainer, "check"):
                trainer.check(context.within("assistant"))

    def fit(self, context: Context) -> dict[str, Any]:
        """Train the assistant on train, then choose its weight on valid."""
        settings = self.settings
        facts: dict[str, Any] = {}
        if not settings.run:
            inner = dataclasses.replace(context.within("assistant"), probe=self._item_probe(context))
            facts = {f"assistant {k}": v for k, v in self._trainer(context).fit(inner).items()}
        valid = context.valid.drawn(settings.samples, context.seed)
        model = self._model(context, 1.0)
        decoder = context.plugins.get("decoder", "title-beam")
        titles = len(model.titles.titles.texts)
        found = []
        for alpha in settings.alphas:
            model.alpha = alpha
            options = decoder.Settings(beams=min(20, titles), k=min(20, titles), assistant=alpha < 1)
            found.append(decoder(options).decode(model, valid.histories, None, context.device, Progress(quiet=True)))
            number = context.plugins.get("metric", "item")(found[-1], valid.targets, None)[settings.select]
            context.log({f"eval_{settings.select}": number, "alpha": alpha}, len(found))
        values = measured(found, valid.targets, context.semantic_ids)
        means = values["item"][settings.select].mean(axis=1).tolist()
        best = settings.alphas[int(np.argmax(means))]
        tried = {str(alpha): mean for alpha, mean in zip(settings.alphas, means, strict=True)}
        store.write_json(context.directory / FOUND, {"alpha": best, "tried": tried})
        facts |= {"alpha": best, f"valid {settings.select} by item": tried[str(best)]}
        return facts | {OUT: out_of_sample(values, folds(valid, context.seed), settings.select, "item")}

    def load(self, context: Context) -> AssistedTitles:
        """The model before, with its assistant."""
        return self._model(context, store.read_json(context.directory / FOUND)["alpha"])

    def _model(self, context: Context, alpha: float) -> AssistedTitles:
        writer = title_model_before(context, self.settings.cutoff)
        if self.settings.run:
            assistant = recorded.recorded_model(Path(self.settings.run), context)
        else:
            assistant = self._trainer(context).load(context.within("assistant"))
        return AssistedTitles(writer, self._scorer(assistant), alpha, self.settings.temperature)

    def _trainer(self, context: Context) -> Any:
        """The last stage of the assistant's own recipe."""
        recipe = context.plugins.get("method", self.settings.method)
        stage = resolve(recipe, "-", context.seed, [], context.plugins).stages[-1]
        return stage.trainer.make(context.plugins)

    def _scorer(self, model: Any) -> ItemScorer:
        if not hasattr(model, "score"):
            name = self.settings.run or self.settings.method
            raise BenchError(f"assistant {name} makes no model that scores items; use sasrec or another item-id method")
        scorer: ItemScorer = model
        return scorer

    @staticmethod
    def _item_probe(context: Context) -> Any:
        """The assistant's own valid metric: the whole catalogue ranked."""
        decoder, metric = context.plugins.get("decoder", "rank"), context.plugins.get("metric", "item")

        def probe(model: Any) -> dict[str, float]:
            k = min(50, len(context.items))
            quiet = Progress(quiet=True)
            rankings = decoder(decoder.Settings(k=k)).decode(
                model, context.valid.histories, None, context.device, quiet
            )
            numbers = metric(rankings, context.valid.targets, None)
            return {name: numbers[name] for name in ("HR@1", "HR@10", "NDCG@10")}

        return probe
