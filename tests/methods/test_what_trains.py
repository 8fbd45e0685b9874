"""What a stage trains is what its settings say: rows, dropout, precision, patience, shares, labels, finite numbers."""

import copy
import json
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from harness.errors import BenchError, NotFinite
from harness.language import finetuning, models, new_tokens, training_rows
from harness.language.packing import example_rows
from harness.language.prompts import Prompts
from harness.networks.trained import train_rows_only, trained
from harness.runs.run_directory import read_log
from plugins.backbones.hf import HfBackbone, Settings
from tests.commands import bench_run, only_run, run_whole
from tests.methods.test_backbones import save_model

WORDS = [
    "prompts=instruction", "sft.packed=false", "sft.tasks={next_sid: 1}", "sft.cutoff=200", "dataset.items=60",
    "dataset.users=60", "decoder.beams=30", "probe.samples=8", "sft.average=0", "sft.eval_every=0.5",
]  # fmt: skip
SDPO = ["sdpo.negatives=3", "sdpo.epochs=1", "sdpo.eval_every=0.5", "sdpo.batch=32", "sdpo.select=HR@10"]


def checkpoints(run, stage):
    """The last weights of a stage."""
    found = sorted((run / f"stages/{stage}/checkpoints").glob("*"), key=lambda p: int(p.name.rpartition("-")[2]))
    return load_file(found[-1] / "model.safetensors")


# --- rows


def test_frozen_rows_stay_through_stages_and_decay_and_show_says_so(tmp_path):
    folder = save_model(tmp_path / "model")
    sets = [f"backbone=hf:{folder}", "backbone.freeze=true", *WORDS, *SDPO, "sft.epochs=3", "sft.weight_decay=0.3"]
    run, _ = run_whole(tmp_path / "runs", "sdpo", [*sets, "sdpo.learning_rate=1e-2", "sdpo.weight_decay=0.3"])
    old = load_file(folder / "model.safetensors")
    for stage in ("1-sft", "2-sdpo"):
        new = checkpoints(run, stage)
        for name, weight in old.items():
            assert torch.equal(new[name][: len(weight)], weight), (stage, name)
        before = checkpoints(run, "1-sft")["model.embed_tokens.weight"][len(old["model.embed_tokens.weight"]) :]
        after = new["model.embed_tokens.weight"][len(old["model.embed_tokens.weight"]) :]
        assert stage == "1-sft" or not torch.equal(before, after)  # what is not frozen moves in each
    from click.testing import CliRunner

    from harness.cli import cli

    shown = CliRunner().invoke(cli, ["show", "run", str(run)]).output
    assert shown.count("model.embed_tokens.weight (rows") == 2 and shown.count("lm_head.weight (rows") == 2


def test_rows_are_found_by_their_tokens_wherever_they_stand(tmp_path):
    """Tokens that the checkpoint knows already, in another order and with others behind them."""
    folder = save_model(tmp_path / "given")
    own = HfBackbone(Settings(), str(folder))
    model, text_tokenizer = own.build(["<b_1>", "<a_0>", "<own>", "<a_1>"], [], [], 0)
    models.save_model(model, text_tokenizer, tmp_path / "again")
    sids = ["<a_0>", "<a_1>", "<b_1>", "<b_7>"]
    model, text_tokenizer = HfBackbone(Settings(freeze=True), str(tmp_path / "again/model")).build(sids, [], [], 0)
    ids = text_tokenizer.convert_tokens_to_ids(sids)
    before = model.get_input_embeddings().weight.detach().clone()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    frozen = finetuning.FrozenRows(model)
    for _ in range(3):
        everything = torch.arange(len(text_tokenizer))[None]
        model(input_ids=everything, labels=everything).loss.backward()
        optimiser.step()
        frozen.on_optimizer_step(None, None, None)
        optimiser.zero_grad()
    moved = (model.get_input_embeddings().weight != before).any(1).nonzero()[:, 0].tolist()
    assert moved == sorted(ids)


def test_adapters_are_put_on_anew_in_each_stage(tmp_path):
    folder = save_model(tmp_path / "model")
    sets = [f"backbone=hf:{folder}", "backbone.lora_rank=2", *WORDS, *SDPO, "sft.epochs=1"]
    run, stages = run_whole(tmp_path / "runs", "sdpo", sets)
    for stage in stages.values():
        names = stage["train"]["trained"]["tensors"]
        assert any("lora_A" in name for name in names) and not any(name == "all 27" for name in names)
        assert stage["train"]["trained"]["parameters"] < stage["train"]["trained"]["of"]
    assert "lora" not in " ".join(load_file(run / "stages/2-sdpo/model/model.safetensors"))


