"""The card of an exported language model: what it is, what it stands on, and how to ask it."""

from __future__ import annotations

import json

from harness.language.models import GENERIC_TOKENIZERS
from harness.runs import finished
from harness.text.plain import line, markdown

from .recommender import Recommender

ASK = """
import json
import torch
from transformers import AutoModelForCausalLM, {reader}

tokenizer = {reader}.from_pretrained({folder!r})
model = AutoModelForCausalLM.from_pretrained({folder!r}).eval()
sids = [tokenizer.convert_tokens_to_ids(levels) for levels in json.load(open("semantic_ids.json")).values()]

prompt = tokenizer({prompt!r}, add_special_tokens=False, return_tensors="pt")["input_ids"]


def allowed(batch, written):  # the tokens that continue the semantic ID of an item
    begun = written[prompt.shape[1]:].tolist()
    at = len(begun)
    return sorted({{sid[at] for sid in sids if sid[:at] == begun and at < len(sid)}}) or [tokenizer.eos_token_id]


beams = min(50, len(sids))
found = model.generate(
    prompt, max_new_tokens={levels}, num_beams=beams, num_return_sequences=10, prefix_allowed_tokens_fn=allowed,
    renormalize_logits={renormalise}, pad_token_id=tokenizer.pad_token_id, do_sample=False, length_penalty=0.0,
)
for row in found[:, prompt.shape[1]:]:
    print(tokenizer.decode(row))
"""


def card(made: Recommender, history: list[int]) -> str:
    """The card as markdown, with an example of that history."""
    folder, sids = made.prepared.run.directory, made.catalogue.semantic_ids
    assert sids is not None
    manifest, config = folder.manifest, made.prepared.run.config
    stage = finished.metrics(folder)["stages"][made.stage]
    lines = [f"| {protocol} | {name} | {stage[protocol][name]:.4f} |"
             for protocol in ("sid", "item") if stage.get(protocol) for name in ("HR@10", "NDCG@10")]  # fmt: skip
    generic = type(made.model.text_tokenizer).__name__ in GENERIC_TOKENIZERS
    reader = "PreTrainedTokenizerFast" if generic else "AutoTokenizer"
    renormalise = made.model.renormalise  # as it was trained: over the tokens that continue a semantic ID, or over all
    ask = ASK.format(
        renormalise=renormalise, reader=reader, folder=".", prompt=made.model.prompt([history])[0], levels=sids.n_levels
    )
    tags = ["recommendation", "generative-recommendation", "semantic-ids"]
    head = f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: {json.dumps(tags)}\n---\n"
    return f"""{head}
# {markdown(made.told())}

A causal language model that writes the semantic ID of the next item after a history of semantic IDs. Trained by
`bench run` of genrec-bench, revision {line(str(manifest["revision"]))[:40]}. The licences of the data that it was
trained on, and of its backbone, apply to it.

- Items: {len(made.catalogue):,}, on {len(sids.distinct):,} semantic IDs of {sids.n_levels} levels
  (`semantic_ids.json`).
- Data: {markdown(config.category)}, {markdown(manifest["caption"] or "as read")}, fingerprint
  {manifest["fingerprints"]["data"][:12]}; semantic IDs {str(manifest["fingerprints"]["semantic_ids"])[:12]}.
- It reads the last {made.longest} items of a history.

| protocol | metric | test |
|---|---|---|
{chr(10).join(lines)}

## How to ask it

A prompt of {len(history)} items, as it was trained on:

```python{ask}```

`bench score --model . --category {config.category} --name NAME --set checkpoint.prompts={config.prompts}` decodes the
test set with it.
"""
