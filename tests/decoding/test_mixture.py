"""The mixture of a model and a memory against its definition over the whole catalogue."""

import numpy as np
import pytest
import torch
from plugins.decoders.search import BeamDecoder, BeamSettings

from harness.data.dataset import Histories
from harness.data.semantic_ids import SemanticIds
from harness.decoding.exact import leaf_scores
from harness.decoding.generator import GenerativeModel
from harness.decoding.mixture import best_of, mixed, propose
from harness.decoding.padding import pad_left
from harness.decoding.trie import Trie
from harness.progress import Progress
from plugins.decoders.mixture_decoder import MixtureDecoder
from plugins.memory.memory_stage import Mixture, conditional_logit, ranks_of, sid_log_probs


@pytest.fixture(scope="module")
def setting(tiny_lm, tiny):
    model, text_tokenizer, prompts = tiny_lm
    generative = GenerativeModel(model, text_tokenizer, tiny.given, prompts.next_sid, renormalise=True)
    part = tiny.test.histories
    histories = Histories(part.items[:8], part.lengths[:8])
    ids, mask = pad_left(generative.encode(histories), generative.pad, "cpu")
    rng = np.random.default_rng(0)
    memory = torch.from_numpy(rng.standard_normal((8, len(tiny.given.distinct)))).float().log_softmax(1)
    return generative, histories, ids, mask, memory


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_mixture_is_its_definition(setting, weight):
    generative, _, ids, mask, memory = setting
    trie = Trie(generative.sid_tokens)
    candidates = propose(generative.model, ids, mask, trie, memory, len(trie), True)
    found = best_of(candidates, mixed(candidates, weight), trie, 30)
    model = torch.empty_like(memory)
    model[:, trie.leaves] = leaf_scores(generative.model, ids, mask, trie, renormalise=True)
    expected = ((1 - weight) * model.exp() + weight * memory.exp()).log()
    best = expected.topk(30)
    torch.testing.assert_close(found.scores, best.values, atol=1e-4, rtol=0)
    torch.testing.assert_close(expected.gather(1, found.leaves), found.scores, atol=1e-4, rtol=0)
    assert all(len(set(row)) == 30 for row in found.leaves.tolist())


def test_a_few_candidates_of_each_side_give_the_same_best(setting):
    """Both sides score the union: what only one of them proposes is weighed by both."""
    generative, _, ids, mask, memory = setting
    trie = Trie(generative.sid_tokens)
    few = propose(generative.model, ids, mask, trie, memory, 20, True)
    whole = propose(generative.model, ids, mask, trie, memory, len(trie), True)
    one, other = (best_of(c, mixed(c, 0.3), trie, 5) for c in (few, whole))
    torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)
    alive = ~torch.isneginf(few.memory)
    assert torch.equal(alive, ~torch.isneginf(few.model))
    assert (alive.sum(1) < 40).any()
    assert torch.isneginf(mixed(few, 0.5)[~alive]).all()


def test_a_sids_probability_is_the_sum_of_its_items():
    sids = SemanticIds(np.array([[1, 1], [1, 1], [2, 2]], dtype=np.int32), "test")
    found = sid_log_probs(np.array([[0.0, 1.0, 2.0]], dtype=np.float32), sids, 0.5)
    odds = np.exp(np.array([0.0, 2.0, 4.0]))
    np.testing.assert_allclose(np.exp(found), [[(odds[0] + odds[1]) / odds.sum(), odds[2] / odds.sum()]], rtol=1e-5)


def test_the_decoder_ranks_by_the_mixture_and_takes_a_model_without_memory(setting, tiny):
    generative, histories, *_ = setting

    class Titles:
        def score(self, histories):
            return np.tile(np.arange(len(tiny.items), dtype=np.float32), (len(histories), 1))

    arguments = (histories, tiny.given, "cpu", Progress(quiet=True))
    decoder = MixtureDecoder(MixtureDecoder.Settings(beams=20, candidates=40))
    plain = decoder.decode(generative, *arguments)
    beams = BeamDecoder(BeamSettings(beams=20)).decode(generative, *arguments)
    assert np.array_equal(plain.ids, beams.ids)
    remembered = decoder.decode(Mixture(generative, Titles(), 1.0, 0.1), *arguments)
    best = tiny.given.of_item[::-1]
    assert (remembered.ids[:, 0] == best[0]).all()
    small = MixtureDecoder(MixtureDecoder.Settings(beams=20, candidates=40, batch_tokens=1))
    assert np.array_equal(small.decode(Mixture(generative, Titles(), 0.5, 1.0), *arguments).ids,
                          decoder.decode(Mixture(generative, Titles(), 0.5, 1.0), *arguments).ids)  # fmt: skip


def test_the_conditional_logit_finds_the_weights_that_made_the_choices():
    rng = np.random.default_rng(0)
    true = np.array([1.5, -0.7, 0.0])
    features = rng.standard_normal((6000, 8, 4))
    features[:, :, 3] = 2.0  # never differs
    alive = rng.random((6000, 8)) < 0.9
    alive[:, 0] = True
    utility = np.where(alive, features[:, :, :3] @ true + rng.gumbel(size=(6000, 8)), -np.inf)
    wanted = utility.argmax(1)[:, None] == np.arange(8)
    found = conditional_logit(features, wanted, alive, ridge=0.0)
    np.testing.assert_allclose(found[:3], true, atol=0.08)
    assert found[3] == 0


def test_ranks_put_ties_where_the_decoder_does():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 1.0, -np.inf]])
    wanted = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]], dtype=bool)
    before, group = ranks_of(scores, wanted)
    items, sizes = ranks_of(scores, wanted, np.array([2, 1, 1]))  # items of shared SIDs count
    for row in range(len(scores)):
        place = int(wanted[row].argmax())
        higher, tied = scores[row] > scores[row, place], scores[row] == scores[row, place]
        known = wanted[row].any()
        assert (before[row], group[row]) == ((higher.sum(), tied.sum()) if known else (np.inf, 1))
        if known:
            assert (items[row], sizes[row]) == ((higher * [2, 1, 1]).sum(), (tied * [2, 1, 1]).sum())
