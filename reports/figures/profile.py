"""Every run over the metrics: where a total comes from, as lines from metric to metric.

Lines and not a radar: a length along one common axis is read exactly, an area depends on the order of the metrics
around the circle and grows with the square of the scores, and a radar has no room for intervals. The order of the
metrics is the published one and has no meaning; the lines only lead the eye along a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refeval.protocols import ProtocolName
from refeval.reports.breakdowns import QUANTITIES, quantity_label, quantity_number
from refeval.reports.cells import Number
from refeval.reports.figures.canvas import WIDTH, broken, empty_figure, filled, series, short, spread
from refeval.reports.figures.style import INK, LINE, SOFT, figure_style, write_figure
from refeval.reports.readings import RunReading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PROTOCOL = ProtocolName.V1_1
_HEIGHT, _DODGE, _LABEL_GAP = 3.4, 0.12, 5.0


def draw_profiles(runs: Sequence[RunReading], folder: Path, name: str) -> list[Path]:
    """Write the chart of runs of one suite as SVG and PNG.

    Raises:
        MissingPrerequisite: matplotlib is not installed.
    """
    with figure_style():
        return write_figure(profile_figure(runs), folder, name)


def profile_figure(runs: Sequence[RunReading]) -> Figure:
    """TotalScore and the metrics in per cent under opens2v-v1.1, with intervals; within :func:`figure_style`."""
    figure = empty_figure(WIDTH, _HEIGHT)
    panel = figure.subplots()
    numbers = [[quantity_number(run, _PROTOCOL, of) for of in QUANTITIES] for run in runs]
    for place, row in enumerate(numbers):
        _run(panel, row, place, (place - (len(runs) - 1) / 2) * _DODGE)
    _labels(panel, runs, numbers)
    panel.axvspan(-0.5, 0.5, color=LINE, alpha=0.28, linewidth=0, zorder=0)
    panel.set_xticks(range(len(QUANTITIES)), [broken(quantity_label(of)) for of in QUANTITIES])
    panel.set(xlim=(-0.5, len(QUANTITIES) - 0.5), ylim=(0, 103), ylabel="per cent of the range")
    panel.tick_params(axis="x", length=0, labelcolor=INK, labelsize=8)
    panel.grid(axis="y", color=LINE, linewidth=0.5, alpha=0.7)
    panel.set_axisbelow(True)
    open_marks = any(number.value is not None and not number.comparable for row in numbers for number in row)
    note = "open: not every case has a value; " if open_marks else ""
    level = runs[0].resampling.level
    panel.set_xlabel(f"{runs[0].suite[0]}, {_PROTOCOL}; {note}bars: {level:.0%} intervals", color=SOFT)
    return figure


def _run(panel: Axes, numbers: Sequence[Number], place: int, shift: float) -> None:
    look = series(place)
    there = [(i + shift, number, number.value) for i, number in enumerate(numbers) if number.value is not None]
    # The total stands apart: it is no metric, and no line leads from it to one.
    metrics = [(x, value) for x, _, value in there if x >= 0.5]
    panel.plot(
        [x for x, _ in metrics],
        [value for _, value in metrics],
        color=look.line,
        linestyle=look.dash,
        linewidth=0.9,
        alpha=0.6,
        zorder=2,
    )
    for x, number, _ in there:
        if number.low is not None and number.high is not None:
            panel.plot([x, x], [number.low, number.high], color=INK, linewidth=1.0, zorder=3)
    for x, number, value in there:
        panel.plot([x], [value], markersize=5.5, zorder=4, **filled(look, whole=number.comparable))


def _labels(panel: Axes, runs: Sequence[RunReading], numbers: Sequence[Sequence[Number]]) -> None:
    """Names at the right end of the lines, moved apart and joined to their ends."""
    ends = {}
    for place, row in enumerate(numbers):
        values = [(i, number.value) for i, number in enumerate(row) if number.value is not None and i > 0]
        if values:
            ends[place] = values[-1]
    wanted = [value for _, value in ends.values()]
    heights = spread(wanted, _LABEL_GAP)
    for (place, (i, value)), height in zip(ends.items(), heights, strict=True):
        look = series(place)
        right = len(QUANTITIES) - 0.45
        start = i + (place - (len(runs) - 1) / 2) * _DODGE + 0.08
        panel.plot([start, right], [value, height], color=SOFT, linewidth=0.5, clip_on=False, zorder=1)
        panel.plot([right + 0.08], [height], clip_on=False, markersize=5.5, **filled(look))
        panel.text(right + 0.2, height, short(runs[place].label, 24), va="center", ha="left", fontsize=8)
