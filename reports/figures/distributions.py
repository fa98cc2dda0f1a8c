"""The scores behind each mean: a strip per run and metric in which every case is a point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refeval.protocols import ProtocolName
from refeval.reports.breakdowns import quantity_number
from refeval.reports.cells import Number
from refeval.reports.figures.canvas import WIDTH, empty_figure, series, short
from refeval.reports.figures.style import INK, LINE, SOFT, figure_style, write_figure
from refeval.reports.readings import RunReading
from refeval.statistics.scores import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PROTOCOL = ProtocolName.STRICT
_COLUMNS, _STRIP, _FRAME = 4, 0.36, 0.48
_BINS, _REACH = 40, 0.36


def draw_distributions(runs: Sequence[RunReading], folder: Path, name: str) -> list[Path]:
    """Write the strips of runs of one suite as SVG and PNG.

    Raises:
        MissingPrerequisite: matplotlib is not installed.
    """
    with figure_style():
        return write_figure(distributions_figure(runs), folder, name)


def distributions_figure(runs: Sequence[RunReading]) -> Figure:
    """Every case's value in per cent of the range under ``strict``, with the mean; within :func:`figure_style`."""
    read = [run.aggregation(_PROTOCOL) for run in runs]
    metrics = read[0].slots
    lines = -(-len(metrics) // _COLUMNS)
    figure = empty_figure(WIDTH, lines * (_STRIP * max(2, len(runs)) + _FRAME) + 0.3)
    panels = figure.subplots(lines, _COLUMNS, squeeze=False, sharex=True, sharey=True)
    for m, (panel, slot) in enumerate(zip(panels.flat, metrics, strict=False)):
        for place, (run, aggregation) in enumerate(zip(runs, read, strict=True)):
            values = aggregation.x_nm[aggregation.mask_nm[:, m] > 0, m]
            shares = 100 * (values - slot.low) / (slot.high - slot.low)
            _strip(panel, shares, place)
            number = quantity_number(run, _PROTOCOL, slot.metric)
            _mean(panel, number, place)
            # The counts stand where there are fewer points.
            _counts(panel, number, place, right=not len(shares) or float(np.median(shares)) < 60)
        panel.set_title(slot.label, loc="left", fontsize=9)
        panel.set_xticks([0, 50, 100])
        panel.grid(axis="x", color=LINE, linewidth=0.5)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8, length=0)
        panel.spines["left"].set_visible(False)
    panels[0, 0].set(xlim=(-3, 103), ylim=(len(runs) - 0.45, -0.55))
    panels[0, 0].set_yticks(range(len(runs)), [short(run.label, 18) for run in runs])
    for panel in panels.flat[len(metrics) :]:
        panel.set_visible(False)
    for panel in panels.flat[max(0, len(metrics) - _COLUMNS) : len(metrics)]:
        panel.tick_params(labelbottom=True)
    level = runs[0].resampling.level
    text = f"per cent of the range, {_PROTOCOL}; point: one case; line: mean with its {level:.0%} interval; n/N: cases"
    figure.supxlabel(text, fontsize=8, color=SOFT)
    return figure


def beeswarm(values: FloatArray) -> FloatArray:
    """Offsets in -1..1 that lay equal values side by side, float64 (N,).

    Values of one bin are laid out from the middle to both sides in turn, and the fullest bin reaches the ends; no
    random numbers, so the same cases are drawn at the same places.

    Args:
        values: per cent, float64 (N,).
    """
    bins = np.clip(np.floor(values / 100 * _BINS), -1, _BINS)
    offsets = np.zeros(len(values))
    fullest = max((int((bins == b).sum()) for b in np.unique(bins)), default=1)
    for b in np.unique(bins):
        members = np.flatnonzero(bins == b)
        ranks = np.arange(len(members))
        offsets[members] = np.where(ranks % 2, 1, -1) * ((ranks + 1) // 2)
    return offsets / max(1, fullest // 2)


def _strip(panel: Axes, values: FloatArray, place: int) -> None:
    look = series(place)
    heights = place + _REACH * beeswarm(values)
    panel.scatter(values, heights, s=3.2, color=look.colour, alpha=0.75, edgecolor=INK, linewidth=0.15, zorder=2)


def _mean(panel: Axes, number: Number, place: int) -> None:
    if number.value is None:
        return
    ends = [place - 0.42, place + 0.42]
    panel.plot([number.value] * 2, ends, color="white", linewidth=3.2, zorder=3)
    panel.plot([number.value] * 2, ends, color=INK, linewidth=1.5, zorder=4)
    if number.low is not None and number.high is not None:
        panel.plot([number.low, number.high], [place + 0.42] * 2, color=INK, linewidth=1.5, zorder=4)


def _counts(panel: Axes, number: Number, place: int, *, right: bool) -> None:
    panel.text(
        103 if right else -3,
        place - 0.3,
        f"{number.scored}/{number.applicable}",
        ha="right" if right else "left",
        va="center",
        fontsize=6,
        color=SOFT,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        zorder=5,
    )
