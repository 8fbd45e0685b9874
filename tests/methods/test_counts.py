"""``minionerec-counts``: the model that contains its parts, its weights, and what they may not see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import api
from harness.data.dataset import Bought
from harness.decoding.exact import leaf_scores
from harness.decoding.generator import GenerativeModel, trie_of
from harness.decoding.item_scores import group_probabilities
from harness.decoding.padding import pad_left
from harness.decoding.shares import Shares
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.progress import Progress
from plugins.decoders.mixture_decoder import MixtureDecoder
from plugins.decoders.sids import BeamDecoder, ExactDecoder
from plugins.memory.counting import Counting
from plugins.memory.counts_stage import no_less_than_0
from plugins.memory.dense_head import DenseHead, Head, states_after
from plugins.memory.item_logit import ItemLogit, choices, fitted
from plugins.memory.logit import conditional_logit
from tests.commands import bench, bench_run, run_whole

SMALL = [
    "backbone.hidden=32",
    "backbone.layers=1",
    "backbone.heads=2",
    "sft.epochs=1",
    "sft.eval_every=0.5",
    "decoder.beams=30",
]


class Fixed:
    """An item scorer with numbers of its own for each history."""

    def __init__(self, n_items, seed=0):
        self.n_items, self.seed = n_items, seed

    def score(self, histories):
        seeds = histories.last(1) + 1
        return np.stack([np.random.default_rng([self.seed, int(s)]).gamma(0.3, size=self.n_items) for s in seeds])


@pytest.fixture(scope="module")
def made(tiny_lm, tiny):
    model, text_tokenizer, prompts = tiny_lm
    generator = GenerativeModel(model, text_tokenizer, tiny.given, prompts.next_sid, renormalise=True)
    histories = tiny.test.histories.take(np.arange(12))
    return generator, histories, Fixed(len(tiny.items))


def counting(made, own, other):
    return Counting(made[0], made[2], (own, other, 0.0))


def whole(model, histories):
    """The log-probability of every SID, by the decoder's own oracle."""
    trie = trie_of(model, "cpu")
    ids, mask = pad_left(model.encode(histories), model.pad, "cpu")
    found = torch.empty(len(histories), len(trie))
    found[:, trie.leaves] = leaf_scores(model.model, ids, mask, trie, 7, True, mix=model.mix(histories, trie))
    return found.numpy()


def test_without_the_language_model_it_is_the_logit(made, tiny):
    model, (_, histories, scorer) = counting(made, 0.0, 1.0), made
    odds = group_probabilities(scorer.score(histories), tiny.given.of_item, len(tiny.given.distinct))
    expected = np.log(odds)
    np.testing.assert_allclose(whole(model, histories), expected, atol=1e-4)


def test_without_the_logit_it_is_the_language_model(made, tiny):
    generator, histories, _ = made
    plain = BeamDecoder(BeamDecoder.Settings(beams=20)).decode(
        generator, histories, tiny.given, "cpu", Progress(quiet=True)
    )
    inside = BeamDecoder(BeamDecoder.Settings(beams=20)).decode(
        counting(made, 1.0, 0.0), histories, tiny.given, "cpu", Progress(quiet=True)
    )
    assert np.array_equal(plain.ids, inside.ids)
    np.testing.assert_allclose(plain.scores, inside.scores, atol=1e-5)


def test_the_steps_add_up_to_both_log_probabilities(made, tiny):
    """What is ranked by is w₀ · log p_LM + w₁ · log p_logit of whole SIDs: nothing is normalised on the way."""
    both, own, other = (whole(counting(made, *w), made[1]) for w in ((0.7, 0.9), (1.0, 0.0), (0.0, 1.0)))
    np.testing.assert_allclose(both, 0.7 * own + 0.9 * other, atol=1e-4)


