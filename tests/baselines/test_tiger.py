"""TIGER: the engine's beams over an encoder–decoder against the plain model, collisions, and what it can learn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from plugins.decoders.search import BeamDecoder, BeamSettings, ExactDecoder, ExactSettings

from baselines import tiger
from harness.data.dataset import Samples
from harness.data.semantic_ids import SemanticIds
from harness.decoding.beam import beam_search
from harness.decoding.encoder_decoder import SharedEncoder
from harness.decoding.padding import pad_left
from harness.decoding.trie import Trie
from harness.errors import BenchError
from harness.item_models import loop
from harness.progress import Progress
from plugins.decoders.generate import GenerateDecoder
from tests.baselines.running import run
from tests.baselines.test_networks import context

QUIET = Progress(quiet=True)
CODES = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 2], [1, 2, 0], [1, 2, 1], [2, 2, 2], [0, 1, 0]])
SIDS = SemanticIds(CODES.astype(np.int32))


def small(**settings):
    chosen = tiger.Settings(
        hidden=24, layers=2, heads=2, head_width=8, intermediate=32, **{"softmax": "vocabulary", **settings}
    )
    codes = tiger.with_collision_level(CODES) if chosen.collision_level else CODES
    model = loop.seeded(lambda: tiger.Tiger(codes, 10, chosen), 3).eval()
    for parameter in model.parameters():  # far from uniform, and with a relative bias that matters
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(parameter.numel())
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def histories(*lists):
    return Samples.build(["u"] * len(lists), [list(h) for h in lists], [0] * len(lists), 10).histories


HISTORIES = histories([0, 5, 7], [3], [1, 2, 4, 6, 8, 0, 0, 3, 5, 1], [7, 7])


def teacher_forced(model, history, leaves):
    """log p of each leaf's tokens by the plain model, one leaf at a time."""
    ids = model.inputs(torch.tensor([history]))
    given = model.embed(ids)
    values = []
    for leaf in leaves:
        labels = torch.from_numpy(np.asarray(leaf))[None]
        logits = model.t5(inputs_embeds=given, attention_mask=torch.ones_like(ids), labels=labels).logits
        values.append(float(logits.log_softmax(-1).gather(2, labels[..., None]).sum().detach()))
    return np.array(values)


@pytest.mark.parametrize("collision_level", [False, True])
def test_beams_and_exact_scores_are_the_plain_models_log_probabilities(collision_level):
    model = small(collision_level=collision_level)
    generator = tiger.SidTranslator(model, SIDS)
    n = len(generator.sid_tokens)
    assert n == (9 if collision_level else 7)
    arguments = (generator, HISTORIES, SIDS, "cpu", QUIET)
    beams = BeamDecoder(BeamSettings(beams=7)).decode(*arguments)
    exact = ExactDecoder(ExactSettings(beams=7, chunk=3)).decode(*arguments)
    for row, history in enumerate(HISTORIES.lists()):
        expected = teacher_forced(model, history, generator.sid_tokens)
        best = np.argsort(-expected, kind="stable")[:7]
        np.testing.assert_allclose(exact.scores[row], expected[best], atol=1e-5, rtol=1e-5)
        assert exact.ids[row].tolist() == best.tolist()
        np.testing.assert_allclose(beams.scores[row], expected[beams.ids[row]], atol=1e-5, rtol=1e-5)
    if not collision_level:  # seven beams are all leaves
        assert np.array_equal(beams.ids, exact.ids)
    assert beams.kind == ("item" if collision_level else "sid")


def test_a_beam_sees_only_its_own_ancestors():
    """Two beams of one row get what each gets alone: T5's relative positions follow the ancestry."""
    model = small()
    generator = tiger.SidTranslator(model, SIDS)
    ids, mask = pad_left(generator.encode(HISTORIES), 0, "cpu")
    whole = beam_search(SharedEncoder(model.t5, model.embed), ids, mask, Trie(generator.sid_tokens), 7)
    single = Trie(generator.sid_tokens[4:5])
    alone = beam_search(SharedEncoder(model.t5, model.embed), ids, mask, single, 1)
    for row in range(len(ids)):
        place = whole.leaves[row].tolist().index(4)
        assert float(whole.scores[row, place]) == pytest.approx(float(alone.scores[row, 0]), abs=1e-5)


def test_renormalised_over_a_catalogue_of_one_item_its_probability_is_one():
    generator = tiger.SidTranslator(small(), SIDS)
    ids, mask = pad_left(generator.encode(HISTORIES), 0, "cpu")
    found = beam_search(generator.model, ids, mask, Trie(generator.sid_tokens[:1]), 1, renormalise=True)
    torch.testing.assert_close(found.scores, torch.zeros(4, 1), atol=1e-6, rtol=0)


