"""Every family of backbones decodes as a plain forward pass does, or is refused: the table of docs/backbones.md."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.decoding import trial
from harness.decoding.beam import beam_search
from harness.decoding.engine import split
from harness.decoding.exact import leaf_scores
from harness.decoding.free import write
from harness.decoding.padding import pad_left
from harness.decoding.shared_prompt import completion_log_probs
from harness.decoding.split import SplitModel
from harness.decoding.trie import Trie
from harness.errors import BenchError
from tests.decoding import families

ROOT = Path(__file__).parents[2]
SIDS = np.array([[20 + i // 8, 40 + i // 2 % 4, 60 + i % 3] for i in range(24)])
PROMPTS = [np.random.default_rng(n).integers(100, families.VOCABULARY, n).tolist() for n in (34, 12, 7)]
PROMPTS[1][:4] = PROMPTS[0][:4]  # a common beginning


@pytest.fixture(scope="module")
def found():
    warnings.simplefilter("ignore")
    return families.verdicts()


def plain_scores(model):
    """Log-probability of every SID's tokens after every prompt, one row at a time: no cache, no mask, no padding."""
    lm = model.eval()
    scores = np.zeros((len(PROMPTS), *SIDS.shape))
    with torch.no_grad():
        for row, prompt in enumerate(PROMPTS):
            for number, sid in enumerate(SIDS.tolist()):
                logits = lm(input_ids=torch.tensor([[*prompt, *sid]]), use_cache=False).logits[0].log_softmax(-1)
                scores[row, number] = [logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(sid)]
    return scores


def test_the_table_of_the_docs_is_what_the_families_give(found):
    import transformers

    if f"transformers=={transformers.__version__}\n" not in (ROOT / "constraints.txt").read_text(encoding="utf-8"):
        pytest.skip("the table is of the version in constraints.txt; another may decode a family otherwise, or mend it")
    assert families.table(found) in (ROOT / "docs/backbones.md").read_text(encoding="utf-8"), (
        "python -m tests.decoding.families prints it anew"
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_search_and_losses_equal_plain_forward_passes(name, attention, found):
    """Checked by other means than the harness's own trial: all SIDs, three prompts, beams and groups."""
    if attention not in found[name]:
        pytest.skip(f"{name} has no {attention} attention")
    model = families.build(name, attention)
    ids, mask = pad_left(PROMPTS, 0, "cpu")
    trie = Trie(SIDS, "cpu")
    if found[name][attention].layout == "refused":
        with pytest.raises(BenchError, match=f"{type(model).__name__} cannot be decoded"):
            beam_search(model, ids, mask, trie, 5)
        return
    expected = plain_scores(model)
    exact = leaf_scores(model, ids, mask, trie).numpy()
    np.testing.assert_allclose(exact, expected.sum(2)[:, trie.leaves.numpy()], atol=1e-3)
    beams = beam_search(model, ids, mask, trie, len(SIDS))
    np.testing.assert_allclose(beams.scores.numpy(), np.sort(expected.sum(2))[:, ::-1], atol=1e-3)
    group = torch.from_numpy(SIDS[None, :5]).expand(len(PROMPTS), -1, -1)
    log_probs, _ = completion_log_probs(model, ids, mask, group)
    np.testing.assert_allclose(log_probs.detach().numpy(), expected[:, :5], atol=1e-3)
    log_probs.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["Llama", "Qwen3.5", "BLOOM", "Mistral, window 24"])
def test_free_texts_go_row_by_row_where_they_must(name):
    """Beams that end at different steps, users that leave the batch: each text's score is a plain pass's."""
    model = families.build(name)
    model = model if model is not None else families.build(name, "eager")
    ids, mask = pad_left(PROMPTS, 0, "cpu")
    with torch.no_grad():
        end = int(model(input_ids=torch.tensor([PROMPTS[0]]), use_cache=False).logits[0, -1].topk(3).indices[2])
    tokens, scores = write(model, ids, mask, beams=3, longest=5, end=end)
    for row, prompt in enumerate(PROMPTS):
        for text, score in zip(tokens[row].tolist(), scores[row].tolist(), strict=True):
            text = text[: text.index(end) + 1] if end in text else text
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prompt, *text]]), use_cache=False).logits[0].log_softmax(-1)
            own = sum(logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(text))
            assert score == pytest.approx(own, abs=1e-3)


def test_a_prompt_longer_than_a_window_is_found_out_when_it_comes():
    """Short prompts are read as a tree, and the first one beyond the window moves the model to rows."""
    model = families.FAMILIES["Mistral, window 24"](families.VOCABULARY).eval()
    model.config.sliding_window = 100
    wide = type(model)(model.config).eval()
    lm = split(wide)
    assert not lm.by_rows(60)
    assert lm.by_rows(130)


def test_a_weak_model_is_judged_by_what_its_prompt_changes(monkeypatch):
    """Masks that are ignored show little in a fresh model, whose attention hardly matters: still found out."""
    model = families.build("Llama", "eager", loud=0.3)
    monkeypatch.setattr(SplitModel, "_mask", lambda self, allowed: allowed)  # as booleans, which eager attention adds
    verdict = trial.examine(model, 40)
    assert 1e-3 < verdict.tree < 0.05 and verdict.layout == "rows"


def test_a_soft_cap_shows_on_a_fresh_model_too():
    """Logits far below the cap look uncapped; the head's output is tried with loud numbers."""
    quiet = families.build("Gemma 2", "eager", loud=0.01)
    assert SplitModel(quiet).whole
    assert SplitModel(families.build("Cohere")).whole
    assert not SplitModel(families.build("Llama")).whole


def test_a_model_whose_tokens_see_what_comes_after_is_refused():
    from transformers import BertConfig, BertLMHeadModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    model = BertLMHeadModel(BertConfig(vocab_size=families.VOCABULARY, **sizes)).eval()
    with pytest.raises(BenchError, match=r"BertLMHeadModel cannot be decoded: .*sees those that come after it"):
        trial.of(model, 20)


def test_a_reduced_model_is_tried_in_full_precision():
    model = families.build("Qwen2").to(torch.bfloat16)
    assert trial.of(model, 40).layout == "tree"
    assert next(model.parameters()).dtype == torch.bfloat16


def test_a_large_reduced_model_is_judged_beside_its_rounding(monkeypatch):
    """Not copied to float32: right layouts pass though their numbers round, ignored masks do not."""
    monkeypatch.setattr(trial, "SMALL", 0)
    right = trial.examine(families.build("Qwen2").to(torch.bfloat16), 40)
    assert right.layout == "tree"
    monkeypatch.setattr(SplitModel, "_mask", lambda self, allowed: allowed)
    wrong = trial.examine(families.build("Llama", "eager").to(torch.bfloat16), 40)
    assert wrong.layout == "rows"


def test_a_number_that_is_none_in_one_layout_is_no_equality():
    plain = torch.zeros(2, 2, 3, 5)
    broken = plain.clone()
    broken[0, 0, 0, 0] = float("nan")
    found, why = trial._difference(lambda: [plain, broken], plain, plain.isfinite())
    assert found == float("inf") and "no numbers" in why
