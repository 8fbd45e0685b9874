"""The stage ``sdpo``: prefer the bought item over several others, starting from an SFT model that is the reference.

The reference's log-probabilities are computed once, before training, so no second model is held. A prompt is computed
once for its preferred answer and all negatives. The model first (what a row is), the training after it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from accelerate.data_loader import SeedableRandomSampler
from annotated_types import Ge, Gt
from transformers import Trainer, TrainingArguments

from harness.components import Context
from harness.decoding.beam import beam_search
from harness.decoding.generator import batches, trie_of
from harness.decoding.padding import pad_left
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.evaluation.validation import needs_probed
from harness.language import checkpoints, finetuning, models, wrapped
from harness.language.holdout import RowSettings, on_its_rows
from harness.language.prompts import Prompts
from harness.language.titles import TitleModel, Titles
from harness.networks.batches import NOBODY, Shares
from harness.networks.trained import trained
from harness.settings import setting
from harness.world import world

from .loss import sdpo_loss
from .negatives import Kind, drawn, hard


@dataclass(frozen=True)
class Settings(RowSettings, finetuning.FineTuningSettings):
    """Settings of the preference stage (in brackets: the paper's code)."""

    answer: Literal["sid", "title"] = setting("sid", "what is preferred: the item's SID, or its title (title)")
    negatives: Annotated[int, Ge(1)] = setting(7, "negatives a sample (3; the paper varies them up to 15)")
    draw: Kind = setting("uniform", "uniform, by popularity in train, or hard: the SFT model's best guesses (uniform)")
    beta: Annotated[float, Gt(0)] = setting(1.0, "how far the policy may go from the reference (1)")
    epochs: float = setting(1.0, "passes over the train samples (3)")
    batch: int = setting(64, "samples a device and step (4, and 32 by accumulation on 4 devices)")
    accumulation: int = setting(1, "micro batches a step")
    select: Literal["NDCG@10", "HR@10"] = setting(
        "NDCG@10", "valid metric that picks the best checkpoint, the start included (its lowest loss)"
    )
    batch_tokens: int = setting(16384, "positions computed at once for the reference; bounds memory")


@dataclass(frozen=True)
class Preference:
    """A sample: its prompt's tokens, the preferred answer and the negatives, and the reference's log-probabilities.

    Attributes:
        answers: ``[1 + negatives, longest]`` token ids, the preferred one first.
        reference: ``[1 + negatives]``.
        learned: whether it counts.
    """

    prompt: list[int]
    answers: np.ndarray
    reference: np.ndarray
    learned: bool = True


class Preferences(torch.utils.data.Dataset):
    """Preferences as a torch dataset."""

    def __init__(self, rows: list[Preference]):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Preference:
        if index == NOBODY:  # a row like any other, of which nothing is learned
            return replace(self.rows[0], learned=False)
        return self.rows[index]


class SdpoTrainer:
    """Stage trainer ``sdpo``."""

    Settings = Settings
    distributed = True
    continues = finetuning.CONTINUES
    small = {"epochs": 0.2, "batch": 64, "accumulation": 1, "negatives": 2, "eval_every": 1.0, "log_every": 1,
             "precision": "float32", "deepspeed": ""}  # fmt: skip

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, context: Context) -> None:
        """There must be a stage before, and more answers than negatives."""
        if context.previous is None:
            raise BenchError("stage sdpo needs a stage before it, its start and reference; put an SFT stage first")
        finetuning.check(context, self.settings)
        on_its_rows(context, self.settings)
        needs_probed(context.probe, self.settings.select, "stage sdpo")
        if self.settings.answer == "sid":
            most = len(context.needs_semantic_ids("stage sdpo").distinct) - 1
        else:
            most = len(Titles.of(context.items).texts) - 1
        if self.settings.negatives > most:
            raise BenchError(
                f"sdpo.negatives = {self.settings.negatives}, but a target has {most} others beside it; set it lower"
            )

    def fit(self, context: Context) -> dict[str, Any]:
        """Train; leave the best model by valid in the stage directory, be it the start."""
        settings = self.settings
        context, told = on_its_rows(context, settings)
        model, text_tokenizer = models.model_before(context, self._tokens(context))
        what = trained(model)
        models.disable_dropout(model)  # policy and reference must agree where nothing was learned
        generative = self._generative(context, model.eval(), text_tokenizer)
        start = checkpoints.start_metric(context, generative, settings.select)
        answers = Answers.of(generative, context.device)
        rows = Preferences(self._rows(context, generative, answers))
        trainer = _SdpoTrainer(
            context=context,
            as_model=lambda policy: self._generative(context, policy, text_tokenizer),
            precision=settings.precision,
            beta=settings.beta,
            answers=answers,
            model=model,
            args=TrainingArguments(
                **finetuning.arguments(
                    context, settings, per_device_train_batch_size=settings.batch, greater_is_better=True,
                    gradient_accumulation_steps=settings.accumulation, metric_for_best_model=f"eval_{settings.select}",
                )
            ),
            train_dataset=rows,
            eval_dataset=Preferences(rows.rows[:1]),
            data_collator=lambda batch: collate(batch, generative.pad),
            callbacks=[finetuning.Observer(context, "sdpo")],
        )  # fmt: skip
        started = time.monotonic()
        finetuning.train(trainer, context)
        facts = checkpoints.keep_best(trainer, text_tokenizer, context, start, settings.select)
        seconds = round(time.monotonic() - started, 1)
        return facts | {"rows": len(rows), "trained": what, "train seconds": seconds} | told | finetuning.facts(trainer)

    def load(self, context: Context) -> Any:
        """The trained model."""
        model, text_tokenizer = models.load_model(context.directory, context.device, context.backbone)
        return self._generative(context, model.eval(), text_tokenizer)

    def _tokens(self, context: Context) -> list[str]:
        """The tokens whose rows a frozen backbone trains."""
        special = Prompts.with_or_without_sids(context).special_tokens
        return [
            *special,
            *(context.semantic_ids.tokens if self.settings.answer == "sid" and context.semantic_ids else []),
        ]

    def _generative(self, context: Context, model: Any, text_tokenizer: Any) -> Any:
        """The model as the recipe's decoder takes it, asked for SIDs or for titles."""
        prompts = Prompts.with_or_without_sids(context)
        if self.settings.answer == "title":
            return prompts.titled(model, text_tokenizer, self.settings.cutoff)
        return prompts.generative(model, text_tokenizer, self.settings.cutoff)

    def _rows(self, context: Context, generative: Any, answers: Answers) -> list[Preference]:
        """The train samples with their negatives and the reference's log-probabilities of all answers.

        A sample whose target cannot be written (it has no title) has no row.
        """
        targets = answers.of_item[context.train.targets].astype(np.int64)
        kept = np.flatnonzero(targets >= 0)
        encoded = generative.encode(context.train.take(kept).histories)
        targets = targets[kept]
        chosen = np.column_stack([targets, self._negatives(context, generative, answers, encoded, targets)])
        tokens = answers.tokens[chosen]  # [samples, 1 + negatives, longest]

        half = self.settings.precision == "bfloat16"  # the policy's precision, or the two would not agree at the start

        def scored(ids: torch.Tensor, mask: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
            with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=half):
                wanted = torch.from_numpy(tokens[rows]).to(ids.device)
                return answer_log_probs(generative.model, ids, mask, wanted, answers)

        reference = self._over(context, generative, encoded, tokens.shape[1:], scored, "reference")
        return [Preference(*row) for row in zip(encoded, tokens, reference, strict=True)]

    def _negatives(
        self, context: Context, generative: Any, answers: Answers, encoded: list[list[int]], targets: np.ndarray
    ) -> np.ndarray:
        settings, n = self.settings, len(answers.tokens)
        rng = np.random.default_rng([context.seed, 7])
        if settings.draw == "uniform":
            return drawn(targets, settings.negatives, np.ones(n), rng)
        if settings.draw == "popularity":
            return drawn(targets, settings.negatives, np.bincount(targets, minlength=n) + 1e-6, rng)
        width = settings.negatives + 1

        def guessed(ids: torch.Tensor, mask: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
            renormalise = answers.catalogue is not None
            return beam_search(generative.model, ids, mask, answers.trie, width, renormalise).leaves

        shape = (width, answers.tokens.shape[1])
        guesses = self._over(context, generative, encoded, shape, guessed, "guess")
        return hard(targets, guesses.astype(np.int64), settings.negatives)

    def _over(
        self, context: Context, generative: Any, encoded: list[list[int]], shape: tuple[int, ...], work: Any, label: str
    ) -> np.ndarray:
        """Work of every sample ``[samples, answers]``, batch by batch within the token budget, without gradients."""
        width, longest = shape
        values = np.empty((len(encoded), width), dtype=np.float64)
        found: list[tuple[Any, np.ndarray]] = []
        with torch.no_grad(), context.progress.bar(len(encoded), label, "sample") as bar:
            extra = width * (longest - 1)
            parts = list(batches([len(prompt) for prompt in encoded], self.settings.batch_tokens, extra))
            for rows in (parts[number] for number in world.share(len(parts))):
                ids, mask = pad_left([encoded[row] for row in rows], generative.pad, context.device)
                found.append((rows, work(ids, mask, rows).double().cpu().numpy()))
                bar.update(len(rows))
        for rows, part in world.collected(found):
            values[rows] = part
        return values.astype(np.float32)


@dataclass(frozen=True)
class Answers:
    """All that can be answered: SIDs, or titles.

    Attributes:
        tokens: ``[n, longest]`` token ids; titles are filled up with `end`.
        of_item: ``[n_items]`` each item's answer, -1 where it has none.
        trie: of the answers.
        catalogue: the trie, where probabilities are over the tokens that continue a SID; None: over the vocabulary.
        end: the token that ends an answer; None: all are of one length, and their end is certain.
    """

    tokens: np.ndarray
    of_item: np.ndarray
    trie: Trie
    catalogue: Trie | None = None

    @classmethod
    def of(cls, generative: Any, device: str) -> Answers:
        """The answers of a model."""
        if isinstance(generative, TitleModel):
            trie = Trie(generative.tokens, device, end=generative.end)
            return cls(generative.tokens, generative.titles.of_item, trie, None)
        trie = trie_of(generative, device)
        semantic_ids = generative.semantic_ids
        return cls(generative.sid_tokens, semantic_ids.of_item, trie, trie if generative.renormalise else None)


def answer_log_probs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor, answers: Answers
) -> torch.Tensor:
    """Log-probabilities ``[batch, answers]`` of whole answers ``[batch, answers, longest]``: sums, not means.

    An answer counts up to and with its end, where it has one: SIDs of one length for all have none.
    """
    filler = answers.trie.filler(tokens)
    log_probs = completion_log_probs(model, ids, mask, tokens, trie=answers.catalogue, filler=filler)[0]
    return log_probs.sum(-1)


