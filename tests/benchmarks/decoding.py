"""Decoding: the engine against ``generate``, and against itself at a million items."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from plugins.decoders.search import BeamDecoder, BeamSettings, autocast

from baselines import tiger
from harness.data.dataset import Histories
from harness.decoding import trial
from harness.decoding.beam import beam_search
from harness.decoding.free import write
from harness.decoding.generator import GenerativeModel
from harness.decoding.items import top_items
from harness.decoding.padding import pad_left
from harness.decoding.trie import Trie
from harness.item_models import loop
from harness.progress import Progress
from plugins.decoders.generate import GenerateDecoder, continuations
from tests.benchmarks.timing import ROUNDS, paired, parameters, row, some

BEAMS = 50


def decode_row(
    model: GenerativeModel, histories: Histories, users: int, style: str, device: str = "cpu",
    precision: str = "float32", batch_tokens: int = 4096,
) -> dict[str, object]:  # fmt: skip
    """50 beams of both paths on the same prompts, in the way the model was trained."""
    chosen = some(len(histories), users)
    part = Histories(histories.items[chosen], histories.lengths[chosen])
    lengths = [len(p) for p in model.encode(part)]
    quiet, found = Progress(quiet=True), {}

    def decode(name, decoder):
        with autocast(BeamSettings(precision=precision), device):
            found[name] = decoder.decode(model, part, model.semantic_ids, device, quiet)

    fast, usual = paired(
        lambda: decode("fast", BeamDecoder(BeamSettings(beams=BEAMS, batch_tokens=batch_tokens))),
        lambda: decode("usual", GenerateDecoder(GenerateDecoder.Settings(beams=BEAMS, batch_tokens=4 * batch_tokens))),
    )
    gap = float(np.abs(found["fast"].scores - found["usual"].scores).max())
    same = np.mean([len(set(a) & set(b)) / BEAMS for a, b in zip(found["fast"].ids, found["usual"].ids, strict=True)])
    over = "catalogue" if model.renormalise else "vocabulary"
    label = f"decode, {style} prompts ({statistics.median(lengths):.0f} tokens), {parameters(model)}, over the {over}"
    return row(label, users / fast, users / usual, "users/s", usual / fast, f"{same:.2%}, scores to {gap:.0e}")


def trial_row(model: GenerativeModel, histories: Histories, style: str) -> dict[str, object]:
    """A backbone tried against plain forward passes, beside two decodes of one prompt by the usual path."""
    part = Histories(histories.items[:1], histories.lengths[:1])
    longest = max(len(prompt) for prompt in model.encode(histories))
    usual = GenerateDecoder(GenerateDecoder.Settings(beams=BEAMS))
    quiet, found = Progress(quiet=True), []

    def decode():
        for _ in range(2):
            usual.decode(model, part, model.semantic_ids, "cpu", quiet)

    fast, slow = paired(lambda: found.append(trial.examine(model.model, longest + 1)), decode)
    label = f"a backbone tried, {style} prompts ({longest} tokens), {parameters(model)} / two decodes of one prompt"
    return row(label, fast, slow, "s", slow / fast, f"{found[-1].layout}, to {found[-1].tree:.0e}")


def rank_row(items: int = 12_000, users: int = 512) -> dict[str, object]:
    """The top 50 of scores as they come in float64, and of the same in float32."""
    scores = np.random.default_rng(0).random((users, items))
    half = scores.astype(np.float32)
    fast, usual = paired(lambda: top_items(scores, 50), lambda: top_items(half, 50), rounds=9)
    same = float((top_items(scores, 50)[0] == top_items(half, 50)[0]).mean())
    label = f"rank {items:,} items, float64 / float32"
    return row(label, users / fast, users / usual, "users/s", usual / fast, f"{same:.2%} in place")


def trie_rows(users: int = 48) -> list[dict[str, object]]:
    """The same model over catalogues of 3,700 and of a million items: the time a user, building, memory."""
    return [trie_row(levels, users) for levels in (3, 4)]


def trie_row(levels: int, users: int, sizes: tuple[int, int] = (3_700, 1_000_000)) -> dict[str, object]:
    """Both catalogues of random SIDs with 256 codes a level."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=1 + 256 * levels, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, intermediate_size=384, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).eval()
    model.get_input_embeddings().weight.data.mul_(8)
    rng = np.random.default_rng(0)
    ids, mask = pad_left([rng.integers(1, config.vocab_size, 13).tolist() for _ in range(users)], 0, "cpu")
    tries, seconds = [], []
    for items in sizes:
        table = np.unique(rng.integers(0, 256, (int(items * 1.2), levels)), axis=0)
        table = table[rng.permutation(len(table))[:items]] + 1 + 256 * np.arange(levels)
        start = time.perf_counter()
        tries.append(Trie(table))
        seconds.append(time.perf_counter() - start)

    def decode(trie: Trie) -> None:
        for start in range(0, users, 24):
            beam_search(model, ids[start : start + 24], mask[start : start + 24], trie, BEAMS)

    small, large = paired(lambda: decode(tries[0]), lambda: decode(tries[1]), 2 * ROUNDS + 1)
    label = f"decode, {levels} levels: {len(tries[0]):,} items / {len(tries[1]):,} items"
    note = f"trie built in {seconds[1]:.1f} s, {tries[1].bytes / 2**20:.0f} MiB"
    return row(label, users / small, users / large, "users/s", large / small, note)