def test_wide_beams_are_exact(made, tiny):
    model, histories = counting(made, 0.6, 0.8), made[1]
    n = len(tiny.given.distinct)
    arguments = (histories, tiny.given, "cpu", Progress(quiet=True))
    beams = BeamDecoder(BeamDecoder.Settings(beams=n)).decode(model, *arguments)
    exact = ExactDecoder(ExactDecoder.Settings(beams=n, chunk=5)).decode(model, *arguments)
    assert np.array_equal(beams.ids[:, :20], exact.ids[:, :20])
    np.testing.assert_allclose(beams.scores, exact.scores, atol=1e-4)
    few = BeamDecoder(BeamDecoder.Settings(beams=30, batch_tokens=1)).decode(model, *arguments)
    assert np.array_equal(few.ids[:, :3], exact.ids[:, :3])


def test_items_of_one_sid_are_told_apart(made, tiny):
    """Over all SIDs an item scores w₀ · log p_LM(SID) + w₁ · log p_logit(item), and what was bought is left out."""
    generator, histories, scorer = made
    model = Counting(generator, scorer, (0.7, 0.9, 0.0), apart=True)
    n, of_item = len(tiny.given.distinct), tiny.given.of_item
    assert len(of_item) > n  # some share one
    decoder, progress = ExactDecoder(ExactDecoder.Settings(beams=n)), Progress(quiet=True)
    found = decoder.decode(model, histories, tiny.given, "cpu", progress)
    assert found.kind == "item"
    found.check(len(of_item))
    language = whole(Counting(generator, scorer, (0.7, 0.0, 0.0)), histories)
    odds = np.exp(scorer.score(histories))
    logit = np.log(odds / odds.sum(axis=1, keepdims=True))
    expected = language[:, of_item] + 0.9 * logit
    order = np.argsort(-expected, axis=1, kind="stable")[:, :n]
    assert (found.ids == order).mean() > 0.99
    np.testing.assert_allclose(found.scores, np.take_along_axis(expected, order, 1), atol=1e-3)
    own = [sorted(set(history)) for history in histories.lists()]
    bought = Bought(np.cumsum([0, *map(len, own)]), np.concatenate(own))
    dropped = decoder.decode(model, replace(histories, bought=bought), tiny.given, "cpu", progress)
    for items, row in zip(own, dropped.ids.tolist(), strict=True):
        assert not set(items) & set(row)
        assert len({item for item in row if item >= 0}) >= n - len(items)


def test_the_best_items_may_be_of_any_sid(made, tiny):
    """``exact`` ranks items over all SIDs, however few are asked for; beams rank those of the SIDs that they found."""
    generator, histories, scorer = made
    model = Counting(generator, scorer, (0.7, 0.9, 0.0), apart=True)
    arguments = (model, histories, tiny.given, "cpu", Progress(quiet=True))
    every = ExactDecoder(ExactDecoder.Settings(beams=len(tiny.given.distinct))).decode(*arguments)
    few = ExactDecoder(ExactDecoder.Settings(beams=5)).decode(*arguments)
    assert np.array_equal(few.ids, every.ids[:, :5])
    found = BeamDecoder(BeamDecoder.Settings(beams=5)).decode(*arguments)
    found.check(len(tiny.items))
    assert found.ids.shape == (len(histories), 5)
    with pytest.raises(BenchError, match="set decoder=beam"):
        MixtureDecoder(MixtureDecoder.Settings(beams=5)).decode(*arguments)


