"""Estimates of memory: published parameters, activations as autograd keeps them, parts as devices share them."""

import dataclasses

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, Qwen2Config

from harness.language import memory
from tests.cli.test_cli import bench

SMALL = Qwen2Config(
    hidden_size=96, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2, intermediate_size=160,
    vocab_size=300, tie_word_embeddings=True,
)  # fmt: skip


def table(*words):
    """``{stage: {part: GiB}}`` of what the command prints."""
    result = bench("show", "method", *words)
    assert result.exit_code == 0, result.output
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in result.output.splitlines() if "|" in line
    ]
    return {row[0]: dict(zip(lines[0][1:], map(float, row[1:]), strict=True)) for row in lines[2:]}


@pytest.mark.parametrize(
    ("name", "billions"), [("Qwen/Qwen2.5-0.5B", 0.494), ("Qwen/Qwen2.5-1.5B", 1.544), ("Qwen/Qwen2.5-3B", 3.086),
                           ("Qwen/Qwen2.5-7B", 7.616)],
)  # fmt: skip
def test_parameters_are_those_of_the_published_models(plugins, name, billions):
    backbone = plugins.get("backbone", "hf")
    outline = backbone(backbone.Settings(), f"{name}-Instruct").outline()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(outline)
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=5e-4)


@pytest.mark.parametrize("half", [False, True])
def test_activations_are_what_a_whole_model_keeps(half):
    found = memory.model_of(SMALL, torch.float32, half)
    tokens, kept = 200, {}

    def keep(tensor):
        if tokens in tensor.shape:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model = AutoModel.from_config(SMALL).train()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        states = model(input_ids=torch.ones((1, tokens), dtype=torch.long)).last_hidden_state
    assert states.requires_grad
    assert found.kept * found.layers * tokens == pytest.approx(sum(kept.values()), rel=0.15)
    assert (
        found.parameters
        == found.trained
        == sum(p.numel() for p in AutoModelForCausalLM.from_config(SMALL).parameters())
    )


def test_lora_trains_what_peft_trains():
    peft = pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_config(SMALL)
    config = peft.LoraConfig(
        r=4, target_modules="all-linear", modules_to_save=["embed_tokens"], ensure_weight_tying=True,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    adapted = peft.get_peft_model(model, config)
    found = memory.model_of(SMALL, torch.float32, False, rank=4)
    assert found.parameters == sum(p.numel() for p in adapted.parameters())
    assert found.trained == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_devices_share_what_zero_shares():
    large = "minionerec-qwen2.5-1.5b"
    engine = lambda name: ["--set", f"sft.deepspeed={name}", "--set", f"grpo.deepspeed={name}"]  # noqa: E731
    one, four = table(large, "--memory")["grpo"], table(large, "--memory", "--devices", "4")["grpo"]
    first = table(large, "--memory", "--devices", "4", *engine("zero1"))["grpo"]
    second = table(large, "--memory", "--devices", "4", *engine("zero2"))["grpo"]
    assert four["gradients"] == pytest.approx(2 * one["gradients"], rel=0.01)  # and their buckets
    assert four["optimiser"] == one["optimiser"] and one["others"] == pytest.approx(1.544e9 * 4 / 2**30, rel=0.01)
    bucket = 5e8 * 4 / 2**30  # of DeepSpeed; two of them where what is sent overlaps with what is computed
    assert first["optimiser"] == pytest.approx(12 * 1.544e9 / 4 / 2**30, rel=0.01)
    assert second["gradients"] - 2 * bucket == pytest.approx((first["gradients"] - bucket) / 4, abs=0.02)
    assert second["total"] < four["total"] and first["total"] < four["total"]


def test_recipes_fit_the_devices_that_they_name():
    for size, most in (("0.5b", 24), ("1.5b", 80), ("3b", 80)):
        for way in ("", "-lora"):
            found = table(f"minionerec-qwen2.5-{size}{way}", "--memory")
            assert set(found) == {"sft", "grpo"}
            assert max(stage["total"] for stage in found.values()) * 1.1 < most, (size, way)


def test_what_cannot_be_estimated_is_said():
    assert "fine-tunes no language model" in bench("show", "method", "sasrec", "--memory").output
    assert "--devices goes with --memory" in bench("show", "method", "minionerec", "--devices", "2").output
    gone = bench("show", "method", "minionerec", "--memory", "--set", "backbone=hf:/nowhere/model")
    assert gone.exit_code == 2 and "its configuration cannot be had" in gone.output


def test_every_part_is_in_the_total():
    stage = memory.Stage("sft", 1, 2, 3, 4, 50, 6, 7)
    assert stage.total == 66 and dataclasses.replace(stage, cache=100).total == 110


def test_rl_over_all_sids_takes_what_its_bound_allows():
    """Positions computed at once are bounded by rollout_tokens, whatever a prompt or the catalogue takes."""
    exact = ["minionerec", "--memory", "--set", "grpo.rollout=exact", "--set"]
    one, two = (table(*exact, f"grpo.rollout_tokens={tokens}")["grpo"] for tokens in (200_000, 400_000))
    assert two["activations"] == pytest.approx(2 * one["activations"], rel=0.05)
    assert two["logits"] == pytest.approx(2 * one["logits"], rel=0.05)
