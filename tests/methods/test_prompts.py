import numpy as np
import pytest

from harness.data.dataset import Items, Samples
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError
from harness.language.prompts import SID_TASKS, Prompts

ITEMS = Items(["Nut", "Bolt", "Nut", ""], ["A nut.", "", "Another nut.", "No title."], [""] * 4, [""] * 4)
SIDS = SemanticIds(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.int32))
SAMPLES = Samples.build(["u", "v"], [[0, 1], [1]], [2, 3], 10)
ALL = ["next_sid", "sid_history_to_title", "titles_to_title", "titles_to_sid", "title_to_sid", "sid_to_title"]

GOLDEN = {
    "compact": {
        "next_sid": ("<|next|><a_0><b_0><a_0><b_1>", "<a_1><b_0>"),
        "sid_history_to_title": ("<|next|><a_0><b_0><a_0><b_1><|title|>", "Nut"),
        "titles_to_title": ("<|history|>Nut<|then|>Bolt<|title|>", "Nut"),
        "titles_to_sid": ("<|history|>Nut<|then|>Bolt<|sid|>", "<a_1><b_0>"),
        "title_to_sid": ("<|item|>Nut<|sid|>", "<a_0><b_0>"),
        "sid_to_title": ("<|item|><a_0><b_0><|title|>", "Nut"),
        "description_to_sid": ("<|about|>A nut.<|sid|>", "<a_0><b_0>"),
    },
    "instruction": {
        "next_sid": (
            "Below are a task and its input. Answer the task for this input.\n\n"
            "### Instruction:\nPredict what the customer buys next.\n\n"
            "### User Input:\nPurchases so far, oldest first: <a_0><b_0>, <a_0><b_1>. Which item comes next?\n\n"
            "### Response:\n",
            "<a_1><b_0>",
        ),
        "titles_to_title": (
            "Below are a task and its input. Answer the task for this input.\n\n"
            "### Instruction:\nName what the customer buys next from the titles bought so far.\n\n"
            '### User Input:\nTitles bought so far, oldest first: "Nut", "Bolt". '
            "What is the title of the item that comes next?\n\n"
            "### Response:\n",
            "Nut",
        ),
        "title_to_sid": (
            "Below are a task and its input. Answer the task for this input.\n\n"
            "### Instruction:\nGive the item that has this title.\n\n"
            '### User Input:\nTitle: "Nut". Which item is it?\n\n'
            "### Response:\n",
            "<a_0><b_0>",
        ),
    },
}


@pytest.mark.parametrize("style", ["compact", "instruction"])
def test_prompts_are_worded_as_agreed(style):
    prompts = Prompts(style, ITEMS, SIDS)
    found = prompts.examples(dict.fromkeys([*ALL, "description_to_sid"], 1.0), SAMPLES, 500, 0)
    for task, golden in GOLDEN[style].items():
        assert (found[task][0].prompt, found[task][0].answer) == golden


def test_training_rl_and_test_share_one_wording():
    for style in ("compact", "instruction"):
        prompts = Prompts(style, ITEMS, SIDS)
        examples = prompts.examples({"next_sid": 1.0}, SAMPLES, 500, 0)["next_sid"]
        assert [e.prompt for e in examples] == prompts.next_sid(SAMPLES.histories.lists())


@pytest.mark.parametrize("style", ["compact", "instruction"])
def test_no_prompt_holds_its_answer(style):
    prompts = Prompts(style, ITEMS, SIDS)
    samples = Samples.build(["u"], [[0, 1]], [3], 10)
    for task, examples in prompts.examples(dict.fromkeys([*ALL, "description_to_sid"], 1.0), samples, 500, 0).items():
        for example in examples:
            assert example.answer not in example.prompt, task


def test_targets_belong_to_samples_not_to_texts():
    """Items with equal titles and samples with equal histories keep their own targets."""
    samples = Samples.build(["u", "v"], [[1], [1]], [0, 2], 10)
    prompts = Prompts("compact", ITEMS, SIDS)
    found = prompts.examples(dict.fromkeys(SID_TASKS, 1.0), samples, 500, 0)
    assert [e.target for e in found["next_sid"]] == [0, 2]
    assert [e.target for e in found["titles_to_sid"]] == [0, 2]
    assert [(e.prompt, e.target) for e in found["title_to_sid"]][::2] == [
        ("<|item|>Nut<|sid|>", 0),
        ("<|item|>Nut<|sid|>", 2),
    ]
    for examples in found.values():
        assert all(e.answer == SIDS.string_of_item(e.target) for e in examples)


def test_rates_draw_rows_once_by_seed():
    samples = Samples.build(["u"] * 100, [[i % 4] for i in range(100)], [i % 3 for i in range(100)], 10)
    prompts = Prompts("compact", ITEMS, SIDS)
    sizes = {rate: len(prompts.examples({"next_sid": rate}, samples, 500, 0)["next_sid"]) for rate in (0.25, 1.0, 2.5)}
    assert sizes == {0.25: 25, 1.0: 100, 2.5: 250}
    drawn = [prompts.examples({"next_sid": 0.25}, samples, 500, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert prompts.examples({"next_sid": 0}, samples, 500, 0) == {}
    with pytest.raises(BenchError, match="0 or more"):
        prompts.examples({"next_sid": -1}, samples, 500, 0)
