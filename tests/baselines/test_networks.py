"""The neural item-id models: closed forms, independent implementations, invariances, and what they can memorise."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from baselines import bert4rec, caser, fmlprec, gru4rec, hstu, sasrec
from harness import item_models
from harness.data.dataset import Samples
from harness.item_models import loop

N = 30
MODELS = {
    "gru4rec": lambda **s: gru4rec.Gru4Rec(N, gru4rec.Settings(hidden=16, **s)),
    "caser": lambda **s: caser.Caser(N, 10, caser.Settings(hidden=16, horizontal=3, **s)),
    "sasrec": lambda **s: sasrec.SasRec(N, 10, sasrec.Settings(hidden=16, intermediate=24, **s)),
    "hstu": lambda **s: hstu.Hstu(N, 10, hstu.Settings(hidden=16, heads=2, head_width=6, blocks=3, **s)),
    "bert4rec": lambda **s: bert4rec.Bert4Rec(N, 10, bert4rec.Settings(hidden=16, intermediate=24, **s)),
    "fmlp-rec": lambda **s: fmlprec.FmlpRec(N, 10, fmlprec.Settings(hidden=16, intermediate=24, **s)),
}


def build(name, seed=0, **settings):
    model = loop.seeded(lambda: MODELS[name](**settings), seed)
    for parameter in model.parameters():  # away from zero: biases and pads must matter where they are read
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(parameter.numel())
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def some_histories():
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, N, length).tolist() for length in (1, 4, 10, 2, 7, 10, 1, 3)]
    return lists, Samples.build(["u"] * len(lists), lists, [0] * len(lists), 10).histories


def scorer(model):
    return item_models.Scorer(model, N, "cpu")


@pytest.mark.parametrize("name", MODELS)
def test_scores_do_not_depend_on_padding_batch_or_row_order(name):
    model = scorer(build(name))
    lists, histories = some_histories()
    together = model.score(histories)
    assert together.shape == (len(lists), N)
    for row, history in enumerate(lists):
        alone = Samples.build(["u"], [history], [0], 10).histories
        np.testing.assert_allclose(model.score(alone)[0], together[row], atol=2e-5)
        padded = torch.full((1, 10), N)
        padded[0, 10 - len(history) :] = torch.tensor(history)
        states = model.model.states(padded)
        np.testing.assert_allclose(model.model.output(states)[0].detach(), together[row], atol=2e-5)
    order = np.array([3, 0, 2, 1, 7, 5, 6, 4])
    shuffled = Samples.build(["u"] * len(lists), [lists[i] for i in order], [0] * len(lists), 10).histories
    np.testing.assert_allclose(model.score(shuffled), together[order], atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_what_the_padding_row_holds_changes_nothing(name):
    model = build(name)
    _, histories = some_histories()
    before = scorer(model).score(histories)
    model.output.embedding.weight.data[N] = 100.0
    np.testing.assert_allclose(scorer(model).score(histories), before, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_dropout_acts_in_training_only(name):
    model = build(name, dropout=0.5, embedding_dropout=0.5)
    items = torch.tensor([[1, 2, 3]])
    assert torch.equal(model.states(items), model.states(items))
    model.train()
    assert not torch.equal(model.states(items), model.states(items))


def test_an_item_of_the_past_does_not_see_the_future():
    """SASRec and HSTU are causal: the stream at a position is that of the history cut there."""
    for name in ("sasrec", "hstu"):
        model = build(name)
        seen = []
        layers = model.blocks if name == "sasrec" else model.layers
        layers[-2].register_forward_hook(lambda layer, given, out, seen=seen: seen.append(out))
        model.states(torch.tensor([[1, 2, 3, 4]]))
        model.states(torch.tensor([[1, 2, 3, 9]]))
        torch.testing.assert_close(seen[0][:, :3], seen[1][:, :3], rtol=0, atol=0)
        assert not torch.allclose(seen[0][:, 3], seen[1][:, 3])


def test_bert4recs_masked_places_hide_their_items_and_see_both_sides():
    model = build("bert4rec")
    items = torch.tensor([[N, 1, 2, 3, 4]])
    hidden = torch.tensor([[False, False, True, False, True]])
    before = model.encoded(items, hidden)
    for place, changes in ((2, False), (4, False), (1, True), (3, True)):
        other = items.clone()
        other[0, place] = 9
        after = model.encoded(other, hidden)
        assert torch.allclose(before[0, 2], after[0, 2], atol=1e-6) is not changes
        assert torch.allclose(before[0, 4], after[0, 4], atol=1e-6) is not changes


def test_bert4recs_loss_is_the_cross_entropy_at_the_masked_places():
    model = build("bert4rec", mask=0.4).train()
    model.settings = bert4rec.Settings(hidden=16, intermediate=24, mask=0.4, dropout=0.0, embedding_dropout=0.0)
    for block in model.blocks:
        block.rate = 0.0
    items, targets = torch.tensor([[N, N, 5, 6, 7], [1, 2, 3, 4, 8]]), torch.tensor([9, 10])
    torch.manual_seed(3)
    loss = float(model.loss(items, targets).detach())
    torch.manual_seed(3)
    whole = torch.cat([items, targets[:, None]], dim=1)
    hidden = (torch.rand(whole.shape) < 0.4) & (whole != N)
    hidden[:, -1] = True
    assert 2 < int(hidden.sum()) < 9  # beside the targets, some and not all
    values = []
    for row, place in hidden.nonzero().tolist():
        scores = model.output(model.encoded(whole[row : row + 1], hidden[row : row + 1])[:, place])
        values.append(-float(scores.log_softmax(1)[0, whole[row, place]].detach()))
    assert loss == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_fmlps_filter_is_a_circular_convolution():
    """A filter whose spectrum is that of a shift moves the stream (the convolution theorem)."""
    settings = fmlprec.Settings(hidden=3, intermediate=4, dropout=0.0)
    block = fmlprec.FilterBlock(8, settings).eval()
    shift = torch.fft.rfft(torch.eye(8)[2])  # of a unit pulse two steps late
    with torch.no_grad():
        block.filter.copy_(torch.view_as_real(shift)[:, None].expand(-1, 3, -1))
        block.narrow.weight.zero_()
        block.narrow.bias.zero_()
    stream = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    moved = block.norm_filter(stream + stream.roll(2, dims=1))
    torch.testing.assert_close(block(stream), block.norm_feed(moved), atol=1e-5, rtol=1e-5)


def test_sasrecs_block_is_torchs_encoder_layer():
    settings = sasrec.Settings(hidden=16, heads=4, intermediate=24)
    block = loop.seeded(lambda: sasrec.Block(settings), 1).eval()
    layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, "relu", batch_first=True, norm_first=True).eval()
    with torch.no_grad():
        parts = (block.query, block.key, block.value)
        layer.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        layer.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        for mine, theirs in ((block.mix, layer.self_attn.out_proj), (block.wide, layer.linear1),
                             (block.narrow, layer.linear2), (block.norm_attention, layer.norm1),
                             (block.norm_feed, layer.norm2)):  # fmt: skip
            theirs.weight.copy_(mine.weight)
            theirs.bias.copy_(mine.bias)
    stream = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(2))
    lower = torch.ones(7, 7, dtype=torch.bool).tril()
    expected = layer(stream, src_mask=~lower)
    torch.testing.assert_close(block(stream, lower[None, None], 7), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(block(stream, lower[None, None], 1), expected[:, -1:], atol=1e-5, rtol=1e-5)


def test_the_papers_sasrec_block_written_as_loops():
    """Queries alone are normalised, and both residuals add the normalised stream (the authors' code)."""
    block = loop.seeded(lambda: sasrec.Block(sasrec.Settings(hidden=8, heads=1, intermediate=8, norm="paper")), 1)
    block.eval()
    stream = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(3))
    found = block(stream, torch.ones(4, 4, dtype=torch.bool).tril()[None, None], 4)[0]
    x = stream[0]
    for t in range(4):
        normed = block.norm_attention(x[t])
        query = block.query(normed)
        logits = torch.stack([query @ block.key(x[j]) / math.sqrt(8) for j in range(t + 1)])
        weights = logits.softmax(0)
        attended = sum(w * block.value(x[j]) for j, w in enumerate(weights))
        middle = normed + block.mix(attended)
        normed = block.norm_feed(middle)
        expected = normed + block.narrow(torch.relu(block.wide(normed)))
        torch.testing.assert_close(found[t], expected, atol=1e-5, rtol=1e-5)


