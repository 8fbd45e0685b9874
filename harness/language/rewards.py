"""Groups of completions and what rewards see of them: the contract of reward plugins.

A reward is a function ``reward(groups) → [prompts, G]``, or a class with ``Settings``, made as
``Reward(settings)`` and called the same way; its ``prepare(context)``, where it has one, is called
once before training. Nothing is ever looked up by a text: the target comes with the sample.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from harness.components import Context
from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError, ContractError


@dataclass(frozen=True)
class Groups:
    """The completions of a batch of prompts, each group best first.

    Attributes:
        completions: ``[prompts, G]`` rows of ``semantic_ids.distinct``.
        targets: ``[prompts]`` rows of ``semantic_ids.distinct``, each the sample's own.
        items: the target's item id of each prompt.
        histories: item ids of each prompt's history, oldest first; empty where the prompt holds no purchases.
        prompts: the prompts as text, for messages.
    """

    completions: torch.Tensor
    targets: torch.Tensor
    items: list[int]
    histories: list[list[int]]
    prompts: list[str]
    semantic_ids: SemanticIds

    @property
    def hits(self) -> torch.Tensor:
        """Which completions are the target, ``[prompts, G]`` booleans."""
        return self.completions == self.targets[:, None]

    @property
    def codes(self) -> torch.Tensor:
        """Codes of the completions ``[prompts, G, levels]``; -1 beyond the last level of a shorter SID."""
        return self._table[self.completions]

    @property
    def target_codes(self) -> torch.Tensor:
        """Codes of the targets ``[prompts, levels]``."""
        return self._table[self.targets]

    @property
    def _table(self) -> torch.Tensor:
        return torch.from_numpy(self.semantic_ids.distinct).to(self.completions.device)

    def __len__(self) -> int:
        return len(self.targets)

    def one(self, row: int) -> Groups:
        """A single group."""
        rows = slice(row, row + 1)
        return dataclasses.replace(
            self, completions=self.completions[rows], targets=self.targets[rows], items=self.items[rows],
            histories=self.histories[rows], prompts=self.prompts[rows],
        )  # fmt: skip


Reward = Callable[[Groups], torch.Tensor]


class Rewards:
    """The weighted sum of named rewards, each checked as it comes from its plugin."""

    def __init__(self, wanted: Mapping[str, float | dict[str, Any]], made: Mapping[str, Any], where: str):
        """Take in the rewards.

        Args:
            wanted: weight of each, or its settings with a ``weight`` among them (1 where there is none).
            made: the rewards themselves, made with their settings (``context.parts.made("rewards")``).
            where: the setting they come from, for errors.

        Raises:
            BenchError: no reward at all.
        """
        if not wanted:
            raise BenchError(f"{where} names no reward; set {where}=ranking")
        self.parts: dict[str, tuple[float, Reward]] = {}
        for name, value in wanted.items():
            weight = value.get("weight", 1.0) if isinstance(value, dict) else value
            self.parts[name] = (float(weight), made[name])

    def prepare(self, context: Context) -> None:
        """Let rewards load what they need."""
        for _, reward in self.parts.values():
            if hasattr(reward, "prepare"):
                reward.prepare(context)

    def __call__(self, groups: Groups, step: int) -> dict[str, torch.Tensor]:
        """Each reward, weighted, ``[prompts, G]`` float32.

        Raises:
            BenchError: a reward raises, is of another shape, or is not finite: the step, its name, the sample.
        """
        return {name: weight * _checked(name, reward, groups, step) for name, (weight, reward) in self.parts.items()}


def _checked(name: str, reward: Reward, groups: Groups, step: int) -> torch.Tensor:
    try:
        values = reward(groups)
    except Exception as error:
        raise ContractError(
            f"step {step}: reward {name} fails with {type(error).__name__}: {error} "
            f"({_sample(groups, _first_failing(reward, groups))})"
        ) from error
    shape = tuple(groups.completions.shape)
    if not torch.is_tensor(values) or tuple(values.shape) != shape:
        given = f"shape {tuple(values.shape)}" if torch.is_tensor(values) else type(values).__name__
        raise ContractError(
            f"step {step}: reward {name} gave {given}, it must give a tensor {shape}: a number a completion "
            f"({_sample(groups, 0)})"
        )
    values = values.to(groups.completions.device, torch.float32)
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        row, place = bad[0].tolist()
        raise ContractError(
            f"step {step}: reward {name} is {values[row, place].item()} at completion {place} ({_sample(groups, row)})"
        )
    return values


def _first_failing(reward: Reward, groups: Groups) -> int:
    for row in range(len(groups)):
        try:
            reward(groups.one(row))
        except Exception:
            return row
    return 0


def _sample(groups: Groups, row: int) -> str:
    prompt = groups.prompts[row]
    shown = prompt if len(prompt) <= 60 else "…" + prompt[-60:]
    return f"sample: target item {groups.items[row]}, prompt {shown!r}"
