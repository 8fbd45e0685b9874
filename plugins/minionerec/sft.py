"""Supervised fine-tuning: the task mixture, loss on the answer only, selection on valid.

The model first (what a row is), the training after it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

from torch.nn import functional
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

from harness import training
from harness.batching import LengthBuckets
from harness.components import Context, setting
from harness.data.dataset import Samples
from harness.errors import BenchError
from harness.generative import GenerativeModel, encode
from harness.training import IGNORED, Row
from plugins.minionerec.prompts import Example, Prompts


@dataclass(frozen=True)
class Settings:
    """Settings of the SFT stage (in brackets: the replication's value)."""

    tasks: dict[str, float] = setting({"next_sid": 1.0}, "share of each task's rows in the mixture")
    packed: bool = setting(False, "one row a user for next_sid, the same targets at a fraction of the tokens (no)")
    epochs: float = setting(10, "at most this many passes over the mixture (10)")
    batch: int = setting(16, "rows a device and step (16)")
    accumulation: int = setting(1, "micro batches a step (16: 1,024 rows on 4 devices)")
    learning_rate: float = setting(3e-4, "peak learning rate (3e-4)")
    schedule: str = setting("cosine", "learning-rate schedule (cosine, as its log says)")
    warmup: float = setting(20, "warm-up, in steps; below 1 a share of the training (20)")
    weight_decay: float = setting(0.0, "AdamW's weight decay (0)")
    max_grad_norm: float = setting(1.0, "gradient clipping (1.0)")
    label_smoothing: float = setting(0.0, "label smoothing (0)")
    embedding_dropout: float = setting(0.0, "dropout of token embeddings (0)")
    cutoff: int = setting(512, "longest sequence, in tokens; the last ones are kept (512)")
    text_characters: int = setting(500, "descriptions are cut to this length, in characters")
    eval_every: float = setting(0.05, "probe and checkpoint at this share of the training (0.05)")
    patience: int = setting(3, "probes without a better one before stopping early; 0: never (3)")
    select: Literal["NDCG@10", "HR@10", "loss"] = setting(
        "NDCG@10", "valid metric that picks the best checkpoint (loss)"
    )
    precision: Literal["float32", "bfloat16"] = setting("float32", "autocast precision (bfloat16)")
    gradient_checkpointing: bool = setting(False, "recompute activations to save memory")
    deepspeed: str = setting("", "path of a DeepSpeed config; empty: none")
    log_every: int = setting(20, "steps between logged numbers")


class SftTrainer:
    """Stage trainer ``minionerec-sft``."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, context: Context) -> None:
        """Settings must fit the prompts, and leave something to train on."""
        settings, prompts = self.settings, Prompts.of(context)
        if context.backbone is None and context.previous is None:
            raise BenchError("stage sft needs a backbone; add --set backbone=nano")
        if settings.packed and prompts.style != "compact":
            raise BenchError(
                "sft.packed needs the compact prompts, where history and answer are one chain; set sft.packed=false"
            )
        rate = settings.tasks.get("next_sid", 0)
        if settings.packed and rate not in (0, 1):
            raise BenchError(f"sft.tasks.next_sid = {rate}, but packed rows hold each sample once; set it to 1")
        if not prompts.examples(settings.tasks, context.train, settings.text_characters, context.seed):
            raise BenchError("stage sft has no row to train on; raise a task's rate (--set sft.tasks.next_sid=1)")

    def fit(self, context: Context) -> dict[str, Any]:
        """Train on the mixture; leave the best checkpoint's model in the stage directory."""
        settings = self.settings
        prompts = Prompts.of(context)
        model, text_tokenizer = self._start(context, prompts)
        rows = self._rows(context.train, prompts, text_tokenizer, context.seed)
        valid = _example_rows(
            prompts.examples({"next_sid": 1.0}, context.valid, settings.text_characters, context.seed)["next_sid"],
            prompts, text_tokenizer, settings.cutoff,
        )  # fmt: skip
        if settings.embedding_dropout:
            dropout = settings.embedding_dropout
            model.get_input_embeddings().register_forward_hook(
                lambda layer, _, out: functional.dropout(out, dropout, layer.training)
            )
        larger = settings.select != "loss"
        trainer = _SftTrainer(
            model=model,
            args=TrainingArguments(
                **training.arguments(
                    context, settings, per_device_train_batch_size=settings.batch,
                    per_device_eval_batch_size=4 * settings.batch, prediction_loss_only=True,
                    gradient_accumulation_steps=settings.accumulation, greater_is_better=larger,
                    metric_for_best_model=f"eval_{settings.select}",
                )
            ),
            train_dataset=training.Rows(rows),
            eval_dataset=training.Rows(valid),
            data_collator=lambda batch: training.collate(batch, text_tokenizer.pad_token_id),
            callbacks=[
                training.Observer(context, "sft"),
                *([EarlyStoppingCallback(settings.patience)] if settings.patience else []),
            ],
        )  # fmt: skip
        trainer.context, trainer.smoothing, trainer.probed = context, settings.label_smoothing, larger
        trainer.as_model = lambda policy: prompts.generative(policy, text_tokenizer, settings.cutoff)
        started = time.monotonic()
        training.train(trainer, context)
        training.save_model(trainer.accelerator.unwrap_model(trainer.model), text_tokenizer, context.directory)
        training.prune_checkpoints(context.directory)
        state = trainer.state
        return {
            "steps": state.global_step,
            "epochs": round(state.epoch or 0.0, 3),
            "best step": state.best_global_step,
            f"best valid {settings.select}": state.best_metric,
            "rows": len(rows),
            "parameters": sum(p.numel() for p in model.parameters()),
            "train seconds": round(time.monotonic() - started, 1),
        }

    def load(self, context: Context) -> GenerativeModel:
        """The trained model."""
        model, text_tokenizer = training.load_model(context.directory, context.device)
        return Prompts.of(context).generative(model.eval(), text_tokenizer, self.settings.cutoff)

    def _start(self, context: Context, prompts: Prompts) -> tuple[Any, Any]:
        """The model to train: the last stage's, or a fresh backbone."""
        if context.previous is not None:
            return training.load_model(context.previous, context.device)
        assert context.backbone is not None  # as check has made sure
        texts = [t for t in (*context.items.titles, *context.items.descriptions) if t]
        sid_tokens = context.needs_semantic_ids("stage sft").tokens
        return context.backbone.build(sid_tokens, prompts.special_tokens, texts, context.seed)

    def _rows(self, samples: Samples, prompts: Prompts, text_tokenizer: Any, seed: int) -> list[Row]:
        settings = self.settings
        rates = dict(settings.tasks)
        rows: list[Row] = []
        if settings.packed and rates.get("next_sid"):
            del rates["next_sid"]
            rows += packed_rows(samples, prompts, text_tokenizer)
        for examples in prompts.examples(rates, samples, settings.text_characters, seed).values():
            rows += _example_rows(examples, prompts, text_tokenizer, settings.cutoff)
        return rows


class _SftTrainer(training.ProbeSelection, Trainer):
    """Transformers' trainer with the loss computed at answer tokens only."""

    smoothing = 0.0
    probed = True

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """The probe, or with ``select: loss`` the mean loss on valid."""
        if self.probed:
            return super().evaluate()
        return Trainer.evaluate(self, *arguments, **named)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross-entropy at the tokens with a label; logits are computed nowhere else."""
        labels = inputs["labels"][:, 1:]
        chosen = labels != IGNORED
        bare = self.accelerator.unwrap_model(model)
        if bare is model:
            hidden = getattr(bare, bare.base_model_prefix)(input_ids=inputs["input_ids"], use_cache=False)[0]
            logits = bare.get_output_embeddings()(hidden[:, :-1][chosen])  # [answer tokens, vocab]
        else:  # a wrapper (DDP, DeepSpeed) must see the whole forward pass
            logits = model(input_ids=inputs["input_ids"], use_cache=False).logits[:, :-1][chosen]
        total = functional.cross_entropy(
            logits.float(), labels[chosen], reduction="sum", label_smoothing=self.smoothing if model.training else 0.0
        )
        loss = total / (num_items_in_batch if num_items_in_batch is not None else chosen.sum().clamp(min=1))
        return (loss, {"loss": loss}) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthBuckets:
        lengths = [len(row.tokens) for row in self.train_dataset.rows]
        return LengthBuckets(lengths, self.args.per_device_train_batch_size, self.args.seed)


def packed_rows(samples: Samples, prompts: Prompts, text_tokenizer: Any) -> list[Row]:
    """Chains of a user's samples, each of which the next one's history contains whole.

    One causal pass over a chain computes exactly what one row a sample does: the same targets
    after the same histories. A sample whose history has lost its oldest items starts a chain.
    """
    chains: dict[tuple[Any, ...], list[tuple[list[int], list[int]]]] = defaultdict(list)
    users, targets = samples.users.tolist(), samples.targets.tolist()
    histories = samples.histories.lists()
    for row in sorted(range(len(samples)), key=lambda r: (users[r], len(histories[r]))):
        open_chains = chains.pop((users[row], *histories[row]), [])
        items, learned = open_chains.pop() if open_chains else (list(histories[row]), [])
        if open_chains:
            chains[(users[row], *histories[row])] = open_chains
        chain = ([*items, targets[row]], [*learned, len(items)])
        chains[(users[row], *chain[0])].append(chain)
    semantic_ids = prompts.semantic_ids
    vocabulary = text_tokenizer.get_vocab()
    tokens_of = [[vocabulary[t] for t in _tokens(semantic_ids, item)] for item in range(semantic_ids.n_items)]
    opening = text_tokenizer(prompts.next_sid([[]])[0], add_special_tokens=False)["input_ids"]
    levels = semantic_ids.n_levels
    rows = []
    for items, learned in (chain for group in chains.values() for chain in group):
        tokens = opening + [token for item in items for token in tokens_of[item]]
        labels = [IGNORED] * len(tokens)
        for position in learned:
            start = len(opening) + position * levels
            labels[start : start + levels] = tokens[start : start + levels]
        rows.append(Row(tokens, labels))
    return rows


def _tokens(semantic_ids: Any, item: int) -> list[str]:
    return [semantic_ids.token(level, code) for level, code in enumerate(semantic_ids.codes[item].tolist())]


def _example_rows(examples: list[Example], prompts: Prompts, text_tokenizer: Any, cutoff: int) -> list[Row]:
    """Rows with a label on the answer, its end, and the end of sequence."""
    answers = text_tokenizer([e.answer + prompts.answer_end for e in examples], add_special_tokens=False)["input_ids"]
    questions = encode(text_tokenizer, [e.prompt for e in examples], cutoff)
    end = [text_tokenizer.eos_token_id]
    rows = []
    for question, answer in zip(questions, answers, strict=True):
        tokens = (question + answer + end)[-cutoff:]
        labels = ([IGNORED] * len(question) + answer + end)[-cutoff:]
        rows.append(Row(tokens, labels))
    return rows
