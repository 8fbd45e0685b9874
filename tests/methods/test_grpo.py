"""The shared-prompt trainer against TRL's stock trainer on the same batch."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from harness import training
from harness.decoding.layout import pad_left
from harness.decoding.trie import Trie
from harness.generative import GenerativeModel
from plugins.backbones.nano import NanoBackbone, Settings
from plugins.minionerec.grpo import GroupSampler, SharedPromptGRPOTrainer, _unused
from plugins.minionerec.rewards import advantages, weighted

G = 4


@pytest.fixture()
def saved(tiny, tiny_lm, tmp_path):
    model, text_tokenizer, prompts = tiny_lm
    model.save_pretrained(tmp_path / "model")
    text_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path, text_tokenizer, prompts


def make(kind, saved, tiny, **settings):
    from transformers import AutoModelForCausalLM

    folder, text_tokenizer, prompts = saved
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    training.disable_dropout(model)
    arguments = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": 3 * G, "num_generations": G,
        "max_completion_length": tiny.given.n_levels, "report_to": [], "use_cpu": True, "bf16": False,
        "disable_dropout": True, "gradient_checkpointing": False, **settings,
    }  # fmt: skip
    rows = {"prompt": prompts.next_sid(tiny.train.histories.lists()[:6])}
    trainer = kind(
        model=model, reward_funcs=[_unused], args=GRPOConfig(**arguments), train_dataset=Dataset.from_dict(rows),
        processing_class=text_tokenizer,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    if trainer.ref_model is not None:  # a reference that differs from the policy
        with torch.no_grad():
            for number, weight in enumerate(trainer.ref_model.parameters()):
                weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
    trainer.model.train()
    return trainer


def batch(trainer, tiny, saved):
    """Three groups with prompts of unequal length and completions from the catalogue."""
    _, text_tokenizer, prompts = saved
    generative = GenerativeModel(trainer.model, text_tokenizer, tiny.given, prompts.next_sid)
    lengths = tiny.train.histories.lengths
    chosen = [int(np.flatnonzero(lengths == n)[0]) for n in (1, 3, 6)]
    ids, mask = pad_left(
        generative.encode(tiny.train.take(np.array(chosen)).histories), text_tokenizer.pad_token_id, "cpu"
    )
    rng = np.random.default_rng(0)
    leaves = np.stack([rng.permutation(len(tiny.given.distinct))[:G] for _ in chosen])
    completions = torch.as_tensor(generative.sid_tokens[leaves]).flatten(0, 1)
    rewards = torch.tensor(rng.random((len(chosen), G)), dtype=torch.float32)
    inputs = {
        "prompt_ids": ids.repeat_interleave(G, 0), "prompt_mask": mask.long().repeat_interleave(G, 0),
        "completion_ids": completions, "completion_mask": torch.ones_like(completions),
        "advantages": advantages(rewards).flatten(), "num_items_in_batch": torch.tensor(completions.numel()),
    }  # fmt: skip
    if trainer.beta:
        whole = torch.cat([inputs["prompt_ids"], completions], 1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        with torch.no_grad():
            inputs["ref_per_token_logps"] = trainer._get_per_token_logps_and_entropies(
                trainer.ref_model, whole, attention, completions.shape[1]
            )[0]
    return inputs


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize(("loss", "ratio"), [("grpo", "token"), ("dapo", "token"), ("grpo", "sequence")])
def test_loss_and_gradients_equal_the_stock_trainer(saved, tiny, beta, loss, ratio):
    found = []
    for kind in (GRPOTrainer, SharedPromptGRPOTrainer):
        trainer = make(kind, saved, tiny, beta=beta, loss_type=loss, importance_sampling_level=ratio, temperature=0.9)
        inputs = batch(trainer, tiny, saved)
        value = trainer.compute_loss(trainer.model, inputs)
        value.backward()
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
        found.append((value.detach(), gradient, inputs.get("ref_per_token_logps")))
    (stock, stock_gradient, stock_reference), (ours, gradient, reference) = found
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-6)
    assert float((gradient - stock_gradient).norm() / stock_gradient.norm()) < 1e-5
    assert stock_gradient.norm() > 1e-4
    if beta:
        torch.testing.assert_close(reference, stock_reference, rtol=0, atol=1e-5)


def test_rollouts_are_the_best_leaves_and_rewards_go_to_the_samples_own_target(saved, tiny):
    _, text_tokenizer, prompts = saved
    trainer = make(SharedPromptGRPOTrainer, saved, tiny, beta=0.0)
    generative = GenerativeModel(trainer.model, text_tokenizer, tiny.given, prompts.next_sid)
    trainer.trie, trainer.codes = Trie(generative.sid_tokens), torch.from_numpy(tiny.given.distinct)
    trainer.reward, trainer.rollout_tokens = weighted({"rule": 1.0}), 10_000
    prompt_ids = generative.encode(tiny.train.take(np.array([5])).histories)[0]
    first = trainer._generate_and_score_completions([{"prompt_ids": prompt_ids, "target": 0}] * G)
    best = [generative.sid_tokens.tolist().index(row) for row in first["completion_ids"].tolist()]
    assert len(set(best)) == G
    # two samples with one history and different targets: each is rewarded for its own
    rows = [{"prompt_ids": prompt_ids, "target": best[0]}] * G + [{"prompt_ids": prompt_ids, "target": best[2]}] * G
    both = trainer._generate_and_score_completions(rows)["advantages"].view(2, G)
    assert both.argmax(1).tolist() == [0, 2]


def test_prompts_stay_whole_groups_and_an_epoch_has_its_own_order():
    sampler = GroupSampler(n=10, generations=3, block=4, repeat=2, seed=1)
    order = list(sampler)
    assert len(order) == len(sampler) == 2 * 4 * 3 * 2
    blocks = np.array(order).reshape(2, 2, 4, 3)
    assert (blocks == blocks[..., :1]).all()
    assert (blocks[:, 0] == blocks[:, 1]).all()
    sampler.set_epoch(1)
    assert list(sampler) != order


def test_nano_takes_its_sizes():
    model, text_tokenizer = NanoBackbone(Settings(hidden=32, layers=1, heads=2, intermediate=64), None).build(
        ["<a_0>", "<b_0>"], ["<|next|>"], ["a title"], 0
    )
    assert model.config.hidden_size == 32
    assert text_tokenizer("<|next|><a_0><b_0>", add_special_tokens=False)["input_ids"] == [
        text_tokenizer.get_vocab()[t] for t in ("<|next|>", "<a_0>", "<b_0>")
    ]
