import numpy as np
import pytest
import torch

from harness.batching import LengthBuckets
from harness.training import IGNORED, collate
from plugins.minionerec.prompts import Prompts
from plugins.minionerec.rows import example_rows, packed_rows


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


def test_packed_rows_train_on_the_same_targets_after_the_same_histories(tiny, tiny_lm):
    model, text_tokenizer, prompts = tiny_lm
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
    from plugins.backbones.nano import NanoBackbone, Settings

    prompts = Prompts("compact", industrial.items, industrial.given)
    backbone = NanoBackbone(Settings(), None)
    model, text_tokenizer = backbone.build(industrial.given.tokens, prompts.special_tokens, industrial.items.titles, 0)
    packed = packed_rows(industrial.train, prompts, text_tokenizer)
    assert sum(sum(label != IGNORED for label in row.labels) for row in packed) == 3 * 28609
    assert len(prompts.examples({"title_to_sid": 1.0}, industrial.train, 500, 0)["title_to_sid"]) == 3686
    assert 1.0e6 < sum(p.numel() for p in model.parameters()) < 1.3e6