def test_what_is_trained_is_counted():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    assert trained(model) == {"parameters": 26, "of": 26, "tensors": ["all 4"]}
    model[0].requires_grad_(False)
    assert trained(model) == {"parameters": 10, "of": 26, "tensors": ["1.weight", "1.bias"]}


# --- dropout

SMALL = {
    "opt": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64,
            "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.1, "attention_dropout": 0.1},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "phi": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
            "attention_dropout": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1},
    "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
                "embed_dropout": 0.1, "resid_dropout": 0.1, "attention_dropout": 0.1},
    "ctrl": {"n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 64},
}  # fmt: skip


@pytest.mark.parametrize("kind", SMALL)
def test_dropout_is_off_where_it_is_said_to_be(kind):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=64, **SMALL[kind]))
    models.disable_dropout(model)
    model.train()
    ids = torch.arange(20)[None]
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(model(input_ids=ids).logits)
    assert torch.equal(*found)


def test_noise_that_is_no_rate_is_silenced_by_eval_mode_or_refused():
    class Part(torch.nn.Module):
        def __init__(self, always):
            super().__init__()
            self.always = always

        def forward(self, states):
            return states + (torch.randn_like(states) if self.training or self.always else 0.0)

    class Noisy(torch.nn.Module):
        def __init__(self, always):
            super().__init__()
            self.embed, self.part = torch.nn.Embedding(16, 4), Part(always)

        def get_input_embeddings(self):
            return self.embed

        def forward(self, input_ids, use_cache=False):
            return type("Out", (), {"logits": self.part(self.embed(input_ids))})

    model = Noisy(always=False)
    models.disable_dropout(model)
    model.train()  # as a trainer does before each step, and TRL asks the model for its own mode
    assert model.training and not model.part.training
    twin = copy.deepcopy(model)
    assert twin.eval() is twin and not twin.training and model.training
    with pytest.raises(BenchError, match="differ even in eval mode"):
        models.disable_dropout(Noisy(always=True))


# --- precision


def test_bfloat16_computes_otherwise_and_only_where_it_is_asked(tmp_path, monkeypatch):
    """The states of the loss are taken under autocast, and logits at labelled places only."""
    from harness.decoding.split import SplitModel

    seen, shapes = set(), []
    plain = SplitModel.logits

    def noted(self, states, tokens=None):
        found = plain(self, states, tokens)
        if torch.is_grad_enabled():
            seen.add(found.dtype)
            shapes.append(states.dim())
        return found

    monkeypatch.setattr(SplitModel, "logits", noted)
    folder = save_model(tmp_path / "model")
    sets = [f"backbone=hf:{folder}", *WORDS, *SDPO, "sft.epochs=0.3", "sft.precision=bfloat16"]
    _, stages = run_whole(tmp_path / "half", "sdpo", [*sets, "sdpo.precision=bfloat16"])
    assert seen == {torch.bfloat16}
    assert 2 in shapes  # SFT: places with a label, not [batch, T, d]
    assert all(math.isfinite(value) for stage in stages.values() for value in stage["valid"].values())


# --- patience, shares, rates


def test_patience_is_read_off_the_history():
    probes = [{"eval_NDCG@10": v} for v in (0.1, 0.3, 0.2, 0.3)]
    patience = finetuning.Patience(2, "NDCG@10", larger=True)
    assert not patience.exhausted(probes[:3]) and patience.exhausted(probes)  # an equal one is no better one
    assert not finetuning.Patience(0, "NDCG@10", True).exhausted(probes)
    losses = [{"eval_loss": v} for v in (3.0, 2.0, 2.5, 1.9)]
    assert not finetuning.Patience(2, "loss", larger=False).exhausted(losses)


