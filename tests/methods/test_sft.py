import numpy as np
import pytest
import torch
from torch.nn import functional

from harness.data.dataset import Items
from harness.decoding.split import SplitModel
from harness.decoding.trie import Trie
from harness.language.answer_loss import AnswerLoss
from harness.language.packing import example_rows, packed_rows
from harness.language.prompts import Prompts
from harness.language.running_average import RunningAverage
from harness.language.training_rows import IGNORED, Rows, collate
from harness.networks.batches import LengthBuckets
from plugins.backbones.nano import NanoBackbone, Settings
from plugins.minionerec.alike import TitleNeighbours, recent
from plugins.minionerec.drawn import DrawnRows


def log_probs_of_labels(model, rows, pad):
    """{(tokens before a label …, label): log-probability} over all labelled positions of all rows."""
    found = {}
    with torch.no_grad():
        for row in rows:
            batch = collate([row], pad)
            logits = model(input_ids=batch["input_ids"]).logits[0].log_softmax(-1)
            for place in range(1, len(row.tokens)):
                if row.labels[place] != IGNORED:
                    found.setdefault(tuple(row.tokens[: place + 1]), []).append(
                        float(logits[place - 1, row.tokens[place]])
                    )
    return found


@pytest.mark.parametrize("style", ["compact", "compact-items"])
def test_packed_rows_train_on_the_same_targets_after_the_same_histories(tiny, tiny_lm, style):
    model, text_tokenizer, prompts = tiny_lm
    if style == "compact-items":
        prompts = Prompts(style, tiny.items, tiny.given)
        backbone = NanoBackbone(Settings(hidden=32, layers=2, heads=2, intermediate=64, text_vocabulary=300), None)
        model, text_tokenizer = backbone.build(tiny.given.tokens, prompts.special_tokens, tiny.items.titles, 1)
        model.eval()
        first = text_tokenizer(prompts.next_sid([[3, 5]])[0])["input_ids"]
        assert len(first) == 1 + 2 * (tiny.given.n_levels + 1)
        assert first[tiny.given.n_levels + 1] == text_tokenizer.get_vocab()["<i_3>"]
    samples = tiny.train.take(np.arange(200))
    packed = packed_rows(samples, prompts, text_tokenizer)
    windowed = example_rows(
        prompts.examples({"next_sid": 1.0}, samples, 500, 0)["next_sid"], prompts, text_tokenizer, 512
    )
    for row in windowed:  # the end of sequence is no SID: the packed form does not learn it
        row.labels[-1] = IGNORED
    one = log_probs_of_labels(model, packed, text_tokenizer.pad_token_id)
    other = log_probs_of_labels(model, windowed, text_tokenizer.pad_token_id)
    assert {k: len(v) for k, v in one.items()} == {k: len(v) for k, v in other.items()}
    assert all(np.allclose(one[k], other[k], atol=1e-5) for k in one)
    assert sum(len(r.tokens) for r in packed) < 0.7 * sum(len(r.tokens) for r in windowed)


def test_labels_stand_on_the_answer_alone(tiny, tiny_lm):
    _, text_tokenizer, _ = tiny_lm
    prompts = Prompts("compact", tiny.items, tiny.given)
    rows = example_rows(
        prompts.examples({"title_to_sid": 1.0}, tiny.train, 500, 0)["title_to_sid"], prompts, text_tokenizer, 512
    )
    for item, row in enumerate(rows):
        answer = [t for t, label in zip(row.tokens, row.labels, strict=True) if label != IGNORED]
        assert text_tokenizer.decode(answer[:-1]).replace(" ", "") == tiny.given.string_of_item(item)
        assert answer[-1] == text_tokenizer.eos_token_id


def test_a_long_row_keeps_its_end(tiny, tiny_lm):
    _, text_tokenizer, prompts = tiny_lm
    examples = prompts.examples({"titles_to_sid": 1.0}, tiny.train, 500, 0)["titles_to_sid"]
    for row in example_rows(examples, prompts, text_tokenizer, 12):
        assert len(row.tokens) <= 12
        assert sum(label != IGNORED for label in row.labels) == tiny.given.n_levels + 1


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(3, 60, 1000)
    sampler, again = LengthBuckets(lengths, 16, 7), LengthBuckets(lengths, 16, 7)
    sampler.set_epoch(3)
    list(again)
    again.set_epoch(3)
    order = list(sampler)
    assert order == list(again)
    assert sorted(order) == list(range(1000))
    again.set_epoch(4)
    assert order != list(again)
    spread = [np.ptp(lengths[order[i : i + 16]]) for i in range(0, 992, 16)]
    assert np.mean(spread) < 10  # batches hold rows of like length


