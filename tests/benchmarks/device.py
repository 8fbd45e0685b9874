"""The same ratios on a GPU: ``python -m tests.benchmarks.device --output docs/benchmarks-gpu.json``.

A random model of Qwen2.5-1.5B's shape (no weights are downloaded), bfloat16 autocast: decoding, an SFT
step and a GRPO step, each against the usual path in the same process. ``--size tiny --device cpu``
proves the script where there is no GPU. ``--quick`` times each way once, and fewer users.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from harness import plugins as plugin_manager
from harness.data import categories
from harness.decoding.split import SplitModel
from harness.decoding.trie import Trie
from harness.language import training_rows
from harness.language.answer_loss import AnswerLoss
from harness.language.packing import example_rows
from harness.language.prompts import Prompts
from harness.runs.provenance import hardware, revision, versions
from leaderboard.docs import speed_table
from plugins.backbones.nano import NanoBackbone, Settings
from tests.benchmarks import decoding, timing, training
from tests.benchmarks.timing import paired, parameters, peak_gib, row

SHAPES = {
    "1.5b": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
             "intermediate_size": 8960, "vocab_size": 152_225, "tie_word_embeddings": True},
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "intermediate_size": 128, "vocab_size": 4_096, "tie_word_embeddings": True},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SHAPES, default="1.5b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="one round, a quarter of the users, one GRPO step")
    parser.add_argument("--output")
    options = parser.parse_args()
    if options.quick:
        timing.ROUNDS, options.users = 1, options.users // 4
    dataset = categories.read(plugin_manager.load(), "Synthetic", None, {})
    device, reduced = options.device, options.device != "cpu"
    model = shaped(dataset, options.size, device)
    precision = "bfloat16" if reduced else "float32"
    rows = [
        decoding.decode_row(
            model, dataset.test.histories, options.users, "instruction", device, precision, 65_536 if reduced else 4096
        ),
        sft_row(model, dataset, device, reduced),
        *(
            training.grpo_row(model, dataset, beta, 8, device, reduced)
            for beta in ((1e-3,) if options.quick else (0.0, 1e-3))
        ),
    ]
    record = {"rows": rows, "hardware": hardware(device), "versions": versions(), "revision": revision()}
    record |= {"date": time.strftime("%F"), "category": "Synthetic", "threads": torch.get_num_threads()}
    record["peak memory GiB"] = round(torch.cuda.max_memory_allocated() / 2**30 if reduced else peak_gib(), 2)
    print(speed_table(record))
    if options.output:
        Path(options.output).write_text(json.dumps(record, indent=2) + "\n")


def shaped(dataset, size: str, device: str):
    """A random model of a shape, over the text tokenizer that a nano model would have."""
    prompts = Prompts("instruction", dataset.items, dataset.given)
    texts = [*dataset.items.titles, *prompts.next_sid([[0]])]
    _, text_tokenizer = NanoBackbone(Settings(), None).build(dataset.given.tokens, [], texts, 0)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPES[size], max_position_embeddings=2048, pad_token_id=0))
    model.get_input_embeddings().weight.data.mul_(4)
    return prompts.generative(model.to(device).eval(), text_tokenizer, 512)


def sft_row(generative, dataset, device: str, reduced: bool, batch: int = 16) -> dict[str, object]:
    """An SFT step with logits at answer tokens only, against logits everywhere."""
    prompts = Prompts("instruction", dataset.items, dataset.given)
    examples = prompts.examples({"next_sid": 1.0}, dataset.train, 500, 0)["next_sid"][:batch]
    rows = example_rows(examples, prompts, generative.text_tokenizer, 512)
    inputs = {k: v.to(device) for k, v in training_rows.collate(rows, generative.pad).items()}
    loss = AnswerLoss(Trie(generative.sid_tokens, device), "vocabulary")
    model, found = generative.model, {}
    lm = SplitModel(model)
    count = int((inputs["labels"] != training_rows.IGNORED).sum())

    def step(name, value):
        model.train()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=reduced):
            found[name] = value()
        found[name].backward()
        model.zero_grad()
        model.eval()

    fast, usual = paired(
        lambda: step("fast", lambda: loss(lm, lm.states(inputs["input_ids"]), **inputs_of(inputs), train=True) / count),
        lambda: step("usual", lambda: model(input_ids=inputs["input_ids"], labels=inputs["labels"]).loss),
    )
    gap = abs(float(found["fast"].detach()) - float(found["usual"].detach()))
    label = f"SFT step, {batch} instruction rows, {parameters(generative)}: logits at answers / everywhere"
    return row(label, batch / fast, batch / usual, "rows/s", usual / fast, f"loss to {gap:.0e}")


def inputs_of(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"ids": inputs["input_ids"], "labels": inputs["labels"]}


if __name__ == "__main__":
    main()
