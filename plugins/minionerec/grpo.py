"""GRPO from the SFT checkpoint: the stage, its settings, and the best model by valid, the start included.

What happens within a step stands in :mod:`plugins.minionerec.group_trainer`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from transformers import TrainingArguments
from trl import GRPOConfig

from harness.components import Context
from harness.decoding.engine import EngineModel
from harness.decoding.generator import GenerativeModel, encode, trie_of
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.evaluation.validation import needs_probed
from harness.language import checkpoints, finetuning, models
from harness.language.holdout import RowSettings, on_its_rows
from harness.language.prompts import DESCRIBED, SID_TASKS, Example, Prompts
from harness.language.rewards import Rewards
from harness.networks.trained import trained
from harness.settings import setting
from harness.world import world

from .exact_trainer import ExactTrainer, check_size
from .group_trainer import Plan, SharedPromptGRPOTrainer, unused

IN_GROUPS = ("rollout is not exact", lambda s: s.rollout != "exact")
SYNCED = ("sync_reference is true", lambda s: s.sync_reference)


@dataclass(frozen=True)
class Settings(RowSettings, finetuning.FineTuningSettings):
    """Settings of the GRPO stage (in brackets: the replication's value)."""

    tasks: dict[str, float] = setting(
        {"next_sid": 1.0}, "share of each task's rows among the prompts; answers are SIDs"
    )
    rewards: str | dict[str, float | dict[str, Any]] = setting(
        "ranking", "a reward, or rewards with weights or settings: {rule: 1, cf: {weight: 0.1, run: DIR}} (ranking)",
        components="reward",
    )  # fmt: skip
    advantage: Literal["group", "sibling"] = setting(
        "group", "sibling: half of it among the branches of each level, as Sibling-GRPO has (group)", IN_GROUPS
    )
    sibling_share: float = setting(
        0.5, "share of the sibling advantage (0.5)", ("advantage is sibling", lambda s: s.advantage == "sibling")
    )
    generations: int = setting(16, "completions a prompt, G; a step takes batch / G prompts, under exact too (16)")
    rollout: Literal["beam", "sample", "sample_distinct", "exact"] = setting(
        "beam",
        "the G best SIDs; draws at the temperature, with or without replacement; exact: all, by probability (beam)",
    )
    weights: Literal["none", "importance"] = setting(
        "none", "importance: a completion counts by its probability over that of being rolled out (none)",
        ("rollout is beam or sample_distinct", lambda s: s.rollout in ("beam", "sample_distinct")),
    )  # fmt: skip
    refill: int = setting(0, "rounds in which prompts without any advantage are replaced by others (0)", IN_GROUPS)
    idle: Literal["keep", "skip"] = setting(
        "keep",
        "prompts without advantage: keep their KL, or skip them; with beta 0 they always cost nothing (keep)",
        ("beta is above 0 and rollout is not exact", lambda s: s.beta > 0 and s.rollout != "exact"),
    )
    softmax: Literal["as trained", "vocabulary", "catalogue"] = setting(
        "as trained", "probabilities over the whole vocabulary, or over the tokens that continue a SID (vocabulary)"
    )
    epochs: float = setting(1, "passes over the prompts (2)")
    batch: int = setting(1024, "completions a device and micro step, a multiple of G (64)")
    accumulation: int = setting(1, "micro steps an optimiser step (4: 1,024 completions on 4 devices)")
    beta: float = setting(1e-3, "weight of the KL term; 0: no reference model (1e-3)")
    temperature: float = setting(1.0, "temperature of the policy (1.0)")
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = setting("grpo", "how tokens are averaged (grpo)", IN_GROUPS)
    ratio: Literal["token", "sequence"] = setting(
        "token", "importance ratio a token, or a sequence as GSPO has (token)", IN_GROUPS
    )
    average: Annotated[float, Ge(0), Lt(1)] = setting(
        0.0, "decay a step of the running average of weights that is probed and kept; 0: the last weights (0)"
    )
    sync_reference: bool = setting(False, "move the reference towards the policy (yes)")
    sync_steps: int = setting(512, "steps between two syncs (512)", SYNCED)
    sync_mixup: float = setting(0.6, "share of the policy in a synced reference (0.6)", SYNCED)
    warmup: float = setting(0.03, "warm-up, in steps; below 1 a share of the training (0.03)")
    text_characters: int = setting(500, "descriptions are cut to this length, in characters", DESCRIBED)
    eval_every: Annotated[float, Gt(0), Le(1)] = setting(
        0.1, "probe and checkpoint at this share of the training; 1: at its end (0.1)"
    )
    select: Literal["NDCG@10", "HR@10"] = setting(
        "NDCG@10", "valid metric that picks the best checkpoint, the start included"
    )
    rollout_tokens: int = setting(32768, "positions of a rollout computed at once; bounds memory")
    deepspeed: str = setting(
        "", "ZeRO by name (zero1, zero2), or the path of a DeepSpeed configuration; empty: none (ZeRO-2)"
    )
    log_every: int = setting(10, "steps between logged numbers")


class GrpoTrainer:
    """Stage trainer ``minionerec-grpo``."""

    Settings = Settings
    continues = finetuning.CONTINUES
    distributed = True
    small = {"epochs": 0.1, "batch": 64, "generations": 4, "accumulation": 1, "eval_every": 1.0, "log_every": 1,
             "precision": "float32", "deepspeed": ""}  # fmt: skip

    def __init__(self, settings: Settings):
        self.settings = settings
        if settings.sync_reference and not settings.beta:
            raise BenchError(
                "grpo.sync_reference moves the reference of the KL term, and grpo.beta is 0: set it above 0"
            )
        if settings.sync_reference and settings.rollout == "exact":
            raise BenchError("grpo.rollout = exact holds a reference that stays; set grpo.sync_reference=false")
        if settings.gradient_checkpointing and settings.rollout == "exact":
            raise BenchError(
                "grpo.rollout = exact bounds its memory by grpo.rollout_tokens; set grpo.gradient_checkpointing=false"
            )
        if settings.weights == "importance" and settings.beta:
            raise BenchError(
                "grpo.weights = importance weighs rewards, and the KL term would count all alike; set grpo.beta=0"
            )
        if settings.weights == "importance" and settings.rollout == "sample_distinct" and settings.generations < 3:
            raise BenchError(
                "grpo.weights = importance gives one of the distinct draws no weight; set grpo.generations=3 or more"
            )
        if settings.weights == "importance" and settings.advantage == "sibling":
            raise BenchError("grpo.weights = importance weighs a group as a whole; set grpo.advantage=group")
        if settings.batch % settings.generations:
            raise BenchError(
                f"grpo.batch = {settings.batch} must be a multiple of grpo.generations = {settings.generations}"
            )
        if settings.generations < 2:
            raise BenchError("grpo.generations must be 2 or more: an advantage is relative to its group")
        if settings.refill < 0:
            raise BenchError(f"grpo.refill = {settings.refill}; it must be 0 or more")

    def check(self, context: Context) -> None:
        """Settings must fit the data and the stages before."""
        whole, (context, _) = context, on_its_rows(context, self.settings)
        settings, semantic_ids = self.settings, context.needs_semantic_ids("stage grpo")
        if context.previous is None:
            raise BenchError("stage grpo needs a stage before it; put an SFT stage first")
        finetuning.check(context, settings)
        needs_probed(context.probe, settings.select, "stage grpo")
        if settings.sync_reference and getattr(getattr(context.backbone, "settings", None), "lora_rank", 0):
            raise BenchError(
                "grpo.sync_reference does not go with LoRA adapters; set it to false, or backbone.lora_rank=0"
            )
        n_sids = len(semantic_ids.distinct)
        if settings.generations > n_sids:
            raise BenchError(
                f"grpo.generations = {settings.generations}, but the catalogue has {n_sids} SIDs; "
                f"set grpo.generations={n_sids} or less"
            )
        if settings.rollout == "exact":  # what is certain by the codes alone; the stage itself knows its prompts
            check_size(
                Trie(semantic_ids.distinct, end=-1), settings.softmax != "vocabulary", 1, settings.rollout_tokens
            )
        self._rewards(context).prepare(whole)
        for task, rate in settings.tasks.items():
            if rate and task not in SID_TASKS:
                known = ", ".join(SID_TASKS)
                raise BenchError(f"grpo.tasks.{task}: its answer is no SID and cannot be rewarded; use {known}")
        n = len(self._examples(context, Prompts.of(context)))
        step = world.size * settings.batch * settings.accumulation // settings.generations
        if n < step:
            raise BenchError(f"grpo has {n} prompts, one step takes {step}; lower grpo.batch or grpo.accumulation")

    def fit(self, context: Context) -> dict[str, Any]:
        """Train; leave the best model by valid in the stage directory, be it the start."""
        from datasets import Dataset

        settings = self.settings
        whole, (context, told) = context, on_its_rows(context, settings)
        prompts = Prompts.of(context)
        tokens = [*prompts.special_tokens, *prompts.semantic_ids.tokens]
        model, text_tokenizer = models.model_before(context, tokens)
        what = trained(model)
        models.disable_dropout(model)  # ratio and KL compare the policy with itself, not with its noise
        if settings.softmax != "as trained":
            models.set_sid_softmax(model, settings.softmax)
        generative = prompts.generative(model.eval(), text_tokenizer, settings.cutoff)
        start = checkpoints.start_metric(context, generative, settings.select)
        examples = self._examples(context, prompts)
        rows = {
            "row": list(range(len(examples))),
            "prompt": [e.prompt for e in examples],
            "prompt_ids": encode(text_tokenizer, [e.prompt for e in examples], settings.cutoff),
            "target": [int(prompts.semantic_ids.of_item[e.target]) for e in examples],
            "item": [e.target for e in examples],
            "history": [list(e.history) for e in examples],
        }
        rewards = self._rewards(context)
        rewards.prepare(whole)  # a recorded run scores as it does elsewhere
        common: dict[str, Any] = {
            "context": context,
            "as_model": lambda policy: prompts.generative(policy, text_tokenizer, settings.cutoff),
            "precision": settings.precision,
            "average": settings.average,
            "trie": trie_of(generative, context.device),
            "semantic_ids": prompts.semantic_ids,
            "rewards": rewards,
            "catalogue": generative.renormalise,
            "model": model,
            "train_dataset": Dataset.from_dict(rows),
            "eval_dataset": Dataset.from_dict({k: v[:1] for k, v in rows.items()}),
            "processing_class": text_tokenizer,
            "callbacks": [finetuning.Observer(context, "grpo")],
        }
        trainer = self._exact(context, common) if settings.rollout == "exact" else self._grouped(context, common)
        started = time.monotonic()
        finetuning.train(trainer, context)
        facts = checkpoints.keep_best(trainer, text_tokenizer, context, start, settings.select)
        seconds = round(time.monotonic() - started, 1)
        facts |= {"prompts": len(examples), "trained": what, "train seconds": seconds}
        return facts | told | finetuning.facts(trainer)

    def _grouped(self, context: Context, common: dict[str, Any]) -> SharedPromptGRPOTrainer:
        args = GRPOConfig(**self._arguments(context))
        return SharedPromptGRPOTrainer(plan=self._plan(), reward_funcs=[unused], args=args, **common)

    def _exact(self, context: Context, common: dict[str, Any]) -> ExactTrainer:
        settings = self.settings
        longest = max(len(ids) for ids in common["train_dataset"]["prompt_ids"])
        check_size(common["trie"], common["catalogue"], longest, settings.rollout_tokens)
        if EngineModel(common["model"]).by_rows(longest + common["trie"].depth):
            raise BenchError(
                "grpo.rollout = exact reads the tree of SIDs beside a prompt, and this backbone goes row by row; take "
                "rollout=beam"
            )
        args = finetuning.arguments(
            context, settings, per_device_train_batch_size=settings.batch // settings.generations,
            gradient_accumulation_steps=settings.accumulation, greater_is_better=True,
            metric_for_best_model=f"eval_{settings.select}",
        )  # fmt: skip
        return ExactTrainer(
            temperature=settings.temperature, beta=settings.beta, rollout_tokens=settings.rollout_tokens,
            args=TrainingArguments(**args), **common,
        )  # fmt: skip

    def _plan(self) -> Plan:
        """How groups are made and used."""
        settings = self.settings
        return Plan(
            rollout=settings.rollout, rollout_tokens=settings.rollout_tokens, refill=settings.refill,
            sibling_share=settings.sibling_share if settings.advantage == "sibling" else 0.0,
            skip_idle=settings.idle == "skip" or settings.beta == 0, weighted=settings.weights == "importance",
        )  # fmt: skip

    def load(self, context: Context) -> GenerativeModel:
        """The trained model."""
        model, text_tokenizer = models.load_model(context.directory, context.device, context.backbone)
        prompts = Prompts.of(context)
        return prompts.generative(model.eval(), text_tokenizer, self.settings.cutoff)

    def _examples(self, context: Context, prompts: Prompts) -> list[Example]:
        by_task = prompts.examples(self.settings.tasks, context.train, self.settings.text_characters, context.seed)
        return [example for group in by_task.values() for example in group]

    def _rewards(self, context: Context) -> Rewards:
        wanted = self.settings.rewards
        return Rewards(
            {wanted: 1.0} if isinstance(wanted, str) else wanted, context.parts.made("rewards"), "grpo.rewards"
        )

    def _arguments(self, context: Context) -> dict[str, Any]:
        settings = self.settings
        return finetuning.arguments(
            context, settings, per_device_train_batch_size=settings.batch,
            gradient_accumulation_steps=settings.accumulation, steps_per_generation=settings.accumulation,
            num_generations=settings.generations, num_generations_eval=settings.generations,
            per_device_eval_batch_size=settings.generations,
            max_completion_length=context.needs_semantic_ids("grpo").n_levels, temperature=settings.temperature,
            beta=settings.beta, loss_type=settings.loss, importance_sampling_level=settings.ratio,
            sync_ref_model=settings.sync_reference and settings.beta > 0, ref_model_sync_steps=settings.sync_steps,
            ref_model_mixup_alpha=settings.sync_mixup, disable_dropout=True, greater_is_better=True,
            metric_for_best_model=f"eval_{settings.select}", log_completions=False,
            trust_remote_code=bool(getattr(context.backbone, "loading", {}).get("trust_remote_code")),
        )  # fmt: skip