@pytest.mark.data
def test_real_rows_are_those_of_the_specification(industrial):
    """Each train sample once; titles of all items, also of the 40 that share one."""
    prompts = Prompts("compact", industrial.items, industrial.given)
    backbone = NanoBackbone(Settings(), None)
    model, text_tokenizer = backbone.build(industrial.given.tokens, prompts.special_tokens, industrial.items.titles, 0)
    packed = packed_rows(industrial.train, prompts, text_tokenizer)
    assert sum(sum(label != IGNORED for label in row.labels) for row in packed) == 3 * 28609
    assert len(prompts.examples({"title_to_sid": 1.0}, industrial.train, 500, 0)["title_to_sid"]) == 3686
    assert 1.0e6 < sum(p.numel() for p in model.parameters()) < 1.3e6


def test_drawn_rows_differ_from_epoch_to_epoch_and_repeat_from_it(tiny, tiny_lm):
    _, text_tokenizer, prompts = tiny_lm
    arguments = (tiny.train, {"alike": 0.5, "again": 0.25}, tiny.items, prompts, text_tokenizer, 512, 3)
    drawn, again = DrawnRows(*arguments), DrawnRows(*arguments)
    rows = Rows([], drawn)
    assert len(rows) == round(0.5 * len(tiny.train)) + round(0.25 * len(tiny.train)) == len(rows.lengths)
    first = [rows[i] for i in range(len(rows))]
    assert [len(row.tokens) for row in first] == rows.lengths
    rows.set_epoch(1)
    second = [rows[i] for i in range(len(rows))]
    assert first != second
    assert second == [again.row(i, 1) for i in range(len(rows))]
    levels = tiny.given.n_levels
    for number, row in enumerate(first):
        assert row.labels[-levels:] == row.tokens[-levels:]
        assert set(row.labels[:-levels]) == {IGNORED}
        own = [drawn.tokens_of[item] for item in drawn.histories[number]]
        if drawn.tasks[number] == "again":
            assert row.tokens[-levels:] in own
    alike = [
        row.tokens[-levels:] not in [drawn.tokens_of[i] for i in drawn.histories[n]] for n, row in enumerate(first)
    ]
    assert np.mean(alike[: drawn.tasks.count("alike")]) > 0.5


def test_neighbours_are_items_with_like_titles():
    titles = ["red steel bolt", "red steel bolts", "blue steel bolt", "garden hose", "", "garden hose"]
    neighbours = TitleNeighbours(Items(titles, [""] * 6, [""] * 6, [""] * 6), most=3)
    rng = np.random.default_rng(0)
    assert {neighbours.draw(0, rng) for _ in range(50)} == {1, 2}
    assert all(neighbours.draw(3, rng) == 5 for _ in range(50))
    assert neighbours.known.tolist() == [True, True, True, True, False, True]
    assert 0 not in neighbours.ids[0]
    assert recent([7], rng) == 7
    drawn = [recent([1, 2, 3], rng) for _ in range(500)]
    assert drawn.count(3) > drawn.count(2) > drawn.count(1) > 0


def losses(tiny_lm, tiny, softmax, **settings):
    """Our summed loss of a few rows, and the log-probabilities of their SIDs by the plain model and over the trie."""
    model, text_tokenizer, prompts = tiny_lm
    rows = packed_rows(tiny.train.take(np.arange(40)), prompts, text_tokenizer)
    examples = prompts.examples({"sid_to_title": 0.1}, tiny.train, 500, 0)["sid_to_title"]
    rows += example_rows(examples, prompts, text_tokenizer, 512)
    batch = collate(rows, text_tokenizer.pad_token_id)
    trie = Trie(prompts.generative(model, text_tokenizer, 512).sid_tokens)
    loss = AnswerLoss(trie, softmax, **settings)
    lm = SplitModel(model)
    with torch.no_grad():
        found = loss(lm, lm.states(batch["input_ids"]), batch["input_ids"], batch["labels"], train=True)
        logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    return float(found), logits, batch["input_ids"][:, 1:], batch["labels"][:, 1:], trie