def test_rankings_do_not_depend_on_batch_or_padding():
    generator = tiger.SidTranslator(small(), SIDS)
    many = BeamDecoder(BeamSettings(beams=5)).decode(generator, HISTORIES, SIDS, "cpu", QUIET)
    few = BeamDecoder(BeamSettings(beams=5, batch_tokens=1)).decode(generator, HISTORIES, SIDS, "cpu", QUIET)
    assert np.array_equal(many.ids, few.ids)
    np.testing.assert_allclose(many.scores, few.scores, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("softmax", ["vocabulary", "catalogue"])
def test_the_loss_is_the_log_probability_that_decoding_gives_the_target(softmax):
    """Over the vocabulary as the plain model has it, over the catalogue as renormalised beams have it."""
    model = small(softmax=softmax)
    lists, targets = [[0, 5], [1, 2, 4]], [7, 3]
    items = torch.tensor([[9, *lists[0]], lists[1]])  # 9 is padding
    loss = float(model.loss(items, torch.tensor(targets)).detach())
    leaves = SIDS.of_item[targets]
    if softmax == "vocabulary":
        rows = [teacher_forced(model, h, [model.tokens[t].numpy()])[0] for h, t in zip(lists, targets, strict=True)]
        assert loss == pytest.approx(-np.mean(rows), rel=1e-5)
    beams = BeamDecoder(BeamSettings(beams=7))
    found = beams.decode(tiger.SidTranslator(model, SIDS), histories(*lists), SIDS, "cpu", QUIET)
    rows = [
        float(scores[ids.tolist().index(leaf)])
        for ids, scores, leaf in zip(found.ids, found.scores, leaves, strict=True)
    ]
    assert loss == pytest.approx(-np.mean(rows), rel=1e-5)
    if softmax == "catalogue":  # the seven SIDs have all of the probability
        np.testing.assert_allclose(np.exp(found.scores).sum(1), 1, atol=1e-5)


def test_label_smoothing_spreads_over_legal_tokens_alone():
    plain, smooth = small(), small(label_smoothing=0.3, softmax="catalogue")
    items, targets = torch.tensor([[0, 5]]), torch.tensor([7])  # the only SID behind code 2: nothing to smooth after it
    with torch.no_grad():
        first = plain.t5(inputs_embeds=plain.embed(plain.inputs(items)), labels=plain.tokens[targets]).logits[0, 0]
        legal = torch.tensor(sorted(set(plain.tokens[:-1, 0].tolist())))
        log_probs = first[legal].log_softmax(0)
        own = log_probs[legal.tolist().index(int(plain.tokens[7, 0]))]
        expected = -0.7 * own - 0.3 * log_probs.mean()
        assert float(smooth.loss(items, targets)) == pytest.approx(float(expected), abs=1e-5)


def test_tokens_of_one_level_are_none_of_another():
    tokens, size = tiger.token_ids(CODES)
    by_level = [set(column.tolist()) for column in tokens.T]
    assert not by_level[0] & by_level[1] | by_level[1] & by_level[2] | by_level[0] & by_level[2]
    assert set.union(*by_level) == set(range(1, size))  # 0 is padding
    assert len({tuple(row) for row in tokens.tolist()}) == len(SIDS.distinct)


def test_the_collision_level_tells_all_items_apart():
    codes = tiger.with_collision_level(CODES)
    assert len(np.unique(codes, axis=0)) == len(CODES)
    assert codes[[2, 3, 8], 3].tolist() == [0, 1, 2]
    with pytest.raises(BenchError, match="share one SID"):
        tiger.with_collision_level(np.zeros((300, 2), dtype=int))


def test_it_memorises_rules_that_only_two_items_tell(tmp_path):
    rng = np.random.default_rng(0)
    follows = rng.integers(0, 9, (9, 9))
    pairs = [(a, b) for a in range(6) for b in range(6)]
    samples = Samples.build([f"{p}" for p in pairs], [list(p) for p in pairs], [int(follows[p]) for p in pairs], 10)
    trainer = tiger.TigerTrainer(
        tiger.Settings(hidden=48, layers=1, heads=2, head_width=24, intermediate=64, dropout=0.0, epochs=150, batch=12,
                       learning_rate=3e-3, eval_every=150, patience=0, collision_level=True)
    )  # fmt: skip
    given = context(samples, 9, tmp_path)
    given.semantic_ids, given.needs_semantic_ids = SIDS, lambda who: SIDS
    given.probe = lambda model: {"NDCG@10": 0.5}
    trainer.fit(given)
    found = BeamDecoder(BeamSettings(beams=5)).decode(trainer.load(given), samples.histories, SIDS, "cpu", QUIET)
    assert (found.ids[:, 0] == samples.targets).mean() > 0.95


def test_without_sids_it_names_the_way_to_get_them(plugins, tmp_path):
    trainer = tiger.TigerTrainer(tiger.Settings())
    from harness.components import Context

    bare = SimpleNamespace(semantic_ids=None)
    bare.needs_semantic_ids = lambda who: Context.needs_semantic_ids(bare, who)
    with pytest.raises(BenchError, match="--tokenizer"):
        trainer.check(bare)


def test_masks_that_do_not_fit_are_refused_before_training(monkeypatch):
    given = SimpleNamespace(needs_semantic_ids=lambda who: SIDS)
    tiger.TigerTrainer(tiger.Settings()).check(given)
    monkeypatch.setattr(tiger, "MOST_GIB", 1e-9)
    with pytest.raises(BenchError, match=r"set tiger\.softmax=vocabulary"):
        tiger.TigerTrainer(tiger.Settings()).check(given)
    tiger.TigerTrainer(tiger.Settings(softmax="vocabulary")).check(given)


def test_generate_is_refused_for_an_encoder_decoder():
    with pytest.raises(BenchError, match="decoder=beam"):
        GenerateDecoder(GenerateDecoder.Settings(beams=5)).decode(
            tiger.SidTranslator(small(), SIDS), HISTORIES, SIDS, "cpu", QUIET
        )


TINY = ["dataset.items=80", "dataset.users=150", "tiger.hidden=32", "tiger.layers=1", "tiger.heads=2",
        "tiger.head_width=16", "tiger.intermediate=32", "tiger.epochs=2", "tiger.eval_every=1"]  # fmt: skip


@pytest.mark.parametrize("collision_level", [False, True])
def test_a_whole_run_gives_both_protocols(plugins, tmp_path, collision_level):
    settings = [*TINY, "dataset.collisions=0.3", f"tiger.collision_level={str(collision_level).lower()}"]
    result = run(plugins, "tiger", tmp_path, settings)
    assert result.sid["HR@50"] >= result.item["HR@50"] > 0
    assert result.result["stages"]["tiger"]["invalid"] == 0
