"""novelty: a hit is worth more when the target was not bought before; a repeat counts half."""

import torch

from harness import hookimpl


def novelty(groups):
    """1 for a hit on a new item, 0.5 for a hit on a repeat, 0 for all else: ``[prompts, G]``."""
    repeated = torch.tensor([item in history for item, history in zip(groups.items, groups.histories, strict=True)])
    return groups.hits.float() * torch.where(repeated, 0.5, 1.0)[:, None].to(groups.hits.device)


@hookimpl
def bench_rewards():
    return {"novelty": novelty}