def test_a_killed_stage_goes_on_waiting(tmp_path, monkeypatch):
    """Stopped after a probe that brought nothing, it ends where the run that was not stopped ends."""
    sets = ["dataset.items=80", "dataset.users=150", "backbone.hidden=32", "backbone.layers=1", "backbone.heads=2",
            "backbone.intermediate=64", "backbone.text_vocabulary=300", "decoder.beams=30", "probe.samples=30",
            "sft.epochs=12", "sft.batch=32", "sft.eval_every=0.02", "sft.patience=2", "sft.learning_rate=0.02",
            "sft.tasks={next_sid: 1.0}"]  # fmt: skip
    run, whole = run_whole(tmp_path / "whole", "lcrec", sets)
    steps = [step for step, _ in read_log(run / "stages/1-sft")["eval_NDCG@10"]]
    assert whole["sft"]["train"]["steps"] == steps[-1] < 12 * 10
    assert whole["sft"]["train"]["epochs"] % 1  # within an epoch
    for stop in steps[-2:]:  # in the middle of waiting, and when it had just run out

        class Killed(Exception):
            pass

        def save(self, args, state, control, stop=stop, **_):
            if state.global_step >= stop:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(finetuning.Observer, "on_save", save, raising=False)
            assert isinstance(bench_run(tmp_path / str(stop), "lcrec", sets).exception, Killed)
        _, again = run_whole(tmp_path / str(stop), "lcrec", sets)
        for key in ("steps", "best step", "best valid NDCG@10"):
            assert again["sft"]["train"][key] == whole["sft"]["train"][key]
        assert again["sft"]["rankings"] == whole["sft"]["rankings"]


def test_a_share_of_one_is_the_end(tmp_path):
    sets = ["dataset.items=60", "dataset.users=60", "backbone.hidden=16", "backbone.layers=1", "backbone.heads=1",
            "backbone.intermediate=32", "backbone.text_vocabulary=300", "decoder.beams=20", "probe.samples=10",
            "sft.epochs=3", "sft.batch=16", "sft.eval_every=1", "sft.tasks={next_sid: 1.0}"]  # fmt: skip
    run, stages = run_whole(tmp_path, "lcrec", sets)
    assert stages["sft"]["train"]["epochs"] == 3.0
    assert len(read_log(run / "stages/1-sft")["eval_NDCG@10"]) == 1


def test_going_on_trains_with_what_is_recorded_or_is_refused(tmp_path):
    sets = ["dataset.items=60", "dataset.users=60", "backbone.hidden=16", "backbone.layers=1", "backbone.heads=1",
            "backbone.intermediate=32", "backbone.text_vocabulary=300", "decoder.beams=20", "probe.samples=10",
            "sft.batch=16", "sft.eval_every=0.5", "sft.tasks={next_sid: 1.0}", "sft.log_every=1", "sft.average=0",
            "sft.patience=0", "sft.weight_decay=0"]  # fmt: skip
    first, _ = run_whole(tmp_path / "first", "lcrec", [*sets, "sft.epochs=1"])
    manifest = json.loads((first / "manifest.json").read_text())
    manifest["done"]["sft/fit"]["seconds"] = 1000.0
    (first / "manifest.json").write_text(json.dumps(manifest))
    origin = ["--from-run", str(first)]
    rates = {}
    for rate in (2e-3, 1e-1):
        folder = tmp_path / f"rate{rate}"
        run, _ = run_whole(folder, "lcrec", [*sets, "sft.epochs=2", f"sft.learning_rate={rate}"], *origin)
        rates[rate] = dict(read_log(run / "stages/1-sft")["learning_rate"])
        facts = json.loads((run / "manifest.json").read_text())["done"]["from"]
        assert json.loads((run / "metrics.json").read_text())["stages"]["sft"]["train"]["seconds"] > 1000
        assert facts["goes_on"] and ("learning_rate" in facts["changed"]) == (rate != 2e-3)
    last = max(rates[1e-1])
    assert rates[1e-1][last - 1] == pytest.approx(50 * rates[2e-3][last - 1])
    for change, said in [
        (
            ["sft.epochs=2", "sft.label_smoothing=0.1"],
            "cannot go on from its checkpoint with another sft.label_smoothing",
        ),
        (["sft.epochs=1", "sft.learning_rate=0.1"], "nothing is left to train"),
        (["sft.epochs=0.5"], "nothing is left to train"),
    ]:
        done = bench_run(tmp_path / "refused", "lcrec", [*sets, *change], *origin)
        assert done.exit_code == 2 and said in done.output and "--anew" in done.output
        assert not list((tmp_path / "refused").rglob("manifest.json"))


def test_item_models_keep_no_checkpoint_to_go_on_from(tmp_path):
    sets = ["dataset.items=60", "dataset.users=60", "gru4rec.epochs=1"]
    first, _ = run_whole(tmp_path / "first", "gru4rec", sets)
    more = ["--from-run", str(first)]
    done = bench_run(tmp_path / "more", "gru4rec", [*sets[:2], "gru4rec.epochs=2"], *more)
    assert done.exit_code == 2 and "it keeps no checkpoint to go on from" in done.output
    run_whole(tmp_path / "anew", "gru4rec", [*sets[:2], "gru4rec.epochs=2"], *more, "--anew")