def test_hstus_layer_written_as_loops():
    settings = hstu.Settings(hidden=8, heads=2, head_width=3)
    layer = loop.seeded(lambda: hstu.Layer(settings, 10), 4).eval()
    layer.bias.data.normal_()
    stream = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(5))
    lower = torch.ones(5, 5, dtype=torch.bool).tril()[None, None].expand(2, -1, -1, -1)
    found = layer(stream, lower, 5)
    torch.testing.assert_close(layer(stream, lower, 1), found[:, -1:], atol=1e-6, rtol=1e-6)

    def norm(values):
        return (values - values.mean()) / torch.sqrt(values.var(unbiased=False) + 1e-6)

    for b in range(2):
        parts = [functional.silu(layer.project.weight @ norm(stream[b, t])) for t in range(5)]
        u, v, q, k = ([p[6 * i : 6 * i + 6] for p in parts] for i in range(4))
        for i in range(5):
            attended = torch.zeros(6)
            for head in range(2):
                h = slice(3 * head, 3 * head + 3)
                for j in range(i + 1):
                    attended[h] += functional.silu(q[i][h] @ k[j][h] + layer.bias[i - j]) / 10 * v[j][h]
            expected = stream[b, i] + layer.mix.weight @ (u[i] * norm(attended)) + layer.mix.bias
            torch.testing.assert_close(found[b, i], expected, atol=1e-5, rtol=1e-5)