def translator_row(dataset, users: int) -> dict[str, object]:
    """TIGER's decoding: beams of the decoder's row against ``generate``, which repeats the encoded history."""
    from transformers import GenerationConfig
    from transformers.modeling_outputs import BaseModelOutput

    settings = tiger.Settings(softmax="vocabulary")
    model = loop.seeded(lambda: tiger.Tiger(dataset.given.codes, 10, settings), 0).eval()
    generator = tiger.SidTranslator(model, dataset.given)
    part = dataset.test.take(np.random.default_rng(0).permutation(len(dataset.test))[:users]).histories
    levels, found = generator.sid_tokens.shape[1], {}
    leaf = {tuple(sid): number for number, sid in enumerate(generator.sid_tokens.tolist())}
    allowed = continuations(generator.sid_tokens)
    config = GenerationConfig(
        num_beams=BEAMS, num_return_sequences=BEAMS, max_new_tokens=levels, min_new_tokens=levels, do_sample=False,
        length_penalty=0.0, early_stopping=True, pad_token_id=0, eos_token_id=None, decoder_start_token_id=0,
        use_cache=True, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip

    def engine():
        found["fast"] = BeamDecoder(BeamSettings(beams=BEAMS)).decode(
            generator, part, dataset.given, "cpu", Progress(quiet=True)
        )

    @torch.inference_mode()
    def generate():
        sequences = []
        for start in range(0, users, 32):
            rows = Histories(part.items[start : start + 32], part.lengths[start : start + 32])
            ids, mask = pad_left(generator.encode(rows), 0, "cpu")
            encoded = model.t5.encoder(inputs_embeds=model.embed(ids), attention_mask=mask.long()).last_hidden_state
            out = model.t5.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded), attention_mask=mask.long(),
                generation_config=config,
                prefix_allowed_tokens_fn=lambda _, sequence: allowed.get(tuple(sequence[1:].tolist()), [0]),
            )  # fmt: skip
            sequences.append(out.sequences[:, 1:].view(len(rows), BEAMS, levels))
        found["usual"] = [[leaf[tuple(sid)] for sid in row] for row in torch.cat(sequences).tolist()]

    fast, usual = paired(engine, generate)
    same = np.mean([len(set(a) & set(b)) / BEAMS for a, b in zip(found["fast"].ids, found["usual"], strict=True)])
    label = f"TIGER decode, {BEAMS} beams"
    return row(label, users / fast, users / usual, "users/s", usual / fast, f"{same:.2%} of candidates")


