"""The stage ``minionerec-memory``: an item-scoring method fitted on train, and its weight beside the model on valid.

The decoder ``mixture`` ranks by both. The language model is the stage before's, unchanged.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness import store, training
from harness.components import Context, setting
from harness.errors import BenchError
from harness.generative import GenerativeModel
from plugins.decoders.mixture import Mixture, proposals, sid_log_probs
from plugins.decoders.mixture import Settings as DecoderSettings
from plugins.minionerec.prompts import Prompts

FOUND = "memory.json"


@dataclass(frozen=True)
class Settings:
    """What is remembered, and the grid that is searched on valid."""

    memory: str = setting("hybrid", "trainer of an item-scoring method, fitted on train: hybrid, skip-markov, tfidf, …")
    settings: dict[str, Any] = setting({}, "settings of that trainer; empty: its defaults")
    weights: list[float] = setting(
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], "weights of the memory to try, 0 to 1"
    )
    temperatures: list[float] = setting(
        [0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5], "temperatures of the memory's softmax to try"
    )
    candidates: int = setting(100, "SIDs that model and memory propose each while searching")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept")
    select: Literal["NDCG@10", "HR@10"] = setting("NDCG@10", "valid metric that picks weight and temperature")


class MemoryTrainer:
    """Stage trainer ``memory``; the language model is the stage before's."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings
        if not settings.weights or any(not 0 <= weight <= 1 for weight in settings.weights):
            raise BenchError(f"memory.weights = {settings.weights}: give weights from 0 to 1")
        if not settings.temperatures or any(temperature <= 0 for temperature in settings.temperatures):
            raise BenchError(f"memory.temperatures = {settings.temperatures}: give temperatures above 0")

    def check(self, context: Context) -> None:
        """There must be a model before, and the memory must fit the data."""
        if context.previous is None:
            raise BenchError("stage memory needs a stage before it that trains a language model")
        remembered = self._remembered(context)
        if hasattr(remembered, "check"):
            remembered.check(context)

    def fit(self, context: Context) -> dict[str, Any]:
        """Fit the memory on train, then weigh it on valid."""
        import torch

        from harness.decoding.mixture import mixed
        from harness.decoding.trie import Trie

        settings, semantic_ids = self.settings, context.needs_semantic_ids("memory")
        facts = self._remembered(context).fit(self._within(context))
        targets = semantic_ids.of_item[context.valid.targets]
        model = self._mixture(context, 0.5, settings.temperatures[0])
        trie = Trie(model.generator.sid_tokens, context.device)
        ranks = np.full((len(settings.temperatures), len(settings.weights), len(targets)), np.inf)
        decoder = DecoderSettings(candidates=settings.candidates)
        for rows, found in proposals(model, context.valid.histories, trie, decoder, context.device):
            leaves = trie.leaves[found.leaves]
            alive = ~torch.isneginf(found.memory)
            wanted = (leaves.cpu() == torch.from_numpy(targets[rows, None])) & alive.cpu()
            scores = model.memory.score(context.valid.take(rows).histories)
            for i, temperature in enumerate(settings.temperatures):
                recalled = torch.from_numpy(sid_log_probs(scores, semantic_ids, temperature)).to(context.device)
                weighed = found._replace(memory=recalled.gather(1, leaves).masked_fill(~alive, float("-inf")))
                for j, weight in enumerate(settings.weights):
                    ranks[i, j, rows] = _rank(mixed(weighed, weight).cpu().numpy(), wanted.numpy())
        values = _metric(ranks, settings.select).mean(axis=2)  # [temperatures, weights]
        i, j = np.unravel_index(int(values.argmax()), values.shape)
        best = {
            "weight": settings.weights[j], "temperature": settings.temperatures[i], "value": float(values[i, j]),
            "grid": {"temperatures": settings.temperatures, "weights": settings.weights, "values": values.tolist()},
        }  # fmt: skip
        store.write_json(context.directory / FOUND, best)
        return {
            "memory": settings.memory,
            "weight": best["weight"],
            "temperature": best["temperature"],
            f"best valid {settings.select}": best["value"],
            **{f"memory {name}": value for name, value in facts.items()},
        }

    def load(self, context: Context) -> Mixture:
        """The model before, with its memory."""
        found = store.read_json(context.directory / FOUND)
        return self._mixture(context, found["weight"], found["temperature"])

    def _mixture(self, context: Context, weight: float, temperature: float) -> Mixture:
        assert context.previous is not None  # as check has made sure
        model, text_tokenizer = training.load_model(context.previous, context.device)
        generator: GenerativeModel = Prompts.of(context).generative(model.eval(), text_tokenizer, self.settings.cutoff)
        return Mixture(generator, self._remembered(context).load(self._within(context)), weight, temperature)

    def _remembered(self, context: Context) -> Any:
        from harness.config import settings

        factory = context.plugins.get("trainer", self.settings.memory)
        return factory(settings(factory, self.settings.settings, f"memory.settings of {self.settings.memory}"))

    @staticmethod
    def _within(context: Context) -> Context:
        folder = context.directory / "memory"
        folder.mkdir(parents=True, exist_ok=True)
        return dataclasses.replace(context, directory=folder, previous=None)


def _rank(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The rank of the wanted candidate of each row, from 0; inf where it is not among them."""
    target = np.where(wanted, scores, -np.inf).max(axis=1)
    better = (scores > target[:, None]).sum(axis=1)
    return np.where(wanted.any(axis=1), better, np.inf)


def _metric(ranks: np.ndarray, name: str) -> np.ndarray:
    inside = ranks < 10
    return inside.astype(float) if name == "HR@10" else np.where(inside, 1 / np.log2(ranks + 2), 0.0)