def test_the_loss_over_the_vocabulary_is_cross_entropy(tiny_lm, tiny):
    found, logits, ids, labels, _ = losses(tiny_lm, tiny, "vocabulary", smoothing=0.1)
    chosen = labels != IGNORED
    expected = functional.cross_entropy(logits[chosen], ids[chosen], reduction="sum", label_smoothing=0.1)
    assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("softmax", ["vocabulary", "catalogue"])
def test_level_weights_and_the_loss_over_the_catalogue(tiny_lm, tiny, softmax):
    """Token by token in Python: a SID token competes with the siblings that the catalogue has after its prefix."""
    weights, smoothing = [1.0, 0.5, 2.0], 0.1
    found, logits, ids, labels, trie = losses(tiny_lm, tiny, softmax, level_weights=weights, smoothing=smoothing)
    sids = {tuple(sid) for sid in trie.tokens(torch.arange(len(trie))).tolist()}
    level_of = {token: level for level in range(3) for token in trie.levels[level].vocabulary.tolist()}
    expected = 0.0
    for row in range(len(ids)):
        for place in range(ids.shape[1]):
            if labels[row, place] == IGNORED:
                continue
            token, level = int(ids[row, place]), level_of.get(int(ids[row, place]))
            weight, legal = 1.0 if level is None else weights[level], list(range(logits.shape[2]))
            if level is not None and softmax == "catalogue":
                prefix = tuple(ids[row, place - level : place].tolist())
                legal = sorted({sid[level] for sid in sids if sid[:level] == prefix})
            log_probs = logits[row, place, legal].log_softmax(0)
            target = log_probs[legal.index(token)]
            expected -= weight * float((1 - smoothing) * target + smoothing * log_probs.mean())
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_running_average_is_what_the_formula_says(tmp_path):
    layer = torch.nn.Linear(1, 1, bias=False)
    average, expected = RunningAverage(0.9), None
    for step in range(1, 30):
        layer.weight.data.fill_(step)
        average.on_step_end(None, None, None, model=layer)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
    assert float(average.weights["weight"]) == pytest.approx(expected, rel=1e-5)
    with average.instead(layer):
        assert layer.weight.item() == pytest.approx(expected, rel=1e-5)
    assert layer.weight.item() == 29
    average.save(tmp_path)
    loaded = RunningAverage(0.9)
    loaded.load(tmp_path, "cpu")
    assert loaded.steps == 29
    assert torch.equal(loaded.weights["weight"], average.weights["weight"])


def test_the_running_average_of_half_precision_moves_as_that_of_the_whole_does():
    half, whole = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    half.bfloat16()
    averages = RunningAverage(0.998), RunningAverage(0.998)
    for step in range(2_000):
        for layer, average in zip((half, whole), averages, strict=True):
            layer.weight.data.fill_(1.0 if step < 1_000 else 1.0 + 2**-6)  # both exact in bfloat16
            average.on_step_end(None, None, None, model=layer)
    found, expected = (float(average.weights["weight"]) for average in averages)
    assert found == pytest.approx(expected, rel=1e-6) and 1.01 < found < 1.0 + 2**-6
    with averages[0].instead(half):
        assert half.weight.dtype == torch.bfloat16
    assert float(averages[0].weights["weight"]) == found and half.weight.item() == 1.0 + 2**-6


def test_rows_hear_of_each_epoch_by_the_sampler_and_nobody_is_a_row_without_labels():
    """Where processes share the rows, accelerate tells the sampler of an epoch, and the rows no more."""
    from harness.language.training_rows import IGNORED, Row, Rows
    from harness.networks.batches import NOBODY, LengthBuckets, Shares

    rows = Rows([Row([1, 2, number], [IGNORED, 2, number]) for number in range(10)])
    shares = [Shares(LengthBuckets(rows.lengths, 8, 0), 4, rank, 2, [rows]) for rank in (0, 1)]
    shares[0].set_epoch(3), shares[1].set_epoch(3)
    assert rows.epoch == 3
    whole = LengthBuckets(rows.lengths, 8, 0)
    whole.set_epoch(3)
    first, second = (list(share) for share in shares)
    assert len(first) == len(second) == len(shares[0]) == 5
    assert sorted([*first, *second]) == sorted(whole) and set(first[:4]) | set(second[:4]) == set(list(whole)[:8])
    odd = list(Shares(LengthBuckets([3] * 9, 8, 0), 4, 1, 2))[4:]
    assert odd == [NOBODY] and set(rows[NOBODY].labels) == {IGNORED} and rows[NOBODY].tokens == rows[0].tokens
