"""The stage ``sdpo``: prefer the bought item over several others, starting from an SFT model that is the reference.

The reference's log-probabilities are computed once, before training, so no second model is held. A prompt is computed
once for its preferred answer and all negatives. The model first (what a row is), the training after it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from transformers import Trainer, TrainingArguments

from harness import training
from harness.components import Context, setting
from harness.decoding.layout import pad_left
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.generative import GenerativeModel, batches
from harness.language.prompts import Prompts
from plugins.sdpo.loss import sdpo_loss
from plugins.sdpo.negatives import Kind, drawn, hard


@dataclass(frozen=True)
class Settings:
    """Settings of the preference stage (in brackets: the paper's code)."""

    negatives: Annotated[int, Ge(1)] = setting(7, "negatives a sample (3; the paper varies them up to 15)")
    draw: Kind = setting("uniform", "uniform, by popularity in train, or hard: the SFT model's best guesses (uniform)")
    beta: Annotated[float, Gt(0)] = setting(1.0, "how far the policy may go from the reference (1)")
    epochs: float = setting(1.0, "passes over the train samples (3)")
    batch: int = setting(64, "samples a device and step (4, and 32 by accumulation on 4 devices)")
    accumulation: int = setting(1, "micro batches a step")
    learning_rate: float = setting(1e-5, "peak learning rate (1e-5)")
    schedule: str = setting("cosine", "learning-rate schedule (cosine)")
    warmup: float = setting(0.05, "warm-up, in steps; below 1 a share of the training (0.05)")
    weight_decay: float = setting(0.0, "AdamW's weight decay (0)")
    max_grad_norm: float = setting(0.3, "gradient clipping (0.3)")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept (512)")
    eval_every: float = setting(0.1, "probe and checkpoint at this share of the training")
    select: Literal["NDCG@10", "HR@10"] = setting(
        "NDCG@10", "valid metric that picks the best checkpoint, the start included (its lowest loss)"
    )
    batch_tokens: int = setting(16384, "positions computed at once for the reference; bounds memory")
    precision: Literal["float32", "bfloat16"] = setting("float32", "autocast precision (bfloat16)")
    gradient_checkpointing: bool = setting(False, "recompute activations to save memory")
    deepspeed: str = setting("", "path of a DeepSpeed config; empty: none")
    log_every: int = setting(20, "steps between logged numbers")


@dataclass(frozen=True)
class Preference:
    """A sample: its prompt's tokens, the preferred answer and the negatives, and the reference's log-probabilities.

    Attributes:
        answers: ``[1 + negatives, levels]`` token ids, the preferred one first.
        reference: ``[1 + negatives]``.
    """

    prompt: list[int]
    answers: np.ndarray
    reference: np.ndarray


class SdpoTrainer:
    """Stage trainer ``sdpo``."""

    Settings = Settings

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, context: Context) -> None:
        """There must be a stage before, and more SIDs than negatives."""
        semantic_ids = context.needs_semantic_ids("stage sdpo")
        if context.previous is None:
            raise BenchError("stage sdpo needs a stage before it, its start and reference; put an SFT stage first")
        most = len(semantic_ids.distinct) - 1
        if self.settings.negatives > most:
            raise BenchError(
                f"sdpo.negatives = {self.settings.negatives}, but a target has {most} other SIDs; set {most} or less"
            )

    def fit(self, context: Context) -> dict[str, Any]:
        """Train; leave the best model by valid in the stage directory, be it the start."""
        settings, prompts = self.settings, Prompts.of(context)
        assert context.previous is not None  # as check has made sure
        model, text_tokenizer = training.load_model(context.previous, context.device)
        training.disable_dropout(model)  # policy and reference must agree where nothing was learned
        generative = prompts.generative(model.eval(), text_tokenizer, settings.cutoff)
        start = training.start_metric(context, generative)
        trie = Trie(generative.sid_tokens, context.device)
        catalogue = trie if generative.renormalise else None
        rows = self._rows(context, generative, trie, catalogue)
        trainer = _SdpoTrainer(
            model=model,
            args=TrainingArguments(
                **training.arguments(
                    context, settings, per_device_train_batch_size=settings.batch, greater_is_better=True,
                    gradient_accumulation_steps=settings.accumulation, metric_for_best_model=f"eval_{settings.select}",
                )
            ),
            train_dataset=rows,
            eval_dataset=rows[:1],
            data_collator=lambda batch: collate(batch, generative.pad),
            callbacks=[training.Observer(context, "sdpo")],
        )  # fmt: skip
        trainer.context, trainer.beta, trainer.catalogue = context, settings.beta, catalogue
        trainer.as_model = lambda policy: prompts.generative(policy, text_tokenizer, settings.cutoff)
        started = time.monotonic()
        training.train(trainer, context)
        facts = training.keep_best(trainer, text_tokenizer, context, start, settings.select)
        return facts | {"rows": len(rows), "train seconds": round(time.monotonic() - started, 1)}

    def load(self, context: Context) -> GenerativeModel:
        """The trained model."""
        model, text_tokenizer = training.load_model(context.directory, context.device)
        return Prompts.of(context).generative(model.eval(), text_tokenizer, self.settings.cutoff)

    def _rows(
        self, context: Context, generative: GenerativeModel, trie: Trie, catalogue: Trie | None
    ) -> list[Preference]:
        """The train samples with their negatives and the reference's log-probabilities of all answers."""
        encoded = generative.encode(context.train.histories)
        of_item = generative.semantic_ids.of_item
        targets = of_item[context.train.targets].astype(np.int64)
        sids = np.column_stack([targets, self._negatives(context, generative, trie, encoded, targets)])
        answers = generative.sid_tokens[sids]  # [samples, 1 + negatives, levels]
        reference = self._reference(context, generative, encoded, answers, catalogue)
        return [Preference(*row) for row in zip(encoded, answers, reference, strict=True)]

    def _negatives(
        self, context: Context, generative: GenerativeModel, trie: Trie, encoded: list[list[int]], targets: np.ndarray
    ) -> np.ndarray:
        settings = self.settings
        rng = np.random.default_rng([context.seed, 7])
        n_sids = len(generative.semantic_ids.distinct)
        if settings.draw == "uniform":
            return drawn(targets, settings.negatives, np.ones(n_sids), rng)
        if settings.draw == "popularity":
            return drawn(targets, settings.negatives, np.bincount(targets, minlength=n_sids) + 1e-6, rng)
        guesses = self._over(
            context, generative, encoded, settings.negatives + 1,
            lambda ids, mask, rows: _guesses(generative, ids, mask, trie, settings.negatives + 1), "guess",
        )  # fmt: skip
        return hard(targets, guesses.astype(np.int64), settings.negatives)

    def _reference(
        self, context: Context, generative: GenerativeModel, encoded: list[list[int]], answers: np.ndarray,
        catalogue: Trie | None,
    ) -> np.ndarray:  # fmt: skip
        def scored(ids: torch.Tensor, mask: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
            tokens = torch.from_numpy(answers[rows]).to(ids.device)
            return answer_log_probs(generative.model, ids, mask, tokens, catalogue)

        return self._over(context, generative, encoded, answers.shape[1], scored, "reference")

    def _over(
        self, context: Context, generative: GenerativeModel, encoded: list[list[int]], width: int, work: Any, label: str
    ) -> np.ndarray:
        """Work of every sample ``[samples, width]``, batch by batch within the token budget, without gradients."""
        found = np.empty((len(encoded), width), dtype=np.float32)
        extra = width * (generative.sid_tokens.shape[1] - 1)
        with torch.no_grad(), context.progress.bar(len(encoded), label, "sample") as bar:
            for rows in batches([len(prompt) for prompt in encoded], self.settings.batch_tokens, extra):
                ids, mask = pad_left([encoded[row] for row in rows], generative.pad, context.device)
                found[rows] = work(ids, mask, rows).float().cpu().numpy()
                bar.update(len(rows))
        return found


def answer_log_probs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, answers: torch.Tensor, catalogue: Trie | None
) -> torch.Tensor:
    """Log-probabilities ``[batch, answers]`` of whole answers ``[batch, answers, levels]``: sums, not means.

    A SID has no end token here: with one length for all, the end is certain. `catalogue`: see
    :func:`harness.decoding.shared_prompt.completion_log_probs`.
    """
    return completion_log_probs(model, ids, mask, answers, trie=catalogue)[0].sum(-1)


