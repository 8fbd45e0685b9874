"""``hf:<id or path>``: any Hugging Face causal LM, SID tokens added, embeddings resized."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import BenchError
from harness.files import read_yaml
from harness.recipes import shipped
from harness.settings import setting

ADAPTED = ("lora_rank is above 0", lambda s: s.lora_rank > 0)


@dataclass(frozen=True)
class Settings:
    """How the checkpoint is loaded."""

    dtype: Literal["float32", "bfloat16", "float16"] = setting("float32", "precision of the weights")
    attention: str = setting("sdpa", "attention implementation: sdpa, eager, … (docs/backbones.md)")
    from_scratch: bool = setting(False, "the checkpoint's architecture with fresh weights")
    freeze: bool = setting(False, "train the SID embeddings only")
    trust_remote_code: bool = setting(False, "run code that comes with the checkpoint")
    revision: str = setting("", "branch, tag or commit of a hub id; empty: its main branch")
    lora_rank: int = setting(0, "train LoRA adapters of this rank and the embeddings, merged at the end; 0: all")
    lora_alpha: float = setting(32.0, "LoRA's scale is this over the rank", ADAPTED)
    lora_dropout: float = setting(0.05, "dropout before the adapters", ADAPTED)


class HfBackbone:
    """Loads a pretrained model through ``from_pretrained``."""

    Settings = Settings
    stand_in = "nano"
    """The backbone of the dry pass before a run: no checkpoint is loaded for it."""

    def __init__(self, settings: Settings, location: str | None):
        if not location:
            raise BenchError("backbone hf needs a model: --set backbone=hf:Qwen/Qwen2.5-1.5B-Instruct or hf:PATH")
        if settings.freeze and settings.lora_rank:
            raise BenchError("backbone.freeze and backbone.lora_rank are two ways to train less; set one of them")
        if settings.revision and Path(location).exists():
            raise BenchError(
                f"backbone.revision = {settings.revision}: {location} is a folder here and has no revisions"
            )
        self.settings, self.location = settings, location

    @property
    def loading(self) -> dict[str, Any]:
        """How every stage loads its model again: attention, precision and remote code as they were at first."""
        import torch

        s = self.settings
        options = {"dtype": getattr(torch, s.dtype), "attn_implementation": s.attention}
        return options | {"trust_remote_code": s.trust_remote_code}

    def outline(self) -> Any:
        """The model's configuration, without its weights: of a folder, of a well-known model, or from the hub.

        Raises:
            BenchError: it is none of these.
        """
        from transformers import AutoConfig

        name = self.location.removesuffix("-Instruct")
        known = {} if Path(self.location).exists() else read_yaml(shipped("shapes.yaml"))
        if name in known:
            shape = dict(known[name])
            return AutoConfig.for_model(shape.pop("model_type"), **shape)
        try:
            return AutoConfig.from_pretrained(self.location, trust_remote_code=self.settings.trust_remote_code)
        except (OSError, ValueError) as error:
            line = " ".join(str(error).split())[:160]
            raise BenchError(f"backbone hf:{self.location}: its configuration cannot be had ({line})") from None

    def restrict(self, model: Any, text_tokenizer: Any, tokens: list[str], seed: int) -> Any:
        """A model of which only what the settings say is trained: the rows of those tokens, LoRA adapters, or all."""
        if self.settings.freeze:
            from harness.networks.trained import train_rows_only

            train_rows_only(model, text_tokenizer.convert_tokens_to_ids(tokens))
        return _adapted(model, self.settings, seed) if self.settings.lora_rank else model

    def build(self, sid_tokens: list[str], special_tokens: list[str], texts: list[str], seed: int) -> tuple[Any, Any]:
        """``(model, text tokenizer)``; every SID row starts at the mean embedding plus seeded noise.

        Raises:
            BenchError: the model cannot be loaded, has no causal head, or its text tokenizer no end token.
        """
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        from harness.language.models import load_tokenizer

        s = self.settings
        options = self.loading
        shared: dict[str, Any] = {"trust_remote_code": options.pop("trust_remote_code")}
        shared |= {"revision": s.revision} if s.revision else {}
        try:
            text_tokenizer = load_tokenizer(self.location, **shared)
            if s.from_scratch:
                config = AutoConfig.from_pretrained(self.location, **shared)
                with torch.random.fork_rng():
                    torch.manual_seed(seed)
                    model = AutoModelForCausalLM.from_config(config, **options, trust_remote_code=s.trust_remote_code)
            else:
                model = AutoModelForCausalLM.from_pretrained(self.location, use_safetensors=True, **options, **shared)
        except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
            first = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:200]
            raise BenchError(
                f"backbone hf:{self.location} cannot be loaded as a causal language model: {first} "
                "(give a local path or a hub id of one)"
            ) from None
        if model.get_output_embeddings() is None:
            raise BenchError(
                f"backbone hf:{self.location} ({type(model).__name__}) has no head that gives next-token logits; "
                "give a causal language model"
            )
        if text_tokenizer.eos_token_id is None:
            raise BenchError(
                f"backbone hf:{self.location}: its text tokenizer has no end token; set eos_token in its files"
            )
        if text_tokenizer.pad_token_id is None:
            text_tokenizer.pad_token = text_tokenizer.eos_token
        _add_tokens(model, text_tokenizer, [*special_tokens, *sid_tokens], seed)
        model.config.use_cache = False
        return self.restrict(model, text_tokenizer, [*special_tokens, *sid_tokens], seed), text_tokenizer


def _add_tokens(model: Any, text_tokenizer: Any, tokens: list[str], seed: int) -> None:
    """Add tokens and give all their rows one initialisation, also those that land on unused padding rows."""
    import torch
    from tokenizers import AddedToken

    # a tokenizer may know more tokens than the checkpoint has rows: what resizing adds is initialised too
    known = min(len(text_tokenizer), model.get_input_embeddings().weight.shape[0])
    text_tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    rows = slice(known, len(text_tokenizer))
    if model.get_input_embeddings().weight.shape[0] < len(text_tokenizer):
        model.resize_token_embeddings(len(text_tokenizer), mean_resizing=False)
    layers = {id(e.weight): e.weight for e in (model.get_input_embeddings(), model.get_output_embeddings()) if e}
    for weight in layers.values():
        generator = torch.Generator().manual_seed(seed)
        old = weight.data[:known].float()
        noise = torch.randn((rows.stop - rows.start, weight.shape[1]), generator=generator)
        weight.data[rows] = (old.mean(0) + 0.1 * old.std(0) * noise.to(weight.device)).to(weight.dtype)


def _adapted(model: Any, settings: Settings, seed: int) -> Any:
    """The model with LoRA adapters on its linear layers; embeddings and head are trained whole, as new tokens need."""
    import torch

    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise BenchError("backbone.lora_rank needs the package peft: pip install 'genrec-bench[lora]'") from None
    whole = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = [n.rsplit(".", 1)[-1] for n, module in model.named_modules() if any(module is layer for layer in whole)]
    tied = whole[1] is not None and whole[0].weight is whole[1].weight
    config = LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_alpha, lora_dropout=settings.lora_dropout,
        target_modules="all-linear", modules_to_save=names[:1] if tied else names, ensure_weight_tying=tied,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)
