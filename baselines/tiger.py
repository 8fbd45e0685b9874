"""``tiger``: an encoder–decoder over semantic IDs, trained from scratch (Rajput et al., arXiv 2305.05065).

A history's SIDs go in, the next item's SID comes out, by the engine's constrained beam. No user token:
users of the test split are not all in train (GRID, arXiv 2507.22224, drops it too). The encoder is told how
many items back a token stands: T5's relative positions alone do not say which item is the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt

from harness.components import Context
from harness.data.dataset import Histories
from harness.data.semantic_ids import ABSENT, SemanticIds
from harness.decoding.encoder_decoder import SharedEncoder
from harness.decoding.trie import filler
from harness.errors import BenchError
from harness.item_models import checkpoint, loop
from harness.item_models.loop import LoopSettings
from harness.networks.dropout import replace_dropout
from harness.networks.start import StartSettings, check_start, fitted_to, of_tokens, start_facts, start_vectors
from harness.settings import setting

PAD = 0
"""Padding of the encoder's input, and the token that starts the decoder, as T5 has it."""


MOST_GIB = 4.0
"""The most that the masks of the catalogue softmax may take."""
START = 0.3
"""Scale of the first weights. T5's own (1, unit embeddings, a scaled output) suits Adafactor and 200,000 steps."""


@dataclass(frozen=True)
class Settings(StartSettings, LoopSettings):
    """Settings of the model (in brackets: the paper's value)."""

    hidden: Annotated[int, Ge(1)] = setting(128, "width of the stream (128)")
    layers: Annotated[int, Ge(1)] = setting(2, "blocks of the encoder, and of the decoder (4)")
    heads: Annotated[int, Ge(1)] = setting(4, "attention heads (6)")
    head_width: Annotated[int, Ge(1)] = setting(32, "width of a head (64)")
    intermediate: Annotated[int, Ge(1)] = setting(256, "width of the feed-forward (1024)")
    dropout: Annotated[float, Ge(0), Lt(1)] = setting(0.2, "dropout, not of attention weights (0.1, also of those)")
    softmax: Literal["catalogue", "vocabulary"] = setting(
        "catalogue",
        "loss, and beam scores, over the tokens that continue a SID of the catalogue, or over all (all)",
    )
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = setting(0.0, "label smoothing over the same tokens (0)")
    collision_level: bool = setting(
        False, "a further level that tells items on one SID apart; ranks items then, not SIDs (yes)"
    )


class TigerTrainer:
    """Stage trainer ``tiger``."""

    Settings = Settings
    distributed = False
    small = {"epochs": 1, "batch": 64, "hidden": 16, "layers": 1, "heads": 2, "head_width": 8, "intermediate": 16}

    def __init__(self, settings: Settings):
        self.settings = settings

    def check(self, context: Context) -> None:
        """There must be SIDs, and room for the masks of the catalogue softmax."""
        codes = context.needs_semantic_ids("tiger").codes
        check_start(context, self.settings)
        if self.settings.collision_level and context.needs_semantic_ids("tiger").ragged:
            raise BenchError("tiger.collision_level = true: SIDs of unequal length have no next level; set it to false")
        if self.settings.softmax == "catalogue":
            prefixes = len(np.unique(codes[:, :-1], axis=0)) or 1
            gib = prefixes * sum(len(np.unique(column)) for column in codes.T) / 2**30
            if gib > MOST_GIB:
                raise BenchError(
                    f"tiger.softmax = catalogue needs masks of {gib:.1f} GiB for {prefixes:,} SID prefixes; "
                    "set tiger.softmax=vocabulary"
                )

    def fit(self, context: Context) -> dict[str, Any]:
        """Train; leave the best weights by valid in the stage directory."""
        model = self._fresh(context)
        vectors = start_vectors(context, self.settings)
        if vectors is not None:
            model.start_from(vectors)
        semantic_ids = context.needs_semantic_ids("tiger")
        facts = loop.train(context, model, self.settings, lambda m: SidTranslator(m, semantic_ids))
        return facts | start_facts(context, self.settings, vectors)

    def load(self, context: Context) -> SidTranslator:
        """The trained model."""
        model = self._fresh(context)
        checkpoint.load_weights(model, context.directory)
        return SidTranslator(model.eval(), context.needs_semantic_ids("tiger"))

    def _fresh(self, context: Context) -> Tiger:
        codes = context.needs_semantic_ids("tiger").codes
        if self.settings.collision_level:
            codes = with_collision_level(codes)
        longest = context.train.histories.items.shape[1]
        return loop.seeded(lambda: Tiger(codes, longest, self.settings), context.seed).to(context.device)


