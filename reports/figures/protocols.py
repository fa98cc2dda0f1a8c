"""The official against the strict protocol: a pair of points per metric and run, joined by what the choice moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refeval.protocols import ProtocolName
from refeval.reports.breakdowns import QUANTITIES, quantity_label, quantity_number
from refeval.reports.cells import Number
from refeval.reports.figures.canvas import WIDTH, empty_figure, short
from refeval.reports.figures.style import BLUE, INK, LINE, ORANGE, figure_style, write_figure
from refeval.reports.readings import RunReading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_COLUMNS, _HEIGHT, _FRAME = 3, 1.75, 0.45
# Points of per cent below which two points read as one.
_VISIBLE = 0.05


def draw_protocols(runs: Sequence[RunReading], folder: Path, name: str) -> list[Path]:
    """Write the pairs of runs of one suite as SVG and PNG.

    Raises:
        MissingPrerequisite: matplotlib is not installed.
    """
    with figure_style():
        return write_figure(protocols_figure(runs), folder, name)


def protocols_figure(runs: Sequence[RunReading]) -> Figure:
    """TotalScore and the metrics in per cent under both protocols; within :func:`figure_style`."""
    columns = min(_COLUMNS, len(runs))
    lines = -(-len(runs) // columns)
    figure = empty_figure(WIDTH if columns > 1 else WIDTH * 0.6, lines * _HEIGHT + _FRAME)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    whole = True
    for panel, run in zip(panels.flat, runs, strict=False):
        for row, of in enumerate(QUANTITIES):
            official, strict = (quantity_number(run, p, of) for p in (ProtocolName.V1_1, ProtocolName.STRICT))
            _pair(panel, row, official, strict)
            whole = whole and (official.value is None or official.comparable)
        panel.set_title(short(run.label, 28), loc="left", fontsize=9)
        panel.grid(axis="x", color=LINE, linewidth=0.5)
        panel.set_axisbelow(True)
        panel.tick_params(length=0, labelsize=8)
        panel.spines["left"].set_visible(False)
    for panel in panels.flat[len(runs) :]:
        panel.set_visible(False)
    for panel in panels.flat[max(0, len(runs) - columns) : len(runs)]:
        panel.tick_params(labelbottom=True)
    panels[0, 0].set(xlim=(0, 114), ylim=(len(QUANTITIES) - 0.5, -0.5))
    panels[0, 0].set_xticks([0, 25, 50, 75, 100])
    panels[0, 0].set_yticks(range(len(QUANTITIES)), [quantity_label(of) for of in QUANTITIES])
    figure.legend(
        handles=_handles(whole),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
        title="per cent of the range; number: strict minus official",
        title_fontsize=8,
    )
    return figure


def _pair(panel: Axes, row: int, official: Number, strict: Number) -> None:
    values = [number.value for number in (official, strict) if number.value is not None]
    if len(values) == 2:
        panel.plot(values, [row, row], color=INK, linewidth=1.4, zorder=2)
        moved = values[1] - values[0]
        text = f"{moved:+.1f}" if abs(moved) >= _VISIBLE else "="
        panel.text(max(values) + 3.5, row, text, va="center", ha="left", fontsize=7.5, color=INK)
    if official.value is not None:
        panel.plot([official.value], [row], **_official(whole=official.comparable), zorder=3)
    if strict.value is not None:
        panel.plot([strict.value], [row], **_strict(), zorder=4)
    elif official.value is not None:
        side, gap = ("right", -3.5) if official.value > 65 else ("left", 3.5)
        panel.text(official.value + gap, row, f"strict {strict.word}", va="center", ha=side, fontsize=7, color=INK)


def _official(*, whole: bool = True) -> dict[str, Any]:
    face = BLUE if whole else "white"
    return {"marker": "o", "markersize": 6.5, "color": BLUE, "markerfacecolor": face, "linestyle": "none"}


def _strict() -> dict[str, Any]:
    edge = {"markeredgecolor": INK, "markeredgewidth": 0.6}
    return {"marker": "D", "markersize": 4, "color": ORANGE, "linestyle": "none", **edge}


def _handles(whole: bool) -> list[Line2D]:
    from matplotlib.lines import Line2D

    looks = [(_official(), ProtocolName.V1_1.value), (_strict(), ProtocolName.STRICT.value)]
    looks += [] if whole else [(_official(whole=False), "not every case has a value")]
    return [Line2D([], [], label=label, **look) for look, label in looks]
