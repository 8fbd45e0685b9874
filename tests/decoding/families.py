"""Small random models of many families, loud enough that attention matters: what the engine is tried on."""

from __future__ import annotations

import importlib

import torch
import transformers as t

VOCABULARY = 320
LOUD = 8.0
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}


def _qwen35(vocab_size):
    module = importlib.import_module("transformers.models.qwen3_5")
    kinds = ["linear_attention", "full_attention"]
    return module.Qwen3_5ForCausalLM(
        module.Qwen3_5TextConfig(head_dim=8, layer_types=kinds, vocab_size=vocab_size, **LINEAR, **GROUPED)
    )


def _of(model, config, **settings):
    return lambda vocab_size: getattr(t, model)(getattr(t, config)(vocab_size=vocab_size, **settings))


FAMILIES = {
    "Llama": _of("LlamaForCausalLM", "LlamaConfig", **GROUPED),
    "Qwen2": _of("Qwen2ForCausalLM", "Qwen2Config", **GROUPED),
    "Qwen3": _of("Qwen3ForCausalLM", "Qwen3Config", head_dim=8, **GROUPED),
    "Qwen3.5": _qwen35,
    "GPT-2": _of("GPT2LMHeadModel", "GPT2Config", **GPT2),
    "OPT": _of(
        "OPTForCausalLM", "OPTConfig", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64,
        word_embed_proj_dim=32, max_position_embeddings=512,
    ),
    "GPT-NeoX": _of("GPTNeoXForCausalLM", "GPTNeoXConfig", **SIZES),
    "GPT-J": _of("GPTJForCausalLM", "GPTJConfig", rotary_dim=8, **GPT2),
    "GPT-Neo": _of(
        "GPTNeoForCausalLM", "GPTNeoConfig", hidden_size=32, num_layers=2, num_heads=4,
        attention_types=[[["global", "local"], 1]], window_size=256, max_position_embeddings=512,
    ),
    "XGLM": _of(
        "XGLMForCausalLM", "XGLMConfig", d_model=32, num_layers=2, attention_heads=4, ffn_dim=64,
        max_position_embeddings=512,
    ),
    "Gemma 2": _of("Gemma2ForCausalLM", "Gemma2Config", head_dim=8, sliding_window=4096, **GROUPED),
    "Gemma 3": _of(
        "Gemma3ForCausalLM", "Gemma3TextConfig", head_dim=8, sliding_window=512,
        layer_types=["sliding_attention", "full_attention"], **GROUPED,
    ),
    "Mistral, window 24": _of("MistralForCausalLM", "MistralConfig", sliding_window=24, **GROUPED),
    "Cohere": _of("CohereForCausalLM", "CohereConfig", **GROUPED),
    "LFM2": _of(
        "Lfm2ForCausalLM", "Lfm2Config", layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False,
        **GROUPED,
    ),
    "Mamba": _of("MambaForCausalLM", "MambaConfig", hidden_size=32, num_hidden_layers=2, state_size=8),
    "RWKV": _of("RwkvForCausalLM", "RwkvConfig", hidden_size=32, num_hidden_layers=2, context_length=512),
    "Falcon, ALiBi": _of(
        "FalconForCausalLM", "FalconConfig", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True,
        new_decoder_architecture=False,
    ),
    "BLOOM": _of("BloomForCausalLM", "BloomConfig", hidden_size=32, n_layer=2, n_head=4),
    "MPT": _of("MptForCausalLM", "MptConfig", d_model=32, n_layers=2, n_heads=4, max_seq_len=512),
    "BioGPT": _of("BioGptForCausalLM", "BioGptConfig", **SIZES, max_position_embeddings=512),
    "CTRL": _of("CTRLLMHeadModel", "CTRLConfig", n_embd=32, n_layer=2, n_head=4, dff=64, n_positions=512),
}  # fmt: skip


def build(name, attention="sdpa", vocabulary=VOCABULARY, loud=LOUD):
    """A model of a family with that attention; None where the family has no such attention."""
    torch.manual_seed(0)
    model = FAMILIES[name](vocabulary)
    try:
        model.set_attn_implementation(attention)
    except ValueError:
        return None
    if model.config._attn_implementation != attention:
        return None
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.mul_(loud)
    return model.eval()


def verdicts():
    """``{family: {attention: verdict}}``; a family without an attention lacks it."""
    from harness.decoding import trial

    found = {}
    for name in FAMILIES:
        models = {attention: build(name, attention) for attention in ("sdpa", "eager")}
        found[name] = {a: trial.examine(model, 40) for a, model in models.items() if model is not None}
    return found


SHOWN = {"tree": "equal", "rows": "row by row", "refused": "refused"}


def table(found):
    """The table of the docs."""
    lines = ["| Family | sdpa | eager | Why not as a tree |", "|---|---|---|---|"]
    for name, by_attention in found.items():
        cells = [SHOWN[by_attention[a].layout] if a in by_attention else "—" for a in ("sdpa", "eager")]
        reasons = dict.fromkeys(verdict.reason.partition(" (")[0] for verdict in by_attention.values())
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {'; '.join(r for r in reasons if r)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":  # python -m tests.decoding.families: the table for docs/backbones.md
    print(table(verdicts()))
