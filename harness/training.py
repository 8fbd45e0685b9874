"""What all fine-tuning stages share: response-only rows, checkpoints, best model, curves, resume.

Glue between :class:`harness.components.Context` and a Hugging Face ``Trainer``; it knows neither
prompts nor losses.
"""

from __future__ import annotations

import json
import math
import shutil
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState

from harness.components import Context
from harness.errors import BenchError, NotFinite
from harness.store import read_json, replace_folder, write_json
from harness.trained import frozen_rows, modes_kept

IGNORED = -100
"""The label of a token without loss."""
CONTINUES = ("epochs", "learning_rate", "weight_decay", "max_grad_norm")
"""What a stage trained here goes on with from a checkpoint: each step after it reads them."""
CHECKPOINTS = "checkpoints"
MODEL = "model"
AVERAGE = "average.safetensors"
START = "start.json"
STATE = "trainer_state.json"
GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Classes that are all that their ``tokenizer.json`` says, in transformers 5 and 4."""
PROBE = "Nut M3x10, 00613 – it's Ø5 mm\t(Pack of 10)\n"
"""Text that tokenizers which differ split otherwise: digits, signs, accents, spaces."""


@dataclass(frozen=True)
class Row:
    """One training sequence: token ids and, position by position, the label or :data:`IGNORED`."""

    tokens: list[int]
    labels: list[int]


class Rows(torch.utils.data.Dataset):
    """Training sequences as a torch dataset, some of which may be drawn anew each epoch."""

    def __init__(self, rows: Sequence[Row], drawn: Drawn | None = None):
        """`rows` stay what they are; those of `drawn` stand behind them."""
        self.rows, self.drawn, self.epoch = rows, drawn, 0

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.tokens) for row in self.rows] + (self.drawn.lengths if self.drawn else [])

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows) + (len(self.drawn.lengths) if self.drawn else 0)

    def __getitem__(self, index: int) -> Row:
        if index < len(self.rows) or self.drawn is None:
            return self.rows[index]
        return self.drawn.row(index - len(self.rows), self.epoch)


class Drawn(Protocol):
    """Rows that differ from epoch to epoch: a function of their number and the epoch, so that a resume repeats them."""

    lengths: list[int]

    def row(self, index: int, epoch: int) -> Row:
        """Row `index` in that epoch, of the same length in each."""
        ...


class RunningAverage(TrainerCallback):
    """A running average of the weights, which a trainer probes, selects and keeps in place of the weights.

    After each step average ← d · average + (1 − d) · weights with d = min(decay, (1 + t) / (10 + t)), so that
    the first steps do not weigh (the warm-up of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, decay: float):
        self.decay, self.steps = decay, 0
        self.weights: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        if not self.weights:
            self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        names, current = zip(*model.named_parameters(), strict=True)
        mine = [self.weights[name] for name in names]
        torch._foreach_lerp_(mine, [p.detach() for p in current], 1 - decay)

    @torch.no_grad()
    def swap(self, model: torch.nn.Module) -> None:
        """Exchange the model's weights with the average; a second call takes it back."""
        for name, p in model.named_parameters():
            if name in self.weights:
                kept = p.detach().clone()
                p.copy_(self.weights[name])
                self.weights[name].copy_(kept)

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        from safetensors.torch import save_file

        tensors = {name: tensor.contiguous() for name, tensor in self.weights.items()}
        save_file(tensors, folder / AVERAGE, metadata={"steps": str(self.steps)})

    def load(self, folder: Path, device: str | torch.device) -> None:
        """Read the average of a checkpoint."""
        from safetensors import safe_open

        with safe_open(folder / AVERAGE, framework="pt", device=str(device)) as file:
            self.weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            self.steps = int(file.metadata()["steps"])


def collate(rows: Sequence[Row], pad: int) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``labels`` ``[batch, longest]``, padded on the right.

    Under a causal mask no real token sees padding to its right, so no attention mask is needed.
    """
    longest = max(len(row.tokens) for row in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.tokens)] = torch.as_tensor(row.tokens)
        labels[i, : len(row.labels)] = torch.as_tensor(row.labels)
    return {"input_ids": ids, "labels": labels}


class ProbeSelection:
    """For a ``Trainer`` subclass: evaluation is the run's probe, real metrics of constrained decoding on valid.

    A loss or a gradient that is no number ends the stage. A subclass sets ``context`` and ``as_model`` (policy → what
    the decoder takes).
    """

    context: Context
    as_model: Callable[[Any], Any]

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

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """A checkpoint's moments under this run's own rate and decay: those of the checkpoint may be another run's."""
        trainer: Any = self
        scheduler = trainer.lr_scheduler
        known = hasattr(scheduler, "lr_lambdas")  # others (on plateaus, DeepSpeed's own) keep what they saved
        decays = [group["weight_decay"] for group in trainer.optimizer.param_groups] if known else []
        rates = list(scheduler.base_lrs) if known else []
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint and known:
            scheduler.base_lrs = rates
            places = zip(trainer.optimizer.param_groups, decays, rates, scheduler.lr_lambdas, strict=True)
            for group, decay, rate, share in places:
                group["weight_decay"], group["initial_lr"] = decay, rate
                group["lr"] = rate * share(scheduler.last_epoch)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """``{"eval_NDCG@10": …}`` of the current weights; dropout is off meanwhile."""
        trainer: Any = self
        model = trainer.accelerator.unwrap_model(trainer.model)
        was_training = model.training
        model.eval()
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