def _guesses(generative: GenerativeModel, ids: torch.Tensor, mask: torch.Tensor, trie: Trie, n: int) -> torch.Tensor:
    from harness.decoding.beam import beam_search

    return beam_search(generative.model, ids, mask, trie, n, generative.renormalise).leaves


def collate(rows: list[Preference], pad: int) -> dict[str, torch.Tensor]:
    """Prompts padded on the left, answers and the reference's log-probabilities."""
    ids, mask = pad_left([row.prompt for row in rows], pad, "cpu")
    return {
        "input_ids": ids,
        "mask": mask,
        "answers": torch.from_numpy(np.stack([row.answers for row in rows])),
        "reference": torch.from_numpy(np.stack([row.reference for row in rows])),
    }


class _SdpoTrainer(training.ProbeSelection, Trainer):
    """Transformers' trainer with the softmax preference loss."""

    beta = 1.0
    catalogue: Trie | None = None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean over the samples; what the policy has learned to prefer is logged beside it."""
        log_probs = answer_log_probs(model, inputs["input_ids"], inputs["mask"], inputs["answers"], self.catalogue)
        losses = sdpo_loss(log_probs, inputs["reference"], self.beta)
        if self.state.global_step % max(1, int(self.args.logging_steps)) == 0 and model.training:
            self._note((log_probs - inputs["reference"]).detach() * self.beta)
        loss = losses.mean()
        return (loss, {"loss": losses}) if return_outputs else loss

    def _note(self, rewards: torch.Tensor) -> None:
        """The implicit rewards: of the preferred answer, its margin over the best negative, and how often it leads."""
        margin = rewards[:, 0] - rewards[:, 1:].amax(1)
        self.context.log(
            {
                "rewards/chosen": rewards[:, 0].mean().item(),
                "rewards/margin": margin.mean().item(),
                "rewards/accuracy": (margin > 0).float().mean().item(),
            },
            self.state.global_step,
        )
