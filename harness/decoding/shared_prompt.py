"""The shared-prompt layout of RL's losses: a prompt is computed once, its completions stand beside each other.

Completions are positions of one row, not rows of a batch: a 4-D mask lets each see the prompt, its own
earlier tokens and itself, and position ids repeat. It knows token ids only.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.decoding.engine import EngineModel
from harness.decoding.rowwise import plain_states
from harness.decoding.split import tree_states
from harness.decoding.trie import Trie


def completion_states(
    lm: EngineModel, ids: torch.Tensor, mask: torch.Tensor, completions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """States that predict each token of a group of completions, the prompt computed once, with gradients.

    Args:
        ids, mask: prompts ``[batch, P]``, left-padded.
        completions: token ids ``[batch, G, T]``.

    Returns:
        The states after the prompt ``[batch, d]`` (they predict every first token), and those after
        each completion's tokens but the last ``[batch, G, T - 1, d]``.
    """
    if lm.by_rows(ids.shape[1] + completions.shape[2]):
        return plain_states(lm, ids, mask, completions)
    return tree_states(lm, ids, mask, completions)


def completion_log_probs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, completions: torch.Tensor, temperature: float = 1.0,
    trie: Trie | None = None, filler: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Log-probability and entropy of each completion token, both ``[batch, G, T]``; see :func:`completion_states`.

    Without `trie` a token's probability is over the model's whole vocabulary, with it over the tokens
    that continue a SID of the catalogue: the actions that a constrained rollout chooses among.

    Args:
        filler: ``[batch, G, T]`` which tokens only fill a completion up and are certain (:meth:`Trie.filler`).
    """
    lm = model if isinstance(model, EngineModel) else EngineModel(model)
    first, rest = completion_states(lm, ids, mask, completions)
    if trie is not None:
        return _catalogue_log_probs(lm, first, rest, completions, temperature, trie)
    start = (lm.logits(first) / temperature).log_softmax(-1)
    later = (lm.logits(rest) / temperature).log_softmax(-1)
    log_probs = torch.cat(
        [start.gather(1, completions[:, :, 0])[..., None], later.gather(3, completions[:, :, 1:, None]).squeeze(3)], 2
    )
    with torch.no_grad():
        entropy = torch.cat([_entropy(start)[:, None, None].expand(-1, completions.shape[1], 1), _entropy(later)], 2)
    if filler is not None:
        log_probs, entropy = log_probs.masked_fill(filler, 0.0), entropy.masked_fill(filler, 0.0)
    return log_probs, entropy


def _catalogue_log_probs(
    lm: EngineModel, first: torch.Tensor, rest: torch.Tensor, completions: torch.Tensor, temperature: float, trie: Trie
) -> tuple[torch.Tensor, torch.Tensor]:
    group = completions.shape[1]
    nodes = torch.zeros(len(first), 1, dtype=torch.long, device=completions.device)
    log_probs, entropies = [], []
    for step, level in enumerate(trie.levels):
        states = first[:, None] if step == 0 else rest[:, :, step - 1]
        columns, exists = level.children(nodes)
        logits = lm.logits(states, level.vocabulary).float().gather(-1, columns) / temperature
        values = logits.masked_fill(~exists, float("-inf")).log_softmax(-1)
        parents = nodes.expand(-1, group)
        nodes = level.child(parents, completions[:, :, step])
        offset = nodes - level.starts[parents]
        log_probs.append(values.expand(-1, group, -1).gather(-1, offset[..., None]).squeeze(-1))
        with torch.no_grad():
            entropies.append(_entropy(values).expand(-1, group))
    return torch.stack(log_probs, -1), torch.stack(entropies, -1)


def _entropy(log_probs: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(log_probs.exp()).sum(-1)
