"""Means per category as a heat map: one panel per run, one column per metric, every value written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refeval.cases import Category
from refeval.protocols import ProtocolName, slots
from refeval.reports.cells import DAGGER, NO_PART
from refeval.reports.figures.canvas import WIDTH, broken, empty_figure, short
from refeval.reports.figures.style import BLUE, INK, LINE, SOFT, figure_style, write_figure
from refeval.reports.readings import RunReading
from refeval.reports.totals import Mean, category_means

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PROTOCOL = ProtocolName.STRICT
_LIGHT = "#f4f2ed"
_ROW, _HEADER, _COLUMNS = 0.2, 0.84, 2
# A metric whose categories hardly differ is not made to look as if they did: points of per cent.
_LEAST_SPAN = 10.0


def draw_categories(runs: Sequence[RunReading], folder: Path, name: str) -> list[Path]:
    """Write the map of runs of one suite as SVG and PNG.

    Raises:
        MissingPrerequisite: matplotlib is not installed.
    """
    with figure_style():
        return write_figure(categories_figure(runs), folder, name)


def categories_figure(runs: Sequence[RunReading]) -> Figure:
    """The means of :func:`refeval.reports.totals.category_means` under ``strict``; within :func:`figure_style`."""
    found = [category_means(run.view, _PROTOCOL) for run in runs]
    metrics = slots(_PROTOCOL, runs[0].view.suite.domain)
    scales = {slot.metric: _scale(found, slot.metric) for slot in metrics}
    columns = min(_COLUMNS, len(runs))
    lines = -(-len(runs) // columns)
    height = lines * (_ROW * len(found[0]) + _HEADER) + 0.3
    figure = empty_figure(WIDTH if columns > 1 else WIDTH * 0.62, height)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for panel, run, means in zip(panels.flat, runs, found, strict=False):
        _panel(panel, means, scales)
        panel.set_title(short(run.label, 36), loc="left", fontsize=9)
        panel.set_xticks(range(len(metrics)), [broken(slot.label, narrow=True) for slot in metrics], fontsize=7)
        panel.set_yticks(range(len(means)), [category.value for category in means], fontsize=7.5)
        panel.tick_params(length=0, labelcolor=INK, labelbottom=True)
    for panel in panels.flat[len(runs) :]:
        panel.set_visible(False)
    lacking = any(_lacks(mean) for means in found for row in means.values() for mean in row.values())
    note = f"; {DAGGER}: not every case has a value" if lacking else ""
    text = f"per cent, {_PROTOCOL}; darker: higher within the metric{note}"
    figure.supxlabel(text, fontsize=8, color=SOFT)
    return figure


def _scale(found: Sequence[Mapping[Category, Mapping[str, Mean]]], metric: str) -> tuple[float, float]:
    """Lowest and highest mean of a metric over all runs and categories."""
    means = [row[metric].value for means in found for row in means.values() if metric in row]
    values = [value for value in means if value is not None] or [0.0]
    low, high = min(values), max(values)
    widen = max(0.0, _LEAST_SPAN - (high - low)) / 2
    return low - widen, high + widen


def _panel(
    panel: Axes, means: Mapping[Category, Mapping[str, Mean]], scales: Mapping[str, tuple[float, float]]
) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    shades = LinearSegmentedColormap.from_list("lightness", [_LIGHT, BLUE])
    for i, row in enumerate(means.values()):
        for j, (metric, (low, high)) in enumerate(scales.items()):
            mean = row.get(metric)
            value = mean.value if mean else None
            empty = mean is None or value is None
            part = 0.0 if value is None else (value - low) / (high - low)
            cell = Rectangle(
                (j - 0.5, i - 0.5),
                1,
                1,
                facecolor="white" if empty else shades(part),
                edgecolor=LINE if empty else "white",
                hatch="////" if empty else None,
                linewidth=0.6,
            )
            panel.add_patch(cell)
            if mean is not None and mean.applicable:
                text = (NO_PART if value is None else f"{value:.1f}") + (DAGGER if _lacks(mean) else "")
                panel.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if part > 0.55 else INK)
    panel.set(xlim=(-0.5, len(scales) - 0.5), ylim=(len(means) - 0.5, -0.5))
    for spine in panel.spines.values():
        spine.set_visible(False)


def _lacks(mean: Mean) -> bool:
    return mean.in_total and mean.scored < mean.applicable
