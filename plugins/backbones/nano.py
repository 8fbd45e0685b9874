"""``nano``: a small Qwen2-architecture decoder from config, its text vocabulary trained on the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.errors import BenchError
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """Sizes of the model (defaults: about 1.2 million parameters)."""

    hidden: int = setting(128, "width of the residual stream")
    layers: int = setting(4, "transformer blocks")
    heads: int = setting(4, "attention heads")
    intermediate: int = setting(384, "width of the gated feed-forward")
    text_vocabulary: int = setting(1500, "BPE tokens trained on the catalogue's texts")
    positions: int = setting(1024, "longest sequence, in tokens")
    attention_dropout: float = setting(0.1, "dropout of attention weights in training")
    tie_embeddings: bool = setting(True, "share the embedding with the output layer")


class NanoBackbone:
    """Builds the model from scratch; no download."""

    Settings = Settings
    small = {"hidden": 32, "layers": 1, "heads": 2, "intermediate": 48, "text_vocabulary": 300}

    def __init__(self, settings: Settings, location: str | None):
        if location:
            raise BenchError(
                f"backbone nano:{location}: nano takes no path; its sizes are settings (backbone.hidden=…)"
            )
        if settings.hidden % settings.heads:
            raise BenchError(f"backbone.hidden = {settings.hidden} is no multiple of backbone.heads = {settings.heads}")
        self.settings = settings

    def outline(self, vocabulary: int = 0, pad: int = 0, end: int = 1) -> Any:
        """The model's configuration.

        Args:
            vocabulary: tokens; 0: the text's alone, before there are SIDs.
        """
        from transformers import Qwen2Config

        s = self.settings
        return Qwen2Config(
            vocab_size=vocabulary or s.text_vocabulary, hidden_size=s.hidden, num_hidden_layers=s.layers,
            num_attention_heads=s.heads, num_key_value_heads=s.heads, intermediate_size=s.intermediate,
            max_position_embeddings=s.positions, attention_dropout=s.attention_dropout,
            tie_word_embeddings=s.tie_embeddings, pad_token_id=pad, bos_token_id=None, eos_token_id=end,
            use_cache=False,
        )  # fmt: skip

    def build(self, sid_tokens: list[str], special_tokens: list[str], texts: list[str], seed: int) -> tuple[Any, Any]:
        """``(model, text tokenizer)``: special tokens, then SID tokens, then BPE text."""
        import torch
        from transformers import Qwen2ForCausalLM

        text_tokenizer = _text_tokenizer(sid_tokens, special_tokens, texts, self.settings.text_vocabulary)
        config = self.outline(len(text_tokenizer), text_tokenizer.pad_token_id, text_tokenizer.eos_token_id)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = Qwen2ForCausalLM(config)
        return model, text_tokenizer


def _text_tokenizer(sid_tokens: list[str], special_tokens: list[str], texts: list[str], size: int) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    reserved = ["<|pad|>", "<|end|>", *special_tokens]
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, 256) + len(reserved), special_tokens=reserved,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in sid_tokens])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
