"""Models that turn a history into one state and score items by their embeddings, and the stage that trains one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Lt

from harness.components import Context
from harness.data.dataset import Histories
from harness.errors import BenchError
from harness.item_models import losses
from harness.item_models.checkpoint import load_weights
from harness.item_models.loop import LoopSettings, left_padded, seeded, train, user_numbers
from harness.networks.start import StartSettings, check_start, fitted_to, start_facts, start_vectors
from harness.settings import is_default, setting


@dataclass(frozen=True)
class ItemLossSettings(StartSettings, LoopSettings):
    """Settings of a loss over items."""

    loss: losses.LossName = setting("full", "full (softmax over the catalogue), sampled, bce, gbce, bpr-max, top1-max")
    negatives: Annotated[int, Ge(1)] = setting(
        256, "uniform negatives a target, for every loss but full", ("loss is not full", lambda s: s.loss != "full")
    )
    calibration: Annotated[float, Ge(0), Lt(1.0001)] = setting(
        0.75, "t of gbce, 0 (plain BCE) to 1 (unbiased)", ("loss is gbce", lambda s: s.loss == "gbce")
    )
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = setting(
        0.0, "label smoothing of the full softmax", ("loss is full", lambda s: s.loss == "full")
    )
    temperature: Annotated[float, Ge(0)] = setting(
        0.0, "0: scores are dot products with item embeddings; else cosines over this temperature"
    )


class ItemModel(torch.nn.Module):
    """Base of models that turn a history into one state and score items by their embeddings.

    A subclass sets ``self.output`` (:class:`harness.item_models.Output`) and defines ``states``. With ``sees_users``
    its ``states`` get users ``[batch]`` too: numbers among the ``context.dataset.n_users`` train users, -1 for one whom
    train does not know. A loss of its own overrides ``loss``; its settings then extend
    :class:`~harness.item_models.LoopSettings`, not :class:`~harness.item_models.ItemLossSettings`.
    """

    output: losses.Output
    sees_users = False

    def __init__(self, settings: Any):
        super().__init__()
        self.settings = settings

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """States ``[batch, d]`` of item ids ``[batch, length]``, left-padded with `n_items`."""
        raise NotImplementedError

    def start_from(self, vectors: np.ndarray) -> None:
        """Let the item embeddings start from vectors ``[n_items, d]`` of any width."""
        weight = self.output.embedding.weight
        with torch.no_grad():
            weight[: len(vectors)] = fitted_to(vectors, weight[: len(vectors)])

    def loss(self, items: torch.Tensor, targets: torch.Tensor, *users: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, as the settings have it."""
        s = self.settings
        return losses.loss(
            s.loss, self.output, self.states(items, *users), targets, s.negatives, s.calibration, s.label_smoothing
        )


class Scorer:
    """An :class:`harness.components.ItemScorer` of a trained :class:`ItemModel`."""

    def __init__(self, model: ItemModel, n_items: int, device: str):
        self.model, self.n_items, self.device = model, n_items, device

    @torch.inference_mode()
    def score(self, histories: Histories) -> np.ndarray:
        """``[batch, n_items]`` float32."""
        was_training = self.model.training
        self.model.eval()
        items = torch.from_numpy(left_padded(histories, self.n_items)).to(self.device)
        users = [torch.from_numpy(user_numbers(histories)).to(self.device)] if self.model.sees_users else []
        scores = self.model.output(self.model.states(items, *users))
        self.model.train(was_training)
        return scores.float().cpu().numpy()


class SequentialTrainer:
    """Base of stage trainers whose model is an :class:`ItemModel`: a subclass gives ``Settings`` and ``build``."""

    Settings: type = ItemLossSettings
    distributed = False
    small = {"epochs": 1, "batch": 64, "hidden": 16}

    def __init__(self, settings: Any):
        self.settings = settings

    def build(self, n_items: int, max_history: int) -> ItemModel:
        """A fresh model; the random state is seeded before the call."""
        raise NotImplementedError

    def build_for(self, context: Context) -> ItemModel:
        """A fresh model for a stage: by :meth:`build`, or from whatever a subclass needs of the train data."""
        return self.build(len(context.items), context.train.histories.items.shape[1])

    def check(self, context: Context) -> None:
        """There must be something to rank."""
        if len(context.items) < 2:
            raise BenchError("a model of item ids needs at least two items")
        check_start(context, self.settings)

    def fit(self, context: Context) -> dict[str, Any]:
        """Train; leave the best weights by valid in the stage directory."""
        model, told = self._fresh(context), {}
        if isinstance(self.settings, StartSettings):
            vectors = start_vectors(context, self.settings)
            told = start_facts(context, self.settings, vectors)
            if vectors is not None:
                model.start_from(vectors)
        return train(context, model, self.settings, lambda m: Scorer(m, len(context.items), context.device)) | told

    def load(self, context: Context) -> Scorer:
        """The trained model."""
        model = self._fresh(context)
        load_weights(model, context.directory)
        return Scorer(model.eval(), len(context.items), context.device)

    def _fresh(self, context: Context) -> ItemModel:
        model: ItemModel = seeded(lambda: self.build_for(context), context.seed).to(context.device)
        if type(model).loss is not ItemModel.loss:
            _check_own_loss(model, self.settings)
        return model


def _check_own_loss(model: ItemModel, settings: Any) -> None:
    """Refuse settings of the shared losses where the model has a loss of its own, which reads none of them."""
    read = {f.name for own in (LoopSettings, StartSettings) for f in dataclasses.fields(own)}
    shared = {f.name for f in dataclasses.fields(ItemLossSettings)} - read
    unread = [f.name for f in dataclasses.fields(settings) if f.name in shared and not is_default(f, settings)]
    if isinstance(settings, ItemLossSettings) and unread:
        raise BenchError(
            f"{type(model).__name__} has a loss of its own, which reads no {', '.join(unread)}; leave it out, and let "
            "its Settings extend LoopSettings"
        )