class Tiger(torch.nn.Module):
    """T5 over SID tokens; token ids are offset by level, so that a code of one level is none of another."""

    def __init__(self, codes: np.ndarray, longest: int, settings: Settings):
        super().__init__()
        from transformers import T5Config, T5ForConditionalGeneration
        from transformers.models.t5.modeling_t5 import T5Attention

        self.settings = settings
        tokens, size = token_ids(codes)
        padding = np.full((1, tokens.shape[1]), PAD, dtype=np.int64)
        self.register_buffer("tokens", torch.from_numpy(np.concatenate([tokens, padding])))  # [n_items + 1, levels]
        self.end = size - 1 if (codes < 0).any() else None
        masks = continuations(tokens, size) if settings.softmax == "catalogue" else []
        for level, (prefix, legal) in enumerate(masks):
            self.register_buffer(f"prefix_{level}", torch.from_numpy(prefix), persistent=False)
            self.register_buffer(f"legal_{level}", torch.from_numpy(legal), persistent=False)
        self.t5 = T5ForConditionalGeneration(
            T5Config(
                vocab_size=size, d_model=settings.hidden, d_kv=settings.head_width, d_ff=settings.intermediate,
                num_layers=settings.layers, num_decoder_layers=settings.layers, num_heads=settings.heads,
                dropout_rate=settings.dropout, pad_token_id=PAD, decoder_start_token_id=PAD, eos_token_id=None,
                tie_word_embeddings=True, scale_decoder_outputs=False, use_cache=False, initializer_factor=START,
            )
        )  # fmt: skip
        self.recency = torch.nn.Embedding(longest, settings.hidden)  # by how many items back a token stands
        torch.nn.init.normal_(self.recency.weight, std=settings.hidden**-0.5)
        torch.nn.init.normal_(self.t5.shared.weight, std=settings.hidden**-0.5)
        replace_dropout(self.t5)
        for module in self.t5.modules():
            if isinstance(module, T5Attention):
                module.dropout = 0.0

    def start_from(self, vectors: np.ndarray) -> None:
        """Let each SID token's embedding start from the mean of its items' vectors ``[n_items, d]``."""
        tokens = self.tokens[:-1].cpu().numpy()
        known, means = of_tokens(vectors, tokens if self.end is None else np.where(tokens == self.end, ABSENT, tokens))
        weight = self.t5.shared.weight
        with torch.no_grad():
            weight[known] = fitted_to(means, weight[known])

    def inputs(self, items: torch.Tensor) -> torch.Tensor:
        """Encoder tokens ``[batch, length · levels]`` of item ids ``[batch, length]``."""
        tokens = self.tokens[items].flatten(1)
        return tokens if self.end is None else tokens.masked_fill(tokens == self.end, PAD)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token and recency embeddings ``[batch, P, hidden]`` of left-padded ids ``[batch, P]``."""
        place = torch.arange(ids.shape[1] - 1, -1, -1, device=ids.device) // self.tokens.shape[1]
        return self.t5.shared(ids) + self.recency(place.clamp(max=self.recency.num_embeddings - 1))

    def loss(self, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the target's tokens, each given those before it; the sum over a SID, the mean over rows."""
        ids = self.inputs(items)
        labels = self.tokens[targets]  # [batch, levels]
        given = self.embed(ids)
        logits = self.t5(inputs_embeds=given, attention_mask=(ids != PAD).long(), labels=labels).logits
        legal = torch.ones_like(logits, dtype=torch.bool)
        if self.settings.softmax == "catalogue":
            levels = range(labels.shape[1])
            rows = [getattr(self, f"legal_{lv}")[getattr(self, f"prefix_{lv}")[targets]] for lv in levels]
            legal = torch.stack(rows, dim=1)  # [batch, levels, vocabulary]
        log_probs = logits.masked_fill(~legal, float("-inf")).log_softmax(-1)
        if self.end is not None:  # what fills a shorter SID up is certain
            filled = filler(labels, self.end)[..., None]
            log_probs, legal = log_probs.masked_fill(filled, 0.0), legal & ~filled
        loss = -log_probs.gather(2, labels[..., None]).squeeze(2)
        smoothing = self.settings.label_smoothing
        if smoothing:
            uniform = -log_probs.masked_fill(~legal, 0.0).sum(-1) / legal.sum(-1).clamp(min=1)
            loss = (1 - smoothing) * loss + smoothing * uniform
        return loss.sum(1).mean()