def test_no_expert_counts_against_what_it_says():
    """One that would have a negative weight is left out, and the others are found anew without it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 8, 3))
    utility = x @ np.array([1.0, -2.0, 0.5]) + rng.gumbel(size=(400, 8))
    wanted = utility == utility.max(axis=1, keepdims=True)
    there = np.ones((400, 8), bool)
    weights = no_less_than_0(x, wanted, there, 0.0)
    assert weights[1] == 0.0
    assert weights[0] > 0.2 and weights[2] > 0.0
    np.testing.assert_allclose(
        [weights[0], weights[2]], conditional_logit(x[..., [0, 2]], wanted, there, 0.0), rtol=1e-3
    )


def test_a_head_scores_by_the_state_alone_and_comes_back_as_it_was(made, tiny, tmp_path):
    generator, histories, _ = made
    states = states_after(generator, histories, "cpu")
    one = states_after(generator, histories.take(np.array([7])), "cpu")
    torch.testing.assert_close(one[0], states[7], rtol=1e-4, atol=1e-4)  # whoever shares its batch
    head = Head(len(tiny.items), states.shape[1])
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    head.mean += 0.5
    kept = DenseHead(generator, head, "cpu")
    expected = ((states - 0.5) @ head.items.T + head.bias).detach().numpy()
    np.testing.assert_allclose(kept.score(histories), expected, rtol=1e-4, atol=1e-3)
    kept.save(tmp_path)
    again = DenseHead.load(generator, tmp_path, len(tiny.items), "cpu")
    assert np.array_equal(again.score(histories), kept.score(histories))
    with pytest.raises(BenchError, match=r"model\.safetensors cannot be loaded"):
        DenseHead.load(generator, tmp_path, len(tiny.items) + 1, "cpu")


def test_the_head_alone_ranks_as_it_scores(made, tiny):
    """With all the weight on the head, beams over all SIDs have its order: the model contains it."""
    generator, histories, scorer = made
    head = Fixed(len(tiny.items), seed=5)
    model = Counting(generator, scorer, (0.0, 0.0, 1.0), head, apart=True)
    n = len(tiny.given.distinct)
    decoder = BeamDecoder(BeamDecoder.Settings(beams=n))
    found = decoder.decode(model, histories, tiny.given, "cpu", Progress(quiet=True))
    assert np.array_equal(found.ids, np.argsort(-head.score(histories), axis=1, kind="stable")[:, :n])


def test_a_run_with_a_head_learns_its_weight_and_can_be_used(tmp_path):
    sets = [*SMALL, "dataset.users=150", "sft.holdout=0.2", "counts.head=true"]
    directory, stages = run_whole(tmp_path, "minionerec-counts", sets)
    train = stages["counts"]["train"]
    assert set(train["weights"]) == {"language model", "logit", "head"}
    assert min(train["weights"].values()) >= 0 < max(train["weights"].values())
    assert 1 <= train["head"]["epochs"] <= 20
    chance = sum(1 / np.log2(rank + 2) for rank in range(10)) / 1200
    assert train["head"]["best valid NDCG@10 by item"] > 3 * chance
    (directory / "stages/2-counts/model.safetensors").write_bytes(b"no tensors")
    refused = bench("recommend", "--run", directory, "--history", "3 5")
    assert refused.exit_code == 2
    assert "model.safetensors cannot be loaded" in refused.output


def test_shares_of_unequal_sids():
    """A leaf's shares along its way multiply to its mass, where sequences end early too."""
    trie = Trie(np.array([[1, 9, 9], [2, 3, 9], [2, 4, 5], [2, 4, 6]]), end=9)
    masses = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.0, 0.3, 0.0]], dtype=torch.float64)
    shares, total, nodes = Shares(trie, masses), torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.long)
    for step, level in enumerate(trie.levels):
        parent = torch.repeat_interleave(torch.arange(len(level.starts) - 1), level.starts.diff())
        entries = torch.arange(len(parent)).expand(2, -1)
        said = shares.log(step, nodes[:, parent], entries[..., None])[..., 0]
        total, nodes = total[:, parent] + said, entries
    np.testing.assert_allclose(total.exp().numpy(), masses[:, trie.leaves].numpy(), atol=1e-6)


def test_the_logit_ranks_as_a_part_that_has_all_the_weight(tiny):
    scorer = Fixed(len(tiny.items))
    logit = ItemLogit.of({"one": scorer}, tiny.train, len(tiny.items), np.array([2.0, 0.0, 0.0, 0.0, 0.0]))
    histories = tiny.test.histories.take(np.arange(12))
    assert np.array_equal(logit.score(histories).argsort(1), scorer.score(histories).argsort(1))


