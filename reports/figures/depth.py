"""Metrics against the depth of an ablation: one panel each, the peak marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refeval.reports.ablations import Member, PublishedMember
from refeval.reports.breakdowns import QUANTITIES, quantity_label
from refeval.reports.cells import Number
from refeval.reports.figures.canvas import WIDTH, empty_figure
from refeval.reports.figures.style import BLUE, INK, LINE, ORANGE, SOFT, figure_style, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_HEIGHT, _COLUMNS = 1.85, 4


def draw_depths(members: Sequence[Member], published: Sequence[PublishedMember], folder: Path, name: str) -> list[Path]:
    """Write the curves as SVG and PNG.

    Raises:
        MissingPrerequisite: matplotlib is not installed.
    """
    with figure_style():
        return write_figure(depth_figure(members, published), folder, name)


def depth_figure(members: Sequence[Member], published: Sequence[PublishedMember] = ()) -> Figure:
    """TotalScore and the metrics that there are, in per cent, against depth; within :func:`figure_style`.

    Args:
        members: of the study of depths; those whose name holds no depth are left out.
        published: points to show beside; an own row of hollow squares where their name holds a depth.
    """
    points = [(member.depth, member.numbers) for member in members if member.depth is not None]
    beside = [(member.depth, member.columns) for member in published if member.depth is not None]
    there = {of for _, numbers in points for of, number in numbers.items() if number.value is not None}
    shown = [of for of in QUANTITIES if of in there or any(of in columns for _, columns in beside)] or [QUANTITIES[0]]
    across = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / across)
    figure = empty_figure(WIDTH, _ROW_HEIGHT * rows)
    panels = figure.subplots(rows, across, sharex=True, squeeze=False).flatten()
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    for place, (panel, of) in enumerate(zip(panels, shown, strict=False), start=1):
        _curve(panel, [(depth, numbers[of]) for depth, numbers in points])
        _published(panel, [(depth, columns[of]) for depth, columns in beside if of in columns])
        panel.set_title(quantity_label(of), loc="left", fontsize=9)
        panel.grid(axis="y", color=LINE, linewidth=0.5, alpha=0.7)
        panel.tick_params(labelsize=8, labelbottom=place + across > len(shown))
        panel.margins(x=0.08, y=0.24)
    panels[0].set_xticks(sorted({depth for depth, _ in [*points, *beside]}))
    figure.supxlabel(f"depth K; {_legend(members, beside)}", fontsize=8, color=SOFT)
    figure.supylabel("per cent", fontsize=8, color=SOFT)
    return figure


def _legend(members: Sequence[Member], beside: Sequence[object]) -> str:
    intervals = any(number.low is not None for member in members for number in member.numbers.values())
    parts = ["orange: highest"]
    if intervals:
        parts.append(f"bars: {members[0].runs[0].resampling.level:.0%} intervals")
    if any(len(member.runs) > 1 for member in members):
        parts.append("points: mean over the seeds")
    if any(number.value is not None and not number.comparable for m in members for number in m.numbers.values()):
        parts.append("open: not every case has a value")
    if beside:
        parts.append("squares: published")
    return "; ".join(parts)


def _curve(panel: Axes, points: Sequence[tuple[float, Number]]) -> None:
    there = [(depth, number, number.value) for depth, number in points if number.value is not None]
    panel.plot([depth for depth, _, _ in there], [value for _, _, value in there], color=BLUE, linewidth=1.2, zorder=2)
    for depth, number, value in there:
        if number.low is not None and number.high is not None:
            panel.plot([depth, depth], [number.low, number.high], color=BLUE, linewidth=1.0, zorder=2)
        face = BLUE if number.comparable else "white"
        panel.plot([depth], [value], "o", color=BLUE, markerfacecolor=face, markersize=4, zorder=3)
    rivals = [(value, depth, number) for depth, number, value in there if number.comparable]
    if len(rivals) < 2:
        return
    # Of several that are equally high, the smallest depth.
    value, depth, number = max(rivals, key=lambda rival: (rival[0], -rival[1]))
    panel.plot([depth], [value], "o", color=ORANGE, markeredgecolor=INK, markersize=6.5, zorder=4)
    top = number.high if number.high is not None else value
    # At either end the label reaches inwards, not over the axis.
    side = "left" if depth == there[0][0] else "right" if depth == there[-1][0] else "center"
    panel.annotate(f"{value:.1f}", (depth, top), (0, 3), textcoords="offset points", ha=side, va="bottom", fontsize=8)


def _published(panel: Axes, points: Sequence[tuple[float, float]]) -> None:
    panel.plot(
        [depth for depth, _ in points],
        [value for _, value in points],
        "s",
        markerfacecolor="white",
        markeredgecolor=INK,
        markersize=5,
        zorder=3,
    )
