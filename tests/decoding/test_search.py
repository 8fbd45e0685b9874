import copy

import numpy as np
import pytest
import torch
from plugins.decoders.search import BeamDecoder, BeamSettings, ExactDecoder

from harness.data.dataset import Histories
from harness.decoding.beam import beam_search, top
from harness.decoding.engine import EngineModel
from harness.decoding.exact import exact_search
from harness.decoding.generator import GenerativeModel
from harness.decoding.padding import pad_left
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.split import SplitModel
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.evaluation.target_ranks import TargetRanks
from harness.language.prompts import Prompts
from harness.progress import Progress
from plugins.decoders.generate import GenerateDecoder


@pytest.fixture(scope="module")
def generative(tiny_lm):
    model, text_tokenizer, prompts = tiny_lm
    return GenerativeModel(model, text_tokenizer, prompts.semantic_ids, prompts.next_sid)


@pytest.fixture(scope="module")
def histories(tiny):
    chosen = tiny.test.take(np.linspace(0, len(tiny.test) - 1, 12).astype(int)).histories
    assert len(set(chosen.lengths.tolist())) > 3  # prompts of unequal length: padding is exercised
    return chosen


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


@pytest.mark.parametrize("renormalise", [False, True])
def test_beam_equals_generate(generative, histories, tiny, renormalise):
    arguments = (generative, histories, tiny.given, "cpu", Progress(quiet=True))
    beams = 20
    fast = BeamDecoder(BeamSettings(beams=beams, renormalise=renormalise)).decode(*arguments)
    usual = GenerateDecoder(GenerateDecoder.Settings(beams=beams, renormalise=renormalise)).decode(*arguments)
    np.testing.assert_allclose(fast.scores, usual.scores, atol=1e-4)
    for row in range(len(histories)):
        assert set(fast.ids[row]) == set(usual.ids[row])
    assert (fast.ids >= 0).all()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_beams_above_a_single_leaf_are_not_computed_and_score_the_same(generative, histories, depth):
    """Renormalised beams as wide as the catalogue are its exact scores, though settled beams are never fed."""
    ids, mask = pad_left(generative.encode(histories), generative.pad, "cpu")
    table = np.unique(generative.sid_tokens[:, :depth], axis=0)
    trie = Trie(table)
    fed = []
    count = generative.model.model.register_forward_pre_hook(
        lambda _, args, kwargs: fed.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    wide = beam_search(generative.model, ids, mask, trie, len(trie), renormalise=True)
    count.remove()
    table = torch.as_tensor(table)
    assert fed[1:] == [int((~level.alone).sum()) for level in trie.levels[:-1] if not level.alone.all()]
    # the same without skipping: log-probabilities of every SID, over the children at each level
    group = table.expand(len(ids), -1, -1)
    with torch.no_grad():
        log_probs, _ = completion_log_probs(generative.model, ids, mask, group, trie=trie)
    expected = log_probs.sum(2).gather(1, wide.leaves)
    torch.testing.assert_close(wide.scores, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(wide.scores.exp().sum(1), torch.ones(len(ids)), atol=1e-4, rtol=0)
    assert torch.equal(wide.tokens, table[wide.leaves])


def test_a_common_beginning_is_computed_once_and_changes_nothing(tiny_lm, tiny, histories):
    model, text_tokenizer, _ = tiny_lm
    wordy = Prompts("instruction", tiny.items, tiny.given)
    generative = GenerativeModel(model, text_tokenizer, tiny.given, wordy.next_sid)
    encoded = generative.encode(histories)
    ids, mask = pad_left(encoded, generative.pad, "cpu")
    assert not EngineModel(model).by_rows(ids.shape[1] + 3)  # tried beforehand
    sizes = []
    count = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    together = beam_search(model, ids, mask, Trie(generative.sid_tokens), 10)
    count.remove()
    shared = sizes[0][1]
    assert sizes[0][0] == 1
    assert shared > 20
    assert len({tuple(prompt[:shared]) for prompt in encoded}) == 1
    assert sizes[1] == (len(encoded), ids.shape[1] - shared)
    for row, prompt in enumerate(encoded):
        one, ones = pad_left([prompt], generative.pad, "cpu")
        alone = beam_search(model, one, ones, Trie(generative.sid_tokens), 10)
        torch.testing.assert_close(together.scores[row], alone.scores[0], atol=1e-4, rtol=0)
        assert torch.equal(together.leaves[row], alone.leaves[0])


def test_a_model_whose_logits_are_no_plain_head_is_used_whole(generative, histories):
    """Logits scaled after the head (as Granite has): probabilities are the model's own, not the head's."""
    import copy

    scaled = copy.deepcopy(generative.model)
    plain = scaled.forward

    def forward(*args, **kwargs):
        out = plain(*args, **kwargs)
        out.logits = 3 * out.logits
        return out

    scaled.forward = forward
    assert not SplitModel(generative.model).whole
    assert SplitModel(scaled).whole
    ids, mask = pad_left(generative.encode(histories), generative.pad, "cpu")
    trie = Trie(generative.sid_tokens)
    found = beam_search(scaled, ids, mask, trie, len(trie))
    group = torch.as_tensor(generative.sid_tokens).expand(len(ids), -1, -1)
    whole = torch.cat([ids[:1].expand(len(trie), -1), group[0]], 1)[:, int((~mask[0]).sum()) :]
    with torch.no_grad():
        logits = scaled(input_ids=whole).logits.log_softmax(-1)
    expected = logits[:, -1 - trie.depth : -1].gather(2, group[0][..., None]).sum((1, 2))
    torch.testing.assert_close(found.scores[0], expected[found.leaves[0]], atol=1e-4, rtol=0)


def test_a_trainers_wrapper_is_used_whole(generative, histories):
    """It passes attributes on (as DeepSpeed's and FSDP's do), but its forward pass must be gone through."""

    class Wrapper(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.module, self.calls = model, 0

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("module"), name)

        def forward(self, *args, **kwargs):
            self.calls += 1
            return self.module(*args, **kwargs)

    wrapper = Wrapper(generative.model)
    ids, mask = pad_left(generative.encode(histories), generative.pad, "cpu")
    group = torch.as_tensor(generative.sid_tokens[:5]).expand(len(ids), -1, -1)
    trie = Trie(generative.sid_tokens)
    for over in (None, trie):
        with torch.no_grad():
            through = completion_log_probs(wrapper, ids, mask, group, trie=over)
            plain = completion_log_probs(generative.model, ids, mask, group, trie=over)
        torch.testing.assert_close(through, plain, atol=1e-5, rtol=0)
    assert wrapper.calls == 2


def test_renormalised_scores_are_probabilities_over_the_catalogue(generative, histories):
    ids, mask = pad_left(generative.encode(histories), generative.pad, "cpu")
    trie = Trie(generative.sid_tokens)
    found = exact_search(generative.model, ids, mask, trie, len(trie), renormalise=True)
    torch.testing.assert_close(found.scores.exp().sum(1), torch.ones(len(ids)), atol=1e-4, rtol=0)


def test_users_with_more_and_fewer_settled_beams_share_a_batch(generative, tiny):
    """Narrow beams over a catalogue some of whose prefixes are above a single leaf: each row as if it were alone."""
    table = np.unique(generative.sid_tokens[:, :2], axis=0)
    lasts = np.unique(generative.sid_tokens[:, 2])[:3]
    forced = [[*prefix, lasts[0]] for prefix in table[::6]]
    free = [[*prefix, last] for prefix in np.delete(table, np.s_[::6], 0) for last in lasts]
    trie = Trie(np.array(forced + free))
    part = tiny.test.histories
    ids, mask = pad_left(generative.encode(Histories(part.items[:60], part.lengths[:60])), generative.pad, "cpu")
    together = beam_search(generative.model, ids, mask, trie, 3, renormalise=True)
    prefixes = {tuple(prefix) for prefix in table[::6].tolist()}
    settled = {sum(tuple(sid[:2]) in prefixes for sid in sids) for sids in together.tokens.tolist()}
    assert settled >= {0, 1}
    for row in range(60):
        one, ones = ids[row : row + 1], mask[row : row + 1]
        alone = beam_search(generative.model, one, ones, trie, 3, renormalise=True)
        torch.testing.assert_close(together.scores[row], alone.scores[0], atol=1e-4, rtol=0)
        with torch.no_grad():
            log_probs, _ = completion_log_probs(generative.model, one, ones, together.tokens[row : row + 1], trie=trie)
        torch.testing.assert_close(log_probs.sum(2)[0], together.scores[row], atol=1e-4, rtol=0)


@pytest.mark.parametrize("renormalise", [False, True])
def test_rankings_do_not_depend_on_the_batch(generative, tiny, renormalise):
    """Batches of 1, 7 and 64 users of every length, and one that holds them all."""
    part = tiny.test.histories
    every = Histories(part.items[:100], part.lengths[:100])
    encoded = generative.encode(every)
    trie = Trie(generative.sid_tokens)

    def rankings(size):
        leaves = []
        for start in range(0, len(encoded), size):
            ids, mask = pad_left(encoded[start : start + size], generative.pad, "cpu")
            leaves.append(beam_search(generative.model, ids, mask, trie, 20, renormalise).leaves)
        return torch.cat(leaves)

    whole = rankings(100)
    for size in (1, 7, 64):
        assert torch.equal(rankings(size), whole)


@pytest.mark.parametrize("budget", [1, 700, 100_000])
def test_rankings_do_not_depend_on_the_token_budget(generative, histories, tiny, budget):
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


def test_bfloat16_ranks_almost_the_same(generative, histories, tiny):
    arguments = (generative, histories, tiny.given, "cpu", Progress(quiet=True))
    whole = BeamDecoder(BeamSettings(beams=20)).decode(*arguments)
    half = BeamDecoder(BeamSettings(beams=20, precision="bfloat16")).decode(*arguments)
    assert half.scores.dtype == np.float32
    assert not np.array_equal(half.scores, whole.scores)  # it was computed in another precision
    np.testing.assert_allclose(half.scores[:, 0], whole.scores[:, 0], atol=0.3)
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(half.ids, whole.ids, strict=True)]
    assert np.mean(shared) > 0.8


@pytest.mark.slow
def test_a_compiled_model_decodes_the_same(generative, histories, tiny):
    arguments = (generative, histories, tiny.given, "cpu", Progress(quiet=True))
    for renormalise in (False, True):
        plain = BeamDecoder(BeamSettings(beams=20, renormalise=renormalise)).decode(*arguments)
        compiled = BeamDecoder(BeamSettings(beams=20, renormalise=renormalise, compile=True)).decode(*arguments)
        np.testing.assert_allclose(compiled.scores, plain.scores, atol=1e-4)


@pytest.mark.parametrize("decoder", ["beam", "exact"])
def test_who_is_tied_with_the_last_beam_is_known(decoder, generative, histories):
    """A model that finds all tokens alike: what is not kept is tied, and every item has the same chance."""
    blind = copy.deepcopy(generative)
    for parameter in blind.model.parameters():
        parameter.data.zero_()
    made = {"beam": BeamDecoder, "exact": ExactDecoder}[decoder]
    settings = made.Settings(beams=20)
    found = made(settings).decode(blind, histories, blind.semantic_ids, "cpu", Progress(quiet=True))
    n = len(blind.semantic_ids.distinct)
    found.check(n, 20)
    members = found.tied.members(found.ids, n)
    assert found.tied.count.min() > 0 and not np.take_along_axis(members, found.ids, axis=1).any()
    if decoder == "exact":
        assert (found.tied.count == n - 20).all()
    targets = np.arange(len(histories))
    hits = TargetRanks.of(found, targets, blind.semantic_ids, "sid").values(("HR@10",))["HR@10"]
    inside = found.tied.count + 20
    known = np.isin(blind.semantic_ids.of_item[targets], np.flatnonzero(members.all(axis=0)))
    np.testing.assert_allclose(hits[known], (10 / inside)[known])
