import numpy as np
import pytest
import torch

from harness.data.dataset import Histories
from harness.decoding.beam import beam_search, top
from harness.decoding.exact import exact_search
from harness.decoding.shared_prompt import completion_log_probs, pad_left
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.generative import GenerativeModel
from harness.progress import Progress
from plugins.decoders.generate import GenerateDecoder
from plugins.decoders.search import BeamDecoder, BeamSettings, ExactDecoder


@pytest.fixture(scope="module")
def generative(tiny_lm):
    model, text_tokenizer, prompts = tiny_lm
    return GenerativeModel(model, text_tokenizer, prompts.semantic_ids, prompts.next_sid)


@pytest.fixture(scope="module")
def histories(tiny):
    chosen = tiny.test.histories
    assert len(set(chosen.lengths[:12].tolist())) > 3  # prompts of unequal length: padding is exercised
    return Histories(chosen.items[:12], chosen.lengths[:12])


def all_scores(generative, prompt):
    """Log-probability of every SID after one prompt: plain forward passes, one row a SID, no cache, no mask."""
    table = torch.as_tensor(generative.sid_tokens)
    rows = torch.cat([torch.tensor(prompt).expand(len(table), -1), table], dim=1)
    with torch.no_grad():
        logits = generative.model(input_ids=rows).logits.log_softmax(-1)
    places = torch.arange(len(prompt) - 1, rows.shape[1] - 1)
    return logits[:, places].gather(2, table[..., None]).sum((1, 2))


def test_exact_search_equals_plain_forward_passes(generative, histories):
    prompts = generative.encode(histories)
    ids, mask = pad_left(prompts, generative.pad, "cpu")
    trie = Trie(generative.sid_tokens)
    for chunk in (7, 512):
        found = exact_search(generative.model, ids, mask, trie, len(trie), chunk=chunk)
        for row, prompt in enumerate(prompts):
            expected = all_scores(generative, prompt)
            torch.testing.assert_close(found.scores[row], expected[found.leaves[row]], atol=1e-4, rtol=0)
            assert sorted(found.leaves[row].tolist()) == list(range(len(trie)))
        assert torch.equal(found.tokens, torch.as_tensor(generative.sid_tokens)[found.leaves])


def test_beam_search_is_exact_when_it_is_as_wide_as_the_catalogue(generative, histories):
    ids, mask = pad_left(generative.encode(histories), generative.pad, "cpu")
    trie = Trie(generative.sid_tokens)
    wide = beam_search(generative.model, ids, mask, trie, len(trie))
    exact = exact_search(generative.model, ids, mask, trie, len(trie))
    torch.testing.assert_close(wide.scores, exact.scores, atol=1e-4, rtol=0)
    assert torch.equal(wide.leaves[:, 0], exact.leaves[:, 0])
    assert torch.equal(wide.tokens, torch.as_tensor(generative.sid_tokens)[wide.leaves])


def test_beam_equals_generate(generative, histories, tiny):
    arguments = (generative, histories, tiny.given, "cpu", Progress(quiet=True))
    beams = 20
    fast = BeamDecoder(BeamSettings(beams=beams)).decode(*arguments)
    usual = GenerateDecoder(GenerateDecoder.Settings(beams=beams)).decode(*arguments)
    np.testing.assert_allclose(fast.scores, usual.scores, atol=1e-4)
    for row in range(len(histories)):
        assert set(fast.ids[row]) == set(usual.ids[row])
    assert (fast.ids >= 0).all()


def test_renormalised_scores_are_probabilities_over_the_catalogue(generative, histories):
    ids, mask = pad_left(generative.encode(histories), generative.pad, "cpu")
    trie = Trie(generative.sid_tokens)
    found = exact_search(generative.model, ids, mask, trie, len(trie), renormalise=True)
    torch.testing.assert_close(found.scores.exp().sum(1), torch.ones(len(ids)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("budget", [1, 700, 100_000])
def test_rankings_do_not_depend_on_the_batch(generative, histories, tiny, budget):
    decode = lambda tokens: BeamDecoder(BeamSettings(beams=20, batch_tokens=tokens)).decode(  # noqa: E731
        generative, histories, tiny.given, "cpu", Progress(quiet=True)
    )
    assert np.array_equal(decode(budget).ids, decode(5000).ids)


def test_more_beams_than_sids_is_one_clear_error(generative, histories, tiny):
    with pytest.raises(BenchError, match=r"decoder.beams = 5000, but the catalogue has \d+ SIDs"):
        BeamDecoder(BeamSettings(beams=5000)).decode(generative, histories, tiny.given, "cpu", Progress(True))


def test_exact_decoder_ranks_like_a_wide_beam(generative, histories, tiny):
    n = len(tiny.given.distinct)
    arguments = (generative, histories, tiny.given, "cpu", Progress(quiet=True))
    wide = BeamDecoder(BeamSettings(beams=n)).decode(*arguments)
    exact = ExactDecoder(ExactDecoder.Settings(beams=n)).decode(*arguments)
    assert np.array_equal(wide.ids[:, 0], exact.ids[:, 0])


def test_completion_log_probs_equal_plain_forward_passes(generative, histories):
    prompts = generative.encode(histories)
    ids, mask = pad_left(prompts, generative.pad, "cpu")
    group = torch.as_tensor(generative.sid_tokens[:6])  # [G, levels]
    with torch.no_grad():
        log_probs, entropy = completion_log_probs(generative.model, ids, mask, group.expand(len(ids), -1, -1))
    for row, prompt in enumerate(prompts):
        expected = all_scores(generative, prompt)[:6]
        torch.testing.assert_close(log_probs[row].sum(1), expected, atol=1e-4, rtol=0)
    assert (entropy > 0).all()
    assert entropy.shape == log_probs.shape


def test_ties_keep_the_order_of_their_index():
    scores = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0, 0.0], [5.0, 5.0, 5.0, 5.0, 5.0, 5.0]])
    values, index = top(scores, 2)
    assert index.tolist() == [[1, 2], [0, 1]]
    assert values.tolist() == [[3.0, 3.0], [5.0, 5.0]]
