"""What a report says of semantic IDs: their figures in a table, and how codes are used, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.cli.tables import table
from harness.text import plain

from ..record import Record
from .captions import caption
from .figures import COLOURS, MARKERS, grid
from .systems import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "semantic-ids"
MEANS = {
    "collision rate": "1 − distinct SIDs / items",
    "perplexity of codes": "e to the entropy of a level's codes: as many codes, if all were used equally often",
    "Gini of codes": "inequality of how often the codes in use are used: 0 is even",
    "branching": "codes that follow a prefix, on average",
    "ceiling of item HR@1": "what a model reaches that always names the right SID",
    "categories told by the first code": "adjusted mutual information, 0 to 1",
    "categories told by the first two codes": "adjusted mutual information, 0 to 1",
    "unexplained variance": "of the vectors, by the means that the codes imply",
    "cosine to what is rebuilt": "of the vectors and what the codes rebuild of them",
    "first code shared with the 10 nearest": "share of an item's nearest in the vectors",
}


def section(found: Sequence[Recipe], drawn: set[str]) -> list[str]:
    """The section of the first runs that tell how good their SIDs are; nothing where none does."""
    told = {recipe.name: facts for recipe in found if (facts := quality_of(recipe.first))}
    if not told:
        return []
    names = list(dict.fromkeys(name for facts in told.values() for name in facts))
    rows = [[name, *(shown(facts.get(name)) for facts in told.values()), MEANS.get(name, "")] for name in names]
    parts = ["## Semantic IDs", table(["Figure", *told, ""], rows)]
    records = [recipe.first for recipe in found if recipe.name in told]
    parts.append(caption(records))
    repairs = [line for recipe in found if (line := _repair(recipe))]
    if repairs:
        parts.append("\n".join(repairs))
    if NAME in drawn:
        parts.append(f"![codes used, items on a SID, and the first codes](figures/{NAME}.svg)")
    return parts


def _repair(recipe: Recipe) -> str:
    """``- tiger: repair zcr: items moved 12, …``; nothing where nothing was repaired."""
    facts = (recipe.first.content.get("tokenizer") or {}).get("repair") or {}
    told = ", ".join(f"{plain.markdown(what)} {plain.markdown(str(shown(value)))}" for what, value in facts.items())
    how = (recipe.first.settings.get("tokenizer") or {}).get("repair")
    return f"- {plain.markdown(recipe.name)}: repair {how}: {told}" if facts else ""


def quality_of(record: Record) -> dict[str, Any]:
    """The figures of a record's SIDs; empty where it does not tell."""
    return dict((record.content.get("tokenizer") or {}).get("quality") or {})


def shown(value: Any) -> str | None:
    """A figure in words; those of levels side by side."""
    if value is None:
        return None
    if isinstance(value, list):
        return " / ".join(str(shown(one)) for one in value)
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def figure(record: Record) -> Figure | None:
    """Three panels: how often each code of a level is used, items on a SID, and where the first codes lie."""
    facts = record.content.get("tokenizer") or {}
    codes, groups, places = facts.get("codes"), facts.get("groups"), facts.get("map")
    if not codes or not groups:
        return None
    drawn, panels = grid(1, 3 if places else 2, 3.6, 3.1)
    for number, counts in enumerate(codes[: len(COLOURS)]):
        panels[0].plot(
            range(1, len(counts) + 1), counts, color=COLOURS[number], marker=MARKERS[number % len(MARKERS)],
            markevery=max(1, len(counts) // 8), markersize=4, linewidth=1.2, label=f"level {number + 1}",
        )  # fmt: skip
    panels[0].set_xlabel("codes, the most used first")
    panels[0].set_ylabel("items")
    panels[0].legend(fontsize=8)
    panels[0].set_title("use of codes", fontsize=10)
    sizes = [size for size, number in enumerate(groups, start=1) if number]
    panels[1].bar(range(len(sizes)), [groups[size - 1] for size in sizes], color=COLOURS[0])
    panels[1].grid(axis="x", visible=False)
    step = -(-len(sizes) // 8)
    panels[1].set_xticks(range(0, len(sizes), step), [str(size) for size in sizes[::step]])
    panels[1].set_xlabel("items on the SID")
    panels[1].set_ylabel("SIDs")
    panels[1].set_title("collisions", fontsize=10)
    for panel in panels[:2]:
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:,.0f}")
        panel.set_ylim(bottom=0.8)
    if places:
        most = max(n for _, _, n in places)
        panels[2].scatter(
            [x for x, _, _ in places], [y for _, y, _ in places], s=[4 + 120 * n / most for _, _, n in places],
            color=COLOURS[0], alpha=0.5, linewidths=0,
        )  # fmt: skip
        panels[2].set_xlabel("first direction of the vectors")
        panels[2].set_ylabel("second")
        panels[2].set_title("first codes, area by items", fontsize=10)
    return drawn