def test_what_was_drawn_stands_for_what_was_not(tiny):
    """The sum over the catalogue is estimated without bias, and is exact where every item is taken."""
    weights = np.array([2.0, 0.3, 1.0, -1.0, 0.2])
    logit = ItemLogit.of({"one": Fixed(len(tiny.items))}, tiny.train, len(tiny.items), weights)
    samples = tiny.test.take(np.arange(20))
    whole_sum = np.exp(logit.score(samples.histories)).sum(axis=1)

    def estimate(most, drawn, seed):
        found = choices(logit, samples, most, drawn, seed)
        assert found.wanted.sum(axis=1).tolist() == [1] * len(samples)
        odds = np.exp(found.features[..., :-1] @ logit.weights + found.features[..., -1])
        return np.where(found.there, odds, 0.0).sum(axis=1)

    np.testing.assert_allclose(estimate(len(tiny.items), 1, 0), whole_sum, rtol=1e-9)
    several = np.mean([estimate(5, 20, seed) for seed in range(200)], axis=0)
    np.testing.assert_allclose(several, whole_sum, rtol=0.05)


def test_the_logit_finds_the_weights_that_made_the_purchases(tiny):
    """Targets drawn from a logit over all items give its weights back, from a few of the items each."""
    true = np.array([3.0, 0.0, 0.0, 0.0, 0.5])
    logit = ItemLogit.of({"one": Fixed(len(tiny.items))}, tiny.train, len(tiny.items), true)
    samples = tiny.train.take(np.arange(len(tiny.train)))
    rng = np.random.default_rng(1)
    drawn = (logit.score(samples.histories) + rng.gumbel(size=(len(samples), len(tiny.items)))).argmax(axis=1)
    samples = replace(samples, targets=drawn.astype(np.int32))
    found = fitted([choices(logit, samples, 10, 40, 0)], 0.0)
    assert abs(found[0] - 3.0) < 0.5
    assert abs(found[4] - 0.5) < 0.15


def test_the_weights_see_no_part_that_has_seen_their_rows(tmp_path, monkeypatch):
    """What the parts of the weights are fitted on, and the rows that SFT learns from, have no held-out user."""
    from baselines.skip_markov import SkipMarkovTrainer
    from harness.language.holdout import of_held_out

    fitted, whole_fit = [], SkipMarkovTrainer.fit

    def fit(self, context):
        fitted.append((len(context.train), set(context.train.users.tolist())))
        return whole_fit(self, context)

    monkeypatch.setattr(SkipMarkovTrainer, "fit", fit)
    directory, stages = run_whole(tmp_path, "minionerec-counts", [*SMALL, "dataset.users=150", "sft.holdout=0.2"])
    train = api.load_dataset("Synthetic", settings={"users": 150}).train
    out = of_held_out(train, 0.2, 1)
    *folds, (n_within, _), (n_all, _) = fitted
    assert (len(folds), n_within, n_all) == (3, int((~out).sum()), len(train))
    assert all(n < n_within for n, _ in folds)
    for _, users in fitted[:-1]:
        assert not users & set(train.users[out].tolist())
    assert list(stages) == ["sft", "counts"]
    assert not (directory / "stages" / "2-counts" / "held-in").exists()


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["sft.holdout=0"], "set --set sft.holdout=0.1"),
        (["sft.holdout=0.001"], "leaves"),
        (["counts.folds=1"], "counts.folds"),
    ],
)
def test_what_it_cannot_learn_from_is_refused(tmp_path, sets, said):
    refused = bench_run(tmp_path, "minionerec-counts", [*SMALL, "dataset.users=60", *sets])
    assert refused.exit_code == 2
    assert said in refused.output
    assert not list(tmp_path.glob("*/*/*/stages/*"))
