"""``hf-generate``: the usual path, Hugging Face ``generate`` under a prefix constraint.

Kept as the parity reference of ``beam`` and for models whose attention takes no 4-D mask. Every
generation setting is ours: nothing is inherited from a checkpoint's generation config.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.data.dataset import Histories
from harness.data.rankings import Rankings
from harness.data.semantic_ids import SemanticIds
from harness.decoding.generator import GenerativeModel, batches
from harness.decoding.search import SidDecoder, needs_generative
from harness.errors import BenchError
from harness.progress import Progress
from harness.settings import setting


@dataclass(frozen=True)
class Settings:
    """Settings of the usual path."""

    beams: int = setting(50, "beams, all of them returned")
    renormalise: bool | None = setting(
        None, "divide by the legal tokens' probability at each step; empty: as the model was trained"
    )
    batch_tokens: int = setting(16384, "positions computed at once: prompts × beams; bounds memory")


def continuations(sid_tokens: np.ndarray) -> dict[tuple[int, ...], list[int]]:
    """The tokens that continue each prefix of a SID ``[n_sids, n_levels]``, ascending: the usual path's constraint."""
    allowed: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row in np.unique(sid_tokens, axis=0).tolist():
        for depth, token in enumerate(row):
            if token not in allowed[tuple(row[:depth])][-1:]:
                allowed[tuple(row[:depth])].append(token)
    return dict(allowed)


class GenerateDecoder(SidDecoder):
    """Beam search by ``generate(num_beams=…)`` with a Python-dict constraint."""

    Settings = Settings
    small = {"beams": 10}
    leaves_out_bought = False

    def decode(
        self, model: Any, histories: Histories, semantic_ids: SemanticIds | None, device: str, progress: Progress
    ) -> Rankings:
        """The best SIDs of each history."""
        import torch
        from transformers import GenerationConfig

        from harness.decoding.padding import pad_left

        if not isinstance(needs_generative(model, "hf-generate"), GenerativeModel):
            raise BenchError("decoder hf-generate takes a causal language model; set decoder=beam")
        if histories.bought is not None:
            raise BenchError("decoder hf-generate cannot leave out bought items (protocol.seen=drop); set decoder=beam")
        renormalise = model.renormalise if self.settings.renormalise is None else self.settings.renormalise
        if model.end is not None and not renormalise:
            raise BenchError("decoder hf-generate cannot stop at SIDs of unequal length; set decoder=beam")
        beams, levels = self.settings.beams, model.sid_tokens.shape[1]
        allowed = continuations(model.sid_tokens)
        dead = [int(model.sid_tokens[0, 0])]  # a beam without a legal token has -inf; what it adds is moot
        leaf = {tuple(row): i for i, row in enumerate(model.sid_tokens.tolist())}
        config = GenerationConfig(
            num_beams=beams, num_return_sequences=beams, max_new_tokens=levels, min_new_tokens=levels,
            do_sample=False, length_penalty=0.0, early_stopping=True, repetition_penalty=1.0, temperature=1.0,
            top_k=0, top_p=1.0, no_repeat_ngram_size=0, bos_token_id=None, eos_token_id=None,
            pad_token_id=model.pad, use_cache=True, return_dict_in_generate=True, output_scores=True,
            renormalize_logits=renormalise,
        )  # fmt: skip
        prompts = model.encode(histories)
        ids = np.full((len(prompts), beams), -1, dtype=np.int32)
        scores = np.full((len(prompts), beams), -np.inf, dtype=np.float32)
        own = model.model.generation_config
        model.model.generation_config = config
        try:
            with torch.inference_mode(), progress.bar(len(prompts), "decode", "user") as bar:
                for rows in batches([len(p) for p in prompts], max(1, self.settings.batch_tokens // beams)):
                    tokens, mask = pad_left([prompts[r] for r in rows], model.pad, device)
                    width = tokens.shape[1]
                    out = model.model.generate(
                        input_ids=tokens, attention_mask=mask.long(), generation_config=config,
                        prefix_allowed_tokens_fn=lambda _, seq, w=width: allowed.get(tuple(seq[w:].tolist()), dead),
                    )  # fmt: skip
                    sequences = out.sequences[:, width:].view(len(rows), beams, levels).tolist()
                    ids[rows] = [[leaf.get(tuple(sid), -1) for sid in row] for row in sequences]
                    scores[rows] = out.sequences_scores.float().view(len(rows), beams).cpu().numpy()
                    bar.update(len(rows))
        finally:
            model.model.generation_config = own
        return Rankings("sid", ids, scores)
