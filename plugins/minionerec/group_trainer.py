"""A step of GRPO with each prompt computed once a group, in rollout, policy and reference.

TRL's ``GRPOTrainer`` stays the trainer (loss, reference, schedule, checkpoints, accelerate); replaced
are the rollout, the rewards and the per-token log-probabilities. Groups without any advantage are
found before the policy pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from trl import GRPOTrainer

from harness.data.semantic_ids import SemanticIds
from harness.decoding.beam import Beams, beam_search
from harness.decoding.padding import pad_left
from harness.decoding.sampling import sample
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.trie import Trie
from harness.language import finetuning, wrapped
from harness.language.rewards import Groups, Rewards

from .advantages import group_advantages, sibling_advantages

REFERENCE = "reference.safetensors"
BATCH_SUMS = ("dapo",)
"""Loss types that divide by the tokens of the whole batch; the others take a mean over the rows they see."""


@dataclass(frozen=True)
class Plan:
    """How groups are made and used.

    Attributes:
        rollout: the G best leaves, or draws with or without replacement.
        rollout_tokens: positions computed at once; bounds memory.
        refill: rounds in which groups without an advantage are replaced by other prompts'.
        sibling_share: share of the sibling advantage.
        skip_idle: whether groups without an advantage are left out of the policy pass.
        weighted: whether completions carry importance weights.
    """

    rollout: Literal["beam", "sample", "sample_distinct"] = "beam"
    rollout_tokens: int = 32768
    refill: int = 0
    sibling_share: float = 0.0
    skip_idle: bool = True
    weighted: bool = False


@dataclass
class _Rolled:
    """Prompts with their groups: samples, completions ``[n, G, levels]``, advantages ``[n, G]``."""

    samples: list[dict[str, Any]]
    tokens: torch.Tensor
    advantage: torch.Tensor

    @property
    def idle(self) -> torch.Tensor:
        return (self.advantage == 0).all(1)


class GroupSampler(torch.utils.data.Sampler):
    """Prompts in blocks of one generation batch, each prompt G times, each block once a micro step.

    The order is a function of seed and epoch alone, so a resumed epoch has the interrupted one's.
    What does not fill a block is left for an epoch with another order.
    """

    def __init__(self, n: int, generations: int, block: int, repeat: int, seed: int):
        self.n, self.generations, self.block, self.repeat, self.seed = n, generations, block, repeat, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n // self.block * self.block * self.generations * self.repeat

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
        for start in range(0, self.n // self.block * self.block, self.block):
            group = np.repeat(order[start : start + self.block], self.generations).tolist()
            for _ in range(self.repeat):
                yield from group


class SharedPromptGRPOTrainer(finetuning.ProbeSelection, GRPOTrainer):
    """TRL's trainer with rollouts from the trie and each prompt computed once a group.

    Attributes:
        catalogue: whether probabilities are over the tokens that continue a SID, not over the whole vocabulary.
    """

    def __init__(
        self, *, trie: Trie, semantic_ids: SemanticIds, rewards: Rewards, plan: Plan, catalogue: bool, **trainer: Any
    ):
        self.trie, self.semantic_ids, self.rewards, self.plan = trie, semantic_ids, rewards, plan
        self.catalogue = catalogue
        super().__init__(**trainer)

    def _get_train_sampler(self, dataset: Any = None) -> GroupSampler:
        block = self.args.generation_batch_size // self.num_generations
        repeat = self.num_iterations * self.args.steps_per_generation
        return GroupSampler(len(self.train_dataset), self.num_generations, block, repeat, self.args.seed)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """As TRL's, but rows are not shuffled among micro batches: groups stay whole."""
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            whole = self._generate_and_score_completions(generation_batch)
            size = len(whole["advantages"]) // steps
            self._buffered_inputs = [
                {k: v[i * size : (i + 1) * size] if v.dim() else v for k, v in whole.items()} for i in range(steps)
            ]
        return self._buffered_inputs[self._step % steps]

    @torch.no_grad()
    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """A group of G leaves for each prompt, scored against the sample's own target."""
        group, device = self.num_generations, self.accelerator.device
        rolled = self._roll_out(inputs[::group])
        if self.plan.refill:
            rolled = self._refill(rolled)
        ids, mask = pad_left([s["prompt_ids"] for s in rolled.samples], self._tokenizer.pad_token_id, device)
        completions = rolled.tokens.flatten(0, 1).clone()
        learned = ~self.trie.filler(completions)
        output = {
            "prompt_ids": ids.repeat_interleave(group, 0),
            "prompt_mask": mask.long().repeat_interleave(group, 0),
            "completion_ids": completions,
            "completion_mask": learned.long(),
            "advantages": rolled.advantage.flatten(),
            "num_items_in_batch": self.accelerator.gather(learned.sum()).sum(),
        }
        if self.beta:
            output["ref_per_token_logps"] = self._reference_log_probs(output)
        return output

    def _roll_out(self, samples: list[dict[str, Any]], round_: int = 0) -> _Rolled:
        """Groups of prompts with their advantages; what those of the first round are like is logged."""
        leaves, tokens, weights = self._completions(samples, round_)
        groups = groups_of(leaves, samples, self.semantic_ids)
        parts = self.rewards(groups, self.state.global_step + 1)
        rewards = torch.stack(list(parts.values())).sum(0)
        advantage = group_advantages(rewards, weights)
        if self.plan.sibling_share:
            siblings = sibling_advantages(rewards, groups.codes)
            advantage = (1 - self.plan.sibling_share) * advantage + self.plan.sibling_share * siblings
        if not round_:
            self._note(
                {"reward": _mean(rewards, weights), "reward_std": rewards.std(1).mean()}
                | {f"rewards/{name}": _mean(part, weights) for name, part in parts.items()}
                | {
                    "groups/hit": groups.hits.any(1).float().mean(),
                    "groups/hit_first": groups.hits[:, 0].float().mean(),
                    "groups/zero_advantage": (advantage == 0).all(1).float().mean(),
                }
            )
        return _Rolled(samples, tokens, advantage)

    def _completions(
        self, samples: list[dict[str, Any]], round_: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Leaves ``[prompts, G]``, best first, their tokens ``[prompts, G, levels]``, and their weights or None."""
        group, trie, plan = self.num_generations, self.trie, self.plan
        ids, mask = pad_left([s["prompt_ids"] for s in samples], self._tokenizer.pad_token_id, self.accelerator.device)
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()

        def roll(start: int, stop: int) -> Beams:
            if plan.rollout == "beam":
                beams = (trie, group, self.catalogue, self.temperature)
                return beam_search(model, ids[start:stop], mask[start:stop], *beams)
            own = [self._generator(s, round_) for s in samples[start:stop]]
            distinct = plan.rollout == "sample_distinct"
            return sample(model, ids[start:stop], mask[start:stop], trie, group, own, self.temperature, distinct)

        size = max(1, plan.rollout_tokens // (ids.shape[1] + group * (trie.depth - 1)))
        with self.autocast():
            parts = [roll(i, i + size) for i in range(0, len(samples), size)]
        model.train(was_training)
        weights = torch.cat([_weights(p) for p in parts]) if plan.weighted else None
        return torch.cat([p.leaves for p in parts]), torch.cat([p.tokens for p in parts]), weights

    def _generator(self, sample: dict[str, Any], round_: int) -> torch.Generator:
        """What a prompt's draws come from: a function of seed, step and prompt, not of the process that has it."""
        source = np.random.default_rng([self.args.seed, self.state.global_step, sample["row"], round_])
        return torch.Generator(self.accelerator.device).manual_seed(int(source.integers(2**62)))

    def _refill(self, rolled: _Rolled) -> _Rolled:
        """Replace groups without an advantage by those of other prompts, as DAPO's dynamic sampling does.

        Which ones does not depend on how many processes share the groups.
        """
        for round_ in range(1, self.plan.refill + 1):
            groups = len(rolled.samples)
            all_idle = self.accelerator.gather(rolled.idle).nonzero()[:, 0].tolist()  # process by process
            if not all_idle:
                break
            spare = np.random.default_rng([self.args.seed, self.state.global_step, round_])
            chosen = spare.integers(0, len(self.train_dataset), len(all_idle))
            first = self.accelerator.process_index * groups
            places = [place - first for place in all_idle]
            own = [(place, row) for place, row in zip(places, chosen, strict=True) if 0 <= place < groups]
            if not own:
                continue
            fresh = self._roll_out([self.train_dataset[int(row)] for _, row in own], round_)
            for row, (place, _) in enumerate(own):
                if not fresh.idle[row]:
                    rolled.samples[place] = fresh.samples[row]
                    rolled.tokens[place], rolled.advantage[place] = fresh.tokens[row], fresh.advantage[row]
        self._note({"groups/zero_advantage_after_refill": rolled.idle.float().mean()})
        return rolled

    def _note(self, numbers: dict[str, torch.Tensor]) -> None:
        for name, value in numbers.items():
            self._metrics["train"][name].append(self.accelerator.gather(value.reshape(1)).mean().item())

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """TRL's loss; groups without an advantage add nothing to it and, where the plan says so, cost nothing."""
        if not self.plan.skip_idle:
            return super()._compute_loss(model, inputs)
        busy = (inputs["advantages"].view(-1, self.num_generations) != 0).any(1)
        # the trainer and its wrappers want a graph, and as many rows in each process: idle groups fill up, unlearned
        wanted = max(1, int(self.accelerator.gather(busy.sum()).max()))
        taken = busy.clone()
        taken[(~busy).nonzero()[: wanted - int(busy.sum()), 0]] = True
        rows = taken.repeat_interleave(self.num_generations)
        kept = {name: value[rows] if value.dim() else value for name, value in inputs.items()}
        learned = busy.repeat_interleave(self.num_generations)[rows]
        kept["tool_mask"] = learned.long()[:, None].expand_as(kept["completion_mask"])
        loss: torch.Tensor = super()._compute_loss(model, kept)
        if self.loss_type in BATCH_SUMS:
            return loss
        if self.loss_type == "bnpo":  # a mean over tokens: over all that the processes have, busy or not
            tokens = self.accelerator.gather(inputs["completion_mask"].sum()).sum() / self.accelerator.num_processes
            return loss * ((kept["completion_mask"] * kept["tool_mask"]).sum() / tokens)
        return loss * (len(learned) / len(rows))

    def _reference_log_probs(self, output: dict[str, Any]) -> torch.Tensor:
        rows = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        attention = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        length = output["completion_ids"].shape[1]
        micro = len(rows) // self.args.steps_per_generation
        model, without = self.accelerator.unwrap_model(self.ref_model or self.model), contextlib.nullcontext()
        if self.ref_model is None:  # adapters: the reference is the model without them
            without = model.disable_adapter()
        with without:
            parts = [
                self._get_per_token_logps_and_entropies(model, rows[i : i + micro], attention[i : i + micro], length)[0]
                for i in range(0, len(rows), micro)
            ]
        return torch.cat(parts)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """TRL's per-token log-probabilities ``[rows, T]``; rows are whole groups of G, their prompt computed once."""
        group = self.num_generations
        prompt = input_ids.shape[1] - logits_to_keep
        mask = attention_mask[::group, :prompt].bool()
        filler = ~attention_mask[:, prompt:].bool().view(-1, group, logits_to_keep)
        left = int((~mask.any(0)).sum())  # columns that are padding in this micro batch

        def work(inner: Any) -> tuple[torch.Tensor, torch.Tensor]:
            with self.autocast():
                return completion_log_probs(
                    inner, input_ids[::group, left:prompt], mask[:, left:],
                    input_ids[:, prompt:].view(-1, group, logits_to_keep), self.temperature,
                    self.trie if self.catalogue else None, filler,
                )  # fmt: skip

        log_probs, entropy = wrapped.within(model, work)
        return log_probs.flatten(0, 1).float(), entropy.flatten(0, 1).float(), None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """TRL's checkpoint, and the reference where it moves (TRL forgets it, so a resume would differ)."""
        if self.args.sync_ref_model and self.ref_model is not None and self.args.should_save:
            from safetensors.torch import save_model

            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            save_model(self.accelerator.unwrap_model(self.ref_model), str(folder / REFERENCE))
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        saved = Path(checkpoint or "") / REFERENCE
        if checkpoint and saved.exists() and self.ref_model is not None:
            from safetensors.torch import load_model

            load_model(self.accelerator.unwrap_model(self.ref_model), str(saved))

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """No card beside a checkpoint: the run directory tells all that it would."""


def groups_of(leaves: torch.Tensor, samples: list[dict[str, Any]], semantic_ids: SemanticIds) -> Groups:
    """Completions ``[prompts, G]`` (rows of the SID table) as rewards see them, each group with its own sample."""
    return Groups(
        leaves, torch.tensor([s["target"] for s in samples], device=leaves.device), [s["item"] for s in samples],
        [list(s["history"]) for s in samples], [s["prompt"] for s in samples], semantic_ids,
    )  # fmt: skip


def _mean(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The mean of the groups' means, by weights where completions have such."""
    return values.mean() if weights is None else ((values * weights).sum(1) / weights.sum(1)).mean()


def _weights(rolled: Beams) -> torch.Tensor:
    """Importance weights ``[prompts, G]``: of draws without replacement their own, of beams their probabilities.

    Beams are no draws: by their probabilities a group is the expectation over all SIDs, cut off after the G best.
    """
    drawn = getattr(rolled, "weights", None)
    return rolled.scores.exp() if drawn is None else drawn


def unused(*_: Any, **__: Any) -> list[float]:
    """What TRL is given for a reward function, which it must have and never calls."""
    raise AssertionError("rewards are computed by group, not by TRL")
