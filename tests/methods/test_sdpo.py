"""S-DPO: its loss by identities and against TRL's DPO, its negatives, and the stage on a tiny category."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from harness.data.dataset import Histories
from harness.decoding.generator import GenerativeModel
from harness.decoding.padding import pad_left
from harness.language import models
from harness.language.prompts import Prompts
from harness.runs.run_directory import read_log
from plugins.sdpo.loss import sdpo_loss
from plugins.sdpo.negatives import drawn, hard
from plugins.sdpo.preference_stage import Answers, Preference, answer_log_probs, collate
from tests.commands import bench_run, run_whole
from tests.conftest import TINY_SETTINGS


@pytest.mark.parametrize("negatives", [1, 3, 15])
def test_where_the_policy_is_the_reference_the_loss_is_that_of_chance(negatives):
    log_probs = torch.randn(5, 1 + negatives)
    losses = sdpo_loss(log_probs, log_probs, 1.0)
    assert losses.tolist() == pytest.approx([math.log(1 + negatives)] * 5, abs=1e-6)


def test_the_loss_is_the_published_formula_and_does_not_overflow():
    generator = torch.Generator().manual_seed(0)
    policy, reference = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    change = policy - reference
    inner = torch.exp(0.7 * (change[:, 1:] - change[:, :1])).sum(1).log()
    published = -torch.nn.functional.logsigmoid(-inner)
    torch.testing.assert_close(sdpo_loss(policy, reference, 0.7), published)
    far = torch.tensor([[0.0, 1e4], [1e4, 0.0]])
    assert sdpo_loss(far, torch.zeros(2, 2), 1.0).tolist() == pytest.approx([1e4, 0.0])


def test_negatives_are_a_multiset_without_order():
    policy = torch.tensor([[0.3, -0.2, 0.5, 0.1]], dtype=torch.float64)
    reference = torch.zeros_like(policy)
    shuffled = policy[:, [0, 3, 1, 2]]
    torch.testing.assert_close(sdpo_loss(policy, reference, 1.0), sdpo_loss(shuffled, reference, 1.0))
    doubled = torch.cat([policy, policy[:, 2:3]], dim=1)
    by_hand = -torch.log(policy[0, 0].exp() / (policy.exp().sum() + policy[0, 2].exp()))
    torch.testing.assert_close(sdpo_loss(doubled, torch.zeros_like(doubled), 1.0)[0], by_hand)


def test_its_gradient_is_that_of_finite_differences():
    policy = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: sdpo_loss(p, reference, 0.5), (policy,))


@pytest.fixture
def answers(tiny, tiny_lm):
    """Six prompts of unequal length, each with its target and three other SIDs."""
    model, text_tokenizer, prompts = tiny_lm
    generative = GenerativeModel(model, text_tokenizer, tiny.given, prompts.next_sid)
    encoded = generative.encode(tiny.train.histories)[:6]
    targets = tiny.given.of_item[tiny.train.targets[:6]].astype(np.int64)
    n_sids = len(tiny.given.distinct)
    sids = np.column_stack([targets, drawn(targets, 3, np.ones(n_sids), np.random.default_rng(0))])
    return model, generative, encoded, torch.from_numpy(generative.sid_tokens[sids])


def test_with_one_negative_it_is_trl_s_dpo(answers, tiny_lm, tmp_path):
    """Loss and gradients of TRL's own trainer, on the same prompts, answers and reference."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model, generative, encoded, tokens = answers
    model, reference = copy.deepcopy(model), copy.deepcopy(model)
    models.disable_dropout(model)
    with torch.no_grad():
        for number, weight in enumerate(reference.parameters()):
            weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
    rows = [
        {"prompt_ids": prompt, "chosen_ids": pair[0].tolist(), "rejected_ids": pair[1].tolist()}
        for prompt, pair in zip(encoded, tokens, strict=True)
    ]
    arguments = DPOConfig(str(tmp_path), beta=0.7, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False)
    texts = {"prompt": ["a"] * 6, "chosen": ["b"] * 6, "rejected": ["c"] * 6}
    trainer = DPOTrainer(
        model, ref_model=reference, args=arguments, train_dataset=Dataset.from_dict(texts), processing_class=tiny_lm[1]
    )
    theirs = trainer._compute_loss(model.train(), trainer.data_collator(rows), False)
    theirs.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    ids, mask = pad_left(encoded, generative.pad, "cpu")
    every = Answers.of(generative, "cpu")
    with torch.no_grad():
        known = answer_log_probs(reference.eval(), ids, mask, tokens[:, :2], every)
    ours = sdpo_loss(answer_log_probs(model, ids, mask, tokens[:, :2], every), known, 0.7).mean()
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    for mine, other in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(mine.grad, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("catalogue", [False, True])
def test_prompts_are_shared_without_changing_a_probability(answers, tiny, catalogue):
    """One pass with the prompt once is what an answer at a time gives."""
    model, generative, encoded, tokens = answers
    trie = Answers.of(dataclasses.replace(generative, renormalise=catalogue), "cpu")
    ids, mask = pad_left(encoded, generative.pad, "cpu")
    together = answer_log_probs(model, ids, mask, tokens, trie)
    for row, prompt in enumerate(encoded):
        one, real = pad_left([prompt], generative.pad, "cpu")
        for column in range(tokens.shape[1]):
            alone = answer_log_probs(model, one, real, tokens[row : row + 1, column : column + 1], trie)
            assert together[row, column].item() == pytest.approx(alone.item(), abs=1e-4)


def test_negatives_are_distinct_never_the_target_and_follow_their_weights():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 20, 4000)
    weights = np.arange(20.0) + 1e-9
    found = drawn(targets, 5, weights, rng)
    assert not (found == targets[:, None]).any()
    assert all(len(set(row)) == 5 for row in found.tolist())
    first = np.bincount(drawn(np.zeros(20_000, dtype=int), 1, weights, rng)[:, 0], minlength=20) / 20_000
    np.testing.assert_allclose(first, weights / weights.sum(), atol=0.01)
    guesses = np.array([[3, 1, 2], [1, 2, 3], [2, 3, 4]])
    assert hard(np.array([1, 1, 9]), guesses, 2).tolist() == [[3, 2], [2, 3], [2, 3]]


