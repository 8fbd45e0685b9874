"""``hf:`` backbones on a small model and tokenizer that the test builds and saves."""

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from harness.errors import BenchError
from harness.language.models import PROBE, load_model
from harness.language.models import save_model as save
from plugins.backbones.hf import HfBackbone, Settings
from plugins.backbones.nano import NanoBackbone
from plugins.backbones.nano import Settings as NanoSettings
from tests.commands import run_whole
from tests.conftest import TINY_SETTINGS

SIDS = ["<a_0>", "<a_1>", "<b_0>", "<b_1>"]


def save_model(folder, kind="qwen2", padding=0, generation=None, eos="<|end|>"):
    """A pretrained-like checkpoint: random weights, a BPE tokenizer, spare rows beyond its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        AutoModelForCausalLM,
        GenerationConfig,
        GPT2Config,
        LlamaConfig,
        Qwen2Config,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["### Response: which item comes next"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos)
    fast.save_pretrained(folder)
    size = len(fast) + padding
    shared = {"vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {
        "qwen2": lambda: Qwen2Config(**shared, num_key_value_heads=1, intermediate_size=64, tie_word_embeddings=False),
        "llama": lambda: LlamaConfig(**shared, num_key_value_heads=1, intermediate_size=64),
        "gpt2": lambda: GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=512),
    }[kind]()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    if generation:
        model.generation_config = GenerationConfig(**generation)
    model.save_pretrained(folder)
    return folder


def build(folder, **settings):
    return HfBackbone(Settings(**settings), str(folder)).build(SIDS, [], [], seed=3)


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2"])
def test_a_saved_tokenizer_splits_text_as_it_did_in_training(tmp_path, kind):
    """Whatever the class that transformers gives to the model's type makes of it (Qwen2's splits all digits)."""
    model, text_tokenizer = build(save_model(tmp_path / "given", kind))
    nano = NanoBackbone(NanoSettings(hidden=32, layers=1, heads=2, intermediate=64, text_vocabulary=400), None)
    texts = ["Humidity Monitor 00613 of 00613", "it's 00613 (Pack of 10)", "Screw 3 mm, 10-Pack"] * 5
    for number, (lm, own) in enumerate([(model, text_tokenizer), nano.build(SIDS, ["<|then|>"], texts, 0)]):
        save(lm, own, tmp_path / str(number))
        _, again = load_model(tmp_path / str(number), "cpu")
        for text in (*texts, "".join(SIDS), "Ø5 mm\t—\n  2x10", PROBE):
            assert again(text)["input_ids"] == own(text)["input_ids"]
        assert again.decode(again(texts[0])["input_ids"]) == texts[0]
    given = PreTrainedTokenizerFast.from_pretrained(tmp_path / "given")
    assert text_tokenizer(texts[0])["input_ids"] == given(texts[0])["input_ids"]  # not the model type's own class


def test_a_tokenizer_that_is_not_what_was_saved_is_one_line(tmp_path):
    model, _ = build(save_model(tmp_path / "given"))
    other = Qwen2Tokenizer.from_pretrained(tmp_path / "given")
    other.backend_tokenizer.normalizer = normalizers.Lowercase()  # which the class does not keep
    with pytest.raises(BenchError, match="splits text otherwise when it is read back as Qwen2Tokenizer"):
        save(model, other, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_sid_tokens_are_single_tokens_with_one_rule_of_initialisation(tmp_path):
    """Also the rows that land on the checkpoint's unused padding rows (spec D15)."""
    model, text_tokenizer = build(save_model(tmp_path, padding=2))
    ids = text_tokenizer("".join(SIDS), add_special_tokens=False)["input_ids"]
    assert len(ids) == len(SIDS)
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        rows, old = weight[ids], weight[: min(ids)]
        distances = (rows - old.mean(0)).norm(dim=1) / old.std(0).norm()
        assert ((distances > 0.05) & (distances < 0.2)).all()
        assert len(torch.unique(rows, dim=0)) == len(SIDS)
    assert text_tokenizer.pad_token_id is not None
    torch.manual_seed(99)  # nothing may hang on the state that a process happens to be in
    again, _ = build(tmp_path)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_tokenizer_larger_than_the_checkpoint_leaves_no_row_to_chance(tmp_path):
    folder = save_model(tmp_path, padding=-3)
    torch.manual_seed(1)
    one, _ = build(folder)
    torch.manual_seed(2)
    other, _ = build(folder)
    assert torch.equal(one.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_freezing_trains_the_new_rows_only(tmp_path):
    model, text_tokenizer = build(save_model(tmp_path), freeze=True)
    ids = text_tokenizer("".join(SIDS), add_special_tokens=False)["input_ids"]
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.backward()
    optimiser.step()
    for name, weight in model.named_parameters():
        changed = (weight != before[name]).reshape(len(weight), -1).any(1)
        if "embed" in name or "lm_head" in name:
            assert changed[ids].any()
            changed[ids] = False
        assert not changed.any(), name


@pytest.mark.parametrize(
    ("location", "message"), [(None, "needs a model"), ("/no/where", "cannot be loaded"), ("SAVED", "no end token")]
)
def test_a_model_that_cannot_be_used_is_one_line(tmp_path, location, message):
    if location == "SAVED":
        location = str(save_model(tmp_path, eos=None))
    with pytest.raises(BenchError, match=message) as error:
        HfBackbone(Settings(), location).build(SIDS, [], [], 0)
    assert "\n" not in error.value.message


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2"])
def test_a_whole_run_on_a_pretrained_backbone_inherits_no_generation_setting(tmp_path, kind):
    """The checkpoint wants to sample with a repetition penalty (spec D2); beam and generate agree all the same."""
    wild = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1}
    folder = save_model(tmp_path / "model", kind, generation=wild)
    settings = [s for s in TINY_SETTINGS if not s.startswith("backbone") and "tasks" not in s]
    settings += [
        f"backbone=hf:{folder}", "prompts=instruction", "sft.packed=false", "sft.epochs=0.2", "grpo.epochs=0.2",
        "sft.tasks={next_sid: 1, title_to_sid: 1, sid_to_title: 1, sid_history_to_title: 1, titles_to_sid: 1}",
        "grpo.tasks={next_sid: 1, title_to_sid: 1, description_to_sid: 1}", "dataset.items=60", "dataset.users=40",
        "sft.eval_every=0.5", "grpo.eval_every=0.5", "sft.select=loss", "sft.cutoff=256",
    ]  # fmt: skip
    scores = {}
    for decoder in ("beam", "hf-generate"):
        more = [f"decoder={decoder}", "decoder.beams=50"]
        run, stages = run_whole(tmp_path / decoder, "minionerec", [*settings, *more])
        assert stages["grpo"]["invalid"] == 0
        scores[decoder] = pd.read_parquet(run / "rankings/test-sft.parquet")["score"].to_numpy()
    np.testing.assert_allclose(scores["beam"], scores["hf-generate"], atol=1e-4)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("lcrec", ["sft.tasks={next_sid: 1, title_to_sid: 1, sid_to_title: 1, titles_to_sid: 0.2}"]),
        ("sdpo", ["sft.tasks={next_sid: 1}", "sdpo.negatives=3", "sdpo.epochs=0.3", "sdpo.eval_every=1.0"]),
        ("bigrec", ["sft.tasks={next_title: 1}"]),
        ("d3", ["sft.tasks={next_title: 1}", "decoder.beams=30", "decoder.k=30", "assistant.samples=10",
                "assistant.alphas=[0.5]", "assistant.method=markov"]),
    ],
)  # fmt: skip
def test_the_other_language_model_methods_run_whole_on_a_pretrained_backbone(tmp_path, method, more):
    """In words, with a tokenizer that knows nothing of the catalogue, and no pad token of its own."""
    folder = save_model(tmp_path / "model")
    sets = [
        f"backbone=hf:{folder}", "prompts=instruction", "sft.packed=false", "sft.epochs=0.2", "sft.eval_every=1.0",
        "sft.select=loss", "sft.cutoff=200", "dataset.items=60", "dataset.users=40", "probe.samples=8", *more,
    ]  # fmt: skip
    if method in ("lcrec", "sdpo"):
        sets.append("decoder.beams=30")
    _, stages = run_whole(tmp_path / "runs", method, sets)
    assert all(stage["invalid"] == 0 for stage in stages.values())


def test_lora_trains_adapters_and_embeddings_and_keeps_a_whole_model(tmp_path):
    folder = save_model(tmp_path / "model")
    model, _ = build(folder, lora_rank=2)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "embed_tokens" in name or "lm_head" in name for name in trained) and len(trained) > 10
    sets = [
        f"backbone=hf:{folder}", "backbone.lora_rank=2", "prompts=instruction", "sft.packed=false", "sft.epochs=1",
        "sft.eval_every=0.5", "sft.tasks={next_sid: 1}", "sft.learning_rate=1e-2", "sft.cutoff=200",
        "dataset.items=60", "dataset.users=40", "decoder.beams=30", "probe.samples=8",
    ]  # fmt: skip
    run, _ = run_whole(tmp_path / "runs", "lcrec", sets)
    kept, _ = load_model(run / "stages/1-sft", "cpu")
    plain, _ = build(folder)
    assert {name for name, _ in kept.named_parameters()} == {name for name, _ in plain.named_parameters()}
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(kept.get_parameter(name), plain.get_parameter(name))