def title_row(dataset: Any, users: int, renormalise: bool) -> dict[str, object]:
    """50 beams over the catalogue's titles: the engine, and ``generate`` under a prefix function (D3's own way).

    With `renormalise` (the recipe) both divide by the legal tokens' probability, and the engine skips forced ones.
    """
    from transformers import GenerationConfig

    model = random_title_model(dataset)
    chosen = some(len(dataset.test), users)
    histories = Histories(dataset.test.histories.items[chosen], dataset.test.histories.lengths[chosen])
    prompts = model.encode(histories)
    rows = [row[: (row != model.end).sum() + 1].tolist() for row in model.tokens]
    allowed: dict[tuple[int, ...], list[int]] = {}
    for tokens in sorted(rows):
        for depth, token in enumerate(tokens):
            known = allowed.setdefault(tuple(tokens[:depth]), [])
            if token not in known[-1:]:
                known.append(token)
    number = {tuple(tokens): n for n, tokens in enumerate(rows)}
    trie, found = Trie(model.tokens, end=model.end), {}
    config = GenerationConfig(
        num_beams=BEAMS, num_return_sequences=BEAMS, max_new_tokens=model.tokens.shape[1], do_sample=False,
        length_penalty=0.0, early_stopping="never", bos_token_id=None, eos_token_id=model.end, pad_token_id=model.pad,
        renormalize_logits=renormalise,
    )  # fmt: skip

    def fast() -> None:
        out = []
        for ids, mask in padded(prompts, model.pad):
            out += beam_search(model.model, ids, mask, trie, BEAMS, renormalise).leaves.tolist()
        found["fast"] = out

    def usual() -> None:
        model.model.generation_config, out = config, []
        with torch.inference_mode():
            for ids, mask in padded(prompts, model.pad, 1):  # more at once are slower: its caches are copied a step
                width = ids.shape[1]
                sequences = model.model.generate(
                    input_ids=ids, attention_mask=mask.long(), generation_config=config,
                    prefix_allowed_tokens_fn=lambda _, seq, w=width: allowed.get(tuple(seq[w:].tolist()), [model.end]),
                )[:, width:].tolist()  # fmt: skip
                ended = [tuple(s[: s.index(model.end) + 1] if model.end in s else s) for s in sequences]
                leaves = [number.get(sequence, -1) for sequence in ended]
                out += [leaves[first : first + BEAMS] for first in range(0, len(leaves), BEAMS)]
        found["usual"] = out

    quick, slow = paired(fast, usual, rounds=1)
    same = np.mean([len(set(a) & set(b)) / BEAMS for a, b in zip(found["fast"], found["usual"], strict=True)])
    lengths = [len(prompt) for prompt in prompts]
    over = "legal tokens" if renormalise else "vocabulary"
    label = f"titles, {len(rows):,} of them, prompts of {statistics.median(lengths):.0f} tokens, over the {over}"
    return row(label, users / quick, users / slow, "users/s", slow / quick, f"{same:.2%} of candidates")


def write_row(dataset: Any, users: int, beams: int = 4, longest: int = 40) -> dict[str, object]:
    """Free text by beams (BIGRec): the engine, and ``generate``, which keeps a copy of the prompt a beam."""
    from transformers import GenerationConfig

    model = random_title_model(dataset)
    chosen = some(len(dataset.test), users)
    histories = Histories(dataset.test.histories.items[chosen], dataset.test.histories.lengths[chosen])
    prompts, found = model.encode(histories), {}
    config = GenerationConfig(
        num_beams=beams, num_return_sequences=beams, max_new_tokens=longest, do_sample=False, length_penalty=0.0,
        early_stopping="never", bos_token_id=None, eos_token_id=model.end, pad_token_id=model.pad,
    )  # fmt: skip

    def fast() -> None:
        found["fast"] = [
            text
            for ids, mask in padded(prompts, model.pad)
            for text in write(model.model, ids, mask, beams, longest, model.end)[0][:, 0].tolist()
        ]

    def usual() -> None:
        model.model.generation_config, found["usual"] = config, []
        with torch.inference_mode():
            for ids, mask in padded(prompts, model.pad):
                out = model.model.generate(input_ids=ids, attention_mask=mask.long(), generation_config=config)
                found["usual"] += out[::beams, ids.shape[1] :].tolist()

    def text(tokens: list[int]) -> list[int]:
        return tokens[: tokens.index(model.end)] if model.end in tokens else tokens

    quick, slow = paired(fast, usual)
    same = np.mean([text(a) == text(b) for a, b in zip(found["fast"], found["usual"], strict=True)])
    label = f"free text, {beams} beams of up to {longest} tokens"
    return row(label, users / quick, users / slow, "users/s", slow / quick, f"{same:.0%} of first beams")


def padded(prompts: list[list[int]], pad: int, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Prompts in batches, ids and mask."""
    return [pad_left(prompts[start : start + size], pad, "cpu") for start in range(0, len(prompts), size)]


def random_title_model(dataset: Any) -> Any:
    """A random title writer of the nano recipe's size."""
    from harness.language.prompts import Prompts
    from plugins.backbones.nano import NanoBackbone, Settings

    prompts = Prompts("compact", dataset.items, None)
    settings = Settings(hidden=128, layers=4, heads=4, intermediate=384, text_vocabulary=4000)
    model, text_tokenizer = NanoBackbone(settings, None).build([], prompts.special_tokens, dataset.items.titles, 0)
    model.get_input_embeddings().weight.data.mul_(8)
    return prompts.titled(model.eval(), text_tokenizer, 512)
