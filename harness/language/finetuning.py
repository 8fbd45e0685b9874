"""What all fine-tuning stages share: response-only rows, checkpoints, best model, curves, resume.

Glue between :class:`harness.components.Context` and a Hugging Face ``Trainer``; it knows neither
prompts nor losses.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState
from transformers.utils import logging as transformers_logging

from harness.components import Context
from harness.errors import BenchError, NotFinite
from harness.language import wrapped, zero
from harness.language.checkpoints import CHECKPOINTS, STATE, Sealing, latest_checkpoint
from harness.language.running_average import AVERAGE, RunningAverage
from harness.networks.trained import frozen_rows
from harness.settings import setting
from harness.world import world

CONTINUES = ("epochs", "learning_rate", "weight_decay", "max_grad_norm")
"""What a stage trained here goes on with from a checkpoint: each step after it reads them."""


@dataclass(frozen=True)
class FineTuningSettings:
    """What every fine-tuning stage has: optimiser, schedule, batches, precision, evaluation.

    A stage's own settings extend it, and give a field again where its paper's value differs.
    """

    epochs: float = setting(1, "passes over the rows")
    batch: int = setting(64, "rows a device and step")
    accumulation: int = setting(1, "micro batches a step")
    learning_rate: Annotated[float, Ge(0)] = setting(1e-5, "peak learning rate (1e-5)")
    schedule: str = setting("cosine", "learning-rate schedule (cosine)")
    warmup: float = setting(0.05, "warm-up, in steps; below 1 a share of the training (0.05)")
    weight_decay: float = setting(0.0, "AdamW's weight decay (0)")
    max_grad_norm: float = setting(0.3, "gradient clipping (0.3)")
    cutoff: int = setting(512, "longest prompt, in tokens; the last ones are kept (512)")
    eval_every: Annotated[float, Gt(0), Le(1)] = setting(
        0.1, "probe and checkpoint at this share of the training; 1: at its end"
    )
    precision: Literal["float32", "bfloat16"] = setting("float32", "autocast precision (bfloat16)")
    gradient_checkpointing: bool = setting(False, "recompute activations to save memory")
    deepspeed: str = setting("", "ZeRO by name (zero1, zero2), or the path of a DeepSpeed configuration; empty: none")
    log_every: int = setting(20, "steps between logged numbers")


class ProbeSelection:
    """For a ``Trainer`` subclass: evaluation is the run's probe, real metrics of constrained decoding on valid.

    A loss or a gradient that is no number ends the stage.
    """

    def __init__(
        self, *, context: Context, as_model: Callable[[Any], Any], precision: str = "", average: float = 0.0,
        **trainer: Any,
    ):  # fmt: skip
        """Make the trainer.

        Args:
            as_model: policy → what the recipe's decoder takes.
            precision: float32, or bfloat16 for autocast; "": accelerate's own, which DeepSpeed switches off.
            average: decay a step of the running average of weights that is probed and kept; 0: the last weights.
            trainer: the arguments of the trainer that this stands before.
        """
        self.context, self.as_model, self.precision = context, as_model, precision
        self.average = RunningAverage(average) if average else None
        if self.average:
            trainer["callbacks"] = [*trainer.get("callbacks", ()), self.average]
        super().__init__(**trainer)
        self.model_accepts_loss_kwargs = True  # our losses divide by the whole step's items themselves

    def autocast(self) -> Any:
        """The stage's precision, for what is called past the forward pass that accelerate wraps; of DeepSpeed too."""
        trainer: Any = self
        if not self.precision:
            return trainer.accelerator.autocast()
        half = self.precision == "bfloat16"
        return torch.autocast(trainer.accelerator.device.type, dtype=torch.bfloat16, enabled=half)

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """A micro batch; its loss must be a number."""
        loss: torch.Tensor = super().training_step(*arguments, **named)  # type: ignore[misc]
        self._must_be_finite("loss", loss)
        return loss

    def _get_grad_norm(self, *arguments: Any, **named: Any) -> Any:
        """The gradient's norm, before the optimiser takes it: it must be a number."""
        norm = super()._get_grad_norm(*arguments, **named)  # type: ignore[misc]
        if norm is not None:
            self._must_be_finite("gradient", norm)
        return norm

    def _must_be_finite(self, what: str, value: Any) -> None:
        if not torch.isfinite(torch.as_tensor(value)).all():
            trainer: Any = self
            step, rate = trainer.state.global_step + 1, trainer._get_learning_rate()
            raise NotFinite(
                f"{self.context.directory.name}: the {what} is {float(value):g} at step {step}, rate {rate:.3g}; "
                "lower the learning rate, or check the backbone's dtype"
            )

    def get_train_dataloader(self) -> Any:
        """Its sampler hears of each epoch."""
        return wrapped.hears_epochs(super().get_train_dataloader())  # type: ignore[misc]

    def create_optimizer(self, *arguments: Any, **named: Any) -> Any:
        """As the trainer's own; the decay of each group is kept for a start from a checkpoint."""
        made = super().create_optimizer(*arguments, **named)  # type: ignore[misc]
        self._decays = [group["weight_decay"] for group in made.param_groups if group["params"]]
        return made

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """A checkpoint's moments under this run's own rate and decay: those of the checkpoint may be another run's."""
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        trainer: Any = self
        if self.average and checkpoint and (Path(checkpoint) / AVERAGE).exists():
            self.average.load(Path(checkpoint), trainer.args.device)
        scheduler = getattr(trainer.lr_scheduler, "scheduler", trainer.lr_scheduler)  # accelerate's stands around it
        if checkpoint and hasattr(scheduler, "lr_lambdas"):  # one on plateaus keeps what it saved
            rate = trainer.args.learning_rate
            scheduler.base_lrs = [rate] * len(scheduler.base_lrs)
            groups = [group for group in trainer.optimizer.param_groups if group["params"]]  # DeepSpeed has no others
            for group, decay in zip(groups, self._decays, strict=True):
                group["weight_decay"], group["initial_lr"] = decay, rate
                group["lr"] = rate * scheduler.lr_lambdas[0](scheduler.last_epoch)  # all groups have one schedule

    def _load_best_model(self) -> None:
        """The best checkpoint's weights into the model, also where an engine trained it that is gone or never was."""
        trainer: Any = self
        engine, trainer.is_deepspeed_enabled = trainer.is_deepspeed_enabled, False
        try:
            super()._load_best_model()  # type: ignore[misc]
        finally:
            trainer.is_deepspeed_enabled = engine
        best = Path(trainer.state.best_model_checkpoint or "")
        if self.average and (best / AVERAGE).exists():
            self.average.load(best, trainer.args.device)
            self.average.put(trainer.accelerator.unwrap_model(trainer.model))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The checkpoint, and the running average beside its weights."""
        trainer: Any = self
        if self.average and self.average.weights and trainer.args.should_save:
            folder = Path(str(trainer.args.output_dir)) / f"checkpoint-{trainer.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            self.average.save(folder)
        super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def averaged(self) -> Any:
        """The model with its averaged weights, where there are such, and its own back afterwards."""
        trainer: Any = self
        model = trainer.accelerator.unwrap_model(trainer.model)
        return self.average.instead(model) if self.average else contextlib.nullcontext()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """``{"eval_NDCG@10": …}`` of the current weights, or of their average; dropout is off meanwhile."""
        trainer: Any = self
        model = trainer.accelerator.unwrap_model(trainer.model)
        was_training = model.training
        model.eval()
        with self.averaged():
            numbers = self.context.probe(self.as_model(model))
        model.train(was_training)
        metrics = {f"eval_{name}": value for name, value in numbers.items()}
        trainer.log(dict(metrics))
        trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
        return metrics


class Observer(TrainerCallback):
    """Sends a trainer's numbers to the run's record and its steps to a progress bar."""

    def __init__(self, context: Context, label: str):
        self.context, self.label = context, label
        self._bar: Any = None
        self._open: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar at the step resumed from."""
        self._open = self.context.progress.bar(state.max_steps, self.label, "step")
        self._bar = self._open.__enter__()
        self._bar.update(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance the bar."""
        self._bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Record every number."""
        numbers = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, (int, float))}
        self.context.log(numbers, state.global_step)
        shown = {k: f"{numbers[k]:.4f}" for k in ("loss", "reward", "eval_NDCG@10") if k in numbers}
        if self._bar is not None and shown:
            self._bar.set_postfix(refresh=False, **shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        self._open.__exit__(None, None, None)


def check(context: Context, settings: FineTuningSettings) -> None:
    """What every fine-tuning stage checks before anything trains.

    Raises:
        BenchError: its DeepSpeed configuration cannot be had.
    """
    if settings.deepspeed:
        zero.configuration(settings.deepspeed, stage_of(context), context.device)


def stage_of(context: Context) -> str:
    """The stage's name, of which its folder is ``NUMBER-NAME``."""
    return context.directory.name.partition("-")[2]


def facts(trainer: Trainer) -> dict[str, Any]:
    """What the record has of the engine: the content of the DeepSpeed configuration, as one line."""
    found = trainer.args.deepspeed
    return {"deepspeed": json.dumps(found, sort_keys=True)} if found else {}


def arguments(context: Context, settings: FineTuningSettings, **more: Any) -> dict[str, Any]:
    """The ``TrainingArguments`` that every stage has in common; `more` wins.

    `settings` gives epochs, learning_rate, warmup, weight_decay, max_grad_norm, schedule,
    eval_every (share of the training), log_every (steps), precision and deepspeed.
    """
    zero.cleared()
    engine: dict[str, Any] = {"bf16": settings.precision == "bfloat16"}
    if settings.deepspeed:  # whose weights stay as they are: the trainer's own autocast is the precision
        found = zero.configuration(settings.deepspeed, stage_of(context), context.device)
        engine = {"bf16": False} | zero.arguments(found, context.device)
    return {
        "output_dir": str(context.directory / CHECKPOINTS),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "eval_strategy": "steps",
        "eval_steps": _share(settings.eval_every),
        "save_strategy": "steps",
        "save_steps": _share(settings.eval_every),
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "logging_steps": settings.log_every,
        "report_to": [],
        "disable_tqdm": True,
        "log_level_replica": logging.getLevelName(transformers_logging.get_verbosity()).lower(),
        "seed": context.seed,
        "data_seed": context.seed,
        "use_cpu": context.device == "cpu",
        "remove_unused_columns": False,
        "dataloader_pin_memory": context.device != "cpu",
        "logging_nan_inf_filter": False,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "ddp_find_unused_parameters": False,
        **engine,
        **more,
    }


def _share(share: float) -> float:
    """A share of the training as transformers takes it: 1 is the end, and not every step."""
    return min(share, 1 - 1e-9)


class FrozenRows(TrainerCallback):
    """Puts frozen rows back after each step: weight decay, for one, moves what has no gradient."""

    def __init__(self, model: Any):
        self.weights = [(weight, rows, weight.detach()[rows].clone()) for weight, rows in frozen_rows(model)]

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put them back."""
        for weight, frozen, kept in self.weights:
            weight[frozen] = kept


class Patience(TrainerCallback):
    """Stops after some probes without a better one.

    What it knows is the trainer's own history, which every checkpoint keeps: a stage that was killed goes on waiting.
    """

    def __init__(self, patience: int, metric: str, larger: bool):
        self.patience, self.metric, self.sign = patience, f"eval_{metric}", 1 if larger else -1

    def exhausted(self, history: list[dict[str, Any]]) -> bool:
        """Whether a trainer's log says to stop."""
        best, waited = -math.inf, 0
        for entry in history:
            if self.metric in entry:
                value = self.sign * entry[self.metric]
                best, waited = (value, 0) if value > best else (best, waited + 1)
        return bool(self.patience) and waited >= self.patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look at the probes so far."""
        if self.exhausted(state.log_history):
            control.should_training_stop = True


def train(trainer: Trainer, context: Context) -> None:
    """Train from the newest whole checkpoint of the stage, or from the start; frozen rows stay what they are."""
    if trainer.args.world_size != world.size:
        raise BenchError(
            f"{world.size} processes were started and the trainer knows of {trainer.args.world_size}; unset the "
            "variables that a launcher left (RANK, WORLD_SIZE, LOCAL_RANK), or start all by torchrun"
        )
    if world.size > 1 or trainer.is_deepspeed_enabled:
        wrapped.opened(trainer.model)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(FrozenRows(trainer.model))
    trainer.add_callback(Sealing())
    checkpoint = world.once(lambda: latest_checkpoint(context.directory, context.progress.say))
    if checkpoint:
        state = TrainerState.load_from_json(str(Path(checkpoint) / STATE))
        waiting = [c for c in trainer.callback_handler.callbacks if isinstance(c, Patience)]
        # it had stopped, or was through, and was killed after: transformers would take one more step
        through = (state.epoch or 0.0) >= trainer.args.num_train_epochs - 1e-6
        if through or any(patience.exhausted(state.log_history) for patience in waiting):
            trainer.state = state
            trainer._load_best_model()
            return
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where DeepSpeed prints
            trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        zero.cleared()
