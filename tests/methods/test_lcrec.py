"""LC-Rec: its tasks and wordings, and what its SFT stage shares with MiniOneRec's."""

import numpy as np
import pytest

from harness.data.dataset import Items, Samples
from harness.data.semantic_ids import SemanticIds
from harness.language.prompts import Prompts
from harness.language.templates import ONE_WORDING, SEVERAL_WORDINGS
from tests.commands import run_whole
from tests.conftest import TINY_SETTINGS

ITEMS = Items(["Nut", "Bolt", "Washer", ""], ["A nut.", "", "A washer.", "No title."], [""] * 4, [""] * 4)
SIDS = SemanticIds(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.int32))
SAMPLES = Samples.build(["u"] * 40, [[0, 1]] * 40, [2] * 40, 10)


def test_its_tasks_ask_and_answer_as_the_paper_has_them():
    """The golden prompts of every task, compact and in the first wording."""
    golden = {
        "next_sid": ("<|next|><a_0><b_0><a_0><b_1>", "<a_1><b_0>"),
        "sid_history_to_description": ("<|next|><a_0><b_0><a_0><b_1><|about|>", "A washer."),
        "sid_to_description": ("<|item|><a_0><b_0><|about|>", "A nut."),
        "description_to_sid": ("<|about|>A nut.<|sid|>", "<a_0><b_0>"),
    }
    found = Prompts("compact", ITEMS, SIDS, SEVERAL_WORDINGS).examples(dict.fromkeys(golden, 1.0), SAMPLES, 500, 0)
    for task, (prompt, answer) in golden.items():
        assert (found[task][0].prompt, found[task][0].answer) == (prompt, answer)
    assert len(found["sid_to_description"]) == 3  # the item without a description has no such row


def test_an_example_draws_its_wording_and_test_asks_in_the_first():
    prompts = Prompts("instruction", ITEMS, SIDS, SEVERAL_WORDINGS)
    found = prompts.examples({"next_sid": 1.0}, SAMPLES, 500, 0)["next_sid"]
    assert len({example.prompt for example in found}) == len(SEVERAL_WORDINGS["next_sid"]) == 5
    assert prompts.next_sid([[0, 1]])[0] == Prompts("instruction", ITEMS, SIDS).next_sid([[0, 1]])[0]
    again = prompts.examples({"next_sid": 1.0}, SAMPLES, 500, 0)["next_sid"]
    assert [e.prompt for e in again] == [e.prompt for e in found]


def test_every_wording_is_whole():
    for task, wordings in SEVERAL_WORDINGS.items():
        assert wordings[0] == ONE_WORDING[task][0]
        assert len(set(wordings)) == len(wordings)
        for line, question in wordings:
            assert line.strip() and question.count("{}") == 1


def run(folder, method, *more):
    sets = [s for s in TINY_SETTINGS if not s.startswith("grpo.")] + ["sft.epochs=2", *more]
    return run_whole(folder, method, sets)


def test_with_the_main_task_alone_it_is_minionerec_s_sft(tmp_path):
    """Same rows, same model, same rankings; a task of rate 0 changes nothing."""
    ours, _ = run(tmp_path / "a", "lcrec", "sft.tasks={next_sid: 1.0, sid_to_title: 0.0}", "sft.text_characters=500")
    theirs, _ = run(tmp_path / "b", "sdpo", "sdpo.epochs=0.1", "sdpo.eval_every=1.0")
    assert (ours / "rankings/test-sft.parquet").read_bytes() == (theirs / "rankings/test-sft.parquet").read_bytes()


@pytest.mark.parametrize("prompts", ["compact", "instruction"])
def test_all_its_tasks_train_together(tmp_path, prompts):
    tasks = "sft.tasks={next_sid: 1, title_to_sid: 1, description_to_sid: 1, sid_to_title: 1, sid_to_description: 1, \
sid_history_to_title: 0.5, sid_history_to_description: 0.5, titles_to_sid: 0.5}"
    _, stages = run(tmp_path, "lcrec", tasks, f"prompts={prompts}", f"sft.packed={prompts == 'compact'}",
                    "sft.text_characters=40", "sft.epochs=1")  # fmt: skip
    assert stages["sft"]["invalid"] == 0 and stages["sft"]["train"]["rows"] > 500