class SidTranslator:
    """A trained :class:`Tiger` as decoders of SIDs take it (:class:`harness.decoding.generator.Generator`)."""

    def __init__(self, model: Tiger, semantic_ids: SemanticIds):
        self.model = SharedEncoder(model.t5, model.embed, PAD)
        self.end = model.end
        self.semantic_ids = semantic_ids
        self.pad = PAD
        self.renormalise = model.settings.softmax == "catalogue"
        table = model.tokens[:-1].cpu().numpy()
        self._tokens = np.where(table == model.end, PAD, table) if model.end is not None else table
        self.leaves: Literal["sid", "item"] = "item" if model.settings.collision_level else "sid"
        first = np.unique(semantic_ids.of_item, return_index=True)[1]
        self.sid_tokens = table if self.leaves == "item" else table[first]

    def encode(self, histories: Histories) -> list[list[int]]:
        """The SIDs of each history, oldest first, as tokens."""
        return [self._tokens[history].ravel().tolist() for history in histories.lists()]


def token_ids(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Token ids ``[n_items, levels]`` (int64) of codes, level by level from 1, and the size of the vocabulary.

    Absent codes have the last token, whatever their level.
    """
    columns, start = [], PAD + 1
    for column in codes.T:
        known, place = np.unique(column, return_inverse=True)
        absent = int((known < 0).any())  # the first of those known
        columns.append(np.where(column < 0, ABSENT, start + place - absent))
        start += len(known) - absent
    tokens = np.column_stack(columns).astype(np.int64)
    short = tokens < 0
    return np.where(short, start, tokens), start + int(short.any())


def continuations(tokens: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Level by level, which tokens continue a SID: each item's prefix ``[n_items]`` and the prefixes' legal tokens.

    The second is boolean ``[n_prefixes, size]``.
    """
    levels = []
    prefix = np.zeros(len(tokens), dtype=np.int64)
    for column in tokens.T:
        legal = np.zeros((int(prefix.max()) + 1, size), dtype=bool)
        legal[prefix, column] = True
        levels.append((prefix, legal))
        prefix = np.unique(np.column_stack([prefix, column]), axis=0, return_inverse=True)[1].reshape(-1)
    return levels


def with_collision_level(codes: np.ndarray) -> np.ndarray:
    """Codes with one more level that numbers the items on one SID in the order of their ids."""
    _, group, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    number = np.empty(len(codes), dtype=codes.dtype)
    number[order] = np.arange(len(codes)) - np.repeat(starts, sizes)
    if number.max() > 255:
        raise BenchError(f"{number.max() + 1} items share one SID; a collision level holds at most 256")
    return np.column_stack([codes, number])
