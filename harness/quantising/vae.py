"""RQ-VAE: an autoencoder whose latent vector is quantised level by level (Lee et al., CVPR 2022; TIGER, 2305.05065)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from harness.quantising.clusters import k_means
from harness.quantising.quantisers import TURNS, coded_again, sinkhorn


@dataclass(frozen=True)
class Shape:
    """The shape of the network.

    Attributes:
        hidden: widths of the encoder's hidden layers; the decoder's are mirrored.
        latent: width of what is quantised; 0: the vectors themselves, and no layers (`residual` only).
        residual: z = x + MLP(x), whose last layer starts at zero, in the width of the vectors (GPR's RQ-KMeans-plus).
    """

    width: int
    hidden: tuple[int, ...]
    latent: int
    levels: int
    codes: int
    residual: bool = False


class Found(NamedTuple):
    """What the quantiser gives for latent vectors ``[n, latent]``.

    Attributes:
        codes: ``[n, levels]`` int64.
        quantised: ``[n, latent]`` the sum of the levels' codebook vectors, gradients passing straight through.
        codebook: the mean squared distance of codebook vectors to what they stand for, gradients to the codebooks.
        commitment: the same, gradients to the encoder.
        left: what each level was given ``[levels][n, latent]``.
    """

    codes: torch.Tensor
    quantised: torch.Tensor
    codebook: torch.Tensor
    commitment: torch.Tensor
    left: list[torch.Tensor]


class RqVae(nn.Module):
    """Encoder, codebooks and decoder."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        latent = shape.width if shape.residual else shape.latent
        widths = [shape.width, *shape.hidden, latent]
        self.encoder = _layers(widths)
        self.decoder = _layers(widths[::-1])
        if shape.residual:
            for part in (self.encoder, self.decoder):
                last = part[-1]
                assert isinstance(last, nn.Linear)
                nn.init.zeros_(last.weight)
        self.books = nn.Parameter(torch.zeros(shape.levels, shape.codes, latent))
        self.register_buffer("used", torch.zeros(shape.levels, shape.codes))
        self.register_buffer("counts", torch.zeros(shape.levels, shape.codes))  # of the moving averages
        self.register_buffer("sums", torch.zeros(shape.levels, shape.codes, latent))
        self.used: torch.Tensor
        self.counts: torch.Tensor
        self.sums: torch.Tensor

    def encode(self, vectors: torch.Tensor) -> torch.Tensor:
        """``[n, width]`` → ``[n, latent]``."""
        encoded: torch.Tensor = self.encoder(vectors)
        return vectors + encoded if self.shape.residual else encoded

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """``[n, latent]`` → ``[n, width]``."""
        decoded: torch.Tensor = self.decoder(latent)
        return latent + decoded if self.shape.residual else decoded

    def quantise(self, latent: torch.Tensor, epsilon: float = 0.0) -> Found:
        """Codes of latent vectors.

        Args:
            epsilon: over 0: the last level's codes by optimal transport over the batch, about equally often used.
        """
        left, total = latent, torch.zeros_like(latent)
        codes, lefts = [], []
        codebook, commitment = latent.new_zeros(()), latent.new_zeros(())
        for level in range(self.shape.levels):
            book = self.books[level]
            lefts.append(left)
            distances = torch.cdist(left.detach().float(), book.detach().float()) ** 2
            if epsilon and level == self.shape.levels - 1:
                dealt = sinkhorn(distances.cpu().numpy().astype(np.float64), epsilon, TURNS)
                code = torch.from_numpy(dealt.astype(np.int64)).to(left.device)
            else:
                code = distances.argmin(dim=1)
            chosen = book[code]
            codebook = codebook + functional.mse_loss(chosen, left.detach())
            commitment = commitment + functional.mse_loss(left, chosen.detach())
            total, left = total + chosen, left - chosen.detach()
            codes.append(code)
        levels = self.shape.levels
        through = latent + (total - latent).detach()
        return Found(torch.stack(codes, dim=1), through, codebook / levels, commitment / levels, lefts)

    @torch.no_grad()
    def start(self, vectors: torch.Tensor, seed: int, books: list[np.ndarray] | None = None) -> None:
        """Codebooks from residual k-means of encoded vectors, or those that are given.

        Args:
            books: ``[k, latent]`` of each level, of another quantiser.
        """
        left = self.encode(vectors).float().cpu().numpy()
        rng = np.random.default_rng(seed)
        for level in range(self.shape.levels):
            if books is not None:
                found = np.asarray(books[level], dtype=np.float32)
            else:
                made = k_means(left, self.shape.codes, seed + level, 30, "sklearn")
                found, left = made.centres, left - made.centres[made.codes]
            if len(found) < self.shape.codes:  # fewer distinct vectors than codes
                more = rng.choice(len(found), self.shape.codes - len(found))
                noise = rng.normal(size=(len(more), found.shape[1])).astype(np.float32) * 1e-3 * found.std()
                found = np.concatenate([found, found[more] + noise])
            self.books[level] = torch.from_numpy(found[: self.shape.codes]).to(self.books)
        self.counts.fill_(1.0)
        self.sums.copy_(self.books)

    @torch.no_grad()
    def note(self, found: Found, decay: float) -> None:
        """Count which codes were used, and let the codebooks follow their members' moving average (decay over 0)."""
        for level, left in enumerate(found.left):
            code = found.codes[:, level]
            counts = torch.bincount(code, minlength=self.shape.codes).to(left)
            self.used[level] += counts
            if decay:
                sums = torch.zeros_like(self.sums[level]).index_add_(0, code, left.detach().to(self.sums))
                self.counts[level].mul_(decay).add_(counts, alpha=1 - decay)
                self.sums[level].mul_(decay).add_(sums, alpha=1 - decay)
                self.books[level] = self.sums[level] / self.counts[level].clamp_min(1e-5)[:, None]

    @torch.no_grad()
    def revive(self, found: Found, generator: torch.Generator) -> int:
        """Put codes that nothing used since the last call on vectors of the batch, drawn at random; how many."""
        revived = 0
        for level, left in enumerate(found.left):
            dead = torch.nonzero(self.used[level] == 0).reshape(-1)
            if len(dead):
                rows = torch.randint(len(left), (len(dead),), generator=generator)
                self.books[level, dead] = left[rows].detach().to(self.books)
                self.sums[level, dead], self.counts[level, dead] = self.books[level, dead], 1.0
                revived += len(dead)
        self.used.zero_()
        return revived

    @torch.no_grad()
    def codes_of(self, vectors: torch.Tensor, epsilon: float = 0.0) -> np.ndarray:
        """The nearest codes of each vector ``[n, levels]`` int32.

        Args:
            epsilon: over 0: items that share all codes are coded again at the last level by optimal transport.
        """
        latent = self.encode(vectors)
        found = self.quantise(latent)
        codes = found.codes.cpu().numpy().astype(np.int32)
        if not epsilon:
            return codes
        far = (torch.cdist(found.left[-1].float(), self.books[-1].float()) ** 2).cpu().numpy().astype(np.float64)
        return coded_again(codes, far.__getitem__, epsilon)


def _layers(widths: list[int]) -> nn.Sequential:
    """Linear layers with ReLU between them, Xavier normal (MiniOneRec)."""
    parts: list[nn.Module] = []
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        layer = nn.Linear(before, after)
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        parts += [layer] if number == len(widths) - 2 else [layer, nn.ReLU()]
    return nn.Sequential(*parts)