def arguments(context: Context, settings: Any, **more: Any) -> dict[str, Any]:
    """The ``TrainingArguments`` that every stage has in common; `more` wins.

    `settings` gives epochs, learning_rate, warmup, weight_decay, max_grad_norm, schedule,
    eval_every (share of the training), log_every (steps), precision and deepspeed.
    """
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
        "seed": context.seed,
        "data_seed": context.seed,
        "use_cpu": context.device == "cpu",
        "bf16": settings.precision == "bfloat16",
        "remove_unused_columns": False,
        "dataloader_pin_memory": context.device != "cpu",
        "logging_nan_inf_filter": False,
        "deepspeed": settings.deepspeed or None,
        "gradient_checkpointing": settings.gradient_checkpointing,
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
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(FrozenRows(trainer.model))
    trainer.model_accepts_loss_kwargs = True  # our losses divide by the whole step's items themselves
    checkpoint = latest_checkpoint(context.directory)
    if checkpoint:
        state = TrainerState.load_from_json(str(Path(checkpoint) / STATE))
        waiting = [c for c in trainer.callback_handler.callbacks if isinstance(c, Patience)]
        if any(patience.exhausted(state.log_history) for patience in waiting):  # it had stopped, and was killed after
            trainer.state = state
            trainer._load_best_model()
            return
    trainer.train(resume_from_checkpoint=checkpoint)


def latest_checkpoint(directory: Path) -> str | None:
    """The newest whole checkpoint of a stage directory; broken ones (a kill while saving) are removed.

    Its record of the best checkpoint is made to point into this directory, which may have been
    copied from another run.
    """
    folder = directory / CHECKPOINTS
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]), reverse=True)
    newest = None
    for path in found:
        state_file = path / STATE
        try:  # the state is written last: a checkpoint that has it is whole
            state = json.loads(state_file.read_text())
            torch.load(path / "scheduler.pt", weights_only=True)
        except (OSError, ValueError, RuntimeError):
            shutil.rmtree(path)
            continue
        newest = newest or path
        best = state.get("best_model_checkpoint")
        if best and Path(best).parent != folder:
            state["best_model_checkpoint"] = str(folder / Path(best).name)
            state_file.write_text(json.dumps(state, indent=2))
    return str(newest) if newest else None


def save_model(model: Any, text_tokenizer: Any, directory: Path) -> None:
    """Write ``model/`` (safetensors and text tokenizer), whole or not at all.

    Generation settings of a checkpoint are not carried on: ours stand in the decoder.
    """
    from transformers import GenerationConfig

    if hasattr(model, "merge_and_unload"):  # LoRA: what is kept is the model itself
        model = model.merge_and_unload()
    model.generation_config = GenerationConfig(pad_token_id=text_tokenizer.pad_token_id, eos_token_id=None)
    with replace_folder(directory / MODEL) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
        text_tokenizer.save_pretrained(temporary)
        again = load_tokenizer(temporary)
        if again(PROBE)["input_ids"] != text_tokenizer(PROBE)["input_ids"]:
            raise BenchError(
                f"{type(text_tokenizer).__name__} of {directory} splits text otherwise when it is read back as "
                f"{type(again).__name__}: the model would be asked in other tokens than it was trained on"
            )


