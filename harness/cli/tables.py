"""Tables of the terminal and of markdown documents, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from harness.evaluation.measure import BAYES
from harness.evaluation.target_ranks import CUTOFFS
from harness.progress import duration
from harness.text import plain
from harness.version import DISTRIBUTION

__all__ = ["caption", "caption_of_run", "cell", "code_notes", "duration", "setting", "short", "summary", "table"]

HR = [f"HR@{k}" for k in CUTOFFS]

NDCG = [f"NDCG@{k}" for k in CUTOFFS]

PROTOCOLS = {"sid": "SID protocol", "item": "item protocol"}


def table(headers: list[str], rows: list[list[Any]]) -> str:
    """A GitHub markdown table; floats get four digits."""
    shown = [[cell(value) for value in row] for row in rows]
    headers = [cell(header) for header in headers]
    align = ["right" if all(_numeric(row[i]) for row in rows) and i else "left" for i in range(len(headers))]
    return tabulate(shown, headers=headers, tablefmt="github", colalign=align if shown else None, disable_numparse=True)


def _numeric(value: Any) -> bool:
    if value is None or isinstance(value, (int, float)):
        return True
    digits = str(value).replace("<ins>", "").replace("</ins>", "").replace("±", "").replace(" ", "").strip("*+-−%–")
    return not digits or digits.replace(".", "").replace(",", "").isdigit()


def cell(value: Any) -> str:
    """A value as a table's cell."""
    if value is None:
        return "—"
    text = f"{value:.4f}" if isinstance(value, float) else value if isinstance(value, str) else str(value)
    return plain.cell(text)


def setting(value: Any) -> str:
    """A setting's value, floats with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(result: dict[str, Any]) -> str:
    """The terminal's table at the end of a run: both protocols at the main cutoffs."""
    columns = ["HR@1", "HR@5", "HR@10", "HR@50", "NDCG@10"]
    rows = []
    stages = dict(result["stages"]) | ({BAYES: result[BAYES]} if BAYES in result else {})
    for name, stage in stages.items():
        for protocol, label in PROTOCOLS.items():
            if protocol in stage:
                rows.append([name, label.split()[0], *(stage[protocol].get(c) for c in columns), stage.get("invalid")])
    return table(["stage", "protocol", *columns, "CC"], rows)


def short(fingerprints: Sequence[str | None]) -> str:
    """Fingerprints, shortened, each once."""
    return ", ".join(sorted({f[:12] for f in fingerprints if f})) or "none"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(sorted({plain.markdown(text) for text in texts}))


def caption(
    categories: Sequence[str], captions: Sequence[str], data: Sequence[str | None], sids: Sequence[str | None],
    seeds: Sequence[int], revisions: Sequence[str], before: Sequence[str] = (), notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """What stands under a table: category and split, fingerprints, seeds, code."""
    parts = [
        *before,
        f"{_listed(categories)}: {' / '.join(sorted({plain.markdown(text) or 'as read' for text in captions}))}",
        f"data {short(data)}",
        f"SIDs {short(sids)}",
        f"seed{'s' if len(set(seeds)) > 1 else ''} {', '.join(str(seed) for seed in sorted(set(seeds)))}",
        f"code {_listed(revisions)}",
        *notes,
    ]
    return f"*{'; '.join(parts)}.*"


def caption_of_run(manifest: Mapping[str, Any]) -> str:
    """The caption of one run, from its manifest."""
    prints = manifest["fingerprints"]
    return caption(
        [manifest["category"]], [manifest["caption"]], [prints["data"]], [prints.get("semantic_ids")],
        [manifest["seed"]], [manifest["revision"]], notes=code_notes([manifest]),
    )  # fmt: skip


def code_notes(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of manifests or records: components from outside, with versions, and whether other code's results were kept."""
    outside = {
        f"{component['name']} {component['version']}"
        if component["version"] != "-"
        else f"{component['name']} (a file)"
        for content in contents
        for component in (content.get("components") or {}).values()
        if component.get("distribution") != DISTRIBUTION
    }
    kept = any(content.get("kept") for content in contents)
    return [*sorted(outside), *(["kept: made by other code than now"] if kept else [])]
