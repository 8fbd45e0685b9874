"""RL over all SIDs: its gradient against draws and against plain enumeration, and a stage that is trained by it."""

import json

import numpy as np
import pytest
import torch

from harness.decoding.exact import branches, leaf_log_probs
from harness.decoding.generator import GenerativeModel
from harness.decoding.padding import pad_left
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.trie import Trie
from plugins.minionerec.advantages import expected_advantages, group_advantages
from plugins.minionerec.exact_trainer import ExactTrainer
from tests.commands import bench_run, run_whole
from tests.conftest import TINY_SETTINGS


@pytest.fixture()
def prompts_of(tiny_lm, tiny):
    model, text_tokenizer, prompts = tiny_lm
    generative = GenerativeModel(model, text_tokenizer, tiny.given, prompts.next_sid)
    chosen = [int(np.flatnonzero(tiny.train.histories.lengths == n)[0]) for n in (1, 3, 6)]
    found = generative.encode(tiny.train.take(np.array(chosen)).histories)
    ids, mask = pad_left(found, text_tokenizer.pad_token_id, "cpu")
    return model, generative, ids, mask, found


def gradient(model, value):
    grads = torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])


def enumerated(model, generative, ids, mask, catalogue, temperature=1.0):
    """Log-probability of each leaf by a completion for each, in the order of the trie's leaves."""
    trie = Trie(generative.sid_tokens)
    every = torch.as_tensor(generative.sid_tokens)[trie.leaves].expand(len(ids), -1, -1)
    tokens, _ = completion_log_probs(model, ids, mask, every, temperature, trie if catalogue else None)
    return tokens.sum(2)


@pytest.mark.parametrize("catalogue", [True, False])
def test_all_leaves_have_the_gradients_of_a_completion_each(prompts_of, catalogue):
    model, generative, ids, mask, _ = prompts_of
    trie = Trie(generative.sid_tokens)
    one = leaf_log_probs(model, ids, mask, trie, chunk=7, renormalise=catalogue, temperature=0.8)
    other = enumerated(model, generative, ids, mask, catalogue, 0.8)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    weight = torch.randn(one.shape, generator=torch.Generator().manual_seed(0))
    first, second = gradient(model, (one * weight).sum()), gradient(model, (other * weight).sum())
    assert float((first - second).norm() / second.norm()) < 1e-4
    alone = sum(int(level.alone.sum()) for level in trie.levels[:-1])
    assert branches(trie, renormalise=False) - branches(trie, renormalise=True) == alone


def bare(trie, sids, rewards, catalogue=True, rollout_tokens=10**6, beta=0.0):
    """The trainer without the training loop around it."""
    trainer = ExactTrainer.__new__(ExactTrainer)
    trainer.trie, trainer.semantic_ids, trainer.rewards = trie, sids, rewards
    trainer.catalogue, trainer.temperature, trainer.beta, trainer.rollout_tokens = catalogue, 1.0, beta, rollout_tokens
    trainer.branches = branches(trie, catalogue)
    trainer._lengths = (~trie.filler(trie.tokens(torch.arange(len(trie))))).sum(1)
    trainer.noted = {}
    trainer._note = lambda name, value: trainer.noted.update({name: float(value.detach())})
    trainer.precision, trainer.accelerator = "float32", type("Accelerator", (), {"device": torch.device("cpu")})
    trainer.state = type("State", (), {"global_step": 0})
    return trainer


def rule(groups, step):
    return {"rule": groups.hits.float()}


def nothing(groups, step):
    return {"none": torch.zeros(groups.completions.shape)}


def samples_of(found):
    return [
        {"prompt": "", "prompt_ids": prompt, "target": target, "item": 0, "history": [0]}
        for target, prompt in enumerate(found)
    ]


def exact_loss(prompts_of, tiny, catalogue=True, rollout_tokens=10**6):
    """The trainer's own loss on three prompts, with targets 0, 1, 2."""
    model, generative, ids, mask, found = prompts_of
    trainer = bare(Trie(generative.sid_tokens), tiny.given, rule, catalogue, rollout_tokens)
    return trainer._loss(model, ids, mask, samples_of(found))


@pytest.mark.parametrize("catalogue", [True, False])
def test_the_loss_is_the_expected_advantage_whatever_is_computed_at_once(prompts_of, tiny, catalogue):
    model, generative, ids, mask, _ = prompts_of
    loss = exact_loss(prompts_of, tiny, catalogue)
    log_probs = enumerated(model, generative, ids, mask, catalogue)
    trie = Trie(generative.sid_tokens)
    probability = log_probs.softmax(1).detach()
    reward = (trie.leaves[None] == torch.arange(3)[:, None]).float()
    mean = (probability * reward).sum(1, keepdim=True)
    deviation = (mean * (1 - mean)).sqrt()  # of a reward of 0 or 1
    advantage = (reward - mean) / (deviation + 1e-4)
    expected = -(probability * advantage * log_probs).sum(1).mean() / tiny.given.n_levels
    first, second = gradient(model, loss), gradient(model, expected)
    assert float((first - second).norm() / second.norm()) < 1e-3
    in_parts = exact_loss(prompts_of, tiny, catalogue, rollout_tokens=1)
    third = gradient(model, in_parts)
    assert float((first - third).norm() / first.norm()) < 1e-4


