"""Speed as ratios in one process: ``python -m tests.benchmarks [--run DIR] [--users N] [--output FILE]``.

Each row times the fast path and the usual path in turn on the same model, prompts and beams, and
quotes medians. With ``--run`` the model is a recorded run's; without, a random nano model over the
generated category (speed does not depend on the weights).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from baselines import sasrec, tiger
from harness import plugins as plugin_manager
from harness import sequential, training
from harness.config import resolve
from harness.data import catalogue
from harness.data.dataset import Histories
from harness.decoding.layout import pad_left
from harness.decoding.shared_prompt import completion_log_probs
from harness.generative import GenerativeModel
from harness.progress import Progress
from harness.provenance import hardware, peak_memory_gib, revision, versions
from harness.report import table
from harness.semantic_ids import SemanticIds
from plugins.decoders.generate import GenerateDecoder
from plugins.decoders.search import BeamDecoder, BeamSettings
from plugins.minionerec.prompts import Prompts
from plugins.minionerec.rows import example_rows, packed_rows

ROUNDS = 3
BEAMS = 50
GROUP = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="a finished minionerec run directory")
    parser.add_argument("--category", default="Synthetic")
    parser.add_argument("--data-dir")
    parser.add_argument("--users", type=int, default=128, help="users decoded by the usual path each round")
    parser.add_argument("--output", help="write the rows as JSON")
    options = parser.parse_args()
    plugins = plugin_manager.load()
    dataset = catalogue.read(plugins, options.category, options.data_dir, {})
    rows = [help_row()]
    for style in ("compact", "instruction"):
        model = load(options.run, dataset, plugins, style)
        rows += [decode_row(model, dataset.test.histories, options.users, style), log_prob_row(model, dataset, style)]
    rows.append(packed_row(load(None, dataset, plugins, "compact"), dataset))
    rows += [translator_row(dataset, options.users), dropout_row(dataset)]
    print(table(["what", "fast", "usual", "unit", "ratio", "same result"], [list(row.values()) for row in rows]))
    facts = {"hardware": hardware("cpu"), "versions": versions(), "revision": revision(), "date": time.strftime("%F")}
    facts |= {"category": options.category, "peak memory GiB": round(peak_memory_gib(), 2)}
    print(
        f"\n{facts['hardware']['processor']}, {torch.get_num_threads()} threads, {facts['date']}, {facts['revision']}"
    )
    if options.output:
        Path(options.output).write_text(json.dumps({"rows": rows, **facts}, indent=2) + "\n")


def load(run: str | None, dataset, plugins, style: str) -> GenerativeModel:
    """A recorded run's last model, or a random nano; instruction prompts always get a random one."""
    semantic_ids: SemanticIds = dataset.given
    prompts = Prompts(style, dataset.items, semantic_ids)
    if run and style == "compact":
        model, text_tokenizer = training.load_model(sorted(Path(run).glob("stages/*"))[-1], "cpu")
    else:
        config = resolve(plugins.get("method", "minionerec"), dataset.category, 0, [], plugins)
        backbone = plugins.get("backbone", "nano")(config.backbone.settings, None)
        texts = [*dataset.items.titles, *prompts.next_sid([[0]]), "instruction input response customer buys"]
        model, text_tokenizer = backbone.build(semantic_ids.tokens, prompts.special_tokens, texts, 0)
    return GenerativeModel(model.eval(), text_tokenizer, semantic_ids, prompts.next_sid)


