"""Free text by beam search, beside plain searches that compute every sequence from its first token."""

import pytest
import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from harness.decoding.free import write
from harness.decoding.padding import pad_left

END, VOCABULARY, LONGEST = 1, 12, 9
PROMPTS = [[3, 4, 5], [6, 7, 8, 9, 10, 3, 4], [5], [11, 2, 3], [9, 9, 8], [4, 4, 4, 4]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.4, bos_token_id=0, eos_token_id=END,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def written(model, prompts, beams, longest=LONGEST):
    return write(model, *pad_left(prompts, 0, "cpu"), beams, longest, END)


def plain_beams(model, prompt, beams, longest):
    """Beam search as it is defined: what has ended competes with its score and is not continued."""
    running = [(0.0, [])]
    for _ in range(longest):
        grown = []
        for score, tokens in running:
            if tokens[-1:] == [END]:
                grown.append((score, tokens))
                continue
            with torch.no_grad():
                log_probs = model(input_ids=torch.tensor([prompt + tokens])).logits[0, -1].log_softmax(-1)
            grown += [(score + log_probs[token].item(), [*tokens, token]) for token in range(VOCABULARY)]
        running = sorted(grown, key=lambda beam: -beam[0])[:beams]
    return running


@pytest.mark.parametrize("beams", [1, 2, 4, 7])
def test_it_is_beam_search(model, beams):
    tokens, scores = written(model, PROMPTS, beams)
    ends = set()
    for row, prompt in enumerate(PROMPTS):
        for beam, (score, expected) in enumerate(plain_beams(model, prompt, beams, LONGEST)):
            assert tokens[row, beam].tolist() == expected + [END] * (LONGEST - len(expected))
            assert scores[row, beam].item() == pytest.approx(score, abs=1e-4)
            ends.add(len(expected))
    assert len(ends) > 2 or beams == 1  # they end at unlike times, some not at all


def test_one_beam_is_greedy_generation(model):
    tokens, _ = written(model, PROMPTS, 1)
    config = GenerationConfig(max_new_tokens=LONGEST, do_sample=False, eos_token_id=END, pad_token_id=END)
    for row, prompt in enumerate(PROMPTS):
        out = model.generate(input_ids=torch.tensor([prompt]), generation_config=config)[0, len(prompt) :].tolist()
        assert tokens[row, 0].tolist() == out + [END] * (LONGEST - len(out))


def test_wide_beams_find_the_best_of_all_texts(model):
    tokens, scores = written(model, PROMPTS[:2], VOCABULARY**2, longest=2)
    for row, prompt in enumerate(PROMPTS[:2]):
        with torch.no_grad():
            first = model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
            pairs = torch.tensor([[*prompt, token] for token in range(VOCABULARY)])
            both = first[:, None] + model(input_ids=pairs).logits[:, -1].log_softmax(-1)
        both[END], both[END, END] = -torch.inf, first[END]
        best, place = both.flatten().sort(descending=True)
        known = torch.isfinite(best)
        torch.testing.assert_close(scores[row][: int(known.sum())], best[known], atol=1e-4, rtol=0)
        pairs_found = torch.stack([place // VOCABULARY, place % VOCABULARY], 1)[known]
        assert tokens[row, : int(known.sum())].tolist() == pairs_found.tolist()


def test_a_user_s_texts_do_not_depend_on_the_batch(model):
    together, scores = written(model, PROMPTS * 3, 4)
    for row, prompt in enumerate(PROMPTS):
        alone, own = written(model, [prompt], 4)
        assert torch.equal(together[row], alone[0]) and torch.equal(together[row + 6], alone[0])
        torch.testing.assert_close(scores[row], own[0], atol=1e-5, rtol=0)