SETS = [*(s for s in TINY_SETTINGS if not s.startswith("grpo.")), "sdpo.eval_every=0.5"]


@pytest.mark.parametrize("draw", ["uniform", "popularity", "hard"])
def test_the_stage_prefers_what_was_bought(tmp_path, draw):
    more = [f"sdpo.draw={draw}", "sdpo.learning_rate=1e-3", "sdpo.epochs=4", "sdpo.log_every=1", "sft.epochs=1"]
    folder, stages = run_whole(tmp_path, "sdpo", [*SETS, *more])
    log = read_log(folder / "stages/2-sdpo")
    losses = [value for _, value in log["loss"]]
    assert losses[0] == pytest.approx(math.log(8), abs=0.05)  # the policy begins as the reference
    assert np.mean(losses[-3:]) < losses[0] - 0.1
    accuracy = [value for _, value in log["rewards/accuracy"]]
    assert accuracy[0] < 0.1 and np.mean(accuracy[-5:]) > 1 / 8  # no margin at first, better than chance at last
    train = stages["sdpo"]["train"]
    assert train["best valid NDCG@10"] >= train["start valid NDCG@10"]
    assert stages["sdpo"]["valid"]["NDCG@10"] == pytest.approx(train["best valid NDCG@10"])


def test_titles_can_be_preferred_too(tmp_path):
    """On a title SFT stage, decoded over titles: the same loss over answers of unequal length."""
    recipe = tmp_path / "titles.yaml"
    recipe.write_text(
        "name: sdpo-titles\ntokenizer: {name: given, optional: true}\nbackbone: nano\nprompts: compact\n"
        "stages:\n  - {name: sft, trainer: title-sft, packed: true, tasks: {next_title: 1.0}, select: loss}\n"
        "  - {name: sdpo, answer: title, negatives: 3, epochs: 2, learning_rate: 1.0e-3, log_every: 1}\n"
        "decoder: {name: title-beam, beams: 40, k: 40}\nprobe: {samples: 20}\n"
    )
    sets = [s for s in TINY_SETTINGS if s.startswith(("dataset.", "backbone."))]
    sets += ["sft.epochs=1", "sft.eval_every=1.0", "sdpo.eval_every=0.5"]
    run, _ = run_whole(tmp_path / "r", recipe, sets)
    losses = [value for _, value in read_log(run / "stages/2-sdpo")["loss"]]
    assert losses[0] == pytest.approx(math.log(4), abs=0.05) and np.mean(losses[-3:]) < losses[0]


def test_what_follows_a_title_s_end_does_not_count(tiny, tiny_lm):
    model, text_tokenizer, _ = tiny_lm
    prompts = Prompts("compact", tiny.items, None)
    writer = prompts.titled(model, text_tokenizer, 256)
    answers = Answers.of(writer, "cpu")
    ids, mask = pad_left(writer.encode(Histories.of([[0, 1]])), writer.pad, "cpu")
    tokens = torch.from_numpy(writer.tokens[None, :3])
    longer = torch.nn.functional.pad(tokens, (0, 4), value=writer.end)
    torch.testing.assert_close(
        answer_log_probs(model, ids, mask, tokens, answers), answer_log_probs(model, ids, mask, longer, answers)
    )


def test_rows_are_padded_batches(answers):
    _, generative, encoded, tokens = answers
    rows = [Preference(p, t.numpy(), np.zeros(4, dtype=np.float32)) for p, t in zip(encoded, tokens, strict=True)]
    batch = collate(rows, generative.pad)
    assert batch["answers"].shape == tokens.shape and batch["mask"].sum(1).tolist() == [len(p) for p in encoded]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sdpo.negatives=500", "others beside it; set"),
        ("sdpo.negatives=0", "greater than or equal to 1"),
        ("sdpo.draw=worst", "sdpo.draw"),
        ("sdpo.beta=0", "greater than 0"),
    ],
)
def test_bad_settings_are_one_line(tmp_path, setting, message):
    done = bench_run(tmp_path, "sdpo", [*SETS, setting])
    assert done.exit_code == 2 and message in done.output and done.output.count("\n") == 1, done.output
