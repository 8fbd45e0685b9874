"""GRPO from the SFT checkpoint: groups from the constrained beam search, prompts computed once.

TRL's ``GRPOTrainer`` stays the trainer (loss, reference, schedule, checkpoints, accelerate);
replaced are the rollout, the rewards and the per-token log-probabilities.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from trl import GRPOConfig, GRPOTrainer

from harness import store, training
from harness.components import Context, setting
from harness.decoding.beam import beam_search
from harness.decoding.layout import pad_left
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.generative import GenerativeModel, encode
from plugins.minionerec.prompts import SID_TASKS, Example, Prompts
from plugins.minionerec.rewards import advantages, hits, weighted

REFERENCE = "reference.safetensors"
START = "start.json"


@dataclass(frozen=True)
class Settings:
    """Settings of the GRPO stage (in brackets: the replication's value)."""

    tasks: dict[str, float] = setting(
        {"next_sid": 1.0}, "share of each task's rows among the prompts; answers are SIDs"
    )
    rewards: str | dict[str, float] = setting(
        "ranking", "a reward, or rewards with weights: rule, ranking, … (ranking)"
    )
    generations: int = setting(16, "completions a prompt, G (16)")
    epochs: float = setting(1, "passes over the prompts (2)")
    batch: int = setting(1024, "completions a device and micro step, a multiple of G (64)")
    accumulation: int = setting(1, "micro steps an optimiser step (4: 1,024 completions on 4 devices)")
    beta: float = setting(1e-3, "weight of the KL term; 0: no reference model (1e-3)")
    temperature: float = setting(1.0, "temperature of the policy (1.0)")
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = setting("grpo", "how tokens are averaged (grpo)")
    ratio: Literal["token", "sequence"] = setting(
        "token", "importance ratio a token, or a sequence as GSPO has (token)"
    )
    sync_reference: bool = setting(False, "move the reference towards the policy (yes)")
    sync_steps: int = setting(512, "steps between two syncs (512)")
    sync_mixup: float = setting(0.6, "share of the policy in a synced reference (0.6)")
    learning_rate: float = setting(1e-5, "peak learning rate (1e-5)")
    schedule: str = setting("cosine", "learning-rate schedule (cosine)")
    warmup: float = setting(0.03, "warm-up, in steps; below 1 a share of the training (0.03)")
    weight_decay: float = setting(0.0, "AdamW's weight decay (0)")
    max_grad_norm: float = setting(0.3, "gradient clipping (0.3)")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept (512)")
    text_characters: int = setting(500, "descriptions are cut to this length, in characters")
    eval_every: float = setting(0.1, "probe and checkpoint at this share of the training (0.1)")
    select: Literal["NDCG@10", "HR@10"] = setting(
        "NDCG@10", "valid metric that picks the best checkpoint, the start included"
    )
    rollout_tokens: int = setting(32768, "positions of a rollout computed at once; bounds memory")
    precision: Literal["float32", "bfloat16"] = setting("float32", "autocast precision (bfloat16)")
    gradient_checkpointing: bool = setting(False, "recompute activations to save memory")
    deepspeed: str = setting("", "path of a DeepSpeed config; empty: none (ZeRO-2)")
    log_every: int = setting(10, "steps between logged numbers")


class GrpoTrainer:
    """Stage trainer ``minionerec-grpo``."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings
        self.reward = weighted({settings.rewards: 1.0} if isinstance(settings.rewards, str) else settings.rewards)
        if settings.batch % settings.generations:
            raise BenchError(
                f"grpo.batch = {settings.batch} must be a multiple of grpo.generations = {settings.generations}"
            )
        if settings.generations < 2:
            raise BenchError("grpo.generations must be 2 or more: an advantage is relative to its group")

    def check(self, context: Context) -> None:
        """Settings must fit the data and the stages before."""
        settings, semantic_ids = self.settings, context.needs_semantic_ids("stage grpo")
        if context.previous is None:
            raise BenchError("stage grpo needs a stage before it; put an SFT stage first")
        n_sids = len(semantic_ids.distinct)
        if settings.generations > n_sids:
            raise BenchError(
                f"grpo.generations = {settings.generations}, but the catalogue has {n_sids} SIDs; "
                f"set grpo.generations={n_sids} or less"
            )
        for task, rate in settings.tasks.items():
            if rate and task not in SID_TASKS:
                known = ", ".join(SID_TASKS)
                raise BenchError(f"grpo.tasks.{task}: its answer is no SID and cannot be rewarded; use {known}")
        n = len(self._examples(context, Prompts.of(context)))
        step = settings.batch * settings.accumulation // settings.generations
        if n < step:
            raise BenchError(f"grpo has {n} prompts, one step takes {step}; lower grpo.batch or grpo.accumulation")

    def fit(self, context: Context) -> dict[str, Any]:
        """Train; leave the best model by valid in the stage directory, be it the start."""
        from datasets import Dataset

        settings = self.settings
        prompts = Prompts.of(context)
        assert context.previous is not None  # as check has made sure
        model, text_tokenizer = training.load_model(context.previous, context.device)
        training.disable_dropout(model)  # ratio and KL compare the policy with itself, not with its noise
        generative = prompts.generative(model, text_tokenizer, settings.cutoff)
        start = self._start_metric(context, generative)
        examples = self._examples(context, prompts)
        rows = {
            "prompt": [e.prompt for e in examples],
            "prompt_ids": encode(text_tokenizer, [e.prompt for e in examples], settings.cutoff),
            "target": [int(prompts.semantic_ids.of_item[e.target]) for e in examples],
        }
        trainer = SharedPromptGRPOTrainer(
            model=model,
            reward_funcs=[_unused],
            args=GRPOConfig(**self._arguments(context)),
            train_dataset=Dataset.from_dict(rows),
            eval_dataset=Dataset.from_dict({k: v[:1] for k, v in rows.items()}),
            processing_class=text_tokenizer,
            callbacks=[training.Observer(context, "grpo")],
        )
        trainer.context, trainer.reward, trainer.rollout_tokens = context, self.reward, settings.rollout_tokens
        trainer.trie = Trie(generative.sid_tokens, context.device)
        trainer.codes = torch.from_numpy(prompts.semantic_ids.distinct).to(context.device)
        trainer.as_model = lambda policy: prompts.generative(policy, text_tokenizer, settings.cutoff)
        started = time.monotonic()
        training.train(trainer, context)
        state = trainer.state
        better = state.best_metric is not None and state.best_metric >= start[settings.select]
        policy = trainer.accelerator.unwrap_model(trainer.model)
        if not better:
            policy, _ = training.load_model(context.previous, "cpu")
        training.save_model(policy, text_tokenizer, context.directory)
        training.prune_checkpoints(context.directory)
        return {
            "steps": state.global_step,
            "epochs": round(state.epoch or 0.0, 3),
            "best step": state.best_global_step if better else 0,
            f"start valid {settings.select}": start[settings.select],
            f"best valid {settings.select}": max(start[settings.select], state.best_metric or 0.0),
            "prompts": len(examples),
            "train seconds": round(time.monotonic() - started, 1),
        }

    def load(self, context: Context) -> GenerativeModel:
        """The trained model."""
        model, text_tokenizer = training.load_model(context.directory, context.device)
        prompts = Prompts.of(context)
        return prompts.generative(model.eval(), text_tokenizer, self.settings.cutoff)

    def _examples(self, context: Context, prompts: Prompts) -> list[Example]:
        found = prompts.examples(self.settings.tasks, context.train, self.settings.text_characters, context.seed)
        return [example for group in found.values() for example in group]

    def _start_metric(self, context: Context, generative: GenerativeModel) -> dict[str, float]:
        """The probe before the first step, kept so that a resumed stage compares with the same number."""
        path = context.directory / START
        if not path.exists():
            generative.model.eval()
            numbers = context.probe(generative)
            context.log({f"eval_{name}": value for name, value in numbers.items()}, 0)
            store.write_json(path, numbers)
        return store.read_json(path)

    def _arguments(self, context: Context) -> dict[str, Any]:
        settings = self.settings
        return training.arguments(
            context, settings, per_device_train_batch_size=settings.batch,
            gradient_accumulation_steps=settings.accumulation, steps_per_generation=settings.accumulation,
            num_generations=settings.generations, num_generations_eval=settings.generations,
            per_device_eval_batch_size=settings.generations,
            max_completion_length=context.needs_semantic_ids("grpo").n_levels, temperature=settings.temperature,
            beta=settings.beta, loss_type=settings.loss, importance_sampling_level=settings.ratio,
            sync_ref_model=settings.sync_reference and settings.beta > 0, ref_model_sync_steps=settings.sync_steps,
            ref_model_mixup_alpha=settings.sync_mixup, disable_dropout=True, greater_is_better=True,
            metric_for_best_model=f"eval_{settings.select}", log_completions=False,
        )  # fmt: skip


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


class SharedPromptGRPOTrainer(training.ProbeSelection, GRPOTrainer):
    """TRL's trainer with beam rollouts and each prompt computed once a group, in rollout, policy and reference."""

    trie: Trie
    codes: torch.Tensor
    reward: Any
    rollout_tokens: int

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
        """A group of the G best leaves for each prompt, scored against the sample's own target."""
        group, device = self.num_generations, self.accelerator.device
        samples = inputs[::group]
        ids, mask = pad_left([s["prompt_ids"] for s in samples], self._tokenizer.pad_token_id, device)
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        size = max(1, self.rollout_tokens // (ids.shape[1] + group * (self.trie.depth - 1)))
        parts = [
            beam_search(model, ids[i : i + size], mask[i : i + size], self.trie, group)
            for i in range(0, len(samples), size)
        ]
        model.train(was_training)
        leaves = torch.cat([p.leaves for p in parts])  # [prompts, G]
        tokens = torch.cat([p.tokens for p in parts])  # [prompts, G, levels]
        target = self.codes[torch.tensor([s["target"] for s in samples], device=device)]
        completed = self.codes[leaves]
        rewards = self.reward(completed, target)
        advantage = advantages(rewards)
        self._note(rewards, hits(completed, target), advantage)
        output = {
            "prompt_ids": ids.repeat_interleave(group, 0),
            "prompt_mask": mask.long().repeat_interleave(group, 0),
            "completion_ids": tokens.flatten(0, 1).clone(),
            "completion_mask": torch.ones_like(tokens.flatten(0, 1)),
            "advantages": advantage.flatten(),
            "num_items_in_batch": self.accelerator.gather(torch.tensor(tokens.numel(), device=device)).sum(),
        }
        if self.beta:
            output["ref_per_token_logps"] = self._reference_log_probs(output)
        return output

    def _note(self, rewards: torch.Tensor, hit: torch.Tensor, advantage: torch.Tensor) -> None:
        numbers = {
            "reward": rewards.mean(),
            "reward_std": rewards.std(1).mean(),
            "groups/hit": hit.any(1).float().mean(),
            "groups/hit_first": hit[:, 0].float().mean(),
            "groups/zero_advantage": (advantage == 0).all(1).float().mean(),
        }
        for name, value in numbers.items():
            self._metrics["train"][name].append(self.accelerator.gather(value.reshape(1)).mean().item())

    def _reference_log_probs(self, output: dict[str, Any]) -> torch.Tensor:
        rows = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        attention = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        length = output["completion_ids"].shape[1]
        micro = len(rows) // self.args.steps_per_generation
        parts = [
            self._get_per_token_logps_and_entropies(
                self.ref_model, rows[i : i + micro], attention[i : i + micro], length
            )[0]
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
        left = int((~mask.any(0)).sum())  # columns that are padding in this micro batch
        with self.accelerator.autocast():
            log_probs, entropy = completion_log_probs(
                model, input_ids[::group, left:prompt], mask[:, left:],
                input_ids[:, prompt:].view(-1, group, logits_to_keep), self.temperature,
            )  # fmt: skip
        return log_probs.flatten(0, 1).float(), entropy.flatten(0, 1).float(), None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """TRL's checkpoint, and the reference where it moves (TRL forgets it, so a resume would differ)."""
        if self.args.sync_ref_model and self.ref_model is not None:
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


def _unused(*_: Any, **__: Any) -> list[float]:
    raise AssertionError("rewards are computed by group, not by TRL")
