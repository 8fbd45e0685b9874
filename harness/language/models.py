"""Language models on disk and between stages: saved, loaded as the backbone says, their dropout switched off."""

from __future__ import annotations

import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness.components import Context
from harness.errors import BenchError
from harness.files import replace_folder
from harness.networks.trained import modes_kept

MODEL = "model"

GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Classes that are all that their ``tokenizer.json`` says, in transformers 5 and 4."""

PROBE = "Nut M3x10, 00613 – it's Ø5 mm\t(Pack of 10)\n"
"""Text that tokenizers which differ split otherwise: digits, signs, accents, spaces."""


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
    folder = directory / MODEL
    if not (folder / "config.json").exists():
        raise BenchError(f"{folder} holds no model; run the method again")
    return load_folder(folder, device, backbone)


def load_folder(folder: Path, device: str, backbone: Any = None) -> tuple[Any, Any]:
    """``(model, text tokenizer)`` of a folder in Hugging Face form; see :func:`load_model`."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    options = {"dtype": "auto", **getattr(backbone, "loading", {})}
    shared = {name: options[name] for name in ("trust_remote_code",) if name in options}
    text_tokenizer = load_tokenizer(folder, **shared)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **options)
    except SafetensorError as error:
        raise BenchError(f"the weights in {folder} are damaged ({error}); copy them again, or train anew") from None
    except (ValueError, ImportError, OSError) as error:
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
    passes = []
    with torch.random.fork_rng(), modes_kept(model):
        model.train()
        for seed in (1, 2):
            torch.manual_seed(seed)
            passes.append(model(input_ids=ids, use_cache=False).logits)
    return torch.equal(*passes)
