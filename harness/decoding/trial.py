"""Can a model read a tree of prompts and beams? Found out by trying: a few tokens, against plain forward passes.

The engine's layouts assume attention that sees only what the mask shows and stands where the position ids say. Each
model object is tried once for each range of lengths, before anything rests on it: in the engine's own layouts (a
common beginning computed apart, padding on the left, two beams; the groups of GRPO and S-DPO) and in plain rows, one by
one, without a cache. What differs goes row by row (:mod:`harness.decoding.rowwise`) where that is right, or is refused.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch

from harness.decoding.padding import feed, pad_left
from harness.decoding.rowwise import plain_states, prefill
from harness.decoding.split import SplitModel, bare, still, tree_states, weight_type
from harness.errors import BenchError

TOLERANCE = 1e-3
"""The largest difference of a log-probability (nats, float32) that counts as equal."""
CONTEXT = 0.01
"""The share of what another prompt changes that counts as equal, where a model hardly looks at its prompt."""
ROUNDING = 4e-6
"""Rounding of a float32 log-probability, as a share of the largest logit."""
REDUCED, BEST = 0.1, 50
"""The least tolerance for a large model in 16 bits, which is not copied to float32, among its `BEST` tokens."""
SMALL = 300_000_000
"""Models of up to this many parameters in 16 bits are tried in a float32 copy."""
STEP = 64
"""Lengths are tried in steps of this many tokens."""
Layout = Literal["tree", "rows", "refused"]


@dataclass(frozen=True)
class Verdict:
    """What was found of a model.

    Attributes:
        layout: how it is read.
        longest: up to how many tokens that is known.
        reason: why it is not read as a tree; empty where it is.
        tree, rows: the largest difference of a log-probability in either layout (nats); infinity: it fails.
    """

    layout: Layout
    longest: int
    reason: str = ""
    tree: float = 0.0
    rows: float = 0.0

    @property
    def by_rows(self) -> bool:
        """Whether it goes row by row."""
        return self.layout == "rows"


_known: WeakKeyDictionary[Any, Verdict] = WeakKeyDictionary()


def of(model: Any, longest: int) -> Verdict:
    """The verdict on a model for rows of up to `longest` tokens; a wrapper's is its model's.

    Raises:
        BenchError: neither layout gives what a plain forward pass does.
    """
    model = bare(model)
    known = _known.get(model)
    if known is None or known.longest < longest:
        known = _known[model] = examine(model, longest)
    if known.layout == "refused":
        raise BenchError(
            f"{type(model).__name__} cannot be decoded: {known.reason}; choose another backbone "
            "(docs/backbones.md lists those that were tried)"
        )
    return known


def examine(model: Any, longest: int) -> Verdict:
    """Try a model in both layouts with rows of up to `longest` tokens (rounded up, within its positions)."""
    config = model.config
    most = next((n for n in (getattr(config, k, None) for k in _POSITIONS) if isinstance(n, int) and n > 0), None)
    size = max(longest, -(-(longest + 2) // STEP) * STEP)
    size = min(size, most) if most and most >= longest else size
    reduced = weight_type(model) in (torch.float16, torch.bfloat16)
    if reduced and sum(p.numel() for p in model.parameters()) <= SMALL:
        model, reduced = copy.deepcopy(model).float(), False
    with torch.no_grad(), still(model):
        trial = _Trial(model, size)
        try:
            plain = trial.plain()
        except Exception as error:  # whatever a model does: its own forward pass is what all rests on
            return Verdict("refused", size, f"a plain forward pass of {size} tokens fails ({_line(error)})")
        if not plain.isfinite().any(-1).all() or plain.isnan().any():
            return Verdict("refused", size, "its log-probabilities are no numbers")
        allowed = trial.tolerance(plain, reduced)
        if not trial.ahead <= allowed:
            return Verdict("refused", size, f"a token sees those that come after it (by {trial.ahead:.2g} nats)")
        seen = plain >= plain.topk(min(BEST, plain.shape[-1])).values[..., -1:] if reduced else plain.isfinite()
        tree, why = _difference(trial.tree, plain, seen)
        if tree <= allowed:
            return Verdict("tree", size, "", tree)
        reason = why or f"a tree of prompts and beams is read otherwise than plain rows (by {tree:.2g} nats)"
        rows, why = _difference(trial.rows, plain, seen)
        if rows <= allowed:
            return Verdict("rows", size, reason, tree, rows)
        why = why or f"rows with the model's own cache differ too (by {rows:.2g} nats)"
        return Verdict("refused", size, f"{reason}, and {why}", tree, rows)


_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "context_length", "n_ctx")


class _Trial:
    """Two prompts with a common beginning, the second short, and two answers of two tokens behind each."""

    def __init__(self, model: Any, size: int):
        self.lm = SplitModel(model)
        self.device = model.get_input_embeddings().weight.device
        known = model.get_input_embeddings().weight.shape[0]
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(0, known, (size + 16,), generator=generator)
        pad = getattr(model.config, "pad_token_id", None)  # some models read padding off the token
        kept = drawn if pad is None else drawn[drawn != pad]
        first, short = kept[: max(4, size - 2)].tolist(), kept[-4:].tolist()
        self.prompts = [first, [*first[:2], *short[:3]]]
        self.answers = kept[-8:-4].view(2, 2).to(self.device)
        self.ahead = 0.0

    def plain(self) -> torch.Tensor:
        """Log-probabilities ``[prompts, answers, 3, vocabulary]`` of plain rows, no cache, no padding."""
        parts = []
        for prompt in self.prompts:
            rows = torch.tensor(prompt, device=self.device).expand(2, -1)
            logits = self.lm.model(input_ids=torch.cat([rows, self.answers], 1), use_cache=False).logits
            parts.append(logits[:, len(prompt) - 1 :].float().log_softmax(-1))
            # the answers differ from their first token on: what was there before must not know
            self.ahead = max(self.ahead, (parts[-1][0, 0] - parts[-1][1, 0]).abs().max().item())
        return torch.stack(parts)

    def tolerance(self, plain: torch.Tensor, reduced: bool) -> float:
        """What counts as equal: at most `TOLERANCE`, and little beside what another prompt changes."""
        if reduced:
            return max(REDUCED, 4 * self._rounding(plain))
        context = (plain[0, :, 1:] - plain[1, :, 1:]).abs().max().item()
        return min(TOLERANCE, max(1e-5, ROUNDING * plain.abs().max().item(), CONTEXT * context))

    def _rounding(self, plain: torch.Tensor) -> float:
        """What rounding alone does: the short rows again, in one batch with the long ones, padding to their right."""
        first, short = self.prompts
        rows = torch.full((2, len(first)), short[-1], device=self.device)
        rows[:, : len(short)] = torch.tensor(short, device=self.device)
        rows[:, len(short) : len(short) + 2] = self.answers
        both = torch.cat([torch.tensor(first, device=self.device).expand(2, -1), rows])
        logits = self.lm.model(input_ids=both, use_cache=False).logits[2:, len(short) - 1 : len(short) + 2]
        best = plain[1] >= plain[1].topk(min(BEST, plain.shape[-1])).values[..., -1:]
        return (logits.float().log_softmax(-1) - plain[1]).abs()[best].max().item()

    def tree(self) -> list[torch.Tensor]:
        """The engine's layouts: beams behind prompts of which a part is shared, and the groups of a loss."""
        ids, mask = self._padded()
        group = self.answers[None].expand(2, -1, -1)
        pads = torch.cat([group, group[:, :, :1]], dim=2)  # a last token, which predicts nothing that is asked for
        first, rest = tree_states(self.lm, ids, mask, pads)
        states = torch.cat([first[:, None, None].expand(-1, 2, -1, -1), rest], dim=2)
        return [self._beams(*self.lm.tree(ids, mask, worth=0)), self._log_probs(states)]

    def rows(self) -> list[torch.Tensor]:
        """Row by row: beams through copies of the model's own cache, groups as rows."""
        ids, mask = self._padded()
        group = self.answers[None].expand(2, -1, -1)
        first, rest = plain_states(self.lm, ids, mask, torch.cat([group, group[:, :, :1]], dim=2))
        states = torch.cat([first[:, None, None].expand(-1, 2, -1, -1), rest], dim=2)
        return [self._beams(*prefill(self.lm, ids, mask)), self._log_probs(states)]

    def _padded(self) -> tuple[torch.Tensor, torch.Tensor]:
        return pad_left(self.prompts, 0, self.device)

    def _beams(self, cache: Any, mask: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Two steps of two beams."""
        steps = [first[:, None].expand(-1, 2, -1)]
        lineage = torch.zeros(2, 2, 0, dtype=torch.bool, device=self.device)
        both = torch.arange(2, device=self.device).expand(2, -1)
        lengths = mask.sum(1, keepdim=True)
        for number in range(2):
            lineage, attention = feed(lineage, both, mask)
            tokens = self.answers[None, :, number].expand(2, -1)
            steps.append(self.lm.states(tokens, attention, (lengths + number).expand(-1, 2), cache))
        return self._log_probs(torch.stack(steps, dim=2))

    def _log_probs(self, states: torch.Tensor) -> torch.Tensor:
        return self.lm.logits(states).float().log_softmax(-1)


def _difference(layout: Callable[[], list[torch.Tensor]], plain: torch.Tensor, seen: torch.Tensor) -> tuple[float, str]:
    """The largest difference from plain rows where `seen`, and why there is no number where the layout fails."""
    try:
        differences = [(part - plain).abs()[seen].max().item() for part in layout()]
    except Exception as error:  # a model may fail at a mask, at positions or at its cache in ways of its own
        return float("inf"), _why(error)
    if not all(map(math.isfinite, differences)):
        return float("inf"), "its log-probabilities are no numbers there"
    return max(differences), ""


def _why(error: Exception) -> str:
    if isinstance(error, TypeError) and "position_ids" in str(error):
        return "it takes no position ids"
    return f"it fails on a tree of prompts and beams ({_line(error)})"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}"
