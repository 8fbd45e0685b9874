"""A board as markdown, CSV, LaTeX (booktabs) and JSON; every form says what its numbers stand on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from harness.cli.tables import PROTOCOLS, duration, table
from harness.data import versions
from harness.evaluation.measure import BAYES
from harness.evaluation.statistics import ALPHA
from harness.text import plain
from harness.text.plain import Marked

from . import effort, pareto
from .board import COLUMNS, GROUP_TITLES, TESTED, Board, Row, Table, shown_value
from .overview import overview
from .report.captions import caption, count, reported_table, title
from .report.sections import SIZES, beyond_cells, beyond_names, quantity

EARLIER = "floor"
"""What the counting baseline is called in CSV and JSON of older versions: the columns are there under both names."""
SPREAD = ("HR@10", "NDCG@10")
SCOPES = {"users, one seed": " ¹", "rows only": " ²"}
"""What an interval lacks, as a mark beside it."""
REPORTED = ("HR@1", "HR@3", "HR@5", "HR@10", "HR@20", "HR@50", "NDCG@3", "NDCG@5", "NDCG@10")


HEAD = (
    "# Leaderboard\n\n"
    "Written by `bench leaderboard` from recorded runs; nothing in it is typed. Best in **bold**, second "
    "<ins>underlined</ins>. Compare within a table only: under it stand its data, protocol, seeds and code."
)


def markdown(boards: Sequence[Board]) -> str:
    """GitHub markdown: groups as the paper has them, best in bold, second underlined."""
    parts: list[str] = [HEAD, *(overview(boards) if len(boards) > 1 else [])]
    for board in boards:
        parts += _section(board)
    return "\n\n".join(parts) + "\n"


def pages(boards: Sequence[Board], folder: str) -> dict[str, str]:
    """The overview under "", and by their names the files of `folder`: a page a category, and its quality over cost."""
    parts: dict[str, list[str]] = {"": [HEAD, *overview(boards, folder)]}
    pictures: dict[str, str] = {}
    for board in boards:
        sections = parts.setdefault(f"{board.category}.md", [HEAD])
        sections += _section(board)
        if board.seen == "keep" and (picture := pareto.svg(board)):
            name = f"{board.category}.svg"
            pictures[name] = picture
            sections += ["### Quality over cost", f"![{TESTED} over seconds of training, a point a row]({name})"]
    return {name: "\n\n".join(sections) + "\n" for name, sections in parts.items()} | pictures


def _section(board: Board) -> list[str]:
    parts = [f"## {plain.markdown(board.title)}", tables(board, 3).rstrip()]
    return [*parts, *effort_table(board), *beyond_table(board), *_markdown_reported(board)]


def tables(board: Board, heading: int = 2) -> str:
    """The measured tables of a board alone, as markdown."""
    parts: list[str] = []
    for one in board.tables:
        parts += ["#" * heading + f" {title(one.protocol)}", _markdown_table(one), under(board, one)]
    return "\n\n".join(parts) + "\n"


def effort_table(board: Board) -> list[str]:
    """What was spent on each row: a heading, a table and what it means."""
    rows = [[_marked(row), *row.effort.cells()] for row in board.rows]
    said = [
        "Settings: from a search on valid, from the paper, or chosen by hand; trials that were trained to their end; "
        "whether the search was on this very data; — where an older record does not say"
    ]
    own: dict[tuple[str, ...], list[str]] = {}
    for row in board.rows:
        own.setdefault(row.effort.own, []).append(row.name)
    said += [
        f"{', '.join(map(plain.markdown, names))}: settings that this data has for them alone, "
        f"{', '.join(f'`{setting}`' for setting in settings)}"
        for settings, names in own.items()
        if settings
    ]
    return ["### Effort", table(["Method", *effort.HEADERS], rows), f"*{'; '.join(said)}.*"]


def beyond_table(board: Board) -> list[str]:
    """What the rows' lists are like beyond accuracy, and what decoding costs; others are named."""
    there = [row for row in board.rows if row.system.beyond]
    names = beyond_names([row.system for row in there])
    if not names:
        return []
    rows = [[row.name, *beyond_cells(row.system, names), *(quantity(row.cost(key)) for key in SIZES)] for row in there]
    headers = ["Method", *names, *SIZES.values()]
    absent = [plain.markdown(row.name) for row in board.rows if row not in there]
    said = f" Not measured for it: {', '.join(absent)}." if absent else ""
    return ["### Beyond accuracy", table(headers, rows), f"Of the first ten items of each list; docs/reports.md.{said}"]


