"""``--set key=value``: one override of a recipe. It knows the recipe's sections, and no component."""

from __future__ import annotations

from typing import Any

from harness.errors import BenchError, unknown
from harness.text.parsing import parse_yaml


def apply(tree: dict[str, Any], override: str) -> None:
    """Put an override into a recipe, whose stages stand by their names.

    Raises:
        BenchError: it has not the form ``key=value``, its key names no section, or a value stands where settings would.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise BenchError(f"--set {override}: write it as key=value, e.g. --set decoder.beams=20")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        shown = "it is not valid YAML" if str(error).startswith("not valid") else str(error)
        raise BenchError(f"--set {override[:80]}: {shown}; quote it, or give another") from None
    head, *rest = key.strip().split(".")
    sections = [*tree["stages"], "tokenizer", "backbone", "decoder", "dataset", "probe", "protocol", "prompts"]
    if head not in sections:
        raise unknown("setting", key, sections, f"in --set {override}")
    if head == "prompts":
        tree[head] = value
        return
    holder = tree["stages"] if head in tree["stages"] else tree
    if not rest:  # --set tokenizer=rqkmeans, --set backbone=hf:PATH: another component, its own defaults
        if head in tree["stages"] or not isinstance(value, (str, type(None))):
            raise BenchError(f"--set {override}: name the setting, as in {head}.SETTING=value")
        holder[head] = {"name": value} if value else None
        return
    if isinstance(holder.get(head), str):
        holder[head] = {"name": holder[head]}
    place = holder.setdefault(head, {})
    if place is None:
        raise BenchError(f"--set {override}: the recipe has no {head}")
    for number, part in enumerate(rest[:-1]):
        inner = place.setdefault(part, {})
        if number == 0 and part == "parts" and isinstance(inner, list):
            place[part] = {key: key for key in inner}
        elif number == 1 and rest[0] == "parts" and isinstance(inner, str):
            place[part] = {"name": inner}
        elif isinstance(inner, str) and inner == rest[number + 1]:  # embedder.tfidf.dimensions, of embedder: tfidf
            place[part] = {inner: {}}
        place = place[part]
        if not isinstance(place, dict):
            raise BenchError(f"--set {override}: {part} holds a value, not settings")
    place[rest[-1]] = value