# --- labels


def metaspace(first):
    """A SentencePiece-like tokenizer whose newline alone has a space before it, and behind another token has none."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    scheme = "first" if first else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=["▁"])
    tokenizer.train_from_iterator(["### Response: which item comes next"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )  # fmt: skip


@pytest.mark.parametrize("first", [True, False])
def test_every_sid_level_has_a_label_whatever_a_newline_is_alone(tiny, first):
    text_tokenizer = metaspace(first)
    text_tokenizer.add_tokens(tiny.given.tokens)
    prompts = Prompts("instruction", tiny.items, tiny.given)
    examples = prompts.examples({"next_sid": 1.0}, tiny.train, 500, 0)["next_sid"][:5]
    alone = len(text_tokenizer("\n", add_special_tokens=False)["input_ids"])
    assert alone == (2 if first else 1)
    for row in example_rows(examples, prompts, text_tokenizer, 400, learn_end=False):
        labelled = [token for token in row.labels if token != training_rows.IGNORED]
        assert text_tokenizer.convert_ids_to_tokens(labelled) == list(labelled_tokens(tiny, labelled, text_tokenizer))
        assert len(labelled) == tiny.given.n_levels


def labelled_tokens(tiny, ids, text_tokenizer):
    known = set(tiny.given.tokens)
    return [token for token in text_tokenizer.convert_ids_to_tokens(ids) if token in known]


def test_valid_is_asked_in_the_first_wording_and_its_loss_hangs_on_no_batch(tiny, tmp_path):
    from harness.language.templates import SEVERAL_WORDINGS

    several = Prompts("instruction", tiny.items, tiny.given, SEVERAL_WORDINGS)
    once = several.first_wording()
    asked = once.examples({"next_sid": 1.0}, tiny.valid, 500, 3)["next_sid"]
    assert [e.prompt for e in asked] == once.next_sid([list(e.history) for e in asked])
    sets = ["dataset.items=60", "dataset.users=60", "backbone.hidden=16", "backbone.layers=1", "backbone.heads=1",
            "backbone.intermediate=32", "backbone.text_vocabulary=300", "sft.epochs=1", "sft.select=loss",
            "sft.eval_every=1", "sft.tasks={next_title: 1}", "sft.learning_rate=0", "probe.samples=8",
            "grounding.samples=8"]  # fmt: skip
    losses = set()
    for batch in (3, 16):
        _, stages = run_whole(tmp_path / str(batch), "bigrec", [*sets, f"sft.batch={batch}"])
        losses.add(round(stages["sft"]["train"]["best valid loss"], 4))
    assert len(losses) == 1


def test_a_packed_row_longer_than_the_cutoff_is_refused(tmp_path):
    sets = ["dataset.items=60", "dataset.users=60", "sft.cutoff=9"]
    done = bench_run(tmp_path, "minionerec", [*sets, "decoder.beams=20"])
    assert done.exit_code == 2 and "packed rows have up to" in done.output
    assert not list(tmp_path.rglob("metrics.json"))


# --- numbers that are none


def test_a_loss_that_is_no_number_ends_the_stage_with_step_and_rate(tmp_path):
    folder = save_model(tmp_path / "model")
    sets = [f"backbone=hf:{folder}", *WORDS, "sft.epochs=2", "sft.learning_rate=1e30", "sft.max_grad_norm=0"]
    done = bench_run(tmp_path / "runs", "lcrec", sets)
    assert done.exit_code == 2 and re.search(r"the loss is nan at step 3, rate \d", done.output)
    assert not list((tmp_path / "runs").rglob("metrics.json"))


def test_a_probe_that_is_no_number_is_an_error_of_that_probe(tiny, tmp_path, plugins):
    from harness.progress import Progress
    from harness.runs import pipeline
    from harness.runs.config import resolve
    from harness.runs.run import Made, Prepared
    from harness.runs.run_directory import RunDirectory
    from harness.runs.tracking import Tracker

    config = resolve(plugins.get("method", "markov"), "Synthetic", 1, [], plugins)
    run = pipeline.Run(config, tiny, plugins, RunDirectory(tmp_path), Progress(True), "cpu", Tracker(tmp_path, False))

    class Broken:
        def score(self, histories):
            return np.full((len(histories), len(tiny.items)), np.nan)

    with pytest.raises(NotFinite, match="NaN score for sample 0"):
        Prepared(run, Made.of(config, plugins, ""), tiny.given, tiny).probe()(Broken())


# --- what a backbone must be


def test_a_tokenizer_that_splits_sid_tokens_is_refused_before_training(tiny):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {"<a_1>": 0, "<": 1, "a": 2, "_": 3, "1": 4, ">": 5, "</s>": 6}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    split = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    with pytest.raises(BenchError, match="splits the SID token <a_1>"):
        new_tokens.check(split, ["<a_1>"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backbone.dtype": "float16"}, "float16 does not train on a CPU"),
        ({"backbone.freeze": "true", "backbone.lora_rank": "2"}, "two ways to train less"),
        ({"backbone.revision": "main"}, "has no revisions"),
        ({"backbone.lora_alpha": "2"}, "is read only where lora_rank is above 0"),
    ],
)
def test_what_a_backbone_cannot_do_is_one_line_before_training(tmp_path, settings, said):
    folder = save_model(tmp_path / "model")
    sets = [f"backbone=hf:{folder}", *WORDS, *(f"{key}={value}" for key, value in settings.items())]
    done = bench_run(tmp_path / "runs", "lcrec", sets)
    assert done.exit_code == 2 and said in done.output and len(done.output.strip().splitlines()) == 1
    assert not list((tmp_path / "runs").rglob("model.safetensors"))


def test_a_model_without_a_causal_head_is_one_line(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    folder = save_model(tmp_path / "t5")
    T5ForConditionalGeneration(
        T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ).save_pretrained(folder)  # fmt: skip
    done = bench_run(tmp_path / "runs", "lcrec", [f"backbone=hf:{folder}", *WORDS])
    assert done.exit_code == 2 and "cannot be loaded as a causal language model" in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_prompt_longer_than_the_positions_is_one_line(tmp_path):
    sets = ["backbone.positions=20", "dataset.items=60", "dataset.users=60", "decoder.beams=20"]
    done = bench_run(tmp_path / "runs", "minionerec", sets)
    assert done.exit_code == 2 and "positions; set sft.cutoff lower" in done.output
    assert not list(tmp_path.rglob("model.safetensors"))


def test_a_model_is_loaded_again_as_it_was_trained(tmp_path):
    """Attention and remote code are the run's, in every stage; without leave the run ends before it trains."""
    folder = save_model(tmp_path / "model", "llama")
    backbone = HfBackbone(Settings(attention="eager"), str(folder))
    model, text_tokenizer = backbone.build(["<a_0>"], [], [], 0)
    models.save_model(model, text_tokenizer, tmp_path)
    again, _ = models.load_model(tmp_path, "cpu", backbone)
    assert again.config._attn_implementation == model.config._attn_implementation == "eager"
    plain, _ = models.load_model(tmp_path, "cpu")
    assert plain.config._attn_implementation == "sdpa"
    own = tmp_path / "own"
    save_model(own, "llama")
    (own / "modeling_own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n\n\n"
        "class ItsConfig(LlamaConfig):\n    model_type = 'its-own'\n\n\n"
        "class ItsModel(LlamaForCausalLM):\n    config_class = ItsConfig\n"
    )
    config = json.loads((own / "config.json").read_text()) | {"model_type": "its-own"}
    config["auto_map"] = {"AutoConfig": "modeling_own.ItsConfig", "AutoModelForCausalLM": "modeling_own.ItsModel"}
    (own / "config.json").write_text(json.dumps(config))
    sets = [f"backbone=hf:{own}", *WORDS, *SDPO, "sft.epochs=0.2"]
    refused = bench_run(tmp_path / "without", "sdpo", sets)
    assert refused.exit_code == 2 and "custom code" in refused.output
    assert not list((tmp_path / "without").rglob("model.safetensors"))
    run, _ = run_whole(tmp_path / "with", "sdpo", [*sets, "backbone.trust_remote_code=true"])
    assert (run / "stages/2-sdpo/model/modeling_own.py").exists()


def test_embeddings_that_are_trained_in_rows_need_no_tied_twin():
    from tests.decoding import families

    model = families.build("GPT-2")
    train_rows_only(model, [3, 5, 4])
    assert trained(model)["tensors"] == ["transformer.wte.weight (rows 3–5)"]


def test_only_run_finds_the_one(tmp_path):
    with pytest.raises(ValueError):
        only_run(tmp_path)