def _marked(row: Row) -> str:
    """A row's name, with a mark where its training had not ended."""
    return row.name + (" †" if row.effort.converged is False else "") + (" ⚠" if row.mixed else "")


def _markdown_table(found: Table) -> str:
    headers = ["Method", "Seeds", *COLUMNS, "95 % HR@10", "95 % NDCG@10"]
    headers += [f"Δ {found.counting}"] if found.versus_counting else []
    headers += [f"Δ {found.baseline}"] if found.versus_baseline else []
    headers += ["Train", "Parameters", "CC"]
    several = len({row.group for row in found.rows}) > 1
    lines: list[list[Any]] = []
    for group, rows in groupby(found.rows, key=lambda row: row.group):
        if several:
            lines.append([Marked(f"*{GROUP_TITLES[group]}*"), *[""] * (len(headers) - 1)])
        lines += [_markdown_row(row, found) for row in rows]
    if found.optimal:
        shown = [found.optimal.get(column) for column in COLUMNS]
        lines.append([Marked(f"*{BAYES}*"), "", *shown, *[""] * (len(headers) - 2 - len(COLUMNS))])
    return table(headers, lines)


def _markdown_row(row: Row, found: Table) -> list[Any]:
    cells: list[Any] = [_marked(row), str(len(row.records))]
    for column in COLUMNS:
        value = row.system.metric(found.protocol, column)
        text = None if value is None else f"{value:.4f}"
        if value is not None:
            spread = row.spread(found.protocol, column) if column in SPREAD else None
            kind = mark(value, column, row, found)
            text = {"best": f"**{text}**", "second": f"<ins>{text}</ins>", "": text}[kind]
            text = Marked(f"{text} ± {spread:.4f}" if spread is not None else text)
        cells.append(text)
    for column in SPREAD:
        bounds = row.system.interval(found.protocol, column)
        short = SCOPES.get(row.system.scope, "")
        cells.append(f"{bounds.low:.4f}–{bounds.high:.4f}{short}" if bounds else None)
    for versus, name in ((found.versus_counting, found.counting), (found.versus_baseline, found.baseline)):
        if versus:
            cells.append(_against(row.name, versus, name))
    return [*cells, duration(row.cost("train seconds") or 0.0), count(row.cost("parameters") or 0), row.system.invalid]


def _against(row: str, versus: dict[str, Any], name: str) -> str | None:
    if row not in versus:
        return None
    result = versus[row]
    return f"{result.difference:+.4f}{'*' if result.significant else SCOPES.get(result.scope, '')}"


def mark(value: float, column: str, row: Row, found: Table) -> str:
    """Whether a value is the column's best, its second best, or neither; mixed rows are no competitors."""
    if row.mixed or column not in found.best or len(found.rows) < 2:
        return ""
    best, second = found.best[column]
    seen = shown_value(value)
    return "best" if seen == best else "second" if seen == second else ""


