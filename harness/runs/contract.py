"""What tokenizers and trainers give, held to their contract (:mod:`harness.components`)."""

from __future__ import annotations

from typing import Any

from harness.data.semantic_ids import SemanticIds
from harness.errors import BenchError, ContractError
from harness.evaluation.measure import plain


def checked_sids(made: Any, n_items: int, name: str) -> SemanticIds | None:
    """What a tokenizer gave, held to its contract.

    Raises:
        ContractError: it gave something else than semantic IDs or None, or not one for each item.
    """
    if made is None:
        return None
    if not isinstance(made, SemanticIds):
        raise ContractError(f"tokenizer {name} gave {type(made).__name__}; it must return SemanticIds, or None")
    if made.codes.shape[0] != n_items:
        raise ContractError(f"tokenizer {name} gave {made.n_items} SIDs for {n_items} items; it must give one for each")
    return made


def checked_facts(facts: Any, trainer: str) -> dict[str, Any]:
    """What a trainer's ``fit`` returned, held to its contract.

    Raises:
        ContractError: it is no dict, or holds what no record can.
    """
    who = f"trainer {trainer}"
    if facts is None:
        raise ContractError(f"{who}: fit returned nothing; return a dict of facts for the record, at least {{}}")
    if not isinstance(facts, dict):
        raise ContractError(f"{who}: fit returned {type(facts).__name__}; return a dict of facts for the record")
    try:
        return dict(plain(facts, "fact"))
    except BenchError as error:
        raise ContractError(f"{who}: fit returned what no record can hold: {error.message}") from None
