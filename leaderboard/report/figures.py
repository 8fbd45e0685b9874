"""Figures of recorded runs as PNG and SVG: readable in print, in grey, and by the colour-blind.

Each function takes systems or logs and returns a matplotlib figure, or None where there is nothing to draw. Lines
differ by colour, dash and marker (the palette is Okabe and Ito's).
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness import files
from harness.cli.tables import PROTOCOLS
from harness.evaluation.target_ranks import CUTOFFS

from ..reported import Reported
from .systems import System

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Log = Mapping[str, Sequence[tuple[float, float]]]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = "osD^vPX*"
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "++", "--")
MOST_LINES = 10
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    "svg.hashsalt": "genrec-bench",
    "svg.fonttype": "path",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The look of all figures, within which they are made and saved; the process's own settings stay."""
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with matplotlib.rc_context({**STYLE, "text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def save(figures: Mapping[str, Figure | None], folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG into a folder; what is None is left out. Returns the files."""
    written = []
    for name, figure in figures.items():
        if figure is None:
            continue
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, saved twice
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            with files.replace_file(path) as temporary:
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(temporary, format=suffix, metadata=metadata)
            written.append(path)
    return written


def hit_rates(systems: Sequence[System], protocol: str) -> Figure | None:
    """HR@K over K, a line a system, with the 95 % interval of each point where there are few."""
    shown = _best(systems, protocol, MOST_LINES)
    if not shown:
        return None
    figure, axes = _axes(6.4, 4.2)
    for number, system in enumerate(shown):
        points = [(k, v) for k in CUTOFFS if (v := system.metric(protocol, f"HR@{k}")) is not None]
        _line(axes, points, system.name, number)
        bounds = [system.interval(protocol, f"HR@{k}") for k, _ in points]
        if len(shown) <= 3 and all(bounds):
            low, high = zip(*((pair.low, pair.high) for pair in bounds if pair), strict=True)
            axes.fill_between([k for k, _ in points], low, high, color=_colour(number), alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(CUTOFFS, [str(k) for k in CUTOFFS])
    axes.minorticks_off()
    axes.set_xlabel("K (candidates)")
    axes.set_ylabel(f"HR@K, {PROTOCOLS[protocol]}")
    axes.set_ylim(bottom=0)
    _note_left_out(axes, len(shown), systems, protocol)
    _legend(axes, len(shown))
    return figure


def learning(stage: str, log: Log, best: float | None = None) -> Figure | None:
    """A stage's learning curves: training loss on the left, NDCG@10 and HR@10 on valid on the right.

    A stage with rewards has no loss to look at: with normalised advantages it is zero but for rounding.

    Args:
        log: of the stage, ``{name: [(step, value), …]}``.
        best: the step whose model was kept.
    """
    loss = () if log.get("reward") else log.get("loss", ())
    valid = {name: log.get(f"eval_{name}", ()) for name in ("NDCG@10", "HR@10")}
    if not loss and not valid["NDCG@10"]:
        return None
    epochs = _epochs(log)
    unit = "epoch" if epochs else "step"
    panels = [panel for panel in (("loss", loss), ("valid", valid["NDCG@10"])) if panel[1]]
    figure, places = _panels(len(panels))
    for axes, (name, _) in zip(places, panels, strict=True):
        if name == "loss":
            _line(axes, _over(loss, epochs), "train loss", 0, marker="" if len(loss) > 40 else None)
            axes.set_ylabel(f"{stage} loss (nats)")
        else:
            for number, (metric, values) in enumerate(valid.items()):
                _line(axes, _over(values, epochs), metric, number)
            axes.set_ylabel("valid metric")
            if best is not None:
                axes.axvline(
                    _over([(best, 0.0)], epochs)[0][0], color="#444444", linewidth=1, linestyle=":", label="kept"
                )
            axes.legend()
        axes.set_xlabel(unit)
    return figure


def rewards(stage: str, log: Log) -> Figure | None:
    """A GRPO stage: mean reward, divergence from the reference (or entropy), and groups without an advantage."""
    named = [
        ("reward", "mean reward"),
        ("kl", "KL to the reference (nats)"),
        ("entropy", "entropy (nats a token)"),
        ("groups/zero_advantage", "groups without\nan advantage (share)"),
    ]
    if log.get("kl"):
        named = [pair for pair in named if pair[0] != "entropy"]
    panels = [(key, label) for key, label in named if log.get(key)]
    if not panels or panels[0][0] != "reward":
        return None
    epochs = _epochs(log)
    figure, places = _panels(len(panels))
    for number, (axes, (key, label)) in enumerate(zip(places, panels, strict=True)):
        _line(axes, _over(log[key], epochs), label, number, marker="" if len(log[key]) > 40 else None)
        axes.set_ylabel(label)
        axes.set_xlabel(f"{stage} {'epoch' if epochs else 'step'}")
    return figure


def levels(systems: Sequence[System]) -> Figure | None:
    """Heat map: K × level, the share of samples whose first levels some candidate of the top K matches."""
    shown = [system for system in systems if system.levels.get("cumulative")][:4]
    if not shown:
        return None
    figure, places = _panels(len(shown), width=3.4, height=3.4)
    for number, (axes, system) in enumerate(zip(places, shown, strict=True)):
        cumulative = system.levels["cumulative"]
        chains = list(next(iter(cumulative.values())))
        values = [[row[chain] for chain in chains] for row in cumulative.values()]
        axes.imshow(values, cmap="cividis", vmin=0, vmax=max(0.6, max(map(max, values))), aspect="auto")
        axes.grid(False)
        axes.set_xticks(range(len(chains)), chains)
        axes.set_yticks(range(len(cumulative)), list(cumulative))
        axes.set_xlabel("levels matched")
        axes.set_ylabel("K (candidates)" if number == 0 else "")
        axes.set_title(system.name, fontsize=10)
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                axes.text(
                    x, y, f"{value:.1%}", ha="center", va="center", fontsize=9,
                    color="black" if value > 0.35 else "white",
                )  # fmt: skip
    return figure


def discrepancy(pairs: Sequence[tuple[System, Reported]]) -> Figure | None:
    """Bars: each metric here minus as reported, relative to the reported value, a colour a source."""
    shown = [(system, row) for system, row in pairs if row.metrics][: len(HATCHES)]
    names = [
        name
        for name in (f"{m}@{k}" for m in ("HR", "NDCG") for k in CUTOFFS)
        if any(name in row.metrics and system.metric("sid", name) is not None for system, row in shown)
    ]
    if not names:
        return None
    figure, axes = _axes(max(6.4, 0.62 * len(names) + 2.4), 4.0)
    width = 0.8 / len(shown)
    for number, (system, row) in enumerate(shown):
        xs, heights = [], []
        for place, name in enumerate(names):
            here, theirs = system.metric("sid", name), row.metrics.get(name)
            if here is not None and theirs:
                xs.append(place + (number - (len(shown) - 1) / 2) * width)
                heights.append(100 * (here - theirs) / theirs)
        axes.bar(
            xs, heights, width * 0.92, color=_colour(number), hatch=HATCHES[number], edgecolor="white",
            linewidth=0.5, label=f"{system.name} against {row.method} ({row.source})",
        )  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    turned: dict[str, Any] = {"rotation": 45, "ha": "right"} if len(names) > 8 else {}
    axes.set_xticks(range(len(names)), names, **turned)
    axes.set_ylabel("here − reported (% of reported)")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", fontsize=9, ncols=1 if len(shown) > 2 else len(shown))
    return figure


def cost(systems: Sequence[System], protocol: str) -> Figure | None:
    """Quality against cost: HR@10 over minutes of training, a point a recipe; a second is the left edge."""
    points = []
    for system in systems:
        hit = system.metric(protocol, "HR@10")
        records = system.recipe.records
        seconds = sum(record.cost.get("train seconds") or 0.0 for record in records) / len(records)
        if hit is not None and system.is_last:
            points.append((max(seconds, 1.0) / 60, hit, system))
    if len(points) < 2:
        return None
    points = sorted(points, key=lambda point: -point[1])
    figure, axes = _axes(6.8, 4.4)
    groups = sorted({system.recipe.first.group for _, _, system in points})
    for minutes, hit, system in points:
        number = groups.index(system.recipe.first.group)
        bounds = system.interval(protocol, "HR@10")
        if bounds and len(points) <= 30:
            axes.plot(
                [minutes, minutes], [bounds.low, bounds.high], color=_colour(number), linewidth=1, alpha=0.45, zorder=1
            )
        axes.plot([minutes], [hit], MARKERS[number % len(MARKERS)], color=_colour(number), markersize=7, zorder=2)
    for number, group in enumerate(groups):
        axes.plot(
            [],
            [],
            MARKERS[number % len(MARKERS)],
            color=_colour(number),
            label={"llm": "LLM-based"}.get(group, group),
        )
    axes.set_xscale("log")
    lowest, highest = min(p[0] for p in points), max(p[0] for p in points)
    axes.set_xlim(lowest / 1.6, highest * 4)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("training (minutes, of one run on its own hardware)")
    axes.set_ylabel(f"HR@10, {PROTOCOLS[protocol]}")
    _label(axes, [(minutes, hit, system.name) for minutes, hit, system in points[:40]])
    axes.legend(loc="best", fontsize=9)
    return figure


def segments(systems: Sequence[System], protocol: str) -> Figure | None:
    """HR@10 of each segment, a panel a segmentation, a bar a system; n under each segment."""
    shown = [s for s in _best(systems, protocol, 4) if s.segments]
    if not shown:
        return None
    names = [name for name, parts in shown[0].segments.items() if len(parts) > 1]
    if not names:
        return None
    columns = 2
    figure, places = grid(math.ceil(len(names) / columns), columns, 4.7, 2.7)
    top = 0.0
    for axes, name in zip(places, names, strict=False):
        parts = shown[0].segments[name]
        labels = list(parts)
        width = 0.8 / len(shown)
        for number, system in enumerate(shown):
            heights = [
                (system.segments.get(name, {}).get(label, {}).get(protocol) or {}).get("HR@10", 0.0) for label in labels
            ]
            top = max(top, *heights)
            xs = [place + (number - (len(shown) - 1) / 2) * width for place in range(len(labels))]
            axes.bar(
                xs, heights, width * 0.92, color=_colour(number), hatch=HATCHES[number],
                edgecolor="white", linewidth=0.5, label=system.name,
            )  # fmt: skip
        axes.set_xticks(range(len(labels)), [f"{label}\nn {parts[label]['n']:,.0f}" for label in labels], fontsize=8)
        axes.set_title(name, fontsize=10)
        axes.set_ylabel("HR@10")
        axes.grid(axis="x", visible=False)
    for axes in places[: len(names)]:
        axes.set_ylim(0, top * 1.05 or 1)
    for axes in places[len(names) :]:
        axes.set_visible(False)
    if len(shown) > 1:
        handles, texts = places[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=len(shown), fontsize=9)
    figure.suptitle(f"HR@10 by segment, {PROTOCOLS[protocol]}", fontsize=11)
    return figure


def _best(systems: Sequence[System], protocol: str, most: int) -> list[System]:
    """At most so many systems that have the protocol: those with the best HR@10, best first."""
    there = [(v, s) for s in systems if (v := s.metric(protocol, "HR@10")) is not None]
    return [system for _, system in sorted(there, key=lambda pair: -pair[0])[:most]]


def _note_left_out(axes: Axes, shown: int, systems: Sequence[System], protocol: str) -> None:
    there = sum(system.metric(protocol, "HR@10") is not None for system in systems)
    if there > shown:
        axes.set_title(f"the {shown} of {there} with the best HR@10", fontsize=10)


def _label(axes: Axes, points: list[tuple[float, float, str]]) -> None:
    """Names beside points, each moved up or down until it lies on no other (sizes in display units)."""
    figure = cast("Figure", axes.figure)  # get_figure(root=True) is of matplotlib 3.10
    figure.draw_without_rendering()
    taken: list[tuple[float, float, float, float]] = []
    for x, y, _ in points:
        px, py = axes.transData.transform((x, y))
        taken.append((px - 5, py - 5, px + 5, py + 5))
    for x, y, name in points:
        px, py = axes.transData.transform((x, y))
        scale = figure.dpi / 72
        width, height = 5.2 * len(name) * scale, 10 * scale
        for step in sorted(range(-14, 15), key=abs):
            shift = step * 5 * scale
            box = (px + 7 * scale, py + shift - height / 2, px + 7 * scale + width, py + shift + height / 2)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                break
        taken.append(box)
        axes.annotate(
            name, (x, y), xytext=(7, shift / scale), textcoords="offset points", va="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "#888888", "linewidth": 0.5} if abs(step) > 1 else None,
        )  # fmt: skip


def _epochs(log: Log) -> list[tuple[float, float]]:
    """(step, epoch) points, where the stage logged them."""
    return [(float(step), float(epoch)) for step, epoch in log.get("epoch", ())]


def _over(values: Sequence[tuple[float, float]], epochs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points over epochs (interpolated at their step) where those are known."""
    if not epochs:
        return [(float(step), value) for step, value in values]
    import numpy as np

    steps, times = zip(*epochs, strict=True)
    return [(float(np.interp(step, steps, times)), value) for step, value in values]


def _line(
    axes: Axes, points: Sequence[tuple[float, float]], label: str, number: int, marker: str | None = None
) -> None:
    axes.plot(
        [x for x, _ in points], [y for _, y in points], label=label, color=_colour(number),
        marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)] if marker is None else marker,
        markersize=4.5, linewidth=1.5,
        linestyle=DASHES[(number // len(COLOURS) + number) % len(DASHES)],
    )  # fmt: skip


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _legend(axes: Axes, entries: int) -> None:
    if entries > 4:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    else:
        axes.legend(loc="best", fontsize=9)


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure, places = grid(1, 1, width, height)
    return figure, places[0]


def _panels(columns: int, width: float = 4.2, height: float = 3.0) -> tuple[Figure, list[Any]]:
    return grid(1, columns, width, height)


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    """A figure of panels of that size (inches), drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height))
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)