def notes(board: Board, found: Table) -> list[str]:
    """What must be said of a table beside its ground."""
    said = ["means over seeds, ± their standard deviation; 95 %: over users and seeds"]
    scopes = {row.system.scope for row in found.rows}
    if "users, one seed" in scopes:
        said.append("¹ one seed: over users alone, and no claim of the method")
    if "rows only" in scopes:
        said.append("² rows only: the record does not say which samples are one user's, so it is too narrow")
    said += [
        f"{plain.markdown(row.name)} says that it is deterministic and its seeds differ: it is taken as if it were not"
        for row in found.rows
        if row.system.recipe.contradicted
    ]
    tested = [
        f"Δ {plain.markdown(name)}"
        for name, versus in ((found.counting, found.versus_counting), (found.baseline, found.versus_baseline))
        if versus
    ]
    if tested:
        said.append(
            f"{', '.join(tested)}: difference of {TESTED}, * beyond chance (paired test over users and seeds, Holm "
            f"over the rows, p < {ALPHA})"
        )
    if any(row.effort.converged is False for row in found.rows):
        said.append("† not converged: its best step is its last")
    said += [
        f"{plain.markdown(row.name)}: {plain.markdown(str(row.records[0].settings['note']))}"
        for row in found.rows
        if row.records[0].settings.get("note")
    ]
    own = [plain.markdown(row.name) for row in found.rows if row.effort.own]
    if own:
        said.append(f"{', '.join(own)}: with settings that this data has for them alone (under Effort)")
    if board.passed_over:
        said.append(f"chosen on valid {TESTED} before {', '.join(map(plain.markdown, board.passed_over))}")
    if found.absent:
        said.append(f"not in this table, run without semantic IDs: {', '.join(map(plain.markdown, found.absent))}")
    said += [f"⚠ {plain.markdown(row.name)}: {row.mixed}; it does not compare" for row in found.rows if row.mixed]
    return said


def under(board: Board, found: Table) -> str:
    """What stands under a table: its ground and its notes."""
    return caption([record for row in found.rows for record in row.records], found.protocol, notes(board, found))


def _markdown_reported(board: Board) -> list[str]:
    if not board.reported:
        return []
    return ["### Reported elsewhere", *reported_table(board.reported, REPORTED)]