def paired(fast: Callable[[], object], usual: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of both, run in turn after one warm-up of each."""
    fast(), usual()
    times: dict[str, list[float]] = {"fast": [], "usual": []}
    for _ in range(ROUNDS):
        for name, work in (("fast", fast), ("usual", usual)):
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return statistics.median(times["fast"]), statistics.median(times["usual"])


def row(what: str, fast: float, usual: float, unit: str, ratio: float, same: str) -> dict[str, object]:
    return {"what": what, "fast": fast, "usual": usual, "unit": unit, "ratio": f"{ratio:.1f}×", "same": same}


def decode_row(model: GenerativeModel, histories: Histories, users: int, style: str) -> dict[str, object]:
    chosen = np.random.default_rng(0).permutation(len(histories))[:users]
    part = Histories(histories.items[chosen], histories.lengths[chosen])
    lengths = [len(p) for p in model.encode(part)]
    quiet, found = Progress(quiet=True), {}

    def decode(name, decoder):
        found[name] = decoder.decode(model, part, model.semantic_ids, "cpu", quiet)

    fast, usual = paired(
        lambda: decode("fast", BeamDecoder(BeamSettings(beams=BEAMS))),
        lambda: decode("usual", GenerateDecoder(GenerateDecoder.Settings(beams=BEAMS))),
    )
    gap = float(np.abs(found["fast"].scores - found["usual"].scores).max())
    same = np.mean([len(set(a) & set(b)) / BEAMS for a, b in zip(found["fast"].ids, found["usual"].ids, strict=True)])
    label = f"decode, {BEAMS} beams, {style} prompts (median {statistics.median(lengths):.0f} tokens)"
    return row(
        label, users / fast, users / usual, "users/s", usual / fast, f"{same:.2%} of candidates, scores to {gap:.0e}"
    )


def log_prob_row(model: GenerativeModel, dataset, style: str) -> dict[str, object]:
    """Log-probabilities of 16 completions a prompt, forward and backward: shared prompt against repeated prompt."""
    chosen = np.random.default_rng(1).permutation(len(dataset.train))[:32]
    ids, mask = pad_left(model.encode(dataset.train.take(chosen).histories), model.pad, "cpu")
    leaves = np.random.default_rng(2).integers(0, len(model.sid_tokens), (len(chosen), GROUP))
    completions = torch.as_tensor(model.sid_tokens[leaves])
    length = completions.shape[2]
    found = {}

    def shared():
        model.model.zero_grad()
        found["fast"], _ = completion_log_probs(model.model, ids, mask, completions)
        found["fast"].sum().backward()

    def repeated():
        model.model.zero_grad()
        whole = torch.cat([ids.repeat_interleave(GROUP, 0), completions.flatten(0, 1)], 1)
        attention = torch.cat([mask.repeat_interleave(GROUP, 0), torch.ones_like(completions.flatten(0, 1)).bool()], 1)
        place = (attention.long().cumsum(1) - 1).clamp(min=0)
        out = model.model(
            input_ids=whole, attention_mask=attention.long(), position_ids=place, logits_to_keep=length + 1
        )
        values = out.logits[:, :-1].log_softmax(-1).gather(2, completions.flatten(0, 1)[..., None]).squeeze(-1)
        found["usual"] = values.view(completions.shape)
        found["usual"].sum().backward()

    fast, usual = paired(shared, repeated)
    gap = float((found["fast"] - found["usual"]).abs().max().detach())
    label = f"GRPO log-probabilities forward + backward, G = {GROUP}, {style} prompts"
    return row(label, len(chosen) / fast, len(chosen) / usual, "groups/s", usual / fast, f"to {gap:.0e}")


def packed_row(model: GenerativeModel, dataset) -> dict[str, object]:
    prompts = Prompts("compact", dataset.items, dataset.given)
    packed = packed_rows(dataset.train, prompts, model.text_tokenizer)
    examples = prompts.examples({"next_sid": 1.0}, dataset.train, 500, 0)["next_sid"]
    windowed = example_rows(examples, prompts, model.text_tokenizer, 512)
    fast, usual = (sum(len(r.tokens) for r in rows) for rows in (packed, windowed))
    return row(
        "SFT tokens an epoch, packed rows / one row a sample", fast, usual, "tokens", usual / fast, "same targets"
    )


def translator_row(dataset, users: int) -> dict[str, object]:
    """TIGER's decoding: beams of the decoder's row against ``generate``, which repeats the encoded history."""
    from transformers import GenerationConfig
    from transformers.modeling_outputs import BaseModelOutput

    settings = tiger.Settings(softmax="vocabulary")
    model = sequential.seeded(lambda: tiger.Tiger(dataset.given.codes, 10, settings), 0).eval()
    generator = tiger.SidTranslator(model, dataset.given)
    part = dataset.test.take(np.random.default_rng(0).permutation(len(dataset.test))[:users]).histories
    levels, found = generator.sid_tokens.shape[1], {}
    leaf = {tuple(sid): number for number, sid in enumerate(generator.sid_tokens.tolist())}
    allowed: dict[tuple[int, ...], list[int]] = {}
    for sid in generator.sid_tokens.tolist():
        for depth in range(levels):
            allowed.setdefault(tuple(sid[:depth]), []).append(sid[depth])
    allowed = {prefix: sorted(set(tokens)) for prefix, tokens in allowed.items()}
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


def dropout_row(dataset) -> dict[str, object]:
    """A training step of SASRec with dropout drawn a byte a number, and with torch's."""
    from torch.nn import functional

    import baselines.stream

    n = len(dataset.items)
    settings = sasrec.Settings(hidden=64, blocks=2)
    model = sequential.seeded(lambda: sasrec.SasRec(n, 10, settings), 0).train()
    rows = np.random.default_rng(0).permutation(len(dataset.train))[:256]
    items = torch.from_numpy(sequential.left_padded(dataset.train.histories, n)[rows])
    targets = torch.from_numpy(dataset.train.targets[rows].astype(np.int64))
    own = sasrec.dropout

    def steps(function):
        sasrec.dropout = baselines.stream.dropout = function
        for _ in range(10):
            model.zero_grad()
            model.loss(items, targets).backward()
        sasrec.dropout = baselines.stream.dropout = own

    fast, usual = paired(lambda: steps(own), lambda: steps(functional.dropout))
    label = "SASRec training step, dropout a byte a number / torch's"
    return row(label, 10 / fast, 10 / usual, "steps/s", usual / fast, "same distribution")


def help_row() -> dict[str, object]:
    """``bench --help`` against an empty Python process."""
    fast, usual = paired(
        lambda: subprocess.run([sys.executable, "-m", "harness", "--help"], capture_output=True, check=True),
        lambda: subprocess.run([sys.executable, "-c", "pass"], capture_output=True, check=True),
    )
    return row("bench --help, beside an empty Python process", fast, usual, "s", usual / fast, "–")


if __name__ == "__main__":
    main()
