"""The shared-prompt trainer against TRL's stock trainer on the same batch."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from harness.decoding.exact import exact_search
from harness.decoding.generator import GenerativeModel
from harness.decoding.padding import pad_left
from harness.decoding.trie import Trie
from harness.language import models
from plugins.backbones.nano import NanoBackbone, Settings
from plugins.minionerec.advantages import group_advantages
from plugins.minionerec.group_trainer import GroupSampler, Plan, SharedPromptGRPOTrainer, unused

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
    models.disable_dropout(model)
    arguments = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": 3 * G, "num_generations": G,
        "max_completion_length": tiny.given.n_levels, "report_to": [], "use_cpu": True, "bf16": False,
        "disable_dropout": True, "gradient_checkpointing": False, **settings,
    }  # fmt: skip
    rows = {"prompt": prompts.next_sid(tiny.train.histories.lists()[:6])}
    ours = {}
    if issubclass(kind, SharedPromptGRPOTrainer):
        generative = GenerativeModel(model, text_tokenizer, tiny.given, prompts.next_sid)
        ours = {
            "context": None, "as_model": None, "trie": Trie(generative.sid_tokens), "semantic_ids": tiny.given,
            "rewards": lambda groups, step: {"rule": groups.hits.float()}, "plan": Plan(), "catalogue": False,
        }  # fmt: skip
    trainer = kind(
        **ours, model=model, reward_funcs=[unused], args=GRPOConfig(**arguments), train_dataset=Dataset.from_dict(rows),
        processing_class=text_tokenizer,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    if trainer.ref_model is not None:  # a reference that differs from the policy
        with torch.no_grad():
            for number, weight in enumerate(trainer.ref_model.parameters()):
                weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
    trainer.model.train()
    return trainer


def batch(trainer, tiny, saved, idle=()):
    """Three groups with prompts of unequal length and completions from the catalogue; groups `idle` get one reward."""
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
    rewards[list(idle)] = 1.0
    inputs = {
        "prompt_ids": ids.repeat_interleave(G, 0), "prompt_mask": mask.long().repeat_interleave(G, 0),
        "completion_ids": completions, "completion_mask": torch.ones_like(completions),
        "advantages": group_advantages(rewards).flatten(), "num_items_in_batch": torch.tensor(completions.numel()),
    }  # fmt: skip
    if trainer.beta:
        whole = torch.cat([inputs["prompt_ids"], completions], 1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        with torch.no_grad():
            inputs["ref_per_token_logps"] = trainer._get_per_token_logps_and_entropies(
                trainer.ref_model, whole, attention, completions.shape[1]
            )[0]
    return inputs


def both_losses(saved, tiny, idle=(), plan=None, **settings):
    """``(loss, gradient, reference log-probabilities)`` of the stock trainer and of ours, on one batch."""
    found = []
    for kind in (GRPOTrainer, SharedPromptGRPOTrainer):
        trainer = make(kind, saved, tiny, temperature=0.9, **settings)
        if kind is SharedPromptGRPOTrainer and plan:
            trainer.plan = plan
        inputs = batch(trainer, tiny, saved, idle)
        value = trainer.compute_loss(trainer.model, inputs)
        value.backward()
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
        found.append((value.detach(), gradient, inputs.get("ref_per_token_logps")))
    return found


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize(("loss", "ratio"), [("grpo", "token"), ("dapo", "token"), ("grpo", "sequence")])
def test_loss_and_gradients_equal_the_stock_trainer(saved, tiny, beta, loss, ratio):
    settings = {"beta": beta, "loss_type": loss, "importance_sampling_level": ratio}
    plan = Plan(skip_idle=beta == 0)
    (stock, stock_gradient, stock_reference), (ours, gradient, reference) = both_losses(
        saved, tiny, plan=plan, **settings
    )
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-6)
    assert float((gradient - stock_gradient).norm() / stock_gradient.norm()) < 1e-5
    assert stock_gradient.norm() > 1e-4
    if beta:
        torch.testing.assert_close(reference, stock_reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo", "bnpo"])
@pytest.mark.parametrize("idle", [(1,), (0, 2), (0, 1, 2)])
def test_idle_groups_cost_no_policy_pass_and_change_nothing(saved, tiny, loss, idle):
    """With beta 0 the loss and the gradients are those of the stock trainer, which computes every group."""
    seen = []
    whole = SharedPromptGRPOTrainer._get_per_token_logps_and_entropies

    def count(self, model, ids, *rest, **named):
        seen.append(len(ids))
        return whole(self, model, ids, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SharedPromptGRPOTrainer, "_get_per_token_logps_and_entropies", count)
        (stock, stock_gradient, _), (ours, gradient, _) = both_losses(saved, tiny, idle, beta=0.0, loss_type=loss)
    assert seen == [max(1, 3 - len(idle)) * G]
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-6)
    assert float((gradient - stock_gradient).norm()) < 1e-5 * max(float(stock_gradient.norm()), 1e-3)


def test_trls_internals_are_those_that_the_subclass_replaces():
    """An upgrade that renames or re-shapes what is overridden must fail here, not train on silently."""
    import inspect

    expected = {
        "_get_train_sampler": ["self", "dataset"],
        "_prepare_inputs": ["self", "generation_batch"],
        "_generate_and_score_completions": ["self", "inputs"],
        "_compute_loss": ["self", "model", "inputs"],
        "_save_checkpoint": ["self", "model", "trial"],
        "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    }
    for name, parameters in expected.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters, name
    log_probs = list(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
    assert log_probs[:5] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    overridden = {name for name in vars(SharedPromptGRPOTrainer) if hasattr(GRPOTrainer, name) and name in expected}
    assert overridden == set(expected)


@pytest.fixture()
def roller(saved, tiny):
    """A trainer that can roll out, with the reward ``rule`` and every SID of the catalogue."""
    _, text_tokenizer, prompts = saved
    trainer = make(SharedPromptGRPOTrainer, saved, tiny, beta=0.0)
    generative = GenerativeModel(trainer.model, text_tokenizer, tiny.given, prompts.next_sid)
    return trainer, generative


def sample_of(generative, tiny, row, target):
    history = tiny.train.take(np.array([row])).histories
    prompt = generative.encode(history)[0]
    return {"prompt": "", "row": row, "prompt_ids": prompt, "target": target, "item": 0, "history": history.lists()[0]}


def test_rollouts_are_the_best_leaves_and_rewards_go_to_the_samples_own_target(roller, tiny):
    trainer, generative = roller
    first = trainer._generate_and_score_completions([sample_of(generative, tiny, 5, 0)] * G)
    best = [generative.sid_tokens.tolist().index(row) for row in first["completion_ids"].tolist()]
    assert len(set(best)) == G
    # two samples with one history and different targets: each is rewarded for its own
    rows = [sample_of(generative, tiny, 5, target) for target in (best[0], best[2]) for _ in range(G)]
    both = trainer._generate_and_score_completions(rows)["advantages"].view(2, G)
    assert both.argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize("rollout", ["sample", "sample_distinct"])
def test_sampled_rollouts_are_legal_and_repeat_from_seed_and_step(roller, tiny, rollout):
    trainer, generative = roller
    trainer.plan = Plan(rollout=rollout)
    rows = [sample_of(generative, tiny, row, 0) for row in (0, 5) for _ in range(G)]
    first, again = (trainer._generate_and_score_completions(rows)["completion_ids"] for _ in range(2))
    assert torch.equal(first, again)
    leaves = [generative.sid_tokens.tolist().index(sid) for sid in first.tolist()]
    if rollout == "sample_distinct":
        assert len(set(leaves[:G])) == len(set(leaves[G:])) == G
    alone = trainer._generate_and_score_completions(rows[G:])["completion_ids"]
    assert torch.equal(alone, first[G:])  # a prompt's draws are its own, whoever shares its batch
    trainer.state.global_step = 1
    assert not torch.equal(trainer._generate_and_score_completions(rows)["completion_ids"], first)


def test_refilled_batches_have_fewer_idle_groups(roller, tiny):
    """Dynamic sampling: prompts whose groups say nothing make room for others that say something."""
    trainer, generative = roller
    found = generative.encode(tiny.train.histories)
    rows = [sample_of(generative, tiny, row, 0) for row in range(12)]
    assert len(found) > 12
    trainer.train_dataset = Dataset.from_list(rows)
    # a reward that only prompts with a long history get: the first block holds none of them
    trainer.rewards = lambda groups, step: {
        "long": groups.completions.float() * torch.tensor([[len(h) > 2] for h in groups.histories])
    }
    short = next(r for r in rows if len(r["history"]) <= 2)
    assert any(len(r["history"]) > 2 for r in rows)
    block = [dict(short) for _ in range(3) for _ in range(G)]
    plain = trainer._generate_and_score_completions(block)
    assert (plain["advantages"] == 0).all()
    trainer.plan = Plan(refill=5)
    filled = trainer._generate_and_score_completions(block)
    assert (filled["advantages"].view(3, G) != 0).any(1).float().mean() > 0.6
    assert filled["prompt_ids"].shape[0] == 3 * G
    noted = trainer._metrics["train"]
    assert noted["groups/zero_advantage"][-1] == 1.0
    assert noted["groups/zero_advantage_after_refill"][-1] < 0.4


def test_log_probabilities_over_the_catalogue_are_those_of_the_renormalised_beam(roller, tiny):
    """With the catalogue's softmax the policy is the distribution that the rollout searches."""
    trainer, generative = roller
    trainer.catalogue, trainer.args.temperature = True, 1.0
    rows = [sample_of(generative, tiny, row, 0) for row in (0, 5) for _ in range(G)]
    batch = trainer._generate_and_score_completions(rows)
    whole = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        log_probs, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, whole, attention, tiny.given.n_levels
        )
    exact = exact_search(
        trainer.model,
        batch["prompt_ids"][::G],
        batch["prompt_mask"][::G].bool(),
        trainer.trie,
        len(trainer.trie),
        renormalise=True,
    )
    table = generative.sid_tokens.tolist()
    leaves = torch.tensor([table.index(sid) for sid in batch["completion_ids"].tolist()]).view(2, G)
    place = exact.leaves.argsort(1).gather(1, leaves)
    torch.testing.assert_close(log_probs.view(2, G, -1).sum(2), exact.scores.gather(1, place), atol=1e-4, rtol=0)


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
