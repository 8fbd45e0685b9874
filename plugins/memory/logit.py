"""The conditional logit: weights of features under which what was chosen is the likeliest of its row."""

from __future__ import annotations

import numpy as np
import torch


def conditional_logit(
    features: np.ndarray, wanted: np.ndarray, alive: np.ndarray, ridge: float, given: np.ndarray | None = None
) -> np.ndarray:
    """Weights that make the wanted candidate of each row the likeliest (McFadden 1974), by L-BFGS.

    Args:
        features: ``[rows, candidates, features]``.
        wanted: ``[rows, candidates]`` booleans; rows without a wanted candidate say nothing.
        alive: which candidates there are.
        ridge: penalty of the squared weights of standardised features.
        given: ``[rows, candidates]`` what is added to each utility as it is; None: nothing.
    """
    scale = features[alive].std(axis=0)
    scale[scale < 1e-9] = np.inf  # a feature that never differs has no weight
    rows = (wanted & alive).any(axis=1)
    x = torch.from_numpy(features[rows] / scale).double()
    fixed = torch.zeros((), dtype=torch.float64) if given is None else torch.from_numpy(given[rows]).double()
    dead, target = torch.from_numpy(~alive[rows]), torch.from_numpy(wanted[rows] & alive[rows])
    weights = torch.zeros(x.shape[2], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = (x @ weights + fixed).masked_fill(dead, float("-inf"))
        likelihood = logits.masked_fill(~target, float("-inf")).logsumexp(1) - logits.logsumexp(1)
        value = ridge * (weights**2).sum() - likelihood.mean()
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach().numpy() / scale
