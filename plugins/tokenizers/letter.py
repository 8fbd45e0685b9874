"""``letter``: an RQ-VAE whose codes also say who buys an item, and are spread evenly (LETTER, arXiv 2405.07314)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch.nn import functional

from harness.components import ItemContext
from harness.errors import BenchError
from harness.quantising.balanced import balanced_k_means
from harness.quantising.vae import Found, RqVae
from harness.settings import setting

from .rqvae import RqVaeTokenizer, Settings


@dataclass(frozen=True)
class LetterSettings(Settings):
    """Settings of ``letter``."""

    collaborative: str | dict[str, Any] = setting(
        "cooccurrence", "vectors of who buys what: cooccurrence, or run:DIR of a recorded sasrec (LETTER's own)",
        components="embedder",
    )  # fmt: skip
    alignment: Annotated[float, Ge(0)] = setting(0.02, "weight of the alignment with them")
    diversity: Annotated[float, Ge(0)] = setting(1e-4, "weight of the diversity of codes")
    groups: Annotated[int, Ge(2)] = setting(10, "clusters of a codebook, of which each code's members are its own kind")
    temperature: Annotated[float, Gt(0)] = setting(1.0, "of the similarities in both losses")


class LetterTokenizer(RqVaeTokenizer):
    """RQ-VAE with LETTER's two losses.

    Alignment (its equation 3): within a batch, the quantised vector of an item must be more like its own collaborative
    vector than like those of others. A fixed random map brings these to the width of the latent vector. Diversity
    (equation 4): the vector of a code that is chosen must be more like those of its own group of codes than like all
    others; groups are balanced k-means of the codebook, anew each epoch.
    """

    Settings = LetterSettings
    small = {**RqVaeTokenizer.small, "groups": 3, "collaborative": {"cooccurrence": {"factors": 8}}}
    name = "letter"

    def trained(
        self, context: ItemContext, vectors: np.ndarray, *_: Any, **__: Any
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Codes of vectors ``[n_items, levels]``, and facts of the training."""
        s = self.settings
        if s.groups > s.codes:
            raise BenchError(f"tokenizer.groups = {s.groups} are more than the {s.codes} codes; lower them")
        theirs = torch.from_numpy(context.vectors(s.collaborative)).to(context.device)
        generator = torch.Generator().manual_seed(context.seed)
        joint = torch.randn(theirs.shape[1], s.latent, generator=generator).to(context.device) / theirs.shape[1] ** 0.5
        targets = functional.normalize(theirs @ joint, dim=1)

        groups: dict[int, list[torch.Tensor]] = {}

        def extra(model: RqVae, rows: torch.Tensor, found: Found, epoch: int) -> torch.Tensor:
            if epoch not in groups:
                groups.clear()
                groups[epoch] = [self._groups(book) for book in model.books.detach()]
            own = targets[rows.to(targets.device)]
            there = (own.abs().sum(dim=1) > 0).float()  # items that train lacks have no vector
            similar = functional.normalize(found.quantised, dim=1) @ own.T / s.temperature
            wanted = torch.arange(len(rows), device=similar.device)
            aligned = (
                functional.cross_entropy(similar, wanted, reduction="none") * there
            ).sum() / there.sum().clamp_min(1)
            return s.alignment * aligned + s.diversity * self._diversity(model, found, groups[epoch])

        return super().trained(context, vectors, extra=extra)

    def _groups(self, book: torch.Tensor) -> torch.Tensor:
        """The group of each code of a codebook."""
        found = balanced_k_means(book.float().cpu().numpy(), self.settings.groups, 0, iterations=3)
        return torch.from_numpy(found.codes.astype(np.int64)).to(book.device)

    def _diversity(self, model: RqVae, found: Found, groups: list[torch.Tensor]) -> torch.Tensor:
        """The mean over levels and chosen codes of −log of what is like the code in its group, to all that is."""
        total = model.books.new_zeros(())
        for level, group in enumerate(groups):
            code, book = found.codes[:, level], model.books[level]
            similar = book[code] @ book.T / self.settings.temperature
            itself = torch.nn.functional.one_hot(code, len(book)).bool()
            same = (group[code][:, None] == group[None, :]) & ~itself
            similar = similar.masked_fill(itself, float("-inf"))
            inside = similar.masked_fill(~same, float("-inf")).logsumexp(dim=1)
            kept = torch.isfinite(inside)
            if kept.any():
                total = total + (similar.logsumexp(dim=1) - inside)[kept].mean()
        return total / len(groups)
