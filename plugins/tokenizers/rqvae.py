"""``rqvae``: an autoencoder whose latent vector is quantised level by level (TIGER, arXiv 2305.05065).

The defaults are a network that a CPU trains in minutes. MiniOneRec's own is ``tokenizer.hidden=[2048, 1024, 512, 256,
128, 64]`` with ``tokenizer.epochs=10000`` and ``tokenizer.batch=20480``; TIGER's is ``[512, 256, 128]`` with batches of
1,024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt

from harness.components import ItemContext
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.item_models import checkpoint
from harness.quantising.balanced import balanced_k_means
from harness.quantising.quantisers import residual
from harness.quantising.vae import Shape
from harness.quantising.vae_training import Extra, Plan, train
from harness.settings import setting

from .of_vectors import VectorSettings, semantic_ids, vectors_of

Wide = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class NetworkSettings(VectorSettings):
    """What every quantiser with a network has."""

    hidden: list[Wide] = setting([256, 128], "widths of the encoder's hidden layers; the decoder's are mirrored")
    epochs: Annotated[int, Ge(1)] = setting(300, "passes over the catalogue")
    batch: Annotated[int, Ge(1)] = setting(1024, "items a step")
    learning_rate: Annotated[float, Gt(0)] = setting(1e-3, "of AdamW, without decay")
    commitment: Annotated[float, Ge(0)] = setting(0.25, "weight of the commitment loss")
    ema: Annotated[float, Ge(0), Lt(1)] = setting(
        0.0,
        "codebooks follow their members' moving average with this decay, in place of the codebook loss; 0: the loss",
    )
    revive_every: Annotated[int, Ge(0)] = setting(
        10, "epochs after which codes that nothing used are put on vectors of a batch; 0: never"
    )
    sinkhorn: Annotated[float, Ge(0)] = setting(
        0.003,
        "epsilon of optimal transport on the last level, in training and for items that collide; 0: nearest codes",
    )
    look_every: Annotated[int, Ge(1)] = setting(10, "epochs between two counts of collisions; the best epoch is kept")


@dataclass(frozen=True)
class Settings(NetworkSettings):
    """Settings of ``rqvae``."""

    latent: Wide = setting(32, "width of what is quantised")


class RqVaeTokenizer:
    """RQ-VAE; codebooks start from k-means, and the epoch with the fewest collisions is kept."""

    Settings: type = Settings
    small = {"codes": 16, "dimensions": 16, "hidden": [16], "latent": 8, "epochs": 4, "look_every": 2}
    name = "rqvae"

    def __init__(self, settings: Settings):
        if 0 < settings.sinkhorn < 0.003:
            raise BenchError(
                f"tokenizer.sinkhorn = {settings.sinkhorn}: below 0.003 it does not converge; 0 is without"
            )
        self.settings = settings

    def tokenize(self, context: ItemContext) -> SemanticIds:
        """Codes of every item."""
        vectors = vectors_of(context, self.settings)
        vectors = vectors / max(float(vectors.std()), 1e-12)  # losses and codebooks of about unit size
        codes, facts = self.trained(context, vectors)
        context.progress.say(
            f"{self.name}: epoch {facts['best epoch']} of {facts['epochs']} is kept, with "
            f"{facts['items on a shared SID']:,} items on a shared SID"
        )
        return semantic_ids(codes, self.name, self.settings)

    def trained(
        self, context: ItemContext, vectors: np.ndarray, shape: Shape | None = None,
        books: list[np.ndarray] | None = None, extra: Extra | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
        """Codes of vectors ``[n_items, levels]``, and facts of the training."""
        s = self.settings
        shape = shape or Shape(vectors.shape[1], tuple(s.hidden), s.latent, s.levels, min(s.codes, len(vectors)))
        plan = Plan(s.epochs, s.batch, s.learning_rate, s.commitment, s.ema, s.revive_every, s.sinkhorn, s.look_every)
        context.directory.mkdir(parents=True, exist_ok=True)
        model, facts = train(
            vectors, shape, plan, context.seed, context.device, context.directory, context.progress, context.log, books,
            extra,
        )  # fmt: skip
        codes = model.codes_of(torch.from_numpy(vectors).to(context.device), s.sinkhorn)
        checkpoint.remove(context.directory)
        return codes, facts


@dataclass(frozen=True)
class PlusSettings(NetworkSettings):
    """Settings of ``rqkmeans-plus``."""

    epochs: Annotated[int, Ge(1)] = setting(100, "passes over the catalogue")
    learning_rate: Annotated[float, Gt(0)] = setting(1e-4, "of AdamW, without decay")


class RqKmeansPlusTokenizer(RqVaeTokenizer):
    """Residual encoder z = x + MLP(x) that starts as the identity, codebooks from balanced residual k-means (GPR)."""

    Settings = PlusSettings
    small = {"codes": 16, "dimensions": 16, "hidden": [16], "epochs": 4, "look_every": 2}
    name = "rqkmeans-plus"

    def trained(
        self, context: ItemContext, vectors: np.ndarray, *_: Any, **__: Any
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Codes of vectors ``[n_items, levels]``, and facts of the training."""
        s = self.settings
        codes = min(s.codes, len(vectors))
        levels = context.progress.over(range(s.levels), s.levels, self.name, "level")
        start = residual(vectors, levels, lambda left, level: balanced_k_means(left, codes, context.seed + level))
        shape = Shape(vectors.shape[1], tuple(s.hidden), 0, s.levels, codes, residual=True)
        return super().trained(context, vectors, shape, start.books)