def flat(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """A dict a row and protocol, measured and reported, with its ground: what CSV and JSON hold."""
    lines: list[dict[str, Any]] = []
    for board in boards:
        for one in board.tables:
            for row in one.rows:
                line: dict[str, Any] = {
                    "category": board.category, "protocol": one.protocol, "kind": "measured", "group": row.group,
                    "method": row.name, "stage": row.system.stage, "source": "",
                    "seeds": " ".join(str(record.seed) for record in row.records),
                }  # fmt: skip
                for column in COLUMNS:
                    line[column] = row.system.metric(one.protocol, column)
                for column in SPREAD:
                    line[f"{column} sd over seeds"] = row.spread(one.protocol, column)
                    bounds = row.system.interval(one.protocol, column)
                    line[f"{column} low"], line[f"{column} high"] = (
                        (bounds.low, bounds.high) if bounds else (None, None)
                    )
                    line[f"{column} design effect"] = bounds.design if bounds else None
                line["intervals over"] = row.system.scope
                tested = {"counting baseline": one.versus_counting, "baseline": one.versus_baseline}
                for key, versus in (tested | {EARLIER: one.versus_counting}).items():
                    result = versus.get(row.name)
                    line[f"{TESTED} minus {key}"] = result.difference if result else None
                    line[f"p against {key}"] = result.p if result else None
                line |= {
                    "train seconds": row.cost("train seconds"), "decode seconds": row.cost("decode seconds"),
                    "peak memory GiB": row.cost("peak memory GiB"), "parameters": row.cost("parameters"),
                    "invalid": row.system.invalid, "caption": row.records[0].content["caption"],
                    "data": row.records[0].data, "semantic_ids": row.records[0].sids or "",
                    "revisions": " ".join(sorted({record.content["revision"] for record in row.records})),
                    "stands on": versions.caption(row.records[0].ground), "settings from": row.effort.source,
                    **row.system.beyond,
                    "trials": row.effort.trials, "tuned on this data": row.effort.tuned_here,
                    "steps": row.effort.steps, "best step over last": row.effort.best,
                    "converged": row.effort.converged, "note": row.mixed, "seen": board.seen,
                }  # fmt: skip
                lines.append(line)
        for reported in board.reported:
            lines.append(
                {"category": board.category, "protocol": "sid", "kind": "reported", "method": reported.method,
                 "source": reported.source, **reported.metrics, "note": "; ".join(reported.problems)}
            )  # fmt: skip
    return lines


def comma_separated(boards: Sequence[Board]) -> str:
    """CSV, a line a row and protocol; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    lines = flat(boards)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({key: _inert(value) for key, value in line.items()})
    return out.getvalue()


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in tuple("=+-@＝＋－＠") else value


def as_json(boards: Sequence[Board]) -> str:
    """JSON, the same lines."""
    return json.dumps({"rows": flat(boards)}, indent=1, ensure_ascii=False) + "\n"


def latex(boards: Sequence[Board]) -> str:
    """LaTeX tables for booktabs and graphicx: best bold, second underlined, groups parted by rules."""
    columns = [c for c in COLUMNS if c != "MRR"]
    parts = ["% \\usepackage{booktabs,graphicx}"]
    for board in boards:
        for one in board.tables:
            lines = ["\\begin{table*}", "\\centering", "\\resizebox{\\textwidth}{!}{%"]
            lines.append(f"\\begin{{tabular}}{{l{'r' * len(columns)}}}")
            lines += ["\\toprule", " & ".join(["Method", *columns]) + " \\\\"]
            for group, rows in groupby(one.rows, key=lambda row: row.group):
                lines += [
                    "\\midrule",
                    f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\textit{{{GROUP_TITLES[group]}}}}} \\\\",
                ]
                lines += [_latex_row(row, one, columns) for row in rows]
            lines += [
                "\\bottomrule",
                "\\end{tabular}}",
                f"\\caption{{{_tex(under(board, one).strip('*') + _above(one))}}}",
                "\\end{table*}",
            ]
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _above(found: Table) -> str:
    """What the marks at NDCG@10 say."""
    marks = [
        f"{mark} above {name} beyond chance"
        for mark, name, versus in (
            ("*", found.counting, found.versus_counting),
            ("‡", found.baseline, found.versus_baseline),
        )
        if versus
    ]
    return f" Behind {TESTED}: {', '.join(marks)}." if marks else ""


def _latex_row(row: Row, found: Table, columns: Sequence[str]) -> str:
    cells = [_tex(_marked(row))]
    for column in columns:
        value = row.system.metric(found.protocol, column)
        text = "--" if value is None else f"{value:.4f}"
        kind = "" if value is None else mark(value, column, row, found)
        text = {"best": f"\\textbf{{{text}}}", "second": f"\\underline{{{text}}}", "": text}[kind]
        spread = row.spread(found.protocol, column) if column in SPREAD else None
        text += f"{{\\scriptsize$\\pm${spread:.4f}}}" if spread is not None else ""
        if column == TESTED:
            counting, rival = found.versus_counting.get(row.name), found.versus_baseline.get(row.name)
            above = ("*" if counting and counting.significant and counting.difference > 0 else "") + (
                "\\ddagger" if rival and rival.significant and rival.difference > 0 else ""
            )
            text += f"$^{{{above}}}$" if above else ""
        cells.append(text)
    return " & ".join(cells) + " \\\\"


def _tex(text: str) -> str:
    """Text with LaTeX's own characters escaped."""
    escapes = {
        "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
        "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--", "±": "$\\pm$", "Δ": "$\\Delta$",
        "−": "$-$", "⚠": "!", "†": "$\\dagger$", "‡": "$\\ddagger$", "¹": "$^1$", "²": "$^2$",
        "<": "$<$", ">": "$>$",
    }  # fmt: skip
    escaped = "".join(escapes.get(c, c) for c in text)
    return f"{{}}{escaped}" if escaped[:1] in ("[", "*") else escaped  # else it belongs to the line break before


def summary_line(board: Board) -> str:
    """One line on a board, for a terminal."""
    protocols = " and ".join(PROTOCOLS[one.protocol] for one in board.tables)
    return f"{board.title}: {len(board.rows)} rows of {len(board.records)} runs, {protocols}"