def collate(rows: list[Preference], pad: int) -> dict[str, torch.Tensor]:
    """Prompts padded on the left, answers and the reference's log-probabilities."""
    ids, mask = pad_left([row.prompt for row in rows], pad, "cpu")
    return {
        "input_ids": ids,
        "mask": mask,
        "answers": torch.from_numpy(np.stack([row.answers for row in rows])),
        "reference": torch.from_numpy(np.stack([row.reference for row in rows])),
        "learned": torch.tensor([row.learned for row in rows]),
    }


class _SdpoTrainer(finetuning.ProbeSelection, Trainer):
    """Transformers' trainer with the softmax preference loss."""

    def __init__(self, *, beta: float, answers: Answers, **trainer: Any):
        self.beta, self.known = beta, answers
        super().__init__(**trainer)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean over the step's samples; what the policy has learned to prefer is logged beside it."""

        def work(inner: Any) -> torch.Tensor:
            with self.autocast():  # body and head are called past the forward pass that accelerate wraps
                return answer_log_probs(inner, inputs["input_ids"], inputs["mask"], inputs["answers"], self.known)

        log_probs = wrapped.within(model, work)
        losses = sdpo_loss(log_probs.float(), inputs["reference"], self.beta)
        if self.state.global_step % max(1, int(self.args.logging_steps)) == 0 and torch.is_grad_enabled():
            self._note((log_probs - inputs["reference"]).detach() * self.beta)
        total = (losses * inputs["learned"]).sum()
        # counted over all processes, whose gradients are averaged
        loss = (
            total * self.accelerator.num_processes / num_items_in_batch if num_items_in_batch else total / len(losses)
        )
        return (loss, {"loss": losses}) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], int]:
        """The micro batches of a step, and how many samples they hold together: a short last one weighs less."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        learned = torch.tensor(sum(int(batch["learned"].sum()) for batch in batches), device=self.accelerator.device)
        return batches, int(self.accelerator.gather(learned).sum())

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.world_size == 1:
            return super()._get_train_sampler(train_dataset)
        order = SeedableRandomSampler(
            self.train_dataset, data_seed=self.args.data_seed
        )  # as accelerate's in one process
        return Shares(order, self.args.per_device_train_batch_size, self.args.process_index, self.args.world_size)

    def get_train_dataloader(self) -> Any:
        """Its sampler gives each process its own rows."""
        return wrapped.own_shares(super().get_train_dataloader())

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