def test_many_draws_have_the_expectations_gradient(prompts_of, tiny):
    """With G → ∞ the gradient of a drawn group is the exact one: the further, the closer."""
    model, generative, ids, mask, _ = prompts_of
    loss = exact_loss(prompts_of, tiny)
    exact = gradient(model, loss)
    log_probs = enumerated(model, generative, ids, mask, catalogue=True)
    trie, generator = Trie(generative.sid_tokens), torch.Generator().manual_seed(1)
    away = []
    for size in (64, 16384):
        drawn = torch.multinomial(log_probs.detach().exp(), size, replacement=True, generator=generator)
        reward = (trie.leaves[drawn] == torch.arange(3)[:, None]).float()
        chosen = log_probs.gather(1, drawn)
        estimate = -(group_advantages(reward) * chosen).mean() / tiny.given.n_levels
        found = gradient(model, estimate) if float(reward.std(1).max()) else torch.zeros_like(exact)
        away.append(float((found - exact).norm() / exact.norm()))
        log_probs = enumerated(model, generative, ids, mask, catalogue=True)
    assert away[1] < 0.5 * away[0]
    assert away[1] < 0.2


def test_weighted_advantages_are_those_of_repeated_completions():
    """A weight of 3 is three completions; with all SIDs by their probabilities it is the expectation."""
    rewards = torch.tensor([[1.0, 0.0, 0.5], [2.0, 2.0, 2.0]])
    weights = torch.tensor([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    found = group_advantages(rewards, weights)
    repeated = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.5, 0.5])
    expected = (repeated - repeated.mean()) / (repeated.std(unbiased=False) + 1e-4)
    torch.testing.assert_close(found[0], torch.stack([expected[:3].sum(), expected[3], expected[4:].sum()]) * 3 / 6)
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    advantage, spread = expected_advantages(rewards[:1], weights[:1] / 6)
    torch.testing.assert_close(found[:1], advantage * weights[:1] / 2)
    assert float(spread[0]) == pytest.approx(float(repeated.std(unbiased=False)))


def test_the_kl_term_is_none_where_the_policy_is_its_reference(tiny_lm, tiny):
    """Of SIDs of unequal length too: it is of whole SIDs, so no length is preferred."""
    model, text_tokenizer, prompts = tiny_lm
    generative = GenerativeModel(model, text_tokenizer, tiny.given, prompts.next_sid)
    tokens = generative.sid_tokens[:40].copy()
    tokens[::3, -2:] = text_tokenizer.eos_token_id  # these end two levels earlier, which takes a token too
    tokens = np.unique(tokens, axis=0)
    found = generative.encode(tiny.train.take(np.array([0, 5])).histories)
    ids, mask = pad_left(found, text_tokenizer.pad_token_id, "cpu")
    trainer = bare(Trie(tokens, end=text_tokenizer.eos_token_id), tiny.given, nothing, beta=1.0)
    assert set(trainer._lengths.tolist()) == {2, 3}
    trainer._reference = model
    loss = trainer._loss(model, ids, mask, samples_of(found))
    assert trainer.noted["kl"] == pytest.approx(0, abs=1e-6)
    assert float(gradient(model, loss).norm()) < 1e-4
    log_probs = trainer._log_probs(model, ids, mask)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(2), rtol=0, atol=1e-4)


EXACT = ["grpo.rollout=exact", "grpo.batch=32", "grpo.generations=4", "grpo.eval_every=0.5"]


def test_a_stage_that_trains_over_all_sids_makes_the_target_likelier(tmp_path):
    more = ["grpo.learning_rate=0.003", "grpo.average=0.9", "grpo.beta=0.01", "grpo.log_every=1", "grpo.rewards=rule"]
    folder, stages = run_whole(tmp_path, "minionerec", [*TINY_SETTINGS, *EXACT, *more])
    checkpoints = folder.glob("stages/2-grpo/checkpoints/checkpoint-*/trainer_state.json")
    history = [json.loads(path.read_text())["log_history"] for path in checkpoints]
    noted = [entry for entry in max(history, key=len) if "probability of the target" in entry]
    seen = [entry["probability of the target"] for entry in noted]
    assert len(seen) == stages["grpo"]["train"]["steps"]
    assert np.mean(seen[-5:]) > 1.1 * np.mean(seen[:5])
    assert noted[0]["kl"] == pytest.approx(0, abs=1e-5) and noted[-1]["kl"] > 1e-4  # from where it started
    assert noted[0]["reward"] == pytest.approx(seen[0])  # a reward of 1 for the target: its expectation


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["grpo.rollout=exact", "grpo.rollout_tokens=5"], "grpo.rollout_tokens allows 5; raise it"),
        (["grpo.rollout=exact", "grpo.advantage=sibling"], "rollout is not exact"),
        (["grpo.rollout=exact", "grpo.weights=importance"], "rollout is beam or sample_distinct"),
        (["grpo.rollout=exact", "grpo.beta=0.1", "grpo.sync_reference=true"], "grpo.sync_reference=false"),
        (["grpo.rollout=exact", "grpo.gradient_checkpointing=true"], "grpo.gradient_checkpointing=false"),
        (["grpo.rollout=beam", "grpo.weights=importance", "grpo.beta=0.1"], "set grpo.beta=0"),
        (
            ["grpo.rollout=sample_distinct", "grpo.weights=importance", "grpo.generations=2"],
            "grpo.generations=3 or more",
        ),
        (["grpo.rollout=beam", "grpo.weights=importance", "grpo.advantage=sibling"], "grpo.advantage=group"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, settings, line):
    given = {one.partition("=")[0]: one for one in [*TINY_SETTINGS, *EXACT, *settings]}
    done = bench_run(tmp_path, "minionerec", given.values())
    assert done.exit_code == 2
    assert line in done.output and done.output.count("\n") == 1
    assert not list(tmp_path.glob("*/*/*/stages/*"))  # before anything trains