def test_gru4recs_state_follows_the_gate_equations():
    model = build("gru4rec")
    gru, hidden = model.gru, torch.zeros(16)
    history = [4, 9, 2]
    for item in history:
        x = model.output.embedding.weight[item]
        given = gru.weight_ih_l0 @ x + gru.bias_ih_l0
        kept = gru.weight_hh_l0 @ hidden + gru.bias_hh_l0
        reset, update = (torch.sigmoid(given[16 * i : 16 * i + 16] + kept[16 * i : 16 * i + 16]) for i in range(2))
        new = torch.tanh(given[32:] + reset * kept[32:])
        hidden = (1 - update) * new + update * hidden
    torch.testing.assert_close(model.states(torch.tensor([history]))[0], hidden, atol=1e-5, rtol=1e-5)


def test_casers_filters_in_closed_form():
    model = build("caser")
    table = model.output.embedding.weight.detach()
    items = torch.tensor([[3, 7, 7, 12]])
    with torch.no_grad():
        model.vertical.weight.zero_()
        model.vertical.weight[0, -1] = 1.0  # the first vertical filter picks the most recent item
        model.horizontal[0].weight.zero_()
        model.horizontal[0].bias.zero_()
        model.horizontal[0].weight[0, :, 0] = table[7]  # the first filter of height 1 looks for item 7
    seen = []
    model.dense.register_forward_hook(lambda layer, given, out: seen.append(given[0]))
    model.states(items)
    by_width = seen[0][0, : 16 * model.settings.vertical].view(16, model.settings.vertical)
    torch.testing.assert_close(by_width[:, 0], table[12])
    largest = max(float(table[7] @ table[item]) for item in (3, 7, 12))
    assert float(seen[0][0, 16 * model.settings.vertical]) == pytest.approx(max(largest, 0.0), rel=1e-5)


def test_models_that_cosine_rank_by_direction_alone():
    model = build("hstu")
    _, histories = some_histories()
    before = scorer(model).score(histories)
    assert np.abs(before).max() <= 1 / 0.05 + 1e-4
    shown = model.output(torch.ones(1, 16))
    torch.testing.assert_close(shown, model.output(5 * torch.ones(1, 16)))


def toy(n_users=60, n_items=50, seed=0):
    """Second-order sequences: what follows depends on the last two items, and on nothing else."""
    rng = np.random.default_rng(seed)
    follows = rng.integers(0, n_items, (n_items, n_items))
    users, histories, targets = [], [], []
    for user in range(n_users):
        sequence = rng.integers(0, n_items, 2).tolist()
        for _ in range(5):
            sequence.append(int(follows[sequence[-2], sequence[-1]]))
        for end in range(2, len(sequence)):
            users.append(f"u{user}")
            histories.append(sequence[max(0, end - 10) : end])
            targets.append(sequence[end])
    return Samples.build(users, histories, targets, 10)


def context(samples, n_items, folder, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    from harness.progress import Progress

    def probe(model):
        scores = model.score(samples.histories)
        own = scores[np.arange(len(samples)), samples.targets][:, None]
        rank = (scores > own).sum(1)
        return {
            "HR@1": float((rank == 0).mean()),
            "NDCG@10": float(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean()),
        }

    return SimpleNamespace(
        items=[""] * n_items, train=samples, valid=samples, semantic_ids=None, directory=folder, seed=seed,
        device="cpu", probe=probe, log=lambda numbers, step: None, progress=Progress(quiet=True),
    )  # fmt: skip


TRAINERS = {
    "gru4rec": (gru4rec.Gru4RecTrainer, {"hidden": 64, "embedding_dropout": 0.0, "dropout": 0.0}),
    "caser": (caser.CaserTrainer, {"hidden": 64, "dropout": 0.0}),
    "sasrec": (sasrec.SasRecTrainer, {"hidden": 64, "embedding_dropout": 0.0, "dropout": 0.0}),
    "hstu": (hstu.HstuTrainer, {"hidden": 64, "blocks": 2, "embedding_dropout": 0.0, "dropout": 0.0}),
    "bert4rec": (bert4rec.Bert4RecTrainer, {"hidden": 64, "embedding_dropout": 0.0, "dropout": 0.0, "mask": 0.1}),
    "fmlp-rec": (fmlprec.FmlpRecTrainer, {"hidden": 64, "embedding_dropout": 0.0, "dropout": 0.0}),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_each_network_memorises_second_order_rules(name, tmp_path):
    trainer_class, settings = TRAINERS[name]
    samples = toy()
    trainer = trainer_class(
        trainer_class.Settings(epochs=80, batch=32, learning_rate=5e-3, eval_every=10, patience=0, **settings)
    )
    facts = trainer.fit(context(samples, 50, tmp_path))
    assert facts["epochs"] == 80
    model = trainer.load(context(samples, 50, tmp_path))
    best = model.score(samples.histories).argmax(1)
    assert (best == samples.targets).mean() > 0.95
