"""Supervised fine-tuning: the task mixture, loss on the answer only, selection on valid.

The model first (what a row is), the training after it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from torch.nn import functional
from transformers import Trainer, TrainingArguments

from harness.components import Context
from harness.data.dataset import Samples
from harness.decoding.engine import split
from harness.decoding.generator import sid_end, sid_token_ids
from harness.decoding.split import SplitModel, weight_type
from harness.decoding.trie import Trie
from harness.errors import BenchError, NotFinite
from harness.evaluation.validation import needs_probed
from harness.language import checkpoints, finetuning, models, new_tokens, training_rows, wrapped
from harness.language.answer_loss import AnswerLoss
from harness.language.holdout import HoldoutSettings, on_its_rows
from harness.language.packing import example_rows, packed_rows
from harness.language.prompts import DESCRIBED, DRAWN_TASKS, SID_TASKS, Prompts
from harness.language.training_rows import IGNORED, Row
from harness.networks.batches import LengthBuckets, Shares
from harness.networks.start import StartSettings, start_facts, start_vectors
from harness.networks.trained import modes_kept, trained
from harness.settings import setting
from harness.world import world

LONGEST = 256
"""How many of the longest train histories are written out to find the longest prompt."""


@dataclass(frozen=True)
class SftSettings(StartSettings, HoldoutSettings, finetuning.FineTuningSettings):
    """Settings of the SFT stage (in brackets: the replication's value)."""

    tasks: dict[str, float] = setting({"next_sid": 1.0}, "share of each task's rows in the mixture")
    packed: bool = setting(False, "one row a user for next_sid, the same targets at a fraction of the tokens (no)")
    epochs: float = setting(10, "at most this many passes over the mixture (10)")
    batch: int = setting(16, "rows a device and step (16)")
    accumulation: int = setting(1, "micro batches a step (16: 1,024 rows on 4 devices)")
    learning_rate: Annotated[float, Ge(0)] = setting(3e-4, "peak learning rate (3e-4)")
    schedule: str = setting("cosine", "learning-rate schedule (cosine, as its log says)")
    warmup: float = setting(20, "warm-up, in steps; below 1 a share of the training (20)")
    weight_decay: float = setting(0.0, "AdamW's weight decay (0)")
    max_grad_norm: float = setting(1.0, "gradient clipping (1.0)")
    softmax: Literal["vocabulary", "catalogue"] = setting(
        "vocabulary",
        "a SID token's probability over the whole vocabulary, or over those that continue a SID (vocabulary)",
    )
    level_weights: list[float] = setting([], "weight of each SID level's loss, from the first; empty: 1 each")
    average: Annotated[float, Ge(0), Lt(1)] = setting(
        0.0, "decay a step of the running average of weights that is probed and kept; 0: the last weights (0)"
    )
    label_smoothing: float = setting(0.0, "label smoothing, over the same tokens as the softmax (0)")
    embedding_dropout: float = setting(0.0, "dropout of token embeddings (0)")
    cutoff: int = setting(512, "longest sequence, in tokens; the last ones are kept (512)")
    text_characters: int = setting(500, "descriptions are cut to this length, in characters", DESCRIBED)
    eval_every: Annotated[float, Gt(0), Le(1)] = setting(
        0.05, "probe and checkpoint at this share of the training; 1: at its end (0.05)"
    )
    patience: Annotated[int, Ge(0)] = setting(3, "probes without a better one before stopping early; 0: never (3)")
    select: Literal["NDCG@10", "HR@10", "loss"] = setting(
        "NDCG@10", "valid metric that picks the best checkpoint (loss)"
    )
    loss_samples: Annotated[int, Ge(0)] = setting(
        0, "valid samples whose loss selects, where loss does, drawn once; 0: all (0)",
        ("select is loss", lambda s: s.select == "loss"),
    )  # fmt: skip


class SftTrainer:
    """The SFT stage of a language model that recommends; a method's own may add tasks or answer otherwise."""

    Settings: ClassVar[type] = SftSettings
    small: ClassVar[dict[str, Any]] = {
        "epochs": 0.5, "batch": 64, "accumulation": 1, "eval_every": 1.0, "warmup": 0.1, "precision": "float32",
        "deepspeed": "", "log_every": 1, "loss_samples": 40,
    }  # fmt: skip
    main: ClassVar[str] = "next_sid"
    """The task that is asked for at test, and whose loss valid has."""
    draws: ClassVar[tuple[str, ...]] = ()
    """The tasks among :data:`~harness.language.prompts.DRAWN_TASKS` that it has rows of."""
    continues: ClassVar[tuple[str, ...]] = finetuning.CONTINUES
    """What may differ where a stage goes on from its checkpoint."""
    distributed: ClassVar[bool] = True

    def __init__(self, settings: Any):
        self.settings = settings
        self._built: tuple[Any, Any] | None = None

    def check(self, context: Context) -> None:
        """Settings must fit the prompts, and leave something to train on."""
        context, _ = on_its_rows(context, self.settings)
        settings, prompts = self.settings, self.prompts(context)
        if context.backbone is None and context.previous is None:
            raise BenchError("stage sft needs a backbone; add --set backbone=nano")
        finetuning.check(context, settings)
        if settings.select != "loss":
            needs_probed(context.probe, settings.select, "stage sft")
        if settings.packed and prompts.style == "instruction":
            raise BenchError(
                "sft.packed needs the compact prompts, where history and answer are one chain; set sft.packed=false"
            )
        new_tokens.check_start(context, settings, self.sid_tokens(context) if context.previous is None else [])
        levels = context.semantic_ids.n_levels if context.semantic_ids is not None else 0
        if settings.level_weights and len(settings.level_weights) != levels:
            raise BenchError(f"sft.level_weights has {len(settings.level_weights)} weights, a SID has {levels} levels")
        rate = settings.tasks.get(self.main, 0)
        if settings.packed and rate not in (0, 1):
            raise BenchError(f"sft.tasks.{self.main} = {rate}, but packed rows hold each sample once; set it to 1")
        for task, share in settings.tasks.items():
            if share and task in DRAWN_TASKS and task not in self.draws:
                raise BenchError(f"sft.tasks.{task}: this stage has no such rows; only minionerec-sft draws them")
        drawn = any(settings.tasks.get(task) for task in self.draws)
        if not drawn and not prompts.examples(settings.tasks, context.train, settings.text_characters, context.seed):
            raise BenchError("stage sft has no row to train on; raise a task's rate (--set sft.tasks.next_sid=1)")
        if context.previous is None:
            self._check_backbone(context, prompts)

    def _check_backbone(self, context: Context, prompts: Prompts) -> None:
        """The model must decode as a plain forward pass does, and its text tokenizer know a SID's tokens as such."""
        from harness.decoding import trial

        model, text_tokenizer = self._built = self._fresh(context, prompts)
        name = type(model).__name__
        if weight_type(model) == torch.float16 and context.device == "cpu":
            raise BenchError("backbone.dtype = float16 does not train on a CPU; set backbone.dtype=float32 or bfloat16")
        new_tokens.check(text_tokenizer, self.sid_tokens(context))
        generative = self.generative(prompts, model, text_tokenizer)
        rows = np.sort(np.argsort(-context.train.histories.lengths, kind="stable")[:LONGEST])
        longest = max(len(ids) for ids in generative.encode(context.train.take(rows).histories))
        most = getattr(model.config, "max_position_embeddings", None)
        if isinstance(most, int) and 0 < most < longest + 1:
            raise BenchError(
                f"the longest prompt has {longest} tokens and {name} {most} positions; set sft.cutoff lower, or take a "
                "backbone with more (nano: backbone.positions)"
            )
        verdict = trial.of(model.to(context.device), longest + 1)
        if verdict.by_rows:
            context.progress.say(f"{name} is decoded row by row, which is slower: {verdict.reason}")

    def fit(self, context: Context) -> dict[str, Any]:
        """Train on the mixture; leave the best checkpoint's model in the stage directory."""
        settings = self.settings
        context, told = on_its_rows(context, settings)
        prompts = self.prompts(context)
        model, text_tokenizer = self._start(context, prompts)
        vectors = world.once(lambda: start_vectors(context, settings))
        if vectors is not None:
            new_tokens.start(model, text_tokenizer, context.needs_semantic_ids("sft.start"), vectors)
        rows = training_rows.Rows(
            self._rows(context.train, prompts, text_tokenizer, context.seed),
            self._drawn(context, prompts, text_tokenizer),
        )
        probed = context.valid.drawn(settings.loss_samples, context.seed)
        asked = self.prompts(context).first_wording()  # as at test
        valid = example_rows(
            asked.examples({self.main: 1.0}, probed, settings.text_characters, context.seed)[self.main],
            prompts, text_tokenizer, settings.cutoff, settings.softmax == "vocabulary",
            self.answer_end(prompts, text_tokenizer),
        )  # fmt: skip
        if settings.embedding_dropout:
            dropout = settings.embedding_dropout
            model.get_input_embeddings().register_forward_hook(
                lambda layer, _, out: functional.dropout(out, dropout, layer.training)
            )
        larger = settings.select != "loss"
        what = trained(model)
        split(model)  # taken apart before a trainer wraps it
        trainer = _SftTrainer(
            context=context,
            as_model=lambda policy: self.generative(prompts, policy, text_tokenizer),
            precision=settings.precision,
            loss=self.answer_loss(context, prompts, text_tokenizer),
            probed=larger,
            average=settings.average,
            model=model,
            args=TrainingArguments(
                **finetuning.arguments(
                    context, settings, per_device_train_batch_size=settings.batch,
                    per_device_eval_batch_size=4 * settings.batch, prediction_loss_only=True,
                    gradient_accumulation_steps=settings.accumulation, greater_is_better=larger,
                    metric_for_best_model=f"eval_{settings.select}",
                )
            ),
            train_dataset=rows,
            eval_dataset=training_rows.Rows(sorted(valid, key=lambda row: len(row.tokens))),
            data_collator=lambda batch: training_rows.collate(batch, text_tokenizer.pad_token_id),
            callbacks=[
                finetuning.Observer(context, "sft"),
                finetuning.Patience(settings.patience, settings.select, larger),
            ],
        )  # fmt: skip
        start = None
        if larger and context.previous is not None:
            start = checkpoints.start_metric(
                context, self.generative(prompts, model.eval(), text_tokenizer), settings.select
            )
        started = time.monotonic()
        finetuning.train(trainer, context)
        facts = checkpoints.keep_best(trainer, text_tokenizer, context, start, settings.select)
        return facts | {
            "rows": len(rows),
            **({"rows that lost their beginning to the cutoff": rows.cut} if rows.cut else {}),
            "parameters": sum(p.numel() for p in model.parameters()),
            "trained": what,
            "train seconds": round(time.monotonic() - started, 1),
            **finetuning.facts(trainer),
            **told,
            **start_facts(context, settings, vectors),
        }

    def load(self, context: Context) -> Any:
        """The trained model."""
        model, text_tokenizer = models.load_model(context.directory, context.device, context.backbone)
        return self.generative(self.prompts(context), model.eval(), text_tokenizer)

    def answer_loss(self, context: Context, prompts: Prompts, text_tokenizer: Any) -> AnswerLoss:
        """The loss at the answers' tokens."""
        settings = self.settings
        sids = prompts.semantic_ids
        trie = Trie(sid_token_ids(text_tokenizer, sids), context.device, end=sid_end(text_tokenizer, sids))
        return AnswerLoss(trie, settings.softmax, settings.level_weights, settings.label_smoothing)

    def sid_tokens(self, context: Context) -> list[str]:
        """The SID tokens that the backbone must know."""
        return context.needs_semantic_ids("stage sft").tokens

    def prompts(self, context: Context) -> Prompts:
        """The prompts of the stage's context, in the method's wordings."""
        return Prompts.of(context)

    def generative(self, prompts: Prompts, model: Any, text_tokenizer: Any) -> Any:
        """The model as the recipe's decoder takes it."""
        return prompts.generative(model, text_tokenizer, self.settings.cutoff)

    def _start(self, context: Context, prompts: Prompts) -> tuple[Any, Any]:
        """The model to train: the last stage's, or a fresh backbone."""
        if context.previous is not None:
            tokens = [*prompts.special_tokens, *self.sid_tokens(context)]
            model, text_tokenizer = models.model_before(context, tokens)
        else:
            (model, text_tokenizer), self._built = self._built or self._fresh(context, prompts), None
        models.set_sid_softmax(model, self.settings.softmax)
        return model, text_tokenizer

    def _fresh(self, context: Context, prompts: Prompts) -> tuple[Any, Any]:
        """The backbone's model, with the tokens that prompts and answers need."""
        assert context.backbone is not None  # as check has made sure
        texts = [t for t in (*context.items.titles, *context.items.descriptions) if t]
        return context.backbone.build(self.sid_tokens(context), prompts.special_tokens, texts, context.seed)

    def _rows(self, samples: Samples, prompts: Prompts, text_tokenizer: Any, seed: int) -> list[Row]:
        settings = self.settings
        rates = dict(settings.tasks)
        for task in DRAWN_TASKS:
            rates.pop(task, None)
        rows: list[Row] = []
        if settings.packed and rates.get(self.main):
            del rates[self.main]
            rows += self.packed(samples, prompts, text_tokenizer)
        for task, examples in prompts.examples(rates, samples, settings.text_characters, seed).items():
            learn_end = settings.softmax == "vocabulary" or task not in SID_TASKS  # else the end is certain
            end = self.answer_end(prompts, text_tokenizer) if task == self.main else None
            rows += example_rows(examples, prompts, text_tokenizer, settings.cutoff, learn_end, end)
        return rows

    def answer_end(self, prompts: Prompts, text_tokenizer: Any) -> int | None:
        """The token that ends the main task's answer; None: the end of sequence."""
        return None

    def packed(self, samples: Samples, prompts: Prompts, text_tokenizer: Any) -> list[Row]:
        """Rows of the main task, a chain of a user's samples each."""
        return packed_rows(samples, prompts, text_tokenizer, self.settings.cutoff)

    def _drawn(self, context: Context, prompts: Prompts, text_tokenizer: Any) -> training_rows.Drawn | None:
        """Rows that are drawn anew each epoch; a method's own."""
        return None


class _SftTrainer(finetuning.ProbeSelection, Trainer):
    """Transformers' trainer with the loss computed at answer tokens only."""

    def __init__(self, *, loss: AnswerLoss, probed: bool, **trainer: Any):
        """`probed`: whether the valid metric selects, not the loss on valid."""
        self.loss, self.probed = loss, probed
        super().__init__(**trainer)

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """The probe, or with ``select: loss`` the mean loss on valid; of the averaged weights where there are such."""
        if self.probed:
            return super().evaluate()
        with self.averaged():
            return self._evaluate_loss()

    @torch.no_grad()
    def _evaluate_loss(self) -> dict[str, float]:
        """The mean over valid's labelled tokens, however they are batched; the processes share the batches."""
        model, rows, size = self.model, self.eval_dataset, self.args.per_device_eval_batch_size
        assert isinstance(model, torch.nn.Module) and isinstance(rows, training_rows.Rows)
        found: list[tuple[int, float, int]] = []
        with modes_kept(model):
            model.eval()
            for number in world.share(math.ceil(len(rows) / size)):
                batch = [rows[place] for place in range(number * size, min(len(rows), (number + 1) * size))]
                collate: Any = self.data_collator
                inputs = self._prepare_inputs(collate(batch))
                total = float(self._total(model, inputs["input_ids"], inputs["labels"]))
                found.append((number, total, int((inputs["labels"] != IGNORED).sum())))
        found = sorted(world.collected(found))
        metrics = {"eval_loss": sum(total for _, total, _ in found) / max(1, sum(tokens for *_, tokens in found))}
        if not math.isfinite(metrics["eval_loss"]):
            raise NotFinite(f"{self.context.directory.name}: the loss on valid is {metrics['eval_loss']}")
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross-entropy at the tokens with a label; logits are computed nowhere else."""
        ids, labels = inputs["input_ids"], inputs["labels"]

        total = self._total(model, ids, labels)
        if num_items_in_batch is None:
            loss = total / (labels != IGNORED).sum().clamp(min=1)
        else:  # counted over all processes, whose gradients are averaged
            loss = total * self.accelerator.num_processes / num_items_in_batch
        return (loss, {"loss": loss}) if return_outputs else loss

    def _total(self, model: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss summed over labelled tokens."""

        def work(inner: Any) -> torch.Tensor:
            lm = SplitModel(inner)
            with self.autocast():  # body and head are called past the forward pass that accelerate wraps
                return self.loss(lm, lm.states(ids), ids, labels, inner.training)

        return wrapped.within(model, work)

    def _get_train_sampler(self, train_dataset: Any = None) -> Shares:
        rows: Any = self.train_dataset
        batch, size = self.args.per_device_train_batch_size, self.args.world_size
        order = LengthBuckets(rows.lengths, batch * size, self.args.seed)
        return Shares(order, batch, self.args.process_index, size, [rows])

    def get_train_dataloader(self) -> Any:
        """Its sampler gives each process its own rows."""
        return wrapped.own_shares(super().get_train_dataloader())
