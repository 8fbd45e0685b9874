"""The conformance suite: what a plugin's components promise, tried in miniature on a generated category.

Each check is a function that raises :class:`~harness.errors.ContractError` with what is broken, where, and the mend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from harness.kit import component_checks, method_checks
from harness.kit.promises import settings_documented
from harness.plugins import KINDS, Plugin, Plugins


@dataclass(frozen=True)
class Check:
    """One promise of one component."""

    kind: str
    component: str
    name: str
    run: Callable[[], None]

    @property
    def label(self) -> str:
        """As reports and test ids show it."""
        return f"{self.kind} {self.component}: {self.name}"


def checks_of(plugin: Plugin, plugins: Plugins) -> list[Check]:
    """All checks of what a plugin registers."""
    all_checks: list[Check] = []
    for kind in KINDS:
        for name, (_, owner) in plugins.registry(kind).items():
            if owner is plugin:
                all_checks += checks(kind, name, plugins)
    return all_checks


def checks(kind: str, name: str, plugins: Plugins) -> list[Check]:
    """The checks of one component."""
    tried: dict[str, Callable[..., None]] = {
        "dataset": {"settings": settings_documented, "reads the same twice": component_checks.dataset_repeats},
        "tokenizer": {
            "settings": settings_documented,
            "one SID an item, from seed alone": component_checks.tokenizer_repeats,
        },
        "embedder": {
            "settings": settings_documented,
            "a finite vector an item, from seed alone": component_checks.embedder_repeats,
        },
        "backbone": {
            "settings": settings_documented,
            "builds a causal LM that knows its tokens": component_checks.backbone_builds,
        },
        "trainer": {"settings": settings_documented},
        "decoder": {
            "settings": settings_documented,
            "k distinct, whatever the batch": component_checks.decoder_keeps_contract,
        },
        "metric": {"plain finite numbers of one value": component_checks.metric_is_plain},
        "reward": {"settings": settings_documented, "a finite number a completion": component_checks.reward_is_finite},
        "method": {
            "recipe resolves": method_checks.recipe_resolves,
            "runs, with k distinct candidates": method_checks.method_runs,
            "repeats from its seed": method_checks.method_repeats,
            "ranks each history alone": method_checks.method_ranks_each_alone,
            "sees no test target": method_checks.method_sees_no_target,
            "goes on after a kill": method_checks.method_resumes,
            "leaves no pickle": method_checks.method_leaves_no_pickle,
        },
    }[kind]
    return [Check(kind, name, what, partial(function, kind, name, plugins)) for what, function in tried.items()]
