"""A step of RL without draws: the expectation over all SIDs of the catalogue, computed, not sampled.

A group of G completions estimates how a prompt's reward would rise; a small model can score every SID of a catalogue
instead (:func:`harness.decoding.exact.leaf_log_probs`), and the estimate's error is gone. The gradient is that of GRPO
(arXiv 2402.03300, eq. 21, one update a rollout) with G → ∞ draws: Σ_y π(y) · A(y) · ∇ log π(y) / |y|, where A is the
reward less its mean, over its standard deviation, both under π: the policy given that its answer is a SID.
"""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Trainer

from harness.data.semantic_ids import SemanticIds
from harness.decoding.engine import EngineModel
from harness.decoding.exact import branches, leaf_log_probs
from harness.decoding.padding import pad_left
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.language import finetuning, wrapped
from harness.language.rewards import Rewards

from .advantages import expected_advantages
from .group_trainer import GroupSampler, groups_of


class ExactTrainer(finetuning.ProbeSelection, Trainer):
    """Transformers' trainer with the expected advantage for its loss.

    Attributes:
        catalogue: whether probabilities are over the tokens that continue a SID, not over the whole vocabulary. Either
            way the expectation is over the catalogue's SIDs.
        beta: weight of the KL divergence of whole SIDs from the model at the start, over the number of levels; 0: none.
        rollout_tokens: positions computed at once; more are computed in parts, once more for their gradients.
    """

    def __init__(
        self, *, trie: Trie, semantic_ids: SemanticIds, rewards: Rewards, catalogue: bool, temperature: float,
        beta: float, rollout_tokens: int, **trainer: Any,
    ):  # fmt: skip
        self.trie, self.semantic_ids, self.rewards, self.catalogue = trie, semantic_ids, rewards, catalogue
        self.temperature, self.beta, self.rollout_tokens = temperature, beta, rollout_tokens
        self.branches = branches(trie, catalogue)
        super().__init__(data_collator=_together, **trainer)
        self._reference: Any = None
        if beta and not hasattr(self.model, "disable_adapter"):
            self._reference = copy.deepcopy(self.accelerator.unwrap_model(self.model)).eval().requires_grad_(False)
        leaves = trie.tokens(torch.arange(len(trie), device=trie.leaves.device))
        self._lengths = (~trie.filler(leaves)).sum(1)
        self._numbers: dict[str, list[float]] = defaultdict(list)

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupSampler:
        block = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        return GroupSampler(len(self.train_dataset), 1, block, 1, self.args.seed)  # type: ignore[arg-type]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Minus the expected advantage of each prompt's answer, its mean over the prompts."""
        samples = inputs["samples"]
        ids, mask = pad_left([s["prompt_ids"] for s in samples], self._pad, self.accelerator.device)
        loss = wrapped.within(model, lambda inner: self._loss(inner, ids, mask, samples))
        return (loss, {"loss": loss}) if return_outputs else loss

    def _loss(self, model: Any, ids: torch.Tensor, mask: torch.Tensor, samples: list[dict[str, Any]]) -> torch.Tensor:
        log_probs = self._log_probs(model, ids, mask)
        given = log_probs.log_softmax(1)  # given that the answer is a SID; the same, where it always is one
        probabilities = given.detach().exp()
        rewards = self._rewards(given.detach(), samples)
        advantage, spread = expected_advantages(rewards, probabilities)
        loss = -(probabilities * advantage * log_probs / self._lengths).sum(1).mean()
        if self.beta:
            with torch.no_grad(), self._as_reference(model) as reference:
                before = self._log_probs(reference, ids, mask).log_softmax(1)
            divergence = (given.exp() * (given - before)).sum(1).mean()
            loss = loss + self.beta * divergence / self.trie.depth  # as per token, where a SID has that many
            self._note("kl", divergence)
        targets = torch.tensor([s["target"] for s in samples], device=ids.device)
        hit = self.trie.leaves[None] == targets[:, None]
        self._note("reward", (probabilities * rewards).sum(1).mean())
        self._note("reward_std", spread.mean())
        self._note("probability of the target", (probabilities * hit).sum(1).mean())
        return loss

    def _log_probs(self, model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Log-probability of each leaf ``[prompts, leaves]``."""
        lm = EngineModel(model)

        def part(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return leaf_log_probs(lm, ids, mask, self.trie, renormalise=self.catalogue, temperature=self.temperature)

        size = max(1, self.rollout_tokens // (ids.shape[1] + self.branches))
        with self.autocast():
            if size >= len(ids) or not torch.is_grad_enabled():
                return torch.cat([part(*both) for both in zip(ids.split(size), mask.split(size), strict=True)])
            parts = zip(ids.split(size), mask.split(size), strict=True)
            return torch.cat([checkpoint(part, *both, use_reentrant=False) for both in parts])

    def _rewards(self, log_probs: torch.Tensor, samples: list[dict[str, Any]]) -> torch.Tensor:
        """The reward of each leaf ``[prompts, leaves]``; a group is all of them, the likeliest first."""
        order = log_probs.argsort(dim=1, descending=True, stable=True)
        groups = groups_of(self.trie.leaves[order], samples, self.semantic_ids)
        parts = self.rewards(groups, self.state.global_step + 1)
        for name, part in parts.items():
            self._note(f"rewards/{name}", (part * log_probs.exp().gather(1, order)).sum(1).mean())
        self._note("hit_first", groups.hits[:, 0].float().mean())
        return torch.zeros_like(log_probs).scatter(1, order, torch.stack(list(parts.values())).sum(0))

    @contextlib.contextmanager
    def _as_reference(self, model: Any) -> Any:
        if self._reference is not None:
            yield self._reference
            return
        with model.disable_adapter():
            yield model

    def _note(self, name: str, value: torch.Tensor) -> None:
        self._numbers[name].append(float(self.accelerator.gather(value.detach().reshape(1)).mean()))

    def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
        """The numbers of the steps since the last log beside the trainer's own."""
        if "loss" in logs:
            logs = logs | {name: sum(values) / len(values) for name, values in self._numbers.items()}
            self._numbers.clear()
        super().log(logs, *arguments, **named)

    @property
    def _pad(self) -> int:
        return int(self.processing_class.pad_token_id)  # type: ignore[union-attr]


def check_size(trie: Trie, catalogue: bool, prompt: int, rollout_tokens: int) -> None:
    """A prompt with the branches of the whole catalogue must fit into what is computed at once.

    Args:
        trie: of the SIDs, be it of their tokens or of their codes.
        prompt: tokens of the longest prompt.

    Raises:
        BenchError: it does not.
    """
    needed = branches(trie, catalogue) + prompt
    if needed > rollout_tokens:
        raise BenchError(
            f"grpo.rollout = exact computes {needed:,} positions a prompt on this catalogue, and grpo.rollout_tokens "
            f"allows {rollout_tokens:,}; raise it (memory), or take rollout=beam"
        )


def _together(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"samples": samples}