def load_tokenizer(location: str | Path, **options: Any) -> Any:
    """The text tokenizer of a folder (or a hub id), exactly as it was saved.

    ``AutoTokenizer`` puts the class of the *model's* type in place of a generic one, and with it that class's own way
    of splitting words and digits, whatever ``tokenizer.json`` says.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    said = Path(location) / "tokenizer_config.json"
    named = json.loads(said.read_text(encoding="utf-8")).get("tokenizer_class") if said.exists() else None
    generic = named in GENERIC_TOKENIZERS and (Path(location) / "tokenizer.json").exists()
    return (PreTrainedTokenizerFast if generic else AutoTokenizer).from_pretrained(location, **options)


def load_model(directory: Path, device: str, backbone: Any = None) -> tuple[Any, Any]:
    """``(model, text tokenizer)`` of a stage directory, in training mode as loaded: call ``eval()`` to decode.

    Args:
        backbone: that of the run, which says how its models are loaded (attention, remote code); None: plainly.
    """
    from transformers import AutoModelForCausalLM

    folder = directory / MODEL
    if not (folder / "config.json").exists():
        raise BenchError(f"{folder} holds no model; run the method again")
    options = {"dtype": "auto", **getattr(backbone, "loading", {})}
    shared = {name: options[name] for name in ("trust_remote_code",) if name in options}
    text_tokenizer = load_tokenizer(folder, **shared)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **options)
    except (ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0]
        raise BenchError(
            f"{folder} cannot be loaded: {first} (it is loaded with the run's own backbone settings)"
        ) from None
    model.to(device)  # type: ignore[arg-type]
    return model, text_tokenizer


def model_before(context: Context, tokens: Sequence[str]) -> tuple[Any, Any]:
    """The stage before's ``(model, text tokenizer)``, to be trained further as the backbone says (all, rows, LoRA).

    Args:
        tokens: the SID and special tokens, whose rows a frozen backbone trains.
    """
    assert context.previous is not None  # as a stage's check has made sure
    model, text_tokenizer = load_model(context.previous, context.device, context.backbone)
    restrict = getattr(context.backbone, "restrict", None)
    return (restrict(model, text_tokenizer, list(tokens), context.seed) if restrict else model), text_tokenizer


def sid_softmax(model: Any) -> str:
    """What the probabilities of SID tokens were trained over: ``vocabulary``, or ``catalogue`` (legal tokens alone).

    It is kept in the model's own config, so that every stage and decoder that loads the model knows.
    """
    return str(getattr(model.config, "sid_softmax", "vocabulary"))


def set_sid_softmax(model: Any, softmax: str) -> None:
    """Note what the probabilities of SID tokens are trained over; see :func:`sid_softmax`."""
    model.config.sid_softmax = softmax


def disable_dropout(model: Any) -> None:
    """Switch off all dropout, also rates that are plain numbers and no modules (OPT, BLOOM, Falcon, XGLM, …).

    Two passes of the model in training mode are compared then; where they still differ, the model is kept in eval mode
    for good.

    Raises:
        BenchError: not even eval mode makes two passes equal.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and "drop" in name and 0 < value <= 1:
                setattr(module, name, 0.0)
    if not _repeats(model):
        model.eval()
        model.train = types.MethodType(_root_alone, model)  # what a trainer would switch on again
        if not _repeats(model):
            raise BenchError(f"{type(model).__name__}: two passes of one model differ even in eval mode; use another")


def _root_alone(model: Any, mode: bool = True) -> Any:
    """In place of a model's ``train``: its parts stay in eval mode, and a trainer may ask the model for its own."""
    model.training = mode
    return model


@torch.no_grad()
def _repeats(model: Any) -> bool:
    """Whether two passes in training mode under different seeds are the same."""
    ids = torch.arange(min(8, model.get_input_embeddings().weight.shape[0]))[None]
    ids = ids.to(model.get_input_embeddings().weight.device)
    found = []
    with torch.random.fork_rng(), modes_kept(model):
        model.train()
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(model(input_ids=ids, use_cache=False).logits)
    return torch.equal(*found)


def start_metric(context: Context, model: Any) -> dict[str, float]:
    """The probe before the first step of a stage, kept so that a resumed stage compares with the same number."""
    path = context.directory / START
    if not path.exists():
        numbers = context.probe(model)
        context.log({f"eval_{name}": value for name, value in numbers.items()} | {"epoch": 0.0}, 0)
        write_json(path, numbers)
    found: dict[str, float] = read_json(path)
    return found


def keep_best(
    trainer: Any, text_tokenizer: Any, context: Context, start: dict[str, float], select: str
) -> dict[str, Any]:
    """Leave the best model by valid, be it the one that the stage started from; returns facts for the record."""
    state = trainer.state
    better = state.best_metric is not None and state.best_metric >= start[select]
    policy = trainer.accelerator.unwrap_model(trainer.model)
    if not better:
        assert context.previous is not None  # a stage that may end where it started has one before it
        softmax = sid_softmax(policy)  # the start was probed under the stage's own
        policy, _ = load_model(context.previous, "cpu", context.backbone)
        set_sid_softmax(policy, softmax)
    save_model(policy, text_tokenizer, context.directory)
    prune_checkpoints(context.directory)
    return {
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 3),
        "best step": state.best_global_step if better else 0,
        f"start valid {select}": start[select],
        f"best valid {select}": max(start[select], state.best_metric or 0.0),
    }


def prune_checkpoints(directory: Path) -> None:
    """Keep the newest and the best checkpoint of a finished stage: what a continuation needs."""
    newest = latest_checkpoint(directory)
    if newest is None:
        return
    best = json.loads((Path(newest) / STATE).read_text()).get("best_model_checkpoint")
    for path in (directory / CHECKPOINTS).glob("checkpoint-*"):
        if str(path) not in (newest, best):
            shutil.rmtree(path)
